"""
The two files in which an operator tells a machine about names.

:Room: ``relay.dns`` -- reads ``/etc/resolv.conf`` and ``/etc/hosts``, or what it is pointed to.
:Called by: `mailhost.relay.dns.resolver`.

Both are small and local, so they are read in the reactor's thread, at most once
in `CHECK_SECONDS` and only after they have changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

from attrs import define, field, frozen
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from mailhost.relay.dns.names import find_address, is_address

T = TypeVar("T")
Server = tuple[str, int]

#: A changed file is noticed after so long.
CHECK_SECONDS = 5.0
DNS_PORT = 53
#: resolv.conf(5): MAXNS; more name servers are not looked at.
MAX_SERVERS = 3
#: resolv.conf(5): without a ``nameserver`` line the local machine is asked.
_DEFAULT_SERVERS: tuple[Server, ...] = (("127.0.0.1", DNS_PORT),)


@define(eq=False)
class WatchedFile(Generic[T]):
    """
    What a file says, read again after it has changed.

    A missing file is an empty one.  A file that cannot be read keeps what it
    said before; the log tells.
    """

    path: str
    parse: Callable[[str], T]
    clock: IReactorTime
    _said: T | None = field(default=None, init=False)
    _signature: tuple[int, ...] | None = field(default=None, init=False)
    _check_at: float | None = field(default=None, init=False)
    _log = Logger()

    def read(self) -> T:
        """What the file says now, or said `CHECK_SECONDS` ago."""
        now = self.clock.seconds()
        if self._said is None or self._check_at is None or now >= self._check_at:
            self._check_at = now + CHECK_SECONDS
            self._said = self._refresh()
        return self._said

    def _refresh(self) -> T:
        try:
            status = os.stat(self.path)
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._said is not None and signature == self._signature:
                return self._said
            with open(self.path, encoding="utf-8", errors="replace") as stream:
                said = self.parse(stream.read())
            self._signature = signature
        except FileNotFoundError:
            self._signature = None
            return self.parse("")
        except OSError as error:
            self._log.warn("{path} cannot be read: {error}", path=self.path, error=error)
            return self.parse("") if self._said is None else self._said
        return said


def parse_resolv_conf(text: str) -> tuple[Server, ...]:
    """The ``nameserver`` lines of resolv.conf(5), in order; never empty."""
    servers: list[Server] = []
    for words in _lines(text, "#;"):
        if words[0] == "nameserver" and len(words) > 1 and is_address(words[1]):
            servers.append((words[1], DNS_PORT))
    return tuple(servers[:MAX_SERVERS]) or _DEFAULT_SERVERS


@frozen
class HostsTable:
    """
    hosts(5), both ways round.

    :ivar addresses: by lower-case name, in the file's order.
    :ivar names: by address; the canonical name first.
    """

    addresses: dict[str, tuple[str, ...]]
    names: dict[str, tuple[str, ...]]


def parse_hosts(text: str) -> HostsTable:
    """Lines of hosts(5): an address, its name, its other names."""
    addresses: dict[str, tuple[str, ...]] = {}
    names: dict[str, tuple[str, ...]] = {}
    for words in _lines(text, "#"):
        ip = find_address(words[0])
        if ip is None:
            continue
        address = str(ip)
        for name in (word.lower().rstrip(".") for word in words[1:]):
            addresses[name] = _with(addresses.get(name, ()), address)
            names[address] = _with(names.get(address, ()), name)
    return HostsTable(addresses, names)


def _with(known: tuple[str, ...], value: str) -> tuple[str, ...]:
    return known if value in known else (*known, value)


def _lines(text: str, comments: str) -> list[list[str]]:
    """The words of each line that has some, comments cut off."""
    found: list[list[str]] = []
    for line in text.splitlines():
        for sign in comments:
            line = line.partition(sign)[0]
        if words := line.split():
            found.append(words)
    return found
