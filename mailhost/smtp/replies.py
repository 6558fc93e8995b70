"""
Every reply that mailhost sends, in one table.

:Room: ``smtp``
:RFC: 5321 §4.2.2, §4.2.3 (codes), 2034 and 3463 (enhanced status), 3463 X.7; 4954.
:IIS: iis-smtp.md §11.3; where a text is confirmed there, it is the same here,
    because operators' tools look for it.

A constant is a reply that never varies; a function makes one that does.  A refusal for which a
setting is the reason names it.
"""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache

from mailhost.model.address import Mailbox
from mailhost.model.reply import Reply

# ---- session

OK = Reply(250, "2.0.0", "OK")
RESET = Reply(250, "2.0.0", "Resetting")
BUSY = Reply(
    421, "4.3.2", "Service not available, closing transmission channel", setting="overload"
)
TOO_MANY_CONNECTIONS = Reply(
    421, "4.3.2", "Too many connections, closing transmission channel", setting="max_connections"
)
STOPPING = Reply(421, "4.3.2", "Service stopping, closing transmission channel")
TERMINATED = Reply(421, "4.3.2", "Session ended by the operator, closing transmission channel")
TIMED_OUT = Reply(421, "4.4.2", "Timeout waiting for client input")
TOO_MANY_ERRORS = Reply(421, "4.7.0", "Too many errors, closing transmission channel")
CONNECTION_REFUSED = Reply(554, "5.7.1", "Connection refused", setting="access.connections")
LOCAL_ERROR = Reply(451, "4.3.0", "Local error in processing, try again later")


def has_too_many(whose: str) -> Reply:
    """:param whose: ``address`` or ``network``."""
    words = f"Too many connections from your {whose}, closing transmission channel"
    return Reply(421, "4.7.0", words, setting=f"access.per_{whose}.connections")


def comes_too_fast(whose: str) -> Reply:
    """:param whose: ``address`` or ``network``."""
    words = f"Too many new connections from your {whose}, closing transmission channel"
    return Reply(421, "4.7.0", words, setting=f"access.per_{whose}.connection_rate")


def sends_too_much(whose: str, what: str) -> Reply:
    """
    :param whose: ``address`` or ``network``.
    :param what: ``messages`` or ``recipients``.
    """
    words = f"Too much mail from your {whose}, try again later"
    return Reply(451, "4.7.1", words, setting=f"access.per_{whose}.{what}")


def errs_too_much(whose: str) -> Reply:
    """:param whose: ``address`` or ``network``."""
    words = f"Too many errors from your {whose}, closing transmission channel"
    return Reply(421, "4.7.0", words, setting=f"access.per_{whose}.errors")


#: How a refusal begins that lists in DNS are the reason for.
LISTED = "Refused, because of the entries for"


def listed(address: str, zones: tuple[str, ...], code: int) -> Reply:
    """
    The client is in lists of those who send spam.

    :param code: 554 in place of the greeting, else 550.
    """
    words = f"{LISTED} {address} in {', '.join(zones)}"
    return Reply(code, "5.7.1", words, setting="access.dns_lists")


#: How a refusal begins that greylisting is the reason for.
GREYLISTED = "Not known here yet, try again"


def greylisted(seconds: float) -> Reply:
    """RCPT put off: who comes back is let in (RFC 6647 §2.2)."""
    words = f"{GREYLISTED} in {max(1, round(seconds))} seconds"
    return Reply(451, "4.7.1", words, setting="access.greylist")


@lru_cache(maxsize=1024)
def banner(fqdn: str, words: str) -> Reply:
    """220 (RFC 5321 §4.3.1): the host's name comes first."""
    return Reply(220, None, f"{fqdn} {words}")


@lru_cache(maxsize=1024)
def hello(fqdn: str, peer: str, keywords: tuple[str, ...] = ()) -> Reply:
    """The answer to HELO and, with *keywords*, to EHLO (RFC 5321 §4.1.1.1)."""
    return Reply(250, None, (f"{fqdn} Hello [{peer}]", *keywords))


