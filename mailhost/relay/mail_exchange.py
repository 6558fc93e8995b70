"""
Which hosts take mail for a domain, and at which addresses.

:Room: ``relay``
:RFC: 5321 §5 (address resolution and mail handling), 7505 (null MX), 8305 §4 (order of families).
:IIS: DEL-44 falls back on a smart host where this ends in a `ResolveProblem`.
:Called by: the relay's attempts; `twisted.mail.relaymanager` through `getMX`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from itertools import chain, zip_longest
from random import Random, SystemRandom
from typing import TypeVar

from attrs import evolve, frozen
from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IReactorTime
from twisted.mail.relaymanager import MXCalculator
from twisted.names.dns import Record_MX

from mailhost.errors import ResolveProblem
from mailhost.interfaces import INameResolver, Maybe
from mailhost.model.proven import Proven
from mailhost.model.route import HostAddress
from mailhost.relay.dns.names import check_name
from mailhost.relay.own_addresses import is_own_address

K = TypeVar("K")
V = TypeVar("V")

#: Hosts of one domain that are tried; RFC 5321 §5.1 wants at least two addresses tried
#: and allows a configurable limit.
MAX_HOSTS = 10
#: Addresses of one host that are tried.
MAX_ADDRESSES = 5
#: Domains and hosts whose arrangement is remembered.
_MEMORY_COUNT = 10_000
#: RFC 6052 §2.1: the prefix behind which a NAT64 gateway puts IPv4.
_NAT64 = IPv6Network("64:ff9b::/96")

_ANYWHERE = {4: ip_address("0.0.0.0"), 6: ip_address("::")}


class MailExchangeError(ResolveProblem, DNSLookupError):
    """What `MailExchangeResolver.getMX` fails with: ours, and what upstream's callers know."""

    def __init__(self, status: str, words: str) -> None:
        ResolveProblem.__init__(self, status, words)

    def __str__(self) -> str:
        return self.words


@frozen
class ExchangeHost:
    """
    One mail exchange.

    :ivar preference: lower is tried first (RFC 5321 §5.1); 0 for an implicit MX.
    :ivar host: lower case, no final dot; an IP address only for an address literal.
    """

    preference: int
    host: str


@frozen
class Site:
    """
    Where mail for a domain goes.

    :ivar key: the hosts' names, sorted and joined by commas: the same for all domains
        of one provider, so that they are one destination.
    :ivar hosts: at least one, in the order to try.
    :ivar proven: DNSSEC has proven which they are, or it is the domain itself; no certificate
        tells an attacker's host that a forged answer has named from the right one.
    """

    key: str
    hosts: tuple[ExchangeHost, ...]
    proven: bool = False


@frozen
class _Arranged:
    """A site, what it was made from, and whether hosts of it stand on one step."""

    exchanges: Sequence[tuple[int, str]]
    site: Site
    equals: bool


@frozen
class _Located:
    """A host's addresses ready to connect to, and what they were made from."""

    found: Sequence[str]
    usable: tuple[HostAddress, ...]


