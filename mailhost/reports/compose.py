"""
A delivery report, from outcomes to octets.

:Room: ``reports``
:RFC: 3461 §6 (what a report says), 3464, 6522 (its earlier form is 3462), 6533 (addresses
    outside ASCII), 3834 §3.1, 5321 §6.1, 8689 §5.
:IIS: §10.6; MSG-05 (copies of failure reports).
:Called by: `mailhost.relay`, which hands the result to the spool in one
    transaction with the outcomes it tells of.

The octets are put together here and by nothing else: every word from outside
goes through `mailhost.content.words` on its way in, so none can end a line,
and the boundary is checked against all that it separates.

One difference from IIS: its text says ``charset=unicode-1-1-utf-7``, an
encoding that is obsolete and in which harmless ASCII can spell markup.  All
our text is ASCII and says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha256

from mailhost.content.headers import scan_header
from mailhost.content.trace import filetime, message_id, rfc5322_date
from mailhost.content.words import line_octets, mailbox_octets, text_octets, token_octets
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope
from mailhost.model.outcome import Fate
from mailhost.model.parameters import (
    NO_MAIL_PARAMETERS,
    MailParameters,
    RecipientParameters,
)
from mailhost.model.queue import Submission
from mailhost.reports.returned import ReturnedPart, returned_part
from mailhost.reports.values import OriginalMessage, ReportedRecipient, ReportKind, reportable
from mailhost.smtp.xtext import from_utf8_xtext, from_xtext, to_utf8_xtext

#: Of what a peer said, one line of so much is passed on (attacks.md A58).
MAX_WORDS_OCTETS = 512

_PREAMBLE = (
    b"This is a MIME-formatted message.  \r\n"
    b"Portions of this message may be unreadable without a MIME-capable mail program.\r\n"
)
_GREETING = b"This is an automatically generated Delivery Status Notification.\r\n\r\n"
_SENTENCES = {
    ReportKind.FAILURE: b"Delivery to the following recipients failed.\r\n",
    ReportKind.DELAY: (
        b"THIS IS A WARNING MESSAGE ONLY.\r\n\r\n"
        b"YOU DO NOT NEED TO RESEND YOUR MESSAGE.\r\n\r\n"
        b"Delivery to the following recipients has been delayed.\r\n"
    ),
    ReportKind.SUCCESS: (
        b"Your message has been delivered to the following recipients, or relayed\r\n"
        b"to a host that may not send such notifications.\r\n"
    ),
}
#: Content type and encoding, without UTF-8 and with it (RFC 6533 §4).
_TEXT_TYPE = {
    False: (b"text/plain; charset=us-ascii", b"7bit"),
    True: (b"text/plain; charset=utf-8", b"8bit"),
}
_STATUS_TYPE = {
    False: (b"message/delivery-status", b"7bit"),
    True: (b"message/global-delivery-status", b"8bit"),
}
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")


def compose_report(
    kind: ReportKind,
    original: OriginalMessage,
    recipients: Sequence[ReportedRecipient],
    *,
    fqdn: str,
    domain: str,
    now: float,
    boundary_random: bytes,
    max_original_octets: int,
    copy_to: Mailbox | None = None,
) -> tuple[Submission, ...]:
    """
    The report to the sender and, of a failure, its copy.

    :param recipients: at least one; those this report is about.
    :param fqdn: our name.
    :param domain: the default domain: the report is from its postmaster.
    :param boundary_random: 16 octets or more that nobody can guess.
    :param max_original_octets: larger originals are returned as their header.
    :param copy_to: gets a second Submission of a failure report (MSG-05).
    :returns: the report; then the copy, unless it would go to the same mailbox.
    :raises ValueError: nobody may be told (see `reportable`), nobody is
        reported on, or there is too little randomness.
    """
    sender = original.reverse_path
    if sender is None or not reportable(original):
        raise ValueError(f"no report may be sent about {original.queue_id}")
    if not recipients or len(boundary_random) < 16:
        raise ValueError("a report needs a recipient and 16 octets of randomness")
    returned = returned_part(original, _returned_octets(kind, original, max_original_octets))
    utf8 = original.international
    text = _text_part(kind, recipients, utf8)
    status = _status_part(original, recipients, fqdn, now, utf8)
    boundary = _boundary(boundary_random, now, (text, status, returned.octets))
    octets = b"".join(
        (
            _header(kind, original, sender, returned, boundary, fqdn, domain, now, boundary_random),
            _PREAMBLE,
            _part(boundary, *_TEXT_TYPE[utf8], text),
            _part(boundary, *_STATUS_TYPE[utf8], status),
            _part(boundary, returned.content_type, returned.encoding, returned.octets),
            b"\r\n--%b--\r\n" % boundary,
        )
    )
    receivers = [sender]
    if kind is ReportKind.FAILURE and copy_to is not None and copy_to != sender:
        receivers.append(copy_to)
    body = "8BITMIME" if utf8 or returned.encoding == b"8bit" else "7BIT"
    asked = _asked(original)
    return tuple(
        Submission(Envelope(None, (path,), body, parameters=asked), octets) for path in receivers
    )


def _returned_octets(kind: ReportKind, original: OriginalMessage, most: int) -> int:
    """
    RFC 3461 §4.3: RET is about reports of failure; no other returns a content.

    RFC 8689 §5: of what must go through TLS never more than the header comes back.
    """
    asked = original.parameters
    whole = kind is ReportKind.FAILURE and asked.ret != "HDRS" and not asked.requiretls
    return most if whole else -1


def _asked(original: OriginalMessage) -> MailParameters:
    """What the report needs of the hosts on its way; RFC 8689 §5: TLS, as its original did."""
    utf8, requiretls = original.international, original.parameters.requiretls
    if not (utf8 or requiretls):
        return NO_MAIL_PARAMETERS
    return MailParameters(smtputf8=utf8, requiretls=requiretls)


def _header(
    kind: ReportKind,
    original: OriginalMessage,
    sender: Mailbox,
    returned: ReturnedPart,
    boundary: bytes,
    fqdn: str,
    domain: str,
    now: float,
    randomness: bytes,
) -> bytes:
    lines = [
        b"From: postmaster@%b" % token_octets(domain),
        b"To: %b" % (mailbox_octets if original.international else _ascii)(sender),
        b"Date: %b" % rfc5322_date(now),
        b"MIME-Version: 1.0",
        b"Content-Type: multipart/report; report-type=delivery-status;",
        b'\tboundary="%b"' % boundary,
    ]
    if original.international or returned.encoding == b"8bit":
        # RFC 2045 §6.4: a multipart declares what its parts need.
        lines.append(b"Content-Transfer-Encoding: 8bit")
    digest = sha256(b"message-id" + randomness).digest()
    lines += [
        b"Message-ID: %b" % message_id(fqdn, digest[:16], int.from_bytes(digest[16:20])),
        b"Subject: Delivery Status Notification (%b)" % kind.value.encode("ascii"),
        b"Auto-Submitted: auto-replied",  # RFC 3834 §3.1.7
    ]
    reference = scan_header(original.octets).message_id
    if reference is not None:
        # RFC 3834 §3.1.6; the scan lets through only a printable token.
        lines += [b"In-Reply-To: %b" % reference, b"References: %b" % reference]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _part(boundary: bytes, content_type: bytes, encoding: bytes, body: bytes) -> bytes:
    # 7bit is what no word means (RFC 2045 §6.1); IIS says nothing either.
    said = b"" if encoding == b"7bit" else b"Content-Transfer-Encoding: %b\r\n" % encoding
    return b"\r\n--%b\r\nContent-Type: %b\r\n%b\r\n%b" % (boundary, content_type, said, body)


def _boundary(randomness: bytes, now: float, parts: Sequence[bytes]) -> bytes:
    """
    A boundary in IIS's shape, with 128 bits of chance, that occurs in no part.

    ``=_`` cannot occur in quoted-printable (RFC 2045 §6.7).
    """
    draw = 0
    while True:
        chance = sha256(b"boundary%d" % draw + randomness).hexdigest()[:32]
        boundary = f"9B095B5ADSN=_{filetime(now) & (1 << 64) - 1:016X}{chance}".encode("ascii")
        if not any(boundary in part for part in parts):
            return boundary
        draw += 1


# ---- part 1, for people


def _ascii(path: Mailbox) -> bytes:
    """*path* in ASCII; what has no such form, in the code of RFC 6533 §3."""
    plain = path.in_ascii
    if plain.is_ascii:
        return mailbox_octets(plain)
    return line_octets(to_utf8_xtext(str(plain)), MAX_WORDS_OCTETS)


def _text_part(kind: ReportKind, recipients: Sequence[ReportedRecipient], utf8: bool) -> bytes:
    show = mailbox_octets if utf8 else _ascii
    addresses = b"".join(
        b"       %b\r\n" % show(recipient.forward_path) for recipient in recipients
    )
    text = _GREETING + _SENTENCES[kind] + b"\r\n" + addresses + b"\r\n"
    if kind is ReportKind.SUCCESS:
        return text
    reasons = b"".join(
        b"       %b\r\n          %b\r\n"
        % (
            show(recipient.forward_path),
            line_octets(recipient.outcome.words, MAX_WORDS_OCTETS),
        )
        for recipient in recipients
    )
    return text + b"The reasons given:\r\n\r\n" + reasons


# ---- part 2, for programs


def _status_part(
    original: OriginalMessage,
    recipients: Sequence[ReportedRecipient],
    fqdn: str,
    now: float,
    utf8: bool,
) -> bytes:
    """RFC 3464 §2.1: the fields of the message, then a group for each recipient."""
    fields = []
    if original.parameters.envid:
        envelope_id = line_octets(from_xtext(original.parameters.envid), MAX_WORDS_OCTETS)
        fields.append(b"Original-Envelope-Id: %b" % envelope_id)
    fields.append(b"Reporting-MTA: dns;%b" % token_octets(fqdn))
    if original.hello:
        fields.append(b"Received-From-MTA: dns;%b" % token_octets(original.hello))
    fields.append(b"Arrival-Date: %b" % rfc5322_date(original.accepted_at))
    fields.append(b"X-Mailhost-Queue-ID: %b" % token_octets(original.queue_id))
    groups = [fields, *(_recipient_fields(recipient, now, utf8) for recipient in recipients)]
    return b"\r\n".join(b"".join(line + b"\r\n" for line in group) for group in groups)


def _recipient_fields(recipient: ReportedRecipient, now: float, utf8: bool) -> list[bytes]:
    outcome = recipient.outcome
    attempted_at = now if recipient.attempted_at is None else recipient.attempted_at
    fields = [
        *_original_recipient(recipient.parameters, utf8),
        b"Final-Recipient: %b" % _final_recipient(recipient.forward_path, utf8),
        b"Action: %b" % outcome.fate.value.encode("ascii"),
        b"Status: %b" % _status(recipient),
    ]
    if outcome.peer:
        fields.append(b"Remote-MTA: dns;%b" % token_octets(outcome.peer))
    # RFC 3464 §2.3.6: "smtp" is for what a peer said; our own reasons have our name.
    speaker = b"smtp" if outcome.spoken else b"x-mailhost"
    words = line_octets(outcome.words, MAX_WORDS_OCTETS)
    if words.strip():
        fields.append(b"Diagnostic-Code: %b;%b" % (speaker, words))
    fields.append(b"Last-Attempt-Date: %b" % rfc5322_date(attempted_at))
    if outcome.fate is Fate.DELAYED and recipient.will_retry_until is not None:
        # RFC 3464 §2.3.9: in the report of a delay only.
        fields.append(b"Will-Retry-Until: %b" % rfc5322_date(recipient.will_retry_until))
    return fields


def _original_recipient(asked: RecipientParameters, utf8: bool) -> list[bytes]:
    """RFC 3464 §2.3.1: as the sender has named it, if he has."""
    if not asked.orcpt:
        return []
    kind, _, address = asked.orcpt.partition(";")
    if kind.lower() != "utf-8":
        words = line_octets(from_xtext(address), MAX_WORDS_OCTETS)
    else:
        words = _utf8_address(from_utf8_xtext(address), utf8)
    return [b"Original-Recipient: %b;%b" % (kind.encode("ascii"), words)]


def _final_recipient(path: Mailbox, utf8: bool) -> bytes:
    plain = path.in_ascii
    if plain.is_ascii:
        return b"rfc822;%b" % mailbox_octets(plain)
    return b"utf-8;%b" % _utf8_address(str(path), utf8)


def _utf8_address(address: str, utf8: bool) -> bytes:
    """RFC 6533 §3: as it is where UTF-8 may stand, else by the numbers of its characters."""
    return text_octets(address if utf8 else to_utf8_xtext(address), MAX_WORDS_OCTETS)


def _status(recipient: ReportedRecipient) -> bytes:
    """The status, or "other" of the right class where it is none (RFC 3463 §2)."""
    outcome = recipient.outcome
    if _STATUS.fullmatch(outcome.status):
        return outcome.status.encode("ascii")
    classes = {Fate.FAILED: b"5.0.0", Fate.DELAYED: b"4.0.0"}
    return classes.get(outcome.fate, b"2.0.0")