@lru_cache(maxsize=1024)
def closing(fqdn: str) -> Reply:
    """The answer to QUIT (RFC 5321 §4.1.1.10)."""
    return Reply(221, "2.0.0", f"{fqdn} Service closing transmission channel")


def commands(verbs: tuple[str, ...]) -> Reply:
    """The answer to HELP (RFC 5321 §4.1.1.8)."""
    return Reply(214, "2.0.0", ("This server supports the following commands:", " ".join(verbs)))


# ---- commands that are wrong

UNKNOWN_COMMAND = Reply(500, "5.3.3", "Unrecognized command")
NOT_SUPPORTED = Reply(502, "5.5.1", "Command not implemented")
LINE_TOO_LONG = Reply(500, "5.5.2", "Line too long")
BARE_LINE_END = Reply(500, "5.5.2", "Bare CR, bare LF or NUL in a command line")
EIGHT_BIT_COMMAND = Reply(500, "5.5.2", "8-bit octets in a command line")
EIGHT_BIT_ADDRESS = Reply(
    553,
    "5.6.7",
    "8-bit octets in an address, and SMTPUTF8 is not offered",
    setting="extensions.smtputf8",
)
UTF8_NOT_ASKED = Reply(553, "5.6.7", "8-bit octets in an address, and SMTPUTF8 was not asked for")
FOREIGN_PROTOCOL = Reply(554, "5.5.0", "Not an SMTP command, closing transmission channel")
NOT_IN_STEP = Reply(
    554,
    "5.5.0",
    "Protocol synchronization error: wait for the reply, closing transmission channel",
    setting="access.early_talkers",
)
BAD_ARGUMENTS = Reply(501, "5.5.4", "Invalid arguments")
BAD_ADDRESS = Reply(501, "5.5.4", "Invalid Address")
BAD_HELLO = Reply(501, "5.5.4", "Invalid domain name")
ONLY_QUIT = Reply(503, "5.5.1", "Connection refused, send QUIT")
HELLO_FIRST = Reply(503, "5.5.2", "Send hello first")
NEED_MAIL = Reply(503, "5.5.2", "Need mail command")
NEED_RCPT = Reply(503, "5.5.2", "Need Rcpt command")
SENDER_GIVEN = Reply(503, "5.5.2", "Sender already specified")
LAST_CHUNK_FIRST = Reply(503, "5.5.1", "Send the last chunk with BDAT first")
BINARY_BY_CHUNKS = Reply(503, "5.5.1", "Binary content comes by BDAT")
IN_TRANSACTION = Reply(503, "5.5.1", "Not allowed in a mail transaction")
#: RFC 2645 §5.2.2.
TURNING = Reply(250, "2.0.0", "OK now reversing the connection")
TURN_REFUSED = Reply(450, "4.7.1", "ATRN request refused")
TURN_NOT_NOW = Reply(451, "4.3.0", "Unable to process ATRN request now")
NO_MAIL = Reply(453, "4.2.0", "You have no mail")
NO_RECIPIENTS = Reply(554, "5.5.1", "No valid recipients")


def unknown_parameter(name: str) -> Reply:
    """An ESMTP parameter that nobody announced (RFC 5321 §4.1.1.11)."""
    return Reply(555, "5.5.4", f"Unsupported parameter {name}")


# ---- TLS

READY_FOR_TLS = Reply(220, "2.0.0", "Ready to start TLS")
TLS_IS_ON = Reply(503, "5.5.1", "TLS is on already")
TLS_NOT_NOW = Reply(454, "4.7.0", "TLS not available due to temporary reason")
TLS_FIRST = Reply(530, "5.7.0", "Must issue a STARTTLS command first", setting="access.tls.require")
OUT_OF_STEP = Reply(554, "5.5.0", "Commands behind STARTTLS, closing transmission channel")

# ---- AUTH (RFC 4954 §4, §6)

