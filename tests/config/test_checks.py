"""Tests for `mailhost.config.checks`."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import Any

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.checks import Severity, cross_check
from mailhost.config.faults import dotted
from mailhost.config.settings import (
    AccessSettings,
    BadmailSettings,
    DeliverySettings,
    DomainSettings,
    DropSettings,
    ListenAddress,
    MessagesSettings,
    OutboundConnections,
    Settings,
    TLSSettings,
    VirtualServerSettings,
)
from mailhost.config.settings.access import BasicKeys, TokenKeys
from mailhost.model.access import AccessList
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule
from mailhost.model.security import Login, OutboundSecurity, Secret, TLSLevel, TokenGrant

ERROR, WARNING = Severity.ERROR, Severity.WARNING


def server(**given: Any) -> VirtualServerSettings:
    """A virtual server of example.com that nothing is wrong with."""
    plain = VirtualServerSettings(
        name="one",
        home=Path("one"),
        fqdn="mail.example.com",
        domain="example.com",
        listen=(ListenAddress("127.0.0.1", 2525),),
    )
    return evolve(plain, **given)


def second(**given: Any) -> VirtualServerSettings:
    """Another one that does not get in its way."""
    apart = {"name": "two", "home": Path("two"), "listen": (ListenAddress("127.0.0.1", 2526),)}
    return server(**{**apart, **given})


class _FindingsTests(SynchronousTestCase):
    def found(self, *servers: VirtualServerSettings) -> list[tuple[Severity, str]]:
        """Severity and key of each finding."""
        findings = cross_check(Settings(virtual_servers=servers))
        for finding in findings:
            self.assertRegex(finding.words, "; (allowed|advised): ")
        return [(finding.severity, dotted(finding.path)) for finding in findings]


class MetricsTests(SynchronousTestCase):
    def test_open_to_others(self) -> None:
        """Numbers are for this machine, unless the operator knows better."""
        for metrics, expected in (
            (None, []),
            (("127.0.0.1", 9125), []),
            (("::1", 9125), []),
            (("0.0.0.0", 9125), [(WARNING, "metrics")]),
            (("::", 9125), [(WARNING, "metrics")]),
            (("192.0.2.1", 9125), [(WARNING, "metrics")]),
        ):
            findings = cross_check(Settings(virtual_servers=(server(),), metrics=metrics))
            found = [(finding.severity, dotted(finding.path)) for finding in findings]
            self.assertEqual(expected, found, metrics)


class CrossCheckTests(_FindingsTests):
    def test_nothing_wrong(self) -> None:
        """Two servers that keep apart give no finding, even with the same local domain."""
        self.assertEqual([], self.found(server(), second()))

    def test_names(self) -> None:
        """A name is given once, in whatever case."""
        found = self.found(server(name="Main"), second(name="main"))

        self.assertEqual([(ERROR, "virtual_servers[1].name")], found)

    def test_homes(self) -> None:
        """A home is one server's, however it is spelt."""
        for spelling in (Path("one"), Path("two/../one"), Path("one").absolute()):
            self.assertEqual(
                [(ERROR, "virtual_servers[1].home")], self.found(server(), second(home=spelling))
            )

    def test_same_address_on_two_servers(self) -> None:
        """GEN-04: the second one will fail alone, so it is a warning."""
        found = self.found(server(), second(listen=(ListenAddress("127.0.0.1", 2525),)))

        self.assertEqual([(WARNING, "virtual_servers[1].listen[0]")], found)

    def test_all_addresses_take_a_single_one(self) -> None:
        """0.0.0.0 holds the port on every IPv4 address, and on no IPv6 address."""
        every = server(listen=(ListenAddress("0.0.0.0", 2525), ListenAddress("::1", 2525)))

        self.assertEqual(
            [(WARNING, "virtual_servers[1].listen[0]")],
            self.found(every, second(listen=(ListenAddress("127.0.0.1", 2525),))),
        )
        self.assertEqual(
            [(WARNING, "virtual_servers[1].listen[0]")],
            self.found(
                second(listen=(ListenAddress("::1", 25),)),
                server(listen=(ListenAddress("::", 25),)),
            ),
        )
        self.assertEqual(
            [], self.found(server(listen=(ListenAddress("0.0.0.0", 25), ListenAddress("::", 25))))
        )

    def test_proxies(self) -> None:
        """An address for proxies needs some; else nobody could connect."""
        listen = (ListenAddress("127.0.0.1", 2525, proxy=True),)
        self.assertEqual([(ERROR, "virtual_servers[0].listen")], self.found(server(listen=listen)))
        access = AccessSettings(proxies=(ip_network("127.0.0.1"),))
        self.assertEqual([], self.found(server(listen=listen, access=access)))

    def test_port_of_the_kernels_choice(self) -> None:
        """Port 0 is another port each time."""
        free = (ListenAddress("127.0.0.1", 0),)

        self.assertEqual([], self.found(server(listen=free), second(listen=free)))

    def test_same_address_twice_on_one_server(self) -> None:
        """An address listed twice is a slip of the pen."""
        found = self.found(server(listen=(ListenAddress("127.0.0.1", 2525),) * 2))

        self.assertEqual([(ERROR, "virtual_servers[0].listen[1]")], found)

    def test_session_smaller_than_message(self) -> None:
        """MSG-02: a session that holds one message only is allowed, and worth a word."""
        key = "virtual_servers[0].messages.max_session_size"
        for message, session, expected in (
            (2000, 1999, [(WARNING, key)]),
            (2000, 2000, []),
            (2000, None, []),
            (None, None, []),
            (None, 2000, [(WARNING, key)]),
        ):
            limits = MessagesSettings(max_message_size=message, max_session_size=session)
            self.assertEqual(expected, self.found(server(messages=limits)), (message, session))

    def test_more_per_domain_than_in_all(self) -> None:
        """DEL-32 above DEL-30 has no effect."""
        key = "virtual_servers[0].delivery.connections.max_per_domain"
        for most, per_domain, expected in (
            (10, 11, [(WARNING, key)]),
            (10, 10, []),
            (None, 11, []),
            (10, None, []),
        ):
            connections = OutboundConnections(max=most, max_per_domain=per_domain)
            found = self.found(server(delivery=DeliverySettings(connections=connections)))
            self.assertEqual(expected, found, (most, per_domain))

    def test_delay_report_too_late(self) -> None:
        """A delay notice that comes after the expiry is never sent."""
        delivery = DeliverySettings(
            outbound=RetrySchedule(delay_notification_seconds=60, expiration_seconds=60),
            local=RetrySchedule(delay_notification_seconds=None, expiration_seconds=60),
        )

        self.assertEqual(
            [(WARNING, "virtual_servers[0].delivery.outbound.delay_notification")],
            self.found(server(delivery=delivery)),
        )

    def test_directories(self) -> None:
        """DOM-01: Drop is neither Pickup nor any other of the server's directories."""
        drop = "virtual_servers[0].drop.directory"
        for name in ("Pickup", "Queue", "SortTemp"):
            self.assertEqual(
                [(ERROR, drop)],
                self.found(server(drop=DropSettings(directory=Path("one") / name))),
                name,
            )
        self.assertEqual([], self.found(server(drop=DropSettings(directory=Path("elsewhere")))))

    def test_badmail_directory(self) -> None:
        """Badmail in Pickup would be sent again and again."""
        for name in ("Pickup", "Drop"):
            messages = MessagesSettings(badmail=BadmailSettings(directory=Path("one") / name))
            self.assertEqual(
                [(ERROR, "virtual_servers[0].messages.badmail.directory")],
                self.found(server(messages=messages)),
                name,
            )

    def test_domains(self) -> None:
        """A domain has one entry, and the default domain has none."""
        for domains, expected in (
            ((DomainSettings("a.example", "alias"), DomainSettings("A.example", "alias")), "[1]"),
            ((DomainSettings("a.example", "alias"), DomainSettings("a.example", "remote")), "[1]"),
            ((DomainSettings("example.com", "alias"),), "[0]"),
            ((DomainSettings("Example.com", "remote"),), "[0]"),
        ):
            self.assertEqual(
                [(ERROR, f"virtual_servers[0].domains{expected}.name")],
                self.found(server(domains=domains)),
                domains,
            )

    def test_wildcard_over_a_local_domain(self) -> None:
        """``*.example.com`` may be remote while ``example.com`` is local."""
        domains = (
            DomainSettings("*.example.com", "remote"),
            DomainSettings("x.example.com", "alias"),
        )

        self.assertEqual([], self.found(server(domains=domains)))

    def test_wildcard_alias(self) -> None:
        """An alias is one domain."""
        domains = (DomainSettings("*.example.net", "alias"),)

        self.assertEqual(
            [(ERROR, "virtual_servers[0].domains[0].name")], self.found(server(domains=domains))
        )

    def test_alias_with_a_route(self) -> None:
        """What says how mail goes away has no meaning for a local domain."""
        hops = (NextHop("relay.example.net"),)
        domains = (DomainSettings("example.net", "alias", relay=True, helo=True, route=hops),)

        self.assertEqual(
            [(ERROR, f"virtual_servers[0].domains[0].{n}") for n in ("relay", "helo", "route")],
            self.found(server(domains=domains)),
        )


