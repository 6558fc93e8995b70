"""
The tokens file: programs that may speak with the control interface.

:Room: ``authentication``
:Called by: `mailhost.control.remote`, `mailhost.cli.token`.

A line is ``name:SHA-256``, of the token in hexadecimal digits.  A token has 256 bits of chance, so
that nobody finds it from its hash, and nothing slow has to keep him from trying.  A name may have
several, so that a new one can be handed out before the old one is taken back.  A line that
begins with ``#`` is a remark.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from attrs import define, field
from twisted.logger import Logger

from mailhost.authentication.users import read_file, user_key
from mailhost.errors import SyntaxProblem
from mailhost.secrets import file_stamp, replace_file

#: What every token begins with, so that it is known for one where it should not be.
PREFIX = "mailhost_"
_LINE = re.compile(r"([^:\s][^:]*):([0-9a-f]{64})")


def new_token() -> str:
    """A token that nobody has."""
    return PREFIX + secrets.token_urlsafe(32)


def token_line(name: str, token: str) -> str:
    """
    What stands in the file for *token*.

    :raises SyntaxProblem: nobody can be called *name*.
    """
    if not _LINE.fullmatch(f"{name}:{'0' * 64}") or name.startswith("#") or not user_key(name):
        raise SyntaxProblem("a name is not empty, has no colon and does not begin with #")
    return f"{name}:{_digest(token)}"


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8")).hexdigest()


def read_tokens(text: str) -> tuple[Mapping[str, str], tuple[str, ...]]:
    """:returns: names by the token's hash, and what is wrong with lines, which are left out."""
    names: dict[str, str] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            faults.append(f"line {number}: not name:hash")
        else:
            names[found[2]] = found[1]
    return names, tuple(faults)


def add_token(path: Path, name: str) -> str:
    """
    A new token for *name*, whose hash is in the file now.

    :raises SyntaxProblem: nobody can be called *name*.
    :raises mailhost.errors.AuthenticationProblem: the file cannot be read.
    :raises OSError: it cannot be written.
    """
    token = new_token()
    line = token_line(name, token)
    lines = read_file(path).splitlines() if path.exists() else []
    replace_file(path, "".join(f"{one}\n" for one in (*lines, line)))
    return token


def remove_tokens(path: Path, name: str) -> int:
    """
    Take all tokens of *name* back.

    :returns: how many there were.
    :raises mailhost.errors.AuthenticationProblem: the file cannot be read.
    :raises OSError: it cannot be written.
    """
    lines = read_file(path).splitlines()
    kept = [one for one in lines if one.startswith("#") or one.partition(":")[0].strip() != name]
    if len(kept) < len(lines):
        replace_file(path, "".join(f"{one}\n" for one in kept))
    return len(lines) - len(kept)


@define(eq=False)
class AccessTokens:
    """
    A tokens file, read anew when it has changed.

    :ivar path: where it lies.
    """

    path: Path
    _names: Mapping[str, str] = field(factory=dict, init=False)
    _stamp: object = field(default=None, init=False)

    _log = Logger()

    def find(self, token: str) -> str | None:
        """
        Whose *token* is; `None`: nobody's.

        :raises mailhost.errors.AuthenticationProblem: the file cannot be read: nobody gets in,
            since whoever was to be shut out by it must not.
        """
        stamp = file_stamp(self.path)
        if stamp is None or stamp != self._stamp:
            self._names, faults = read_tokens(read_file(self.path))
            self._stamp = stamp
            for words in faults:
                self._log.warn("{file}: {words}", file=str(self.path), words=words)
        return self._names.get(_digest(token))
