"""
Passwords that are not in the configuration itself: in files of their own, or in the environment.

:Room: ``secrets`` (floor 1) -- reads small local files, and the environment.
:Called by: whoever has to prove something: `mailhost.relay.line`, `mailhost.net.tokens`,
    `mailhost.directory.binding`; and `mailhost.cli.probes`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkstemp

from mailhost.errors import MailhostError
from mailhost.model.security import Secret

#: A password file holds one line; tokens are longer than passwords.
_MAX_OCTETS = 16384


class SecretProblem(MailhostError):
    """A password cannot be read; the words say which file or variable, and why."""


def reveal(
    secret: Secret | None, path: Path | None = None, environment: Mapping[str, str] = os.environ
) -> str:
    """
    A password, as it is now.

    :param secret: as it stands in the configuration; `None`: it is in the file *path*.
    :raises SecretProblem: it cannot be read.
    """
    if secret is None:
        assert path is not None, "the settings have seen to it"
        return read_password(path)
    if not secret.variable:
        return secret.reveal()
    found = environment.get(secret.variable, "")
    if not found:
        raise SecretProblem(f"the environment variable {secret.variable} is not set")
    return found


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
    if is_open_to_others(mode):
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


def is_open_to_others(mode: int) -> bool:
    """Whether a file of this *mode* can be used by who is neither its owner nor in its group."""
    return os.name == "posix" and bool(mode & stat.S_IRWXO)


def file_stamp(path: Path) -> object:
    """Something that is another one when the file *path* has changed; `None`: it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size, status.st_mode


def replace_file(path: Path, text: str) -> None:
    """
    Put *text* in the place of what is in *path*, in one step.

    Mode and owner are kept; a new file is for its owner only.

    :raises OSError: it cannot be written; the old one is as it was.
    """
    path = path.resolve()
    handle, name = mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            if os.name == "posix" and path.exists():
                _keep_owner(file.fileno(), path.stat())
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _keep_owner(handle: int, status: os.stat_result) -> None:
    if (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
        os.fchown(handle, status.st_uid, status.st_gid)
    os.fchmod(handle, stat.S_IMODE(status.st_mode))