class OpenRelayTests(_FindingsTests):
    def relay(self, *entries: str, allow: bool = False) -> list[tuple[Severity, str]]:
        """The findings about a relay list."""
        domains = (DomainSettings("example.net", "alias"),)
        access = AccessSettings(relay=AccessList.build(allow, entries))
        return self.found(server(access=access, domains=domains))

    def test_allowed_to_all(self) -> None:
        """Everybody except a few is an open relay, whatever the few."""
        expected = [(WARNING, "virtual_servers[0].access.relay.default")]

        self.assertEqual(expected, self.relay(allow=True))
        self.assertEqual(expected, self.relay("0.0.0.0/0", allow=True))

    def test_wide_networks(self) -> None:
        """A list that holds half of the Internet is no list."""
        expected = [(WARNING, "virtual_servers[0].access.relay.except")]

        for network in ("0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/3"):
            self.assertEqual(expected, self.relay(network), network)
        self.assertEqual([], self.relay("10.0.0.0/8", "127.0.0.1", "::1", "2001:db8::/32"))

    def test_local_domain_listed(self) -> None:
        """A listed default or alias domain was meant for something else."""
        expected = [(WARNING, "virtual_servers[0].access.relay.except")]

        self.assertEqual(expected, self.relay("example.net"))
        self.assertEqual(expected, self.relay("example.com"))
        self.assertEqual([], self.relay("clients.example.org"))


