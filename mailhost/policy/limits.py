"""
Is it too much?

:Room: ``policy``
:IIS: MSG-01 (message size), MSG-02 (session size), MSG-04 (recipients),
    DEL-40 (hop count).
:RFC: 1870 §6, 9422 §4, 5321 §4.5.3.1.8 and .10 (recipients), §6.3 (loops).
"""

from __future__ import annotations

from collections.abc import Iterable

from mailhost.model.address import Mailbox
from mailhost.model.reply import Reply
from mailhost.smtp import replies


def check_message_size(octets: int | None, max_message_size: int | None) -> Reply | None:
    """*octets* of one message, announced or counted; `None` is not known."""
    if octets is not None and max_message_size is not None and octets > max_message_size:
        return replies.MESSAGE_TOO_BIG
    return None


def check_session_size(
    before: int, octets: int | None, max_session_size: int | None
) -> Reply | None:
    """
    *octets* of content more in a session that has carried *before*.

    The connection is dropped, and the peer goes on in a new one; therefore the
    first message of a session is never refused for this, or it would be so in
    every session.
    """
    if not before or max_session_size is None:
        return None
    return replies.SESSION_TOO_BIG if before + (octets or 0) > max_session_size else None


def check_recipient_count(count: int, max_recipients: int | None) -> Reply | None:
    """
    *count* recipients in one transaction, the new one included.

    452 is temporary: the peer keeps those accepted and sends the rest in a
    transaction of its own, which is how IIS splits (iis-smtp.md §0, finding 2).
    """
    if max_recipients is not None and count > max_recipients:
        return replies.TOO_MANY_RECIPIENTS
    return None


def check_message_count(count: int, max_messages: int | None) -> Reply | None:
    """*count* messages in one session, the new one included (RFC 9422 §4.1)."""
    if max_messages is not None and count > max_messages:
        return replies.TOO_MANY_MESSAGES
    return None


def check_domain_count(paths: Iterable[Mailbox], new: Mailbox, most: int | None) -> Reply | None:
    """*new* beside *paths*, with regard to the domains in one transaction (RFC 9422 §4.3)."""
    if most is None:
        return None
    domains = {path.domain_key for path in paths} | {new.domain_key}
    return replies.TOO_MANY_DOMAINS if len(domains) > most else None


def check_hops(received_count: int, max_hops: int) -> Reply | None:
    """*received_count*: Received fields of the content as it came."""
    return replies.TOO_MANY_HOPS if received_count > max_hops else None