class MailExchangeResolver(MXCalculator):
    """
    Upstream's ``MXCalculator`` with the rules of RFC 5321 §5.1 and RFC 7505.

    Answers are kept by *resolver* for their TTL; here only what was made of them
    is remembered, and dropped when the answer is another.

    :param resolver: DNS.
    :param clock: for `markBad`.
    :param own_names: names that are us, lower case.
    :param own_addresses: addresses that are us, whatever the port.
    :param own_endpoints: addresses and ports where we listen ourselves;
        ``0.0.0.0`` and ``::`` stand for all of this machine's.
    :param allow_private: whether addresses that the Internet does not route may be used.
    :param timeOutBadMX: seconds for which a host marked bad is passed over by `getMX`.
    :param random: shuffles hosts of equal preference.
    :param is_own: whether an address is this machine's; replaced in tests.
    """

    resolver: INameResolver
    clock: IReactorTime
    badMXs: dict[str, float]

    def __init__(
        self,
        resolver: INameResolver,
        clock: IReactorTime,
        own_names: frozenset[str] = frozenset(),
        own_addresses: frozenset[str] = frozenset(),
        allow_private: bool = True,
        timeOutBadMX: int = MXCalculator.timeOutBadMX,
        *,
        own_endpoints: frozenset[tuple[str, int]] = frozenset(),
        random: Random | None = None,
        is_own: Callable[[IPv4Address | IPv6Address], bool] = is_own_address,
    ) -> None:
        super().__init__(resolver, clock)  # type: ignore[no-untyped-call] # upstream has no annotations
        self.timeOutBadMX = timeOutBadMX
        self.own_names = frozenset(name.lower().rstrip(".") for name in own_names)
        self.allow_private = allow_private
        self._own_addresses = frozenset(map(ip_address, own_addresses))
        self._own_endpoints = frozenset((ip_address(one), port) for one, port in own_endpoints)
        self._random = random or SystemRandom()
        self._is_own_address = is_own
        self._sites: dict[str, _Arranged] = {}
        self._addresses: dict[tuple[str, int], _Located] = {}

    # ---- ours

    def site(self, domain: str) -> Maybe[Site]:
        """
        The hosts that take mail for *domain*, in the order to try.

        Ready where DNS answers from its cache.  The worst hosts beyond
        `MAX_HOSTS` are left out.

        :param domain: a domain name, or an address literal (``[192.0.2.1]``,
            ``[IPv6:2001:db8::1]``), which is its own host (RFC 5321 §4.1.3).
        :raises mailhost.errors.ResolveProblem: 5.1.2 no such domain; 5.1.10 null MX;
            5.4.4 no host, or none that can be used; 5.4.6 we are the best host
            ourselves; 4.4.3 DNS does not answer now.
        """
        if domain.startswith("["):
            return _literal_site(domain)
        name = check_name(domain)
        exchanges = self.resolver.mail_exchanges(name)
        if isinstance(exchanges, Awaitable):
            return Deferred.fromCoroutine(self._site_later(name, exchanges))
        if exchanges:
            return self._arrange(name, exchanges)
        addresses = self.resolver.addresses(name)
        if isinstance(addresses, Awaitable):
            return Deferred.fromCoroutine(self._implicit_later(name, addresses))
        return self._implicit(name, addresses)

    def host_addresses(self, host: str, port: int) -> Maybe[tuple[HostAddress, ...]]:
        """
        Where to connect for *host*: at most `MAX_ADDRESSES`, never empty.

        IPv6 first, then the families in turn (RFC 8305 §4): where one family does not
        work, the second attempt already uses the other.  Within a family the
        resolver's order is kept (RFC 5321 §5.1).

        :raises mailhost.errors.ResolveProblem: 5.4.4 no address that can be used;
            5.4.6 the host is us: nothing of equal or worse preference may be tried
            (RFC 5321 §5.1); 4.4.3 DNS does not answer now.
        """
        try:
            found = self.resolver.addresses(host)
        except ResolveProblem as problem:
            raise _of_exchange(problem) from problem
        if isinstance(found, Awaitable):
            return Deferred.fromCoroutine(self._locate_later(host, port, found))
        return self._locate(host, port, found)

    # ---- upstream's

    def getMX(
        self, domain: str | bytes, maximumCanonicalChainLength: int = 3
    ) -> Deferred[Record_MX]:
        """
        The best host of *domain* that is not marked bad; the best of all where all are.

        *maximumCanonicalChainLength* is accepted for upstream's callers; chains of
        aliases are the resolver's business, which has a limit of its own.
        An implicit MX is given by name, where upstream gives its address.
        Where `fallbackToDomain` is false there is no implicit MX.

        :raises MailExchangeError: in the Deferred; see `site` for its status.
        """
        return Deferred.fromCoroutine(self._best(_as_text(domain)))

    def markBad(self, mx: str | bytes) -> None:
        """Pass *mx* over in `getMX` for `timeOutBadMX` seconds."""
        self.badMXs[_as_text(mx)] = self.clock.seconds() + self.timeOutBadMX

    def markGood(self, mx: str | bytes) -> None:
        """Forget that *mx* was bad."""
        self.badMXs.pop(_as_text(mx), None)

    async def _best(self, domain: str) -> Record_MX:
        try:
            site = self.site(domain)
            hosts = (await site if isinstance(site, Awaitable) else site).hosts
            if not self.fallbackToDomain and not await self._has_exchanges(domain):
                raise ResolveProblem("5.4.4", f"{domain} has no MX record")
        except ResolveProblem as problem:
            raise MailExchangeError(problem.status, problem.words) from problem
        best = next((one for one in hosts if not self._is_bad(one.host)), hosts[0])
        return Record_MX(best.preference, best.host)  # type: ignore[no-untyped-call] # upstream has no annotations

    async def _has_exchanges(self, domain: str) -> bool:
        found = self.resolver.mail_exchanges(domain)
        return bool(await found if isinstance(found, Awaitable) else found)

    def _is_bad(self, host: str) -> bool:
        until = self.badMXs.get(host)
        if until is not None and self.clock.seconds() >= until:
            del self.badMXs[host]
            return False
        return until is not None

    # ---- sites

    async def _site_later(self, name: str, pending: Awaitable[Sequence[tuple[int, str]]]) -> Site:
        exchanges = await pending
        if exchanges:
            return self._arrange(name, exchanges)
        addresses = self.resolver.addresses(name)
        return self._implicit(
            name, await addresses if isinstance(addresses, Awaitable) else addresses
        )

    async def _implicit_later(self, name: str, pending: Awaitable[Sequence[str]]) -> Site:
        return self._implicit(name, await pending)

    def _implicit(self, name: str, addresses: Sequence[str]) -> Site:
        """RFC 5321 §5.1: without MX the domain is its own host, if it has an address."""
        if not addresses:
            raise ResolveProblem("5.4.4", f"{name} has neither MX nor address")
        return self._arrange(name, Proven([(0, name)]))

    def _arrange(self, name: str, exchanges: Sequence[tuple[int, str]]) -> Site:
        known = self._sites.get(name)
        proven = isinstance(exchanges, Proven)
        if known is None or known.exchanges != exchanges or known.site.proven != proven:
            hosts = self._usable_hosts(name, exchanges)
            site = Site(",".join(sorted({one.host for one in hosts})), hosts, proven)
            equals = len({one.preference for one in hosts}) < len(hosts)
            known = _Arranged(exchanges, site, equals)
            _remember(self._sites, name, known)
        return self._shuffled(known.site) if known.equals else known.site

    def _shuffled(self, site: Site) -> Site:
        """RFC 5321 §5.1: the sender MUST randomize hosts of equal preference."""
        draw = self._random.random
        drawn = sorted(site.hosts, key=lambda one: (one.preference, draw()))
        return evolve(site, hosts=tuple(drawn))

    def _usable_hosts(
        self, name: str, exchanges: Sequence[tuple[int, str]]
    ) -> tuple[ExchangeHost, ...]:
        if not any(host.rstrip(".") for _, host in exchanges):
            # RFC 7505 §3, §5: 5.1.10, recipient address has null MX.
            raise ResolveProblem("5.1.10", f"{name} does not accept mail (null MX)")
        hosts = _named(exchanges)
        if not hosts:
            # RFC 5321 §5.1: MX records of which none is usable are an error.
            raise ResolveProblem("5.4.4", f"no MX record of {name} names a host")
        ours = [one.preference for one in hosts if one.host in self.own_names]
        if ours:
            # RFC 5321 §5.1: with ourselves go all that are not better than we are.
            hosts = [one for one in hosts if one.preference < min(ours)]
            if not hosts:
                raise _loops_back(name)
        return tuple(hosts[:MAX_HOSTS])

    # ---- addresses

    async def _locate_later(
        self, host: str, port: int, pending: Awaitable[Sequence[str]]
    ) -> tuple[HostAddress, ...]:
        try:
            found = await pending
        except ResolveProblem as problem:
            raise _of_exchange(problem) from problem
        return self._locate(host, port, found)

    def _locate(self, host: str, port: int, found: Sequence[str]) -> tuple[HostAddress, ...]:
        known = self._addresses.get((host, port))
        if known is None or known.found != found:
            known = _Located(found, self._usable_addresses(host, port, found))
            _remember(self._addresses, (host, port), known)
        return known.usable

    def _usable_addresses(
        self, host: str, port: int, found: Sequence[str]
    ) -> tuple[HostAddress, ...]:
        addresses = [(text, ip_address(text)) for text in found]
        if any(ip in self._own_addresses for _, ip in addresses):
            raise _loops_back(host)
        elsewhere = [one for one in addresses if not self._is_us(one[1], port)]
        if addresses and not elsewhere:
            raise _loops_back(host)
        good = [one for one in elsewhere if self._may_connect(one[1])]
        if not good:
            raise ResolveProblem("5.4.4", f"{host} has no address that can be used")
        six = [text for text, ip in good if ip.version == 6]
        four = [text for text, ip in good if ip.version == 4]
        ordered = [text for text in chain(*zip_longest(six, four)) if text is not None]
        return tuple(HostAddress(host, text, port) for text in ordered[:MAX_ADDRESSES])

    def _is_us(self, address: IPv4Address | IPv6Address, port: int) -> bool:
        if (address, port) in self._own_endpoints:
            return True
        anywhere = _ANYWHERE[address.version]
        return (anywhere, port) in self._own_endpoints and self._is_own_address(address)

    def _may_connect(self, address: IPv4Address | IPv6Address) -> bool:
        ip = _embedded(address)
        if ip.is_unspecified or ip.is_multicast or _is_this_network(ip):
            return False
        if isinstance(ip, IPv6Address) and ip.is_link_local and ip.scope_id is None:
            return False  # RFC 4007 §6: meaningless without the zone, which DNS cannot give
        return self.allow_private or ip.is_global


