"""
The users file: who may log in, with what password, and as whom he may send.

:Room: ``authentication``
:RFC: 4013 (names are prepared before they are compared).
:IIS: ACC-02 (IIS asks Windows for its accounts).
:Called by: `mailhost.authentication.credentials`, `mailhost.cli.passwd`, and
    `mailhost.cli.probes`.

A line has up to five parts with colons between them::

    name:ARGON2ID[:SCRAM[:SENDERS[:SECRETS]]]

The name has no colon, the hash is ``$argon2id$...``, the keys ``$scram-sha-256$...``
or nothing, the senders ``user@example.com``, ``@example.com`` or ``@*.example.com``
with commas between them; no senders: any.  The secrets are what weak mechanisms need, with
commas between them, ``$nt$...`` for NTLM in hexadecimal digits; whoever reads one can log in
with it.  A line that begins with ``#`` is a remark.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from attrs import field, frozen

from mailhost.authentication.hashing import (
    check_phc,
    hash_password,
    make_secret,
    new_scram_keys,
    read_scram,
    read_secret,
    write_scram,
    write_secret,
)
from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.model.access import check_domain_pattern
from mailhost.model.account import Account, ScramKeys
from mailhost.secrets import is_open_to_others, replace_file
from mailhost.smtp.sasl.prepare import prepared

#: A file that is larger was not written by us.
MAX_OCTETS = 64 * 1024 * 1024


@frozen
class User:
    """
    One line.

    :ivar phc: the Argon2id hash.
    :ivar keys: for SCRAM; `None`: cannot log in by it.
    :ivar secrets: by their kind (`mailhost.smtp.sasl.base.ProofGiven`); as good as the password.
    """

    account: Account
    phc: str = field(repr=False)
    keys: ScramKeys | None = None
    secrets: Mapping[str, bytes] = field(factory=dict, repr=False)

    @property
    def line(self) -> str:
        """As it stands in the file."""
        scram = write_scram(self.keys) if self.keys is not None else ""
        parts = [self.account.name, self.phc, scram, ",".join(self.account.senders or ())]
        parts.append(",".join(write_secret(*one) for one in self.secrets.items()))
        return ":".join(parts).rstrip(":")


def user_key(name: str) -> str:
    """
    What *name* is looked up by: case does not matter.

    :raises SyntaxProblem: it has characters that no name may have.
    """
    return prepared(name).casefold()


def make_user(
    name: str,
    password: str,
    senders: tuple[str, ...] | None = None,
    kinds: tuple[str, ...] = (),
) -> User:
    """
    A user with new hashes; takes a tenth of a second.

    :param kinds: of secrets that weak mechanisms need.
    :raises SyntaxProblem: name or password has characters that none may have, or is empty.
    :raises ValueError: a sender is no address.
    """
    if not name or ":" in name or name != prepared(name) or name.startswith("#"):
        raise SyntaxProblem("a name is not empty, has no colon and does not begin with #")
    if not password:
        raise SyntaxProblem("the password is empty")
    given = tuple(map(check_sender, senders)) if senders is not None else None
    secrets = {kind: make_secret(kind, password) for kind in kinds}
    return User(Account(name, given), hash_password(password), new_scram_keys(password), secrets)


def check_sender(text: str) -> str:
    """
    *text* as a pattern of `mailhost.model.account.Account.senders`.

    :raises ValueError: it is none.
    """
    local, at, domain = text.strip().rpartition("@")
    if not at or set(local) & set(" ,:\t") or not local.isprintable():
        raise ValueError(f"{text!r} is neither user@domain nor @domain")
    return f"{local}@{check_domain_pattern(domain)}"


# ---- reading


def read_line(line: str) -> User:
    """:raises ValueError: *line* is no user; neither hash nor keys are in the words."""
    name, *rest = line.split(":")
    if not name or not 1 <= len(rest) <= 4:
        raise ValueError(
            "not name:hash:keys:senders:secrets, of which the last three may be missing"
        )
    phc, scram, senders, secrets = (*rest, "", "", "")[:4]
    try:
        user_key(name)
    except SyntaxProblem as wrong:
        raise ValueError(str(wrong)) from None
    given = tuple(map(check_sender, senders.split(","))) if senders.strip() else None
    kept = dict(read_secret(one) for one in secrets.split(",")) if secrets.strip() else {}
    keys = read_scram(scram) if scram else None
    return User(Account(name, given), check_phc(phc), keys, kept)


def read_users(text: str) -> tuple[Mapping[str, User], tuple[str, ...]]:
    """
    :returns: users by `user_key`, and what is wrong with lines, which are left out.
    """
    users: dict[str, User] = {}
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            user = read_line(line.strip())
        except ValueError as wrong:
            faults.append(f"line {number}: {wrong}")
            continue
        key = user_key(user.account.name)
        if key in users:
            faults.append(f"line {number}: {user.account.name} stands above already")
        users.setdefault(key, user)
    return users, tuple(faults)


def read_file(path: Path) -> str:
    """
    The text of a users file.

    :raises AuthenticationProblem: it is not there, is not text, or others may read it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if is_open_to_others(status.st_mode):
                raise AuthenticationProblem(
                    f"{path} can be read by every user of this machine; allowed: mode 0600 or 0640"
                )
            if status.st_size > MAX_OCTETS:
                raise AuthenticationProblem(f"{path} is too large for a users file")
            return file.read().decode("utf-8")
    except OSError as error:
        raise AuthenticationProblem(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise AuthenticationProblem(f"{path} is not UTF-8 text") from error


# ---- writing


def change_file(path: Path, user: User | None, name: str) -> bool:
    """
    Put *user* in the place of *name*, or remove *name* where there is no *user*.

    The file is replaced in one step, and its mode and owner are kept; a new one is for
    its owner only.  Other lines stay as they are.

    :returns: whether *name* was there before.
    :raises AuthenticationProblem: the file cannot be read.
    :raises OSError: it cannot be written.
    """
    path = path.resolve()
    lines = read_file(path).splitlines() if path.exists() else []
    wanted = user_key(name)
    kept = [line for line in lines if not _is_of(line, wanted)]
    known = len(kept) < len(lines)
    if user is not None:
        place = next((at for at, line in enumerate(lines) if _is_of(line, wanted)), len(lines))
        kept.insert(place, user.line)
    if known or user is not None:
        replace_file(path, "".join(f"{line}\n" for line in kept))
    return known


def _is_of(line: str, key: str) -> bool:
    name = line.strip().partition(":")[0]
    try:
        return not line.startswith("#") and user_key(name) == key
    except SyntaxProblem:
        return False
