"""Tests for `mailhost.routing`."""

from __future__ import annotations

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings import DomainSettings
from mailhost.model.address import Mailbox
from mailhost.model.route import Drop, MailExchange, NextHop, SmartHosts
from mailhost.model.security import Login, OutboundSecurity, Secret, TLSLevel
from mailhost.routing.categorizer import Categorizer, make_categorizer
from tests.support.world import make_settings

HOP = NextHop("192.0.2.20", 2525, literal=True)
SMART = NextHop("relay.example.net", 587)


def at(domain: str) -> Mailbox:
    return Mailbox("user", domain)


class CategorizerTests(SynchronousTestCase):
    def setUp(self) -> None:
        settings = make_settings(
            domains=(
                DomainSettings(name="alias.example", type="alias"),
                DomainSettings(name="*.partner.example", type="remote", route=(HOP,)),
                DomainSettings(name="x.partner.example", type="remote", helo=True, route=None),
                DomainSettings(name="y.partner.example", type="remote", helo=True),
            )
        )
        delivery = evolve(settings.delivery, smart_host=(SMART,))
        self.settings = evolve(settings, delivery=delivery)

    def test_local_domains(self) -> None:
        """Default and alias domains, in any case, go to Drop; their sub-domains do not."""
        routes = make_categorizer(self.settings)

        self.assertEqual(Drop(), routes.route(at("EXAMPLE.com")))
        self.assertEqual(Drop(), routes.route(at("alias.example")))
        self.assertNotEqual(Drop(), routes.route(at("sub.example.com")))
        self.assertNotEqual(Drop(), routes.route(at("example.com.evil.example")))

    def test_precedence(self) -> None:
        """A remote domain's route, then the smart host, then MX (iis-smtp §5.4)."""
        routes = make_categorizer(self.settings)
        without = make_categorizer(make_settings())

        self.assertEqual(SmartHosts((HOP,)), routes.route(at("a.b.partner.example")))
        self.assertEqual(SmartHosts((SMART,)), routes.route(at("partner.example")))
        self.assertEqual(SmartHosts((SMART,)), routes.route(at("elsewhere.example")))
        self.assertEqual(
            MailExchange("x.partner.example", helo=True), routes.route(at("X.partner.example"))
        )
        self.assertEqual(SmartHosts((SMART,), helo=True), routes.route(at("y.partner.example")))
        self.assertEqual(MailExchange("elsewhere.example"), without.route(at("Elsewhere.example")))

    def test_password_of_the_smart_host(self) -> None:
        """DEL-21: it goes to the smart host, and to no host that another names."""
        login = OutboundSecurity(TLSLevel.REQUIRED, None, Login("us", Secret("x")))
        settings = evolve(self.settings, delivery=evolve(self.settings.delivery, security=login))
        routes = make_categorizer(settings)

        (smart,) = [routes.route(at("elsewhere.example"))]
        assert isinstance(smart, SmartHosts)
        self.assertEqual(login, smart.security)
        for domain in ("a.partner.example", "x.partner.example"):
            other = routes.route(at(domain))
            assert isinstance(other, SmartHosts | MailExchange)
            self.assertEqual(login.without_login(), other.security)
        home = routes.route_home(at("example.com"), HOP)
        assert isinstance(home, SmartHosts)
        self.assertIsNone(home.security.login)

    def test_home(self) -> None:
        """A home server is met as the recipient's domain says, and comes before all routes."""
        routes = make_categorizer(self.settings)

        self.assertEqual(SmartHosts((HOP,)), routes.route_home(at("example.com"), HOP))
        self.assertEqual(
            SmartHosts((SMART,), helo=True), routes.route_home(at("x.partner.example"), SMART)
        )

    def test_direct_first(self) -> None:
        """DEL-44: MX, with the smart host behind it."""
        delivery = evolve(self.settings.delivery, direct_first=True)
        routes = make_categorizer(evolve(self.settings, delivery=delivery))

        self.assertEqual(
            MailExchange("elsewhere.example", otherwise=SmartHosts((SMART,))),
            routes.route(at("elsewhere.example")),
        )

    def test_address_literals(self) -> None:
        """RFC 5321 §4.1.3: the address is the host; no DNS."""
        routes = make_categorizer(make_settings())

        self.assertEqual(
            SmartHosts((NextHop("192.0.2.9", literal=True),)), routes.route(at("[192.0.2.9]"))
        )
        self.assertEqual(
            SmartHosts((NextHop("2001:db8::1", literal=True),)),
            routes.route(at("[IPv6:2001:db8::1]")),
        )

    def test_qualify_and_stamp(self) -> None:
        """Unqualified addresses get the default domain, alias domains are stamped with it."""
        routes = make_categorizer(self.settings)

        self.assertEqual(at("example.com"), routes.qualify(Mailbox("user", "")))
        self.assertEqual(at("example.com"), routes.stamp(at("Alias.example")))
        self.assertEqual(at("other.example"), routes.stamp(at("other.example")))

    def test_masquerade(self) -> None:
        """Only a local sender is masqueraded; the null reverse-path never is."""
        plain = make_categorizer(self.settings)
        masked = Categorizer(plain.domains, masquerade_domain="public.example")

        self.assertEqual(at("public.example"), masked.masquerade(at("alias.example")))
        self.assertEqual(at("other.example"), masked.masquerade(at("other.example")))
        self.assertIsNone(masked.masquerade(None))
        self.assertEqual(at("example.com"), plain.masquerade(at("example.com")))
