"""
Passwords that are in files of their own.

:Room: ``net``
:Called by: `mailhost.relay.line`, and `mailhost.cli.probes`.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mailhost.errors import MailhostError
from mailhost.model.security import Login

#: A password file holds one line.
_MAX_OCTETS = 4096


class SecretProblem(MailhostError):
    """A password cannot be read; the words say which file and why."""


def password_of(login: Login) -> str:
    """
    The password of *login*, as it is now.

    :raises SecretProblem: it cannot be read.
    """
    if login.password is not None:
        return login.password.reveal()
    assert login.password_file is not None, "the settings have seen to it"
    return read_password(login.password_file)


def read_password(path: Path) -> str:
    """
    The first line of the file *path*.

    :raises SecretProblem: it cannot be read, is empty, or others may read it.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.read(_MAX_OCTETS).split(b"\n", 1)[0].rstrip(b"\r")
    except OSError as error:
        raise SecretProblem(f"{path} cannot be read: {error.strerror}") from error
    if os.name == "posix" and mode & stat.S_IRWXO:
        raise SecretProblem(
            f"{path} can be read by every user of this machine; allowed: mode 0600 or 0640"
        )
    try:
        password = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SecretProblem(f"{path} is not UTF-8 text") from error
    if not password:
        raise SecretProblem(f"{path} has no password in its first line")
    return password
