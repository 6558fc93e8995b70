"""
The categorizer: each recipient gets one route.

:Room: ``routing``
:IIS: DEL-21, DEL-23, DOM-12 (security); precedence of §5.4: a remote domain's route, the virtual
    server's smart host, MX; DEL-41 (masquerade domain), DEL-43, DEL-44.
:RFC: 5321 §5.1, §4.1.3 (address literals).
:Called by: `mailhost.intake` at RCPT, `mailhost.relay` at each attempt, so that a
    change of the configuration acts on mail that is queued already.
"""

from __future__ import annotations

from unicodedata import normalize

from attrs import define, field

from mailhost.config.settings import DomainSettings, VirtualServerSettings
from mailhost.model.address import Mailbox
from mailhost.model.route import Drop, MailExchange, NextHop, Route, SmartHosts
from mailhost.model.security import OutboundSecurity
from mailhost.routing.domains import Domain, DomainTable, LocalDomain, RemoteDomain

#: The rules for a domain without an entry.
_UNNAMED = RemoteDomain("")


@define
class Categorizer:
    """
    :ivar domains: whose domain is whose.
    :ivar smart_hosts: the virtual server's, in order; empty for none.
    :ivar direct_first: try MX before the smart host (DEL-44).
    :ivar masquerade_domain: replaces a local domain in the reverse-path of what
        leaves; `None`: nothing is replaced.
    :ivar security: how to meet hosts of domains that do not say.
    """

    domains: DomainTable
    smart_hosts: tuple[NextHop, ...] = ()
    direct_first: bool = False
    masquerade_domain: str | None = None
    security: OutboundSecurity = OutboundSecurity()
    # What is the same for each recipient of an entry, made once.
    _smart: dict[int, SmartHosts] = field(factory=dict, init=False, eq=False, repr=False)

    def qualify(self, path: Mailbox) -> Mailbox:
        """*path* with the default domain where it has none (IIS §3.4)."""
        return path if path.domain else path.in_domain(self.domains.default)

    def find_domain(self, path: Mailbox) -> Domain | None:
        """The entry that rules the domain of *path*."""
        return self.domains.find(path.domain_key)

    def stamp(self, path: Mailbox) -> Mailbox:
        """
        *path* with the default domain in place of an alias of it (IIS §8).

        Of several spellings of a local part in Unicode one is taken (RFC 6530 §10.1).
        """
        found = self.find_domain(path)
        if not isinstance(found, LocalDomain):
            return path
        if not path.local.isascii():
            path = Mailbox(normalize("NFC", path.local), path.domain)
        return path.in_domain(self.domains.default) if found.alias else path

    def masquerade(self, path: Mailbox | None) -> Mailbox | None:
        """
        The reverse-path for the next hop (DEL-41).

        Only a local sender is replaced: for him this is the first hop.
        """
        if path is None or self.masquerade_domain is None:
            return path
        if not self.domains.is_local(path.domain_key):
            return path
        return path.in_domain(self.masquerade_domain)

    def route_home(self, path: Mailbox, host: NextHop) -> Route:
        """To *host*, the home server of *path*; in the manner that its domain asks for."""
        found = self.find_domain(path)
        rules = found if isinstance(found, RemoteDomain) else RemoteDomain("")
        security = self.security if rules.security is None else rules.security
        return SmartHosts((host,), rules.helo, security.without_login())

    def source_of(self, path: Mailbox, host: NextHop | None) -> str:
        """The setting that `route`, or `route_home` to *host*, goes by; empty: none, DNS does."""
        found = self.find_domain(path)
        if host is not None:
            return "ldap"
        if isinstance(found, LocalDomain):
            return f"domains[{found.name}]" if found.alias else "domain"
        if found is not None and found.hops != ():
            return f"domains[{found.name}].route"
        return "delivery.smart_host" if self.smart_hosts else ""

    def route(self, path: Mailbox) -> Route:
        """Where mail for *path* goes."""
        found = self.find_domain(path)
        if isinstance(found, LocalDomain):
            return Drop()
        rules = found or _UNNAMED
        known = self._smart.get(id(rules))
        if known is not None:
            return known
        # The virtual server's password is for its smart hosts only.
        elsewhere = self.security.without_login() if rules.security is None else rules.security
        if rules.hops:
            smart = SmartHosts(rules.hops, rules.helo, elsewhere, rules.lmtp)
            return self._remembered(rules, smart)
        if not self.smart_hosts or rules.hops is None:
            own = rules.security is not None
            exchange = MailExchange(path.domain_key, rules.helo, None, elsewhere, own)
            return _by_name(path, exchange)
        security = self.security if rules.security is None else rules.security
        smart = SmartHosts(self.smart_hosts, rules.helo, security)
        if not self.direct_first:
            return self._remembered(rules, smart)
        return _by_name(path, MailExchange(path.domain_key, rules.helo, smart, security))

    def _remembered(self, rules: RemoteDomain, smart: SmartHosts) -> SmartHosts:
        """Entries live as long as the table; the same value is hashed once."""
        self._smart[id(rules)] = smart
        return smart


def _by_name(path: Mailbox, exchange: MailExchange) -> Route:
    """*exchange*, or the one host that an address literal is (RFC 5321 §4.1.3)."""
    if not path.domain.startswith("["):
        return exchange
    address = path.domain[1:-1]
    if address[:5].upper() == "IPV6:":
        address = address[5:]
    return SmartHosts((NextHop(address, literal=True),), exchange.helo, exchange.security)


def make_categorizer(settings: VirtualServerSettings) -> Categorizer:
    """The categorizer that a virtual server's pages describe."""
    delivery = settings.delivery
    return Categorizer(
        DomainTable.build(settings.domain, map(_domain, settings.domains)),
        delivery.smart_host,
        delivery.direct_first,
        delivery.masquerade_domain,
        delivery.security,
    )


def _domain(settings: DomainSettings) -> Domain:
    if settings.type == "alias":
        return LocalDomain(settings.name, alias=True)
    return RemoteDomain(
        settings.name,
        settings.relay,
        settings.helo,
        settings.route,
        settings.security,
        settings.rates,
        settings.hold,
        settings.lmtp,
    )
