"""
The mail programs of others: Postfix's, unpacked by ``tests/fetch-peers``, and swaks.

A program that is missing is a failure, not a skip: a test of what real peers do has
shown nothing where there was no peer.
"""

from __future__ import annotations

import os
import pwd
import shutil
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


class PeerMissing(AssertionError):
    """A program is not there; the words say how to get it."""


def postfix_root() -> Path:
    """Where Postfix was unpacked."""
    return Path(os.environ.get("MAILHOST_POSTFIX_ROOT") or PROJECT / ".peers").absolute()


def unpacked_program(name: str) -> str:
    """
    The path of *name*, such as ``smtp-sink``, or ``exim4`` after ``tests/fetch-peers --all``.

    :raises PeerMissing: it is not unpacked.
    """
    return _found(postfix_root() / "usr/sbin" / name)


def swaks_program() -> str:
    """
    The path of swaks: the system's, else the unpacked one.

    :raises PeerMissing: there is neither.
    """
    return shutil.which("swaks") or _found(postfix_root() / "usr/bin/swaks")


def installed_program(name: str) -> str:
    """
    The path of a program that ``tests/run`` installs, such as ``curl``.

    :raises PeerMissing: it is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise PeerMissing(f"{name} is not installed: apt-get install {name}")
    return found


def _found(path: Path) -> str:
    if not path.is_file():
        raise PeerMissing(
            f"{path} is missing: run tests/fetch-peers, with --all for Exim and OpenSMTPD, which "
            "unpacks the peers' packages there (or name another folder by MAILHOST_POSTFIX_ROOT)"
        )
    return str(path)


def postfix_environment() -> dict[str, str]:
    """The environment in which an unpacked program finds its libraries, and SASL's modules."""
    folders = sorted({path.parent for path in (postfix_root() / "usr/lib").rglob("*.so*")})
    modules = [str(folder) for folder in folders if folder.name == "sasl2"]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": ":".join(map(str, folders)),
        "SASL_PATH": ":".join(modules),
    }


def sink_command(address: str, *options: str, backlog: int = 500) -> list[str]:
    """
    smtp-sink on *address* (``host:port``).

    It wants to be told a user where root runs it; ours stays, so that it can
    write its dumps where the test wants them.
    """
    user = ["-u", pwd.getpwuid(os.getuid()).pw_name] if os.geteuid() == 0 else []
    return [unpacked_program("smtp-sink"), *user, *options, f"inet:{address}", str(backlog)]


def source_command(address: str, *options: str) -> list[str]:
    """smtp-source towards *address* (``host:port``)."""
    return [unpacked_program("smtp-source"), *options, f"inet:{address}"]