class TLSTests(SynchronousTestCase):
    def found(self, **changes: object) -> list[str]:
        server = VirtualServerSettings(name="a", fqdn="a.example", **changes)  # type: ignore[arg-type]  # any key
        return [one.words for one in cross_check(Settings(virtual_servers=(server,)))]

    def test_without_certificate(self) -> None:
        """What needs a certificate is refused where there is none."""
        implicit = (ListenAddress("0.0.0.0", 465, implicit_tls=True),)
        required = AccessSettings(tls=TLSSettings(require=True))
        key_alone = AccessSettings(tls=TLSSettings(key_=Path("key.pem")))

        (words,) = self.found(listen=implicit)
        self.assertIn("is to begin with TLS, and there is no certificate", words)
        for access in (required, key_alone):
            (words,) = self.found(access=access)
            self.assertIn("there is no certificate", words)

    def test_with_certificate(self) -> None:
        """With one there is nothing to say."""
        tls = TLSSettings(certificate=Path("a.pem"), require=True)
        listen = (ListenAddress("0.0.0.0", 465, implicit_tls=True),)
        self.assertEqual([], self.found(access=AccessSettings(tls=tls), listen=listen))


class LoginTests(_FindingsTests):
    def access(self, **given: Any) -> list[tuple[Severity, str]]:
        found = self.found(server(access=AccessSettings(**given)))
        return [(how, key.removeprefix("virtual_servers[0].access.")) for how, key in found]

    def test_nobody_could_send(self) -> None:
        """ACC-01: without anonymous there has to be a way to log in."""
        self.assertEqual([(ERROR, "anonymous")], self.access(anonymous=False))

    def test_nobody_can_log_in(self) -> None:
        """A mechanism needs somebody who knows passwords, and the right somebody."""
        users = Path("users")
        self.assertEqual([(ERROR, "scram")], self.access(scram=True))
        self.assertEqual([], self.access(scram=True, users=users))
        self.assertEqual([(ERROR, "ldap"), (ERROR, "scram")], self.access(scram=True, ldap=True))

    def test_integrated(self) -> None:
        """ACC-05: NTLM needs what is in the users file, and TLS unless said otherwise."""
        given: dict[str, Any] = {"integrated": True, "users": Path("users")}
        tls = TLSSettings(certificate=Path("both.pem"))
        self.assertEqual([], self.access(**given, tls=tls))
        self.assertEqual([(ERROR, "integrated")], self.access(**given))
        self.assertEqual([(ERROR, "integrated")], self.access(integrated=True, tls=tls))
        given["integrated_require_tls"] = False
        self.assertEqual([(WARNING, "integrated_require_tls")], self.access(**given))

    def test_proved_otherwise(self) -> None:
        """Certificates and tokens are ways to log in, and need what they rest on."""
        users, asking = Path("users"), {"client": "ask", "client_ca": Path("ca")}
        tls = TLSSettings(certificate=Path("both.pem"), **asking)  # type: ignore[arg-type]
        bare = TLSSettings(certificate=Path("both.pem"))
        mapping = evolve(tls, client_map=True)
        oauth = TokenKeys("https://login.example/", "us", "https://login.example/keys")
        for given, expected in (
            ({"external": True, "users": users, "tls": tls}, []),
            ({"external": True, "users": users, "tls": bare}, [(ERROR, "external")]),
            ({"external": True, "tls": tls}, [(ERROR, "external")]),
            ({"users": users, "tls": mapping}, []),
            ({"tls": mapping}, [(ERROR, "tls.client_map")]),
            ({"oauth": oauth, "tls": bare}, []),
            ({"oauth": oauth}, [(ERROR, "oauth")]),
            ({"cram_md5": True, "users": users}, []),
            ({"cram_md5": True}, [(ERROR, "cram_md5")]),
        ):
            self.assertEqual(expected, self.access(**given, anonymous=False))

    def test_incomplete(self) -> None:
        """Keys that make no sense without others."""
        ca = Path("ca")
        for wrong in ({"client": "ask"}, {"client_ca": ca}, {"client_map": True}):
            self.assertRaises(ValueError, TLSSettings, certificate=Path("c"), **wrong)
        self.assertRaises(ValueError, TokenKeys, "https://login.example/")

    def test_basic(self) -> None:
        """ACC-03: a password mechanism that is never offered, or offered in clear."""
        users, tls = Path("users"), TLSSettings(certificate=Path("both.pem"))
        safe, clear = BasicKeys(enabled=True), BasicKeys(enabled=True, require_tls=False)
        self.assertEqual([(ERROR, "basic.enabled")], self.access(basic=safe, users=users))
        self.assertEqual([(WARNING, "basic.require_tls")], self.access(basic=clear, users=users))
        self.assertEqual([], self.access(basic=safe, users=users, tls=tls))
        required = evolve(tls, require=True)
        self.assertEqual([], self.access(basic=clear, users=users, tls=required))

    def test_certificate_of_an_address(self) -> None:
        """One at an address is enough for that address, and not for the others."""
        users, basic = Path("users"), BasicKeys(enabled=True)
        own = ListenAddress("127.0.0.1", 465, True, Path("both.pem"))
        access = AccessSettings(basic=basic, users=users, tls=TLSSettings(require=True))
        self.assertEqual([], self.found(server(access=access, listen=(own,))))
        both = (own, ListenAddress("127.0.0.1", 25))
        self.assertEqual(
            [(ERROR, "virtual_servers[0].access.tls.require")],
            self.found(server(access=access, listen=both)),
        )

    def test_useless(self) -> None:
        """A users file that nobody asks for."""
        self.assertEqual([(WARNING, "users")], self.access(users=Path("users")))