LOGGED_IN = Reply(235, "2.7.0", "Authentication successful")
LOGIN_CANCELLED = Reply(501, "5.7.0", "Authentication cancelled")
LOGIN_FAILED = Reply(535, "5.7.8", "Authentication credentials invalid")
LOGIN_MALFORMED = Reply(501, "5.5.2", "Cannot decode the response")
LOGIN_NOT_NOW = Reply(454, "4.7.0", "Temporary authentication failure")
LOGIN_LINE_TOO_LONG = Reply(500, "5.5.6", "Authentication exchange line is too long")
LOGIN_FIRST = Reply(530, "5.7.0", "Authentication required", setting="access.anonymous")
LOGIN_IS_DONE = Reply(503, "5.5.1", "Authenticated already")
TOO_MANY_LOGINS = Reply(421, "4.7.0", "Too many failed logins, closing transmission channel")
UNKNOWN_MECHANISM = Reply(504, "5.5.4", "Unrecognized authentication type")
TLS_FOR_MECHANISM = Reply(
    538, "5.7.11", "Encryption required for requested authentication mechanism"
)
AUTH_OUT_OF_STEP = Reply(554, "5.5.0", "Octets behind AUTH, closing transmission channel")


def challenge(octets: bytes) -> Reply:
    """334: the client has to answer *octets* (RFC 4954 §4)."""
    return Reply(334, None, b64encode(octets).decode("ascii"))


# ---- what is asked for with MAIL

TIME_TOO_SHORT = Reply(
    554, "5.4.7", "Deliver-by time is too short", setting="messages.min_deliver_by"
)
HELD_TOO_LONG = Reply(501, "5.5.4", "Future release is too far away", setting="messages.max_hold")
TOO_MANY_DOMAINS = Reply(
    452, "4.5.3", "Too many recipient domains", setting="messages.max_recipient_domains"
)
TOO_MANY_MESSAGES = Reply(
    421,
    "4.7.0",
    "Too many messages, closing transmission channel",
    setting="messages.max_messages_per_session",
)


def not_solicited(keyword: str) -> Reply:
    """RFC 3865 §3, §4: mail of this class is not wanted."""
    words = f"Solicitation class {keyword} is not accepted"
    return Reply(550, "5.7.1", words, setting="messages.no_soliciting")


# ---- the mail transaction

START_CONTENT = Reply(354, None, "Start mail input; end with <CRLF>.<CRLF>")
TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients", setting="messages.max_recipients")
MESSAGE_TOO_BIG = Reply(
    552,
    "5.3.4",
    "Message size exceeds fixed maximum message size",
    setting="messages.max_message_size",
)
SESSION_TOO_BIG = Reply(
    421,
    "4.3.4",
    "Session size exceeds fixed maximum session size",
    setting="messages.max_session_size",
)
NO_ROOM = Reply(452, "4.3.1", "Insufficient system storage")
SPOOL_FAILED = Reply(451, "4.3.0", "Message could not be stored, try again later")
BARE_CR_OR_LF = Reply(
    554, "5.6.0", "Message content has a bare CR or a bare LF", setting="messages.bare_line_ends"
)
NUL_IN_CONTENT = Reply(554, "5.6.0", "Message content has a NUL octet")
TOO_MANY_HOPS = Reply(
    554, "5.4.6", "Hop count exceeded - possible mail loop", setting="delivery.max_hops"
)
CANNOT_VERIFY = "Cannot VRFY user, but will take message for"


# Remembered like the others: the same hosts, senders and recipients come again and again.
@lru_cache(maxsize=1024)
def sender_ok(path: Mailbox | None) -> Reply:
    """MAIL accepted; IIS writes four dots, and ``<>`` for the null reverse-path."""
    return Reply(250, "2.1.0", f"{path if path is not None else '<>'}....Sender OK")


@lru_cache(maxsize=1024)
def recipient_ok(path: Mailbox) -> Reply:
    """RCPT accepted, with the address as it will be used."""
    return Reply(250, "2.1.5", str(path))


