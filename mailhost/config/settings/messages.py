"""
The *Messages* page: limits, and mail that nobody takes.

:Room: ``config.settings``
:IIS: MSG-01..06.
"""

from __future__ import annotations

import re
from pathlib import Path

from attrs import frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, keys, section
from mailhost.config.units import (
    MAILBOX,
    PATH,
    Kind,
    choice,
    size,
    span,
    whole,
)
from mailhost.model.address import Mailbox
from mailhost.model.line_ends import BareLineEnds


def _parse_class(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.:-]{0,199}", text):
        raise ValueError(f"{shown(text)} is no solicitation class")
    return text.lower()


#: RFC 3865 §2.1.
SOLICITATION_CLASS = Kind(_parse_class, "a class such as com.example:ads", check=_parse_class)


@frozen
class BadmailSettings:
    """Where mail goes that can neither be delivered nor returned."""

    directory: Path | None = key(
        PATH,
        "null",
        help="The Badmail directory; null: Badmail below home.",
        iis="MSG-06 BadMailDirectory",
    )
    keep: int | None = key(
        span(lifted=True),
        "none",
        help="How long such mail is kept.",
    )
    max_size: int | None = key(
        size(1024),
        "unlimited",
        help="While all of it is larger than this the oldest is removed.",
    )


@frozen
class MessagesSettings:
    """The *Messages* page: limits, and what happens to undeliverable mail."""

    max_message_size: int | None = key(
        size(1024),
        "2M",
        help="The largest message accepted; announced with SIZE (RFC 1870).",
        iis="MSG-01 MaxMessageSize",
    )
    max_session_size: int | None = key(
        size(1024),
        "10M",
        help="The most content accepted in one connection, which is closed beyond it.",
        iis="MSG-02 MaxSessionSize",
    )
    max_messages_per_connection: int | None = key(
        whole(1, unit="messages", lifted=True),
        "20",
        help="Messages sent over one outbound connection before a further one is opened.",
        iis="MSG-03 MaxBatchedMessages",
    )
    max_recipients: int | None = key(
        whole(1, unit="recipients", lifted=True),
        "100",
        help="Recipients of one message.",
        iis="MSG-04 MaxRecipients",
    )
    max_messages_per_session: int | None = key(
        whole(1, unit="messages", lifted=True),
        "unlimited",
        help="Messages accepted in one session, which is closed beyond it; announced with LIMITS "
        "(RFC 9422).",
    )
    max_recipient_domains: int | None = key(
        whole(1, unit="domains", lifted=True),
        "unlimited",
        help="Domains among the recipients of one message; announced with LIMITS (RFC 9422).",
    )
    max_hold: int = key(
        span(),
        "7d",
        help="How long a sender may have his mail wait (RFC 4865), where extensions.futurerelease "
        "is on.",
    )
    min_deliver_by: int = key(
        span(),
        "1m",
        help="The shortest time in which a sender may ask for delivery (RFC 2852).",
    )
    no_soliciting: tuple[str, ...] = keys(
        SOLICITATION_CLASS,
        "",
        help="Classes of unasked mail that are refused, such as com.example:ads (RFC 3865).",
    )
    max_line_length: int | None = key(
        size(998),
        "998",
        help="The longest line of content, without its CRLF (RFC 5321 §4.5.3.1.6).",
    )
    bare_line_ends: BareLineEnds = key(
        choice({one.value: one for one in BareLineEnds}),
        "trusted",
        help="Content with a bare CR or LF: refuse (554 5.6.0), mend (a bare LF becomes CRLF, a "
        "bare CR a blank), or mend for those in access.trusted and those who have logged in "
        "only. Content ends at CRLF.CRLF in any case.",
    )
    copy_ndr_to: Mailbox | None = key(
        MAILBOX,
        "null",
        help="Gets a copy of every non-delivery report; null: nobody.",
        iis="MSG-05 SendNdrTo",
    )
    badmail: BadmailSettings = section(
        BadmailSettings, help="Mail that can neither be delivered nor returned."
    )
