"""
The command table: what a command's argument means.

:Room: ``smtp``
:RFC: 5321 §4.1.1.
:Called by: `mailhost.smtp.server_dialogue`, after the order was checked.

One row per verb.  A row turns the argument into an event that somebody must
decide, or into the reply itself where nothing is to be decided.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from mailhost.errors import SyntaxProblem
from mailhost.model.reply import Reply
from mailhost.smtp import grammar, replies
from mailhost.smtp.events import (
    ChunkGiven,
    ContentAsked,
    Event,
    HelloGiven,
    LoginBegun,
    MailGiven,
    RecipientGiven,
    TLSAsked,
)
from mailhost.smtp.extensions import EXTENSIONS

_CONTENT_ASKED = ContentAsked()
_TLS_ASKED = TLSAsked()
_MAIL_PARAMETERS: dict[str, Callable[[str | None], object]] = {
    name: parse for extension in EXTENSIONS for name, parse in extension.mail_parameters.items()
}
NO_PARAMETERS: dict[str, Callable[[str | None], object]] = {}


def _helo(argument: str) -> Event | Reply:
    return _hello(argument, extended=False)


def _ehlo(argument: str) -> Event | Reply:
    return _hello(argument, extended=True)


def _hello(argument: str, extended: bool) -> Event | Reply:
    try:
        return HelloGiven(grammar.parse_hello(argument), extended)
    except SyntaxProblem:
        return replies.BAD_HELLO


def _mail(argument: str) -> Event | Reply:
    try:
        path, given = grammar.parse_mail(argument)
    except SyntaxProblem:
        return replies.BAD_ADDRESS
    if not given:
        return MailGiven(path, None, "7BIT")
    parsed = _parameters(given, _MAIL_PARAMETERS)
    if isinstance(parsed, Reply):
        return parsed
    return MailGiven(
        path, cast("int | None", parsed.get("SIZE")), cast("str", parsed.get("BODY", "7BIT"))
    )


def _rcpt(argument: str) -> Event | Reply:
    try:
        path, given = grammar.parse_rcpt(argument)
    except SyntaxProblem:
        return replies.BAD_ADDRESS
    parsed = _parameters(given, NO_PARAMETERS)
    return parsed if isinstance(parsed, Reply) else RecipientGiven(path)


def _parameters(
    given: dict[str, str | None], known: dict[str, Callable[[str | None], object]]
) -> dict[str, object] | Reply:
    found: dict[str, object] = {}
    for name, value in given.items():
        parse = known.get(name)
        if parse is None:
            return replies.unknown_parameter(name)
        try:
            found[name] = parse(value)
        except SyntaxProblem:
            return replies.BAD_ARGUMENTS
    return found


def _data(argument: str) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else _CONTENT_ASKED


def _starttls(argument: str) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else _TLS_ASKED  # RFC 3207 §4


def _auth(argument: str) -> Event | Reply:
    try:
        return LoginBegun(*grammar.parse_auth(argument))
    except grammar.EncodingProblem:
        return replies.LOGIN_MALFORMED
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _bdat(argument: str) -> ChunkGiven | Reply:
    try:
        return ChunkGiven(*grammar.parse_chunk(argument))
    except SyntaxProblem:
        return replies.BAD_ARGUMENTS


def _rset(argument: str) -> Event | Reply:
    return replies.BAD_ARGUMENTS if argument else replies.RESET


def _noop(argument: str) -> Event | Reply:
    return replies.OK  # §4.1.1.9: an argument is ignored


def _vrfy(argument: str) -> Event | Reply:
    return replies.cannot_verify(argument.strip("<>")) if argument else replies.BAD_ARGUMENTS


def _help(argument: str) -> Event | Reply:
    return HELP_GIVEN  # the verbs that are on are the dialogue's to add


def _quit(argument: str) -> Event | Reply:
    # The name in the reply is the dialogue's to add; see `QUIT_ACCEPTED`.
    return replies.BAD_ARGUMENTS if argument else QUIT_ACCEPTED


#: Stands for "here is help"; the dialogue lists what it offers.
HELP_GIVEN = replies.commands(())
#: Stands for "QUIT is in order"; the dialogue says it with its own name.
QUIT_ACCEPTED = replies.closing("")

TABLE: dict[str, Callable[[str], Event | ChunkGiven | Reply]] = {
    "HELO": _helo,
    "EHLO": _ehlo,
    "MAIL": _mail,
    "RCPT": _rcpt,
    "DATA": _data,
    "BDAT": _bdat,
    "STARTTLS": _starttls,
    "AUTH": _auth,
    "RSET": _rset,
    "NOOP": _noop,
    "VRFY": _vrfy,
    "HELP": _help,
    "QUIT": _quit,
}
#: Verbs that SMTP knows and we do not offer (§4.2.4: 502, not 500).
NOT_OFFERED = frozenset({"EXPN", "TURN", "ATRN", "ETRN", "SEND", "SOML", "SAML"})
#: Verbs after which nothing on this connection can be trusted to be a command: web requests.
ENDING: dict[str, Reply] = dict.fromkeys(
    ("GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT"), replies.FOREIGN_PROTOCOL
)
