"""
The *Access* page: who may connect, and who may relay.

:Room: ``config.settings``
:IIS: ACC-01..06, ACC-10..13, ACC-20..23, ACC-30..32.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import Factory, evolve, field, frozen

from mailhost.config.faults import shown
from mailhost.config.keys import key, keys, section
from mailhost.config.settings.ldap import ONE_LINE
from mailhost.config.settings.security import HTTPS
from mailhost.config.units import (
    ACCESS_ENTRY,
    DOMAIN,
    PATH,
    PAUSE,
    SCORE,
    TRUTH,
    Kind,
    choice,
    parse_access_entry,
    parse_domain,
    parse_path,
    parse_score,
    rate,
    span,
    whole,
)
from mailhost.model.access import AccessList, Network
from mailhost.model.client import ClientLimits, Tarpit
from mailhost.model.dns_list import DNSList
from mailhost.model.greylist import GreylistTerms
from mailhost.model.rate import Rate


def _parse_network(text: str) -> Network:
    found = parse_access_entry(text)
    if isinstance(found, str):
        raise ValueError(f"{shown(text)} is not an address or network")
    return found


_NETWORK = Kind(_parse_network, "an address or a network (192.0.2.0/24, 2001:db8::/32)")
_ALLOW = choice({"allow": True, "deny": False})


def _access_list(allow: bool, entries: tuple[Network | str, ...]) -> AccessList:
    return AccessList(
        allow,
        networks=tuple(entry for entry in entries if not isinstance(entry, str)),
        domains=tuple(entry for entry in entries if isinstance(entry, str)),
    )


@frozen
class ConnectionKeys:
    """Connection control: who may connect."""

    default: bool = key(
        _ALLOW,
        "allow",
        help="Whether those who are not listed may connect: allow is IIS's 'All except the "
        "list below', deny its 'Only the list below'.",
        iis="ACC-20 IPSecurity.GrantByDefault",
    )
    except_: tuple[Network | str, ...] = keys(
        ACCESS_ENTRY,
        "",
        name="except",
        help="The list below. A domain is compared with the client's names in DNS, which costs "
        "a look-up for each connection.",
        iis="ACC-21, ACC-22, ACC-23 IPSecurity",
    )

    def access_list(self) -> AccessList:
        """What these keys mean."""
        return _access_list(self.default, self.except_)


@frozen
class RelayKeys:
    """Relay restrictions: who may send mail to domains that are not local."""

    default: bool = key(
        _ALLOW,
        "deny",
        help="Whether those who are not listed may relay. With allow anybody in the world can "
        "send mail through this server.",
        iis="ACC-30 RelayIpList",
    )
    except_: tuple[Network | str, ...] = keys(
        ACCESS_ENTRY,
        "",
        name="except",
        help="The list below: clients, by address, by network or by their names in DNS.",
        iis="ACC-31 RelayIpList",
    )
    authenticated: bool = key(
        TRUTH,
        "true",
        help="Whoever has logged in may relay, regardless of the list above.",
        iis="ACC-32 RelayForAuth",
    )

    def access_list(self) -> AccessList:
        """What these keys mean."""
        return evolve(_access_list(self.default, self.except_), logins=self.authenticated)


@frozen
class ClientKeys:
    """What one client may do: an IPv4 address, or a /64 network of IPv6; or one network."""

    connections: int | None = key(
        whole(1, unit="connections", lifted=True), "unlimited", help="At a time; beyond it 421."
    )
    connection_rate: Rate | None = key(rate(), "none", help="New connections; beyond it 421.")
    messages: Rate | None = key(rate(), "none", help="Messages; beyond it 451 to MAIL.")
    recipients: Rate | None = key(rate(), "none", help="Recipients; beyond it 451 to RCPT.")
    errors: Rate | None = key(
        rate(),
        "none",
        help="Wrong commands and refusals for good; beyond it 421, and new connections hear 421 "
        "as well until there is room again.",
    )
    except_: tuple[Network, ...] = keys(
        _NETWORK,
        "",
        name="except",
        help="Addresses and networks for which nothing of this holds.",
    )

    def limits(self) -> ClientLimits:
        """What these keys mean."""
        exempt = AccessList(False, self.except_)
        return ClientLimits(
            self.connections,
            self.connection_rate,
            self.messages,
            self.recipients,
            self.errors,
            exempt,
        )


@frozen
class TarpitKeys:
    """Whoever is refused again and again waits longer and longer for the replies."""

    delay: float = key(
        PAUSE,
        "0s",
        help="Each wrong command and each refused sender or recipient of a session makes the "
        "reply wait so much longer than the one before; 0s: nobody waits.",
    )
    max: float = key(PAUSE, "10s", help="The longest wait.")
    free: int = key(whole(0), "2", help="So many in a session are answered at once.")

    def tarpit(self) -> Tarpit:
        """What these keys mean."""
        return Tarpit(self.delay, self.max, self.free)


@frozen
class GreylistKeys:
    """Greylisting: who is not known is told to come back, and let in when he does."""

    enabled: bool = key(
        TRUTH,
        "false",
        help="A client that sends from and to these addresses for the first time hears 451 4.7.1. "
        "Not for clients that may relay.",
    )
    delay: int = key(span(), "5m", help="So long after the first attempt it is let in.")
    retry_within: int = key(span(), "1d", help="Within so long it has to come back.")
    keep: int = key(
        span(), "35d", help="So long after its last message it is let in at once, and remembered."
    )
    known_after: int = key(
        whole(0),
        "5",
        help="A client that has come back so often is let in at once whatever it sends; 0: no.",
    )
    networks: bool = key(
        TRUTH,
        "true",
        help="Clients of one network, a /24 of IPv4 or a /48 of IPv6, count as one: large senders "
        "come back from another address.",
    )

    def terms(self) -> GreylistTerms:
        """What these keys mean."""
        return GreylistTerms(
            self.enabled, self.delay, self.retry_within, self.keep, self.known_after, self.networks
        )


def _parse_list(text: str) -> DNSList:
    zone, *others = text.split()
    score = parse_score(others[0]) if others else 1
    return DNSList(parse_domain(zone), score, tuple(map(_parse_network, others[1:])))


_LIST = Kind(_parse_list, "a zone in DNS, then its score (1), then the answers that count")


@frozen
class ListKeys:
    """One of ``dns_lists`` written as a table."""

    zone: str = key(DOMAIN, help="Where it is in DNS.", stand_in="list.invalid")
    score: int = key(
        SCORE, "1", help="Counts for a client that is in it; below 0 where that is a good sign."
    )
    codes: tuple[Network, ...] = keys(
        _NETWORK,
        "",
        help="The answers that count, such as 127.0.0.2; []: all of 127.0.0.0/8 but "
        "127.255.255.0/24, by which lists refuse to be asked.",
    )

    def item(self) -> DNSList:
        """What these keys mean."""
        return DNSList(self.zone, self.score, self.codes)


@frozen
class CertificatePair:
    """
    A further certificate.

    :ivar key_file: its private key; `None`: in the same file.
    """

    certificate: Path
    key_file: Path | None = None


def _parse_pair(text: str) -> CertificatePair:
    first, *others = text.split()
    if len(others) > 1:
        raise ValueError(f"{shown(text)} are more than two files")
    return CertificatePair(parse_path(first), parse_path(others[0]) if others else None)


_PAIR = Kind(_parse_pair, "a file with certificate and key, or the files of both")


@frozen
class PairKeys:
    """One of ``certificates`` written as a table."""

    certificate: Path = key(PATH, help="The certificate in PEM.", stand_in="certificate.pem")
    key_: Path | None = key(
        PATH, "null", name="key", help="Its private key in PEM; null: in the same file."
    )

    def item(self) -> CertificatePair:
        """What these keys mean."""
        return CertificatePair(self.certificate, self.key_)


@frozen
class TLSSettings:
    """The certificates of a virtual server, and who has to use TLS."""

    certificate: Path | None = key(
        PATH,
        "null",
        help="The certificate in PEM, followed by those between it and its authority; with it "
        "STARTTLS is offered. Read anew when the file changes.",
        iis="ACC-10 SSLCertHash",
    )
    key_: Path | None = key(
        PATH, "null", name="key", help="Its private key in PEM; null: in the same file."
    )
    certificates: tuple[CertificatePair, ...] = keys(
        _PAIR,
        "",
        tables=PairKeys,
        help="Further ones, each shown to clients that ask for a name in it (SNI); all others "
        "see certificate.",
    )
    require: bool = key(
        TRUTH,
        "false",
        help="No mail without TLS: 530 5.7.0 before STARTTLS.",
        iis="ACC-11 AccessSSL",
    )
    minimum: str = key(
        choice({"1.2": "1.2", "1.3": "1.3"}), "1.2", help="The lowest version of TLS.", iis="ACC-12"
    )
    client: str = key(
        choice({"none": "none", "ask": "ask", "require": "require"}),
        "none",
        help="Whether clients are asked for a certificate. ask: who shows none, or one that "
        "client_ca has not signed, is a stranger. require: such a client is not heard.",
        iis="ACC-13 AccessSSLNegotiateCert, AccessSSLRequireCert",
    )
    client_ca: Path | None = key(
        PATH, "null", help="The certificates of the authorities of clients, in PEM."
    )
    client_map: bool = key(
        TRUTH,
        "false",
        help="Who shows the certificate of a user has logged in by that: a mail address, a DNS "
        "name or the common name in it is that of a user.",
        iis="ACC-13 AccessSSLMapCert",
    )

    def __attrs_post_init__(self) -> None:
        if self.client != "none" and self.client_ca is None:
            raise ValueError("client: nobody says whose certificates are good; allowed: client_ca")
        if self.client == "none" and (self.client_ca is not None or self.client_map):
            raise ValueError("client: nobody is asked for a certificate; allowed: ask or require")


@frozen
class BasicKeys:
    """Basic authentication: the password itself is sent."""

    enabled: bool = key(
        TRUTH, "false", help="AUTH PLAIN and AUTH LOGIN are offered.", iis="ACC-02 AuthBasic"
    )
    require_tls: bool = key(
        TRUTH, "true", help="Only where TLS is on: 538 5.7.11 before.", iis="ACC-03"
    )
    default_domain: str | None = key(
        DOMAIN,
        "null",
        help="Completes names without a domain, by whatever mechanism they come.",
        iis="ACC-04 DefaultLogonDomain",
    )


@frozen
class TokenKeys:
    """Access tokens of clients: AUTH OAUTHBEARER and XOAUTH2."""

    issuer: str | None = key(
        ONE_LINE, "null", help="Who signs them: iss in the token; null: they are not taken."
    )
    audience: str | None = key(
        ONE_LINE, "null", help="Whom they are for: aud in the token, such as this server's name."
    )
    keys_url: str | None = key(
        HTTPS,
        "null",
        help="The issuer's public keys, a JWKS. They are fetched when they are needed, and "
        "again every hour.",
    )
    claim: str = key(ONE_LINE, "email", help="What has the user's name in the token.")
    ca: Path | None = key(
        PATH,
        "null",
        help="The certificates of the authorities we trust for keys_url, in PEM; null: the "
        "system's.",
    )

    def __attrs_post_init__(self) -> None:
        given = [self.issuer, self.audience, self.keys_url]
        if any(given) and not all(given):
            raise ValueError("issuer: goes with audience and keys_url; allowed: all three, or none")

    @property
    def enabled(self) -> bool:
        """Whether tokens are taken."""
        return self.issuer is not None


def _listed(networks: Callable[[Any], tuple[Network, ...]]) -> Any:
    """An attribute that is no key: whoever is in *networks* of the same settings."""
    return field(
        init=False,
        eq=False,
        repr=False,
        default=Factory(lambda self: AccessList(False, networks(self)), takes_self=True),
    )


@frozen
class AccessSettings:
    """The *Access* page: authentication, connection control and relay restrictions."""

    anonymous: bool = key(
        TRUTH,
        "true",
        help="Mail is taken from who has not logged in. false: 530 5.7.0 to MAIL.",
        iis="ACC-01 AuthAnonymous",
    )
    basic: BasicKeys = section(BasicKeys, help="Logins by name and password.")
    scram: bool = key(
        TRUTH,
        "false",
        help="AUTH SCRAM-SHA-256, and with TLS SCRAM-SHA-256-PLUS: logins that do not show the "
        "password; needs users.",
    )
    integrated: bool = key(
        TRUTH,
        "false",
        help="AUTH NTLM, version 2; needs users with what mailhost passwd --ntlm keeps.",
        iis="ACC-05 AuthNTLM",
    )
    keytab: Path | None = key(
        PATH,
        "null",
        help="AUTH GSSAPI, Kerberos: the keytab with this server's key, of the principal "
        "smtp/fqdn@REALM; refused where others may read it. Needs the extra kerberos.",
        iis="ACC-05 NTAuthenticationProviders",
    )
    integrated_require_tls: bool = key(
        TRUTH, "true", help="NTLM and Kerberos only where TLS is on."
    )
    cram_md5: bool = key(
        TRUTH,
        "false",
        help="AUTH CRAM-MD5, for old programs; needs users with what mailhost passwd --cram-md5 "
        "keeps: the password itself.",
        iis="ACC-06 AuthMD5",
    )
    external: bool = key(
        TRUTH,
        "false",
        help="AUTH EXTERNAL, for clients that have shown the certificate of a user; needs "
        "tls.client.",
        iis="ACC-13",
    )
    oauth: TokenKeys = section(TokenKeys, help="Logins by access token; needs the extra oauth.")
    users: Path | None = key(
        PATH,
        "null",
        help="The users file, kept by mailhost passwd; refused where others may read it. Read "
        "anew when it changes.",
    )
    ldap: bool = key(
        TRUTH,
        "false",
        help="Who is not in users logs in by his name and password of the directory; needs ldap.",
    )
    tls: TLSSettings = section(TLSSettings, help="Certificate and TLS of what comes in.")
    trusted: tuple[Network, ...] = keys(
        _NETWORK,
        "",
        help="The operator's own clients. early_talkers, greet_delay, dns_lists, greylist, "
        "tarpit, per_address and per_network do not hold for them, and their bare line ends are "
        "mended (messages.bare_line_ends).",
    )
    proxies: tuple[Network, ...] = keys(
        _NETWORK,
        "",
        help="Hosts that may say for whom they have connected: by a PROXY header, on addresses "
        "with proxy: true, and by XCLIENT.",
    )
    early_talkers: bool = key(
        choice({"refuse": False, "allow": True}),
        "refuse",
        help="Clients that do not wait where they must, for the greeting, the answers to HELO, "
        "EHLO and DATA, and for every answer where EHLO was not said (RFC 2920 §3.1): 554 5.5.0 "
        "ends the session.",
    )
    greet_delay: float = key(
        PAUSE,
        "0s",
        help="The greeting waits so long. Programs that cannot wait, most of which send spam, talk "
        "meanwhile: 554 5.5.0.",
    )
    dns_lists: tuple[DNSList, ...] = keys(
        _LIST,
        "",
        tables=ListKeys,
        help="Lists of clients in DNS (DNSBL, DNSWL), each with a score. They are asked all at "
        "once; one that does not answer counts nothing. Not for clients that may relay.",
    )
    dns_lists_at: str = key(
        choice({"recipient": "recipient", "connect": "connect"}),
        "recipient",
        help="When they are asked. recipient: at the first RCPT; postmaster can still be reached. "
        "connect: in place of the greeting.",
    )
    dns_lists_refuse_at: int = key(
        SCORE,
        "1",
        help="Clients whose scores come to so much or more are refused: 550 5.7.1, or 554.",
    )
    greylist: GreylistTerms = section(
        GreylistKeys, make=GreylistKeys.terms, help="Who is not known has to come back."
    )
    tarpit: Tarpit = section(
        TarpitKeys, make=TarpitKeys.tarpit, help="Slow replies to who is refused often."
    )
    connections: AccessList = section(
        ConnectionKeys, make=ConnectionKeys.access_list, help="Who may connect."
    )
    per_address: ClientLimits = section(
        ClientKeys, make=ClientKeys.limits, help="What one client may do."
    )
    per_network: ClientLimits = section(
        ClientKeys,
        make=ClientKeys.limits,
        help="What all clients of one network may do together: the /24 of IPv4, or the /48 of "
        "IPv6.",
    )
    relay: AccessList = section(
        RelayKeys, make=RelayKeys.access_list, help="Who may relay to other domains."
    )

    # Made once: they remember their answers.
    _trusted: AccessList = _listed(lambda self: self.trusted)
    _proxies: AccessList = _listed(lambda self: self.proxies)

    def trusts(self, address: str) -> bool:
        """Whether the client at *address* is one of the operator's own."""
        return self._trusted.permits(address)

    def is_proxy(self, address: str) -> bool:
        """Whether the host at *address* may say for whom it has connected."""
        return self._proxies.permits(address)

    @property
    def counts_faults(self) -> bool:
        """Whether anything comes of it that a stranger is refused."""
        limits = (self.per_address.errors, self.per_network.errors)
        return self.tarpit.delay_seconds > 0 or any(one is not None for one in limits)

    @property
    def guarded(self) -> bool:
        """Whether there is more to ask of a stranger than the lists below."""
        limited = self.per_address.any or self.per_network.any
        slow = self.greet_delay > 0 or self.tarpit.delay_seconds > 0
        return limited or slow or bool(self.dns_lists) or self.greylist.enabled

    @property
    def logins(self) -> bool:
        """Whether anybody can log in."""
        return any((*self.by_password, *self.proved))

    @property
    def proved(self) -> tuple[bool, ...]:
        """Ways to log in where somebody else has proved who it is."""
        by_certificate = self.external or self.tls.client_map
        return self.oauth.enabled, by_certificate, self.keytab is not None

    @property
    def by_password(self) -> tuple[bool, ...]:
        """Ways to log in that rest on a password."""
        return self.basic.enabled, self.scram, self.integrated, self.cram_md5