def _literal_site(domain: str) -> Site:
    """RFC 5321 §4.1.3: an address literal names its host."""
    text = domain.removeprefix("[").removesuffix("]")
    if text[:5].lower() == "ipv6:":
        text = text[5:]
    try:
        host = str(ip_address(text))
    except ValueError:
        raise ResolveProblem("5.1.2", f"{domain[:80]!a} is no address literal") from None
    return Site(f"[{host}]", (ExchangeHost(0, host),), proven=True)


def _named(exchanges: Sequence[tuple[int, str]]) -> list[ExchangeHost]:
    """
    Those that are host names, the best first, each once with its best preference.

    RFC 5321 §5.1 wants a domain name there: an IP address or the root is passed over.
    Equal preferences are ordered by name, so that the choice of `MAX_HOSTS` is
    the same each time.
    """
    hosts: dict[str, ExchangeHost] = {}
    for preference, host in sorted(exchanges):
        try:
            name = check_name(host)
        except ResolveProblem:
            continue
        hosts.setdefault(name, ExchangeHost(preference, name))
    return list(hosts.values())


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 address leads to, where it does."""
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _is_this_network(ip: IPv4Address | IPv6Address) -> bool:
    """RFC 1122 §3.2.1.3: 0/8 and 240/4 with the broadcast address are no destinations."""
    return isinstance(ip, IPv4Address) and (ip.packed[0] == 0 or ip.is_reserved)


def _of_exchange(problem: ResolveProblem) -> ResolveProblem:
    """
    *problem* as it concerns the recipient: the host is missing, not his domain.

    RFC 3463 §3.2, §3.5: X.1.2 is about the address, X.4.4 about the way.
    """
    return ResolveProblem("5.4.4" if problem.permanent else problem.status, problem.words)


def _loops_back(name: str) -> ResolveProblem:
    """RFC 3463 §3.5, X.4.6: routing loop detected."""
    return ResolveProblem("5.4.6", f"mail for {name} loops back to myself")


def _as_text(name: object) -> str:
    """A name as upstream's callers have it: octets, text, or ``twisted.names.dns.Name``."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    return text.lower().rstrip(".")


def _remember(memory: dict[K, V], key: K, value: V) -> None:
    """Keep *value*, the oldest making room."""
    if key not in memory and len(memory) >= _MEMORY_COUNT:
        del memory[next(iter(memory))]
    memory[key] = value
