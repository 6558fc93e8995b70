"""
The command table: what a command's argument means.

:Room: ``smtp``
:RFC: 5321 §4.1.1.
:Called by: `mailhost.smtp.server_dialogue`, after the order was checked.

One row per verb.  A row turns the argument, and what the session may use, into an event
that somebody must decide, or into the reply itself where nothing is to be decided.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import cast

from mailhost.errors import SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.model.reply import Reply
from mailhost.smtp import grammar, replies
from mailhost.smtp.events import (
    ChunkGiven,
    ContentAsked,
    Event,
    ExpandGiven,
    HelloGiven,
    LoginBegun,
    MailGiven,
    ProxyGiven,
    RecipientGiven,
    StartAsked,
    TLSAsked,
    TurnAsked,
    VerifyGiven,
)
from mailhost.smtp.extensions import Offer
from mailhost.smtp.extensions.base import Parse
from mailhost.smtp.extensions.etrn import parse_node
from mailhost.smtp.extensions.turn import parse_domains
from mailhost.smtp.extensions.xclient import parse_xclient

#: Parameters whose value may be other than ASCII (RFC 6533 §3).
_INTERNATIONAL = frozenset({"ORCPT"})
#: Commands that may have an address outside ASCII.
_WITH_ADDRESS = (b"MAIL ", b"RCPT ", b"VRFY ", b"EXPN ")
_CONTENT_ASKED = ContentAsked()
#: RFC 2033 §4.1.
_IN_LMTP = {"LHLO": "EHLO", "EHLO": "", "HELO": ""}
#: A line that is not longer is remembered.
_REMEMBERED_OCTETS = 128
#: How AUTH begins.
_OF_SECRETS = (b"A", b"a")

Understood = tuple[str, "Event | ChunkGiven | Reply | None"]
_TLS_ASKED = TLSAsked()


def _helo(argument: str, offer: Offer) -> Event | Reply:
    return _hello(argument, extended=False)


def _ehlo(argument: str, offer: Offer) -> Event | Reply:
    return _hello(argument, extended=True)


def _hello(argument: str, extended: bool) -> Event | Reply:
    try:
        return HelloGiven(grammar.parse_hello(argument), extended)
    except SyntaxProblem:
        return replies.BAD_HELLO


def _mail(argument: str, offer: Offer) -> Event | Reply:
    try:
        path, given = grammar.parse_mail(argument)
    except SyntaxProblem:
        return replies.BAD_ADDRESS
    if not given:
        return MailGiven(path, None, "7BIT") if argument.isascii() else replies.UTF8_NOT_ASKED
    parsed = _parameters(given, offer.mail_parameters)
    if isinstance(parsed, Reply):
        return parsed
    size = cast("int | None", parsed.pop("size", None))
    body = cast("str", parsed.pop("body", "7BIT"))
    parsed.pop("auth", None)
    if not (argument.isascii() or "smtputf8" in parsed):
        return replies.UTF8_NOT_ASKED
    if not any(parsed.values()):
        return MailGiven(path, size, body)
    return MailGiven(path, size, body, MailParameters(**parsed))  # type: ignore[arg-type]  # parsed


def _rcpt(argument: str, offer: Offer) -> Event | Reply:
    try:
        path, given = grammar.parse_rcpt(argument)
    except SyntaxProblem:
        return replies.BAD_ADDRESS
    if not given:
        return RecipientGiven(path)
    parsed = _parameters(given, offer.rcpt_parameters)
    if isinstance(parsed, Reply):
        return parsed
    return RecipientGiven(path, RecipientParameters(**parsed))  # type: ignore[arg-type]  # parsed


def _parameters(
    given: Mapping[str, str | None], known: Mapping[str, Parse]
) -> dict[str, object] | Reply:
    """Their values, by the names that `mailhost.model.parameters` has for them."""
    found: dict[str, object] = {}
    for name, value in given.items():
        parse = known.get(name)
        if parse is None:
            return replies.unknown_parameter(name)
        try:
            if not (value is None or value.isascii() or name in _INTERNATIONAL):
                return replies.BAD_ARGUMENTS
            found[name.lower().replace("-", "_")] = parse(value)
        except SyntaxProblem:
            return replies.BAD_ARGUMENTS
    return found


def _data(argument: str, offer: Offer) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else _CONTENT_ASKED


def _starttls(argument: str, offer: Offer) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else _TLS_ASKED  # RFC 3207 §4


def _auth(argument: str, offer: Offer) -> Event | Reply:
    try:
        return LoginBegun(*grammar.parse_auth(argument))
    except grammar.EncodingProblem:
        return replies.LOGIN_MALFORMED
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _xclient(argument: str, offer: Offer) -> Event | Reply:
    try:
        return ProxyGiven(parse_xclient(argument))
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _etrn(argument: str, offer: Offer) -> Event | Reply:
    try:
        return StartAsked(*parse_node(argument))
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _turn(argument: str, offer: Offer) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else TurnAsked()


def _atrn(argument: str, offer: Offer) -> Event | Reply:
    try:
        return TurnAsked(parse_domains(argument))
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _bdat(argument: str, offer: Offer) -> ChunkGiven | Reply:
    try:
        return ChunkGiven(*grammar.parse_chunk(argument))
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _rset(argument: str, offer: Offer) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else replies.RESET


def _noop(argument: str, offer: Offer) -> Event | Reply:
    return replies.OK  # §4.1.1.9: an argument is ignored


def _vrfy(argument: str, offer: Offer) -> Event | Reply:
    if not argument:
        return replies.BAD_ARGUMENTS
    if not offer.verifies:
        return replies.cannot_verify(argument.strip("<>"))
    path = _named(argument, offer)
    return path if isinstance(path, Reply) else VerifyGiven(path)


def _expn(argument: str, offer: Offer) -> Event | Reply:
    path = _named(argument, offer)
    return path if isinstance(path, Reply) else ExpandGiven(path)


def _named(argument: str, offer: Offer) -> Mailbox | Reply:
    """RFC 6531 §3.4: SMTPUTF8 may stand behind the address."""
    text, blank, word = argument.rpartition(" ")
    asked = bool(blank) and offer.utf8 and word.upper() == "SMTPUTF8"
    if not (asked or argument.isascii()):
        return replies.UTF8_NOT_ASKED
    try:
        return grammar.parse_named(text.rstrip(" ") if asked else argument)
    except SyntaxProblem:
        return replies.BAD_ADDRESS


def _help(argument: str, offer: Offer) -> Event | Reply:
    return HELP_GIVEN  # the verbs that are on are the dialogue's to add


def _quit(argument: str, offer: Offer) -> Event | Reply:
    # The name in the reply is the dialogue's to add; see `QUIT_ACCEPTED`.
    return replies.BAD_ARGUMENTS if argument else QUIT_ACCEPTED


def understood(line: bytes, offer: Offer, lmtp: bool, utf8: bool) -> Understood:
    """
    What a command line says.

    The same lines come again and again, and are remembered; none that may tell a password.

    :param line: without its CRLF.
    :param lmtp: LHLO is what EHLO was, and there is neither EHLO nor HELO (RFC 2033 §4.1).
    :param utf8: the transaction was begun with SMTPUTF8.
    :returns: the verb in upper case and what it means, which is `None` for a verb that is not in
        the table; no verb, and why, for a line that is no text.
    """
    if len(line) > _REMEMBERED_OCTETS or line.startswith(_OF_SECRETS):
        return _understand(line, offer, lmtp, utf8)
    return _remembered(line, offer, lmtp, utf8)


def _understand(line: bytes, offer: Offer, lmtp: bool, utf8: bool) -> Understood:
    text = line.decode("ascii") if line.isascii() else _decoded(line, offer, utf8)
    if isinstance(text, Reply):
        return "", text
    verb, argument = grammar.parse_verb(text)
    if lmtp:
        verb = _IN_LMTP.get(verb, verb)
    row = TABLE.get(verb)
    return verb, row(argument, offer) if row is not None else None


_remembered = lru_cache(maxsize=1024)(_understand)


def _decoded(line: bytes, offer: Offer, utf8: bool) -> str | Reply:
    """
    A command line that is not ASCII (RFC 6531 §3.3), or why it cannot be one.

    :param utf8: the transaction was begun with SMTPUTF8.
    """
    verb = line[:5].upper()
    if verb not in _WITH_ADDRESS:
        return replies.EIGHT_BIT_COMMAND
    if not offer.utf8:
        return replies.EIGHT_BIT_ADDRESS
    if verb == b"RCPT " and not utf8:
        return replies.UTF8_NOT_ASKED
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return replies.BAD_ADDRESS


def unknown(verb: str) -> Reply:
    """The answer to what is not in the table."""
    known = replies.NOT_SUPPORTED if verb in NOT_OFFERED else replies.UNKNOWN_COMMAND
    return ENDING.get(verb, known)


def help_given(offer: Offer, lmtp: bool) -> Reply:
    """The commands that are on (§4.1.1.8); in LMTP LHLO is what EHLO was."""
    verbs = [verb for verb in TABLE if verb not in offer.off]
    return replies.commands(("LHLO", *verbs[2:]) if lmtp else tuple(verbs))


#: Stands for "here is help"; the dialogue lists what it offers.
HELP_GIVEN = replies.commands(())
#: Stands for "QUIT is in order"; the dialogue says it with its own name.
QUIT_ACCEPTED = replies.closing("")

TABLE: dict[str, Callable[[str, Offer], Event | ChunkGiven | Reply]] = {
    "HELO": _helo,
    "EHLO": _ehlo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    "BDAT": _bdat,
    "STARTTLS": _starttls,
    "AUTH": _auth,
    "XCLIENT": _xclient,
    "ETRN": _etrn,
    "TURN": _turn,
    "ATRN": _atrn,
    "RSET": _rset,
    "NOOP": _noop,
    "VRFY": _vrfy,
    "EXPN": _expn,
    "HELP": _help,
    "QUIT": _quit,
}
#: Verbs that SMTP knows and we do not offer (§4.2.4: 502, not 500).
NOT_OFFERED = frozenset({"SEND", "SOML", "SAML"})
#: Verbs after which nothing on this connection can be trusted to be a command: web requests.
ENDING: dict[str, Reply] = dict.fromkeys(
    ("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"), replies.FOREIGN_PROTOCOL
)