def relaying_denied(path: Mailbox) -> Reply:
    """RCPT refused: this client may not relay to that domain."""
    return Reply(550, "5.7.1", f"Unable to relay for {path}", setting="access.relay")


def directory_failed(status: str) -> Reply:
    """
    RCPT or MAIL put off: nobody can say now whose address it is.

    :param status: of class 4.
    """
    return Reply(451, status, "Directory cannot be asked now, try again later", setting="ldap")


def sender_denied(path: Mailbox, account: str, setting: str) -> Reply:
    """
    MAIL refused: this account may not use that reverse-path.

    :param setting: that says what it may use.
    """
    return Reply(553, "5.7.1", f"{account} may not send as {path}", setting=setting)


def started(name: str) -> Reply:
    """ETRN: the mail for *name* goes out now (RFC 1985 §5.3)."""
    return Reply(250, "2.0.0", f"OK, queuing for node {name} started")


def nothing_waits(name: str) -> Reply:
    """ETRN (RFC 1985 §5.3)."""
    return Reply(251, "2.0.0", f"OK, no messages waiting for node {name}")


def node_not_allowed(name: str) -> Reply:
    """ETRN of a domain whose mail does not wait here to be asked for (RFC 1985 §5.3)."""
    words = f"Node {name} not allowed: no mail is held for it"
    return Reply(459, "4.7.1", words, setting="domains[].hold")


def cannot_start(name: str) -> Reply:
    """ETRN, and what waits is not known now (RFC 1985 §5.3)."""
    return Reply(458, "4.3.0", f"Unable to queue messages for node {name}")


def chunk_received(size: int) -> Reply:
    """BDAT, and more to come (RFC 3030 §2)."""
    return Reply(250, "2.0.0", f"{size} octets received")


def content_line_too_long(limit: int) -> Reply:
    """A text line over the limit (RFC 5321 §4.5.3.1.6)."""
    words = f"Message content has a line longer than {limit} octets"
    return Reply(554, "5.6.0", words, setting="messages.max_line_length")


def cannot_verify(argument: str) -> Reply:
    """VRFY tells nothing (RFC 5321 §3.5.3, §7.3)."""
    return Reply(252, "2.1.5", f"{CANNOT_VERIFY} <{argument}>")


def verified(path: Mailbox) -> Reply:
    """VRFY: whose mailbox it is."""
    return Reply(250, "2.1.5", f"<{path}>")


def will_forward(path: Mailbox) -> Reply:
    """VRFY: the mail goes elsewhere (RFC 5321 §3.4)."""
    return Reply(251, "2.1.5", f"User not local; will forward to <{path}>")


def not_local(path: Mailbox) -> Reply:
    """VRFY or EXPN of an address elsewhere, for which this client may not send anything."""
    return Reply(551, "5.7.1", f"User not local: <{path}>")


def ambiguous(path: Mailbox) -> Reply:
    """VRFY or EXPN: several have the address (RFC 5321 §3.5.1)."""
    return Reply(553, "5.1.4", f"User ambiguous: <{path}>")


def members(paths: tuple[Mailbox, ...]) -> Reply:
    """EXPN: one line for each (RFC 5321 §3.5.2)."""
    return Reply(250, "2.1.5", tuple(f"<{path}>" for path in paths))


def not_a_group(path: Mailbox) -> Reply:
    """EXPN of a mailbox (RFC 5321 §3.5.3)."""
    return Reply(550, "5.2.4", f"Not a mailing list: <{path}>")


def nobody_in(path: Mailbox) -> Reply:
    """EXPN of a group without members (RFC 3463 X.2.4)."""
    return Reply(550, "5.2.4", f"No members: <{path}>")


def queued(message_id: str, queue_id: str) -> Reply:
    """
    The message is ours (promise P1).

    :param message_id: with angle brackets.
    :param queue_id: how the log and every tool call it.
    """
    return Reply(250, "2.6.0", f"{message_id} Queued mail for delivery [{queue_id}]")
