"""
DSN: the sender says of what it wants to hear, and in which words.

:RFC: 3461 §3 (keyword), §4 (parameters), §5.2.1 (what is sent on); 6533 §3 (address type utf-8).
"""

from __future__ import annotations

import re

from attrs import evolve

from mailhost.errors import SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.parameters import NOTIFY_WORDS, MailParameters, RecipientParameters
from mailhost.smtp.extensions.base import Extension
from mailhost.smtp.xtext import from_utf8_xtext, from_xtext, to_utf8_xtext, to_xtext

MAX_ENVID_OCTETS = 100  # §4.4
MAX_ORCPT_OCTETS = 500  # §4.2
_ADDRESS_TYPE = re.compile(r"[A-Za-z0-9!#$%&'*/?^_`{|}~-]+")


def _parse_ret(value: str | None) -> str:
    ret = (value or "").upper()
    if ret not in ("FULL", "HDRS"):
        raise SyntaxProblem("RET takes FULL or HDRS")
    return ret


def _parse_envid(value: str | None) -> str:
    if value is None or len(value) > MAX_ENVID_OCTETS:
        raise SyntaxProblem(f"ENVID takes xtext, at most {MAX_ENVID_OCTETS} octets")
    from_xtext(value)
    return value


def _parse_notify(value: str | None) -> tuple[str, ...]:
    words = (value or "").upper().split(",")
    if not set(words) <= set(NOTIFY_WORDS) or ("NEVER" in words and len(words) > 1):
        raise SyntaxProblem("NOTIFY takes NEVER, or some of SUCCESS, FAILURE, DELAY")
    return tuple(word for word in NOTIFY_WORDS if word in words)


def _parse_orcpt(value: str | None) -> str:
    kind, semicolon, address = (value or "").partition(";")
    if not semicolon or len(value or "") > MAX_ORCPT_OCTETS or not _ADDRESS_TYPE.fullmatch(kind):
        raise SyntaxProblem("ORCPT takes an address type, a semicolon and xtext")
    if kind.lower() == "utf-8":
        return original_of(from_utf8_xtext(address))
    # Postfix says "rfc822", and goes on in UTF-8.
    meant = from_xtext(address, utf8=True)
    return f"{kind};{address}" if meant.isascii() else original_of(meant)


def _mail_words(asked: MailParameters) -> str:
    ret = f" RET={asked.ret}" if asked.ret else ""
    return f"{ret} ENVID={asked.envid}" if asked.envid else ret


def _rcpt_words(asked: RecipientParameters) -> str:
    notify = f" NOTIFY={','.join(asked.notify)}" if asked.notify else ""
    return f"{notify} ORCPT={asked.orcpt}" if asked.orcpt else notify


def with_original(parameters: RecipientParameters, given: Mailbox) -> RecipientParameters:
    """
    *parameters* of a recipient whose address was *given*, and is another from now on.

    Whoever wants to hear of it is told of the address that he knows (RFC 3461 §5.2.1).
    """
    if parameters.orcpt or not parameters.notify:
        return parameters
    coded = f"rfc822;{to_xtext(str(given))}" if given.is_ascii else original_of(str(given))
    return evolve(parameters, orcpt=coded)


def original_of(address: str) -> str:
    """*address*, which may be other than ASCII, as ORCPT has it in ASCII (RFC 6533 §3)."""
    return f"utf-8;{to_utf8_xtext(address)}"


DSN = Extension(
    "DSN",
    mail_parameters={"RET": _parse_ret, "ENVID": _parse_envid},
    rcpt_parameters={"NOTIFY": _parse_notify, "ORCPT": _parse_orcpt},
    mail_words=_mail_words,
    rcpt_words=_rcpt_words,
)