class OwnLoginTests(_FindingsTests):
    def delivery(self, tls: TLSLevel, **given: Any) -> list[tuple[Severity, str]]:
        security = OutboundSecurity(tls, None, Login("us", Secret("x")))
        return self.found(server(delivery=DeliverySettings(security=security, **given)))

    def test_of_the_virtual_server(self) -> None:
        """DEL-21: a password is for smart hosts, and not for clear text."""
        here, host = "virtual_servers[0].delivery.security", (NextHop("relay.example.net"),)
        required = TLSLevel.REQUIRED
        self.assertEqual([(WARNING, f"{here}.auth")], self.delivery(required))
        self.assertEqual([], self.delivery(required, smart_host=host))
        self.assertEqual(
            [(ERROR, f"{here}.auth")],
            self.delivery(required, smart_host=host, direct_first=True),
        )
        self.assertEqual([(WARNING, f"{here}.tls")], self.delivery(TLSLevel.NONE, smart_host=host))

    def test_token(self) -> None:
        """Whoever gets a token can use it, so the host has to prove who it is."""
        here, host = "virtual_servers[0].delivery.security", (NextHop("relay.example.net"),)
        grant = TokenGrant("https://login.example/token", "us", Secret("x"))
        for tls, expected in (
            (TLSLevel.NONE, [(WARNING, f"{here}.tls")]),
            (TLSLevel.REQUIRED, [(WARNING, f"{here}.tls")]),
            (TLSLevel.VERIFIED, []),
        ):
            security = OutboundSecurity(tls, None, Login("us", tokens=grant))
            delivery = DeliverySettings(security=security, smart_host=host)
            self.assertEqual(expected, self.found(server(delivery=delivery)))

    def test_of_a_domain(self) -> None:
        """Hosts that DNS names have to prove who they are before they get a password."""
        login = Login("us", Secret("x"))
        for route, tls, expected in (
            ((NextHop("relay.example.net"),), TLSLevel.REQUIRED, []),
            ((), TLSLevel.VERIFIED, []),
            ((), TLSLevel.REQUIRED, [(ERROR, "virtual_servers[0].domains[0].security.auth")]),
        ):
            security = OutboundSecurity(tls, None, login)
            domain = DomainSettings("a.example", "remote", route=route, security=security)
            self.assertEqual(expected, self.found(server(domains=(domain,))))
