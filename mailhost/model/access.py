"""
"Only the list below" / "All except the list below": IIS's address lists.

:Room: ``model``
:IIS: ACC-20..23 (connection control), ACC-30, ACC-31 (relay restrictions).
:Read by: `mailhost.policy`.

An entry is one address, a network in CIDR form, or a domain name; a domain
covers itself or, written ``*.example.com``, everything below that name.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from attrs import field, frozen

Network = IPv4Network | IPv6Network

#: A list that holds more of the Internet than this is no list of one's own clients.
_WIDEST = {4: 7, 6: 15}


@frozen
class AccessList:
    """
    A default, and the exceptions to it.

    :ivar allow: what holds for those who are not listed.
    :ivar networks: listed networks; a single address is a network of one.
    :ivar domains: listed domains, lower case, ``*.`` for everything below.
    :ivar logins: whoever has logged in is permitted in any case (IIS ACC-32).
    """

    allow: bool
    networks: tuple[Network, ...] = ()
    domains: tuple[str, ...] = ()
    logins: bool = False
    _answers: dict[str, Network | None] = field(factory=dict, init=False, repr=False, eq=False)

    @classmethod
    def build(cls, allow: bool, entries: Iterable[str] = ()) -> AccessList:
        """
        :param entries: addresses, networks and domains, as an operator writes them.
        :raises ValueError: an entry is none of the three; it is named.
        """
        networks: list[Network] = []
        domains: list[str] = []
        for entry in entries:
            network = parse_network(entry)
            if network is not None:
                networks.append(network)
            else:
                domains.append(check_domain_pattern(entry))
        return cls(allow, tuple(networks), tuple(domains))

    @property
    def needs_names(self) -> bool:
        """Whether the client's name in DNS has to be known (ACC-23)."""
        return bool(self.domains)

    @property
    def wide_networks(self) -> tuple[Network, ...]:
        """Those listed that are a large part of the Internet."""
        wide = [one for one in self.networks if one.prefixlen <= _WIDEST[one.version]]
        return tuple(wide)

    def permits(self, address: str, names: Iterable[str] = ()) -> bool:
        """
        :param address: the client's IP address.
        :param names: its confirmed names in DNS.
        """
        return self.allow != (self.listed(address, names) is not None)

    def listed(self, address: str, names: Iterable[str] = ()) -> Network | str | None:
        """The entry that lists a client, the first one; `None`: none does."""
        network = self._network_of(address) if self.networks else None
        if network is not None or not self.domains:
            return network
        return next(
            (one for name in names for one in self.domains if domain_matches(one, name)), None
        )

    def _network_of(self, address: str) -> Network | None:
        if address not in self._answers:
            if len(self._answers) >= 4096:
                self._answers.clear()
            self._answers[address] = self._search(address)
        return self._answers[address]

    def _search(self, address: str) -> Network | None:
        try:
            ip = ip_address(address.partition("%")[0])
        except ValueError:
            return None
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
        return next((network for network in self.networks if (mapped or ip) in network), None)


def parse_network(text: str) -> Network | None:
    """*text* as an address or CIDR network; `None` if it is a name."""
    try:
        return ip_network(text.strip().strip("[]"), strict=False)
    except ValueError:
        if "/" in text or ":" in text or text.replace(".", "").isdigit():
            raise ValueError(f"{text!r} is not an address or network") from None
        return None


def check_domain_pattern(text: str) -> str:
    """
    *text* as a domain name that may start with ``*.``, in lower case.

    :raises ValueError: it is none.
    """
    name = text.strip().rstrip(".").lower()
    labels = name.removeprefix("*.").split(".")
    for label in labels:
        good = label and len(label) <= 63 and label[0] != "-" and label[-1] != "-"
        if not good or not all(c.isalnum() or c in "-_" for c in label) or not label.isascii():
            raise ValueError(f"{text!r} is not an address, a network or a domain")
    if len(name) > 255:
        raise ValueError(f"{text!r} is longer than 255 octets (RFC 5321 §4.5.3.1.2)")
    return name


def domain_matches(pattern: str, name: str) -> bool:
    """
    Whether *name* is *pattern*, or lies below it where it starts with ``*.``.

    Compared label by label: ``local.example.victim`` is not in ``*.example``.
    """
    name = name.rstrip(".").lower()
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern


def client_network(address: str) -> str:
    """The network that a client is counted in: the /24 of IPv4, or the /48 of IPv6."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ip_network((ip, 48), strict=False))
        ip = ip.ipv4_mapped
    return str(ip_network((ip, 24), strict=False))


def client_place(address: str) -> str:
    """Who counts as one client: an IPv4 address, or the /64 of IPv6 that one customer gets."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(ip, IPv6Address):
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ip_network((ip, 64), strict=False))
