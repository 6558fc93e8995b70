"""
The addresses in a field like To, whoever wrote it.

:Room: ``content``
:RFC: 5322 §3.4 (addresses), §4.4 (obsolete forms); 2047 §5 (encoded words); 6532 §3.2 (UTF-8).
:IIS: PIC-02, PIC-11 (sender and recipients from the fields of a Pickup file).
:Called by: Pickup, through `mailhost.intake`.

Each octet is looked at once: no recursion, and no pattern that could go back.
Two liberties, because programs on Windows take them: a semicolon separates
like a comma, and a display name may hold ``@``, ``.`` and brackets unquoted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mailhost.errors import SyntaxProblem
from mailhost.model.reply import printable

#: Deeper comments are an attack (attacks.md A33), not a habit.
MAX_COMMENT_DEPTH = 50
#: RFC 2047 §2 says 75; some programs do not count.
_MAX_ENCODED_WORD_OCTETS = 200

#: Kind and octets: ``a`` atom with its dots, ``q`` quoted string without its
#: quotes, ``l`` domain literal with its brackets, or one of ``<>,;:@``.
_Token = tuple[str, bytes]

_ATOM = re.compile(rb'[^\x00-\x20\x7f()<>\[\]:;@\\,"]++')
_SPACE = re.compile(rb"[ \t\r\n]++")
_COMMENT_MARK = re.compile(rb"[()\\]")
_QUOTE_MARK = re.compile(rb'["\\]')
_SPECIALS = b"<>,;:@"

_ALPHANUMERIC = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
#: What these octets may say is looked at when they are put together.
_BEYOND_ASCII = bytes(range(0x80, 0x100))
_ATEXT = _ALPHANUMERIC + b"!#$%&'*+-/=?^_`{|}~" + _BEYOND_ASCII
_DOMAIN_TEXT = _ALPHANUMERIC + b"-_" + _BEYOND_ASCII
_PRINTABLE = bytes(range(0x20, 0x7F))


def addresses_in(value: bytes) -> list[str]:
    """
    The addresses of an address list, in order, as they go on the wire.

    The local part is quoted where it must be.  A single word without ``@`` is
    an unqualified address.  Groups give their members; empty places between
    commas give nothing.

    :param value: the value of the field, folded or not.
    :raises mailhost.errors.SyntaxProblem: it is no address list; says why.
    """
    found: list[str] = []
    element: list[_Token] = []
    in_angle = in_group = False
    for token in _tokens(value):
        kind = token[0]
        if kind in "<>":
            in_angle = _check_angle(kind, in_angle)
        if in_angle or kind not in ",;:":
            element.append(token)
        elif kind == ":":
            _check_group(element, in_group)
            in_group = True
            element = []
        else:
            found.extend(_address(element))
            element = []
            in_group = in_group and kind == ","
    if in_angle:
        raise SyntaxProblem("'<' without '>'")
    found.extend(_address(element))
    return found


def _check_angle(kind: str, in_angle: bool) -> bool:
    if in_angle == (kind == "<"):
        raise SyntaxProblem("'<' within '<'" if in_angle else "'>' without '<'")
    return not in_angle


def _check_group(element: list[_Token], in_group: bool) -> None:
    if in_group:
        raise SyntaxProblem("a group within a group")
    if not element or any(kind in "<@" for kind, _ in element):
        raise SyntaxProblem("':' without the name of a group before it")


# ---- from octets to tokens


def _tokens(value: bytes) -> Iterator[_Token]:
    at = 0
    while at < len(value):
        mark = value[at]
        if mark in b" \t\r\n":
            at = _end_of(_SPACE, value, at)
        elif mark == 0x28:  # (
            at = _comment_end(value, at)
        elif mark in _SPECIALS:
            yield chr(mark), value[at : at + 1]
            at += 1
        elif mark == 0x22:  # "
            at, octets = _quoted(value, at)
            yield "q", octets
        elif mark == 0x5B:  # [
            end = _literal_end(value, at)
            yield "l", value[at:end]
            at = end
        else:
            end = _encoded_word_end(value, at) or _end_of(_ATOM, value, at)
            yield "a", value[at:end]
            at = end


def _end_of(pattern: re.Pattern[bytes], value: bytes, at: int) -> int:
    match = pattern.match(value, at)
    if match is None:
        raise SyntaxProblem(f"{_shown(value[at : at + 1])} does not belong into an address")
    return match.end()


def _comment_end(value: bytes, at: int) -> int:
    depth = 0
    while True:
        mark = _COMMENT_MARK.search(value, at)
        if mark is None:
            raise SyntaxProblem("'(' without ')'")
        at = mark.end()
        if mark[0] == b"\\":
            at += 1
        elif mark[0] == b"(":
            depth += 1
        else:
            depth -= 1
        if not depth:
            return at
        if depth > MAX_COMMENT_DEPTH:
            raise SyntaxProblem(f"comments nested deeper than {MAX_COMMENT_DEPTH}")


def _quoted(value: bytes, at: int) -> tuple[int, bytes]:
    """The end of the quoted string, and what it says."""
    pieces = []
    at += 1
    while True:
        mark = _QUOTE_MARK.search(value, at)
        if mark is None:
            raise SyntaxProblem("a quotation mark without its partner")
        pieces.append(value[at : mark.start()])
        at = mark.end()
        if mark[0] == b'"':
            return at, b"".join(pieces).replace(b"\r\n", b"").replace(b"\n", b"")
        pieces.append(value[at : at + 1])
        at += 1


def _literal_end(value: bytes, at: int) -> int:
    end = value.find(b"]", at)
    if end < 0:
        raise SyntaxProblem("'[' without ']'")
    return end + 1


def _encoded_word_end(value: bytes, at: int) -> int | None:
    """
    Where an encoded word ends, `None` if there is none.

    One token, because some programs leave commas and brackets in it as they are.
    """
    if not value.startswith(b"=?", at):
        return None
    limit = at + _MAX_ENCODED_WORD_OCTETS
    charset_end = value.find(b"?", at + 2, limit)
    if charset_end < 0 or value[charset_end + 1 : charset_end + 3].lower() not in (b"b?", b"q?"):
        return None
    end = value.find(b"?=", charset_end + 3, limit)
    return end + 2 if end >= 0 else None


# ---- from tokens to an address


def _address(element: list[_Token]) -> list[str]:
    """The address in one place of the list; none in an empty place."""
    kinds = [kind for kind, _ in element]
    if "<" not in kinds:
        return [_addr_spec(element)] if element else []
    if kinds.index(">") != len(kinds) - 1:
        raise SyntaxProblem(f"no comma behind {_spelt(element[: kinds.index('>') + 1])}")
    inner = element[kinds.index("<") + 1 : -1]
    if inner and inner[0][0] == "@":
        inner = _without_route(inner)
    if not inner:
        raise SyntaxProblem("an empty address: <>")
    return [_addr_spec(inner)]


def _without_route(inner: list[_Token]) -> list[_Token]:
    """RFC 5322 §4.4: a source route is understood, and ignored."""
    for position, (kind, _) in enumerate(inner):
        if kind == ":":
            return inner[position + 1 :]
    raise SyntaxProblem(f"a route without ':' in {_spelt(inner)}")


def _addr_spec(tokens: list[_Token]) -> str:
    kinds = [kind for kind, _ in tokens]
    signs = kinds.count("@")
    if signs > 1:
        raise SyntaxProblem(f"more than one '@' in {_spelt(tokens)}")
    if not signs:
        if len(tokens) > 1:
            raise SyntaxProblem(f"no address in {_spelt(tokens)}")
        return _local_part(tokens)
    at = kinds.index("@")
    return f"{_local_part(tokens[:at])}@{_domain(tokens[at + 1 :])}"


def _local_part(tokens: list[_Token]) -> str:
    content = _joined(tokens, "aq", "local part")
    if _is_dotted(content, _ATEXT):
        return content.decode("utf-8")
    if not any(kind == "q" for kind, _ in tokens):
        raise SyntaxProblem(f"{_shown(content)} is no local part")
    if content.translate(None, _PRINTABLE + _BEYOND_ASCII):
        raise SyntaxProblem(f"a control character in {_shown(content)}")
    escaped = content.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return f'"{escaped.decode("utf-8")}"'


def _domain(tokens: list[_Token]) -> str:
    if len(tokens) == 1 and tokens[0][0] == "l":
        literal = tokens[0][1]
        if b"[" in literal[1:] or b" " in literal or literal.translate(None, _PRINTABLE):
            raise SyntaxProblem(f"{_shown(literal)} is no address literal")
        return literal.decode("ascii")
    content = _joined(tokens, "a", "domain")
    if not _is_dotted(content, _DOMAIN_TEXT):
        raise SyntaxProblem(f"{_shown(content)} is no domain")
    return content.decode("utf-8")


def _joined(tokens: list[_Token], kinds: str, what: str) -> bytes:
    """
    The tokens as one, without the white space that stood at the dots (RFC 5322 §4.4).
    """
    if not tokens:
        raise SyntaxProblem(f"an address without a {what}")
    last: _Token | None = None
    for token in tokens:
        if token[0] not in kinds or (last is not None and not _dot_between(last, token)):
            raise SyntaxProblem(f"no {what} in {_spelt(tokens)}")
        last = token
    content = b"".join(octets for _, octets in tokens)
    if not content.isascii():
        _check_utf8(content, what)
    return content


def _check_utf8(content: bytes, what: str) -> None:
    try:
        shown = content.decode("utf-8").isprintable()
    except UnicodeDecodeError:
        shown = False
    if not shown:
        raise SyntaxProblem(f"8-bit characters in the {what} {_shown(content)}")


def _dot_between(left: _Token, right: _Token) -> bool:
    return (left[0] == "a" and left[1].endswith(b".")) or (
        right[0] == "a" and right[1].startswith(b".")
    )


def _is_dotted(content: bytes, text: bytes) -> bool:
    """Whether it is one or more pieces of *text* with single dots between."""
    if not content or content.translate(None, text + b"."):
        return False
    return not (content.startswith(b".") or content.endswith(b".") or b".." in content)


def _spelt(tokens: list[_Token]) -> str:
    shown: list[bytes] = []
    for kind, octets in tokens[:20]:
        shown.append(b'"%b"' % octets if kind == "q" else octets)
    return _shown(b" ".join(shown))


def _shown(octets: bytes) -> str:
    return repr(printable(octets[:80].decode("latin-1")))
