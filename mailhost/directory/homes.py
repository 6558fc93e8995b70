"""
From the home server that an entry names to a host.

:Room: ``directory``
:IIS: the outline of resolution in §6, point 6.
:Called by: `mailhost.directory.entries`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from attrs import field, frozen

from mailhost.directory.filters import first_part
from mailhost.model.access import check_domain_pattern
from mailhost.model.route import NextHop

#: Exchange's legacy names: ``/o=Org/ou=Site/cn=Configuration/cn=Servers/cn=NAME``.
_PATH_PART = re.compile(r"/cn=([^/]+)", re.IGNORECASE)
#: What a homeMTA names first; the server is the part behind it.
_AGENT = "microsoft mta"


def _lower(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.lower().rstrip(".") for name in names)


def _lower_keys(hosts: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): host.lower() for name, host in hosts.items()}


@frozen
class HomeServers:
    """
    :ivar hosts: host names of servers whose name in the directory is another.
    :ivar domain: completes a server's name where *hosts* does not have it; empty: a
        server that is not in *hosts* is not told from ourselves.
    :ivar own: host names that are us: the mailbox is local.
    """

    hosts: Mapping[str, str] = field(factory=dict, converter=_lower_keys)
    domain: str = ""
    own: frozenset[str] = field(default=frozenset(), converter=_lower)

    def by_host(self, host: str) -> NextHop | None:
        """
        The next hop for a home server given by its domain name; `None`: us.

        :raises ValueError: it is no domain name.
        """
        name = self.hosts.get(host.lower(), host).lower().rstrip(".")
        if name in self.own:
            return None
        return NextHop(check_domain_pattern(name))

    def by_name(self, name: str) -> NextHop | None:
        """The same for a server given as a DN or as an Exchange path."""
        server = server_name(name).lower()
        if server in self.hosts:
            return self.by_host(server)
        if not server or not self.domain or server in self.own:
            return None
        return self.by_host(f"{server}.{self.domain}")


def server_name(text: str) -> str:
    """
    The server in ``/o=Org/.../cn=MAIL1`` or ``CN=Microsoft MTA,CN=MAIL1,CN=Servers,...``.

    :returns: ``MAIL1``; empty where *text* is of neither form.
    """
    if text.startswith("/"):
        found = _PATH_PART.findall(text)
        return found[-1].strip() if found else ""
    part = first_part(text)
    if part is not None and part.value.lower() == _AGENT:
        part = first_part(part.parent)
    return part.value if part is not None else ""
