"""Mail that must go through TLS, and mail that may do without it (RFC 8689)."""

from __future__ import annotations

from typing import Any

from attrs import evolve

from mailhost.config.settings import DomainSettings
from mailhost.model.parameters import MailParameters
from mailhost.model.proven import Proven
from mailhost.model.route import NextHop
from mailhost.model.security import OutboundSecurity, TLSLevel
from mailhost.net import outbound
from tests.relay.test_asked import AskedCase
from tests.support.hosts import HANG_UP, Host
from tests.support.world import make_settings

EXCHANGES = [(10, "mx1.remote.example"), (20, "mx2.remote.example")]
REQUIRETLS = MailParameters(requiretls=True)
#: What a host says to EHLO, in clear and through TLS.
IN_CLEAR = "250-peer.example\r\n250 STARTTLS"
PROMISES = [IN_CLEAR, "250-peer.example\r\n250 REQUIRETLS"]


class TLSCase(AskedCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(outbound, "check_identity", lambda connection, host: connection)
        self.patch(outbound, "connection_of", lambda transport: transport.wrong)
        self.names.exchanges["remote.example"] = Proven(EXCHANGES)

    def speak(self, host: Host, ehlo: Any, starttls: str = "220 go on") -> None:
        told = list(ehlo) if isinstance(ehlo, list) else ehlo  # it is used up
        host.says = {"EHLO": told, "STARTTLS": starttls}


class RequiredTests(TLSCase):
    def test_sent(self) -> None:
        """§4.2.1: to a host that is who it should be and promises the same."""
        self.speak(self.host, PROMISES)

        self.ask(REQUIRETLS)

        ((mail, _, _),) = self.host.envelopes
        self.assertEqual("MAIL FROM:<alice@example.com> REQUIRETLS", mail)

    def test_second_host(self) -> None:
        """§4.2.1: every host of the domain is asked before it comes back."""
        self.speak(self.host, [IN_CLEAR, "250 peer.example"])
        self.speak(self.second, PROMISES)

        self.ask(REQUIRETLS)

        self.assertEqual([], self.host.envelopes)
        self.assertEqual(1, len(self.second.envelopes))
        self.assertEqual({}, self.store.messages)

    def test_not_promised(self) -> None:
        """5.7.30, at once; what tells of it needs TLS as well, and has the header only."""
        for host in (self.host, self.second):
            self.speak(host, [IN_CLEAR, "250 peer.example"])

        self.ask(evolve(REQUIRETLS, ret="FULL"))

        self.assertEqual([("failed", "5.7.30")], self.statuses())
        ((report, _, octets),) = self.shelf.taken
        self.assertEqual(REQUIRETLS, report.parameters)
        self.assertIn(b"text/rfc822-headers", octets)
        self.assertNotIn(b"message/rfc822", octets)

    def test_no_tls(self) -> None:
        """5.7.10: not offered, refused for good, or with a certificate of somebody else."""
        for ehlo, starttls, wrong in (
            ("250 peer.example", "", None),
            (IN_CLEAR, "502 no", None),
            (IN_CLEAR, "220 go on", "not for that host"),
        ):
            for host in (self.host, self.second):
                self.speak(host, ehlo, starttls)
                host.wrong = wrong
            self.ask(REQUIRETLS)
            self.assertEqual(("failed", "5.7.10"), self.statuses()[-1])
        self.assertEqual(3, len(self.statuses()))
        self.assertEqual([], self.taken())

    def test_not_proven(self) -> None:
        """§4.2.1: 5.7.30 at once; whoever has forged the MX records has a certificate too."""
        self.names.exchanges["remote.example"] = EXCHANGES
        for host in (self.host, self.second):
            self.speak(host, PROMISES)

        self.ask(REQUIRETLS)

        self.assertEqual([("failed", "5.7.30")], self.statuses())
        self.assertEqual(0, self.host.connections + self.second.connections)
        self.ask(MailParameters())
        self.assertEqual(1, len(self.taken()))

    def test_nothing_to_prove(self) -> None:
        """A domain that is its own host, and hosts that the operator has named."""
        self.names.hosts["alone.example"] = ["192.0.2.1"]
        self.speak(self.host, PROMISES)
        self.ask(REQUIRETLS, "a@alone.example")
        self.assertEqual(1, len(self.host.envelopes))

        self.names.exchanges["remote.example"] = EXCHANGES
        route = (NextHop("mx2.remote.example"),)
        for direct_first in (False, True):
            settings = make_settings()
            delivery = evolve(settings.delivery, smart_host=route, direct_first=direct_first)
            self.relay = self.make_relay(evolve(settings, delivery=delivery))
            self.speak(self.second, PROMISES)
            self.ask(REQUIRETLS)
        self.assertEqual((1, 2), (len(self.host.envelopes), len(self.second.envelopes)))

    def test_not_now(self) -> None:
        """P4: a host that cannot be had, or has no TLS today, may be better tomorrow."""
        del self.net.hosts["192.0.2.2"]
        later = [(PROMISES, "454 not now"), (IN_CLEAR, HANG_UP), ("250 peer.example", "")]
        later.append(([IN_CLEAR, "250 peer.example"], "220 go on"))
        for ehlo, starttls in later:
            self.speak(self.host, ehlo, starttls)
            message = self.ask(REQUIRETLS)
            self.assertEqual([1], [one.attempts for one in message.recipients.values()])
        self.assertEqual([], self.statuses())


class OptionalTests(TLSCase):
    OPTIONAL = MailParameters(tls_optional=True)

    def configure(self, own: bool) -> None:
        required = OutboundSecurity(TLSLevel.REQUIRED)
        settings = make_settings()
        delivery = evolve(settings.delivery, security=required)
        settings = evolve(settings, delivery=delivery)
        if own:
            domain = DomainSettings("remote.example", "remote", security=required)
            settings = evolve(settings, domains=(domain,))
        self.relay = self.make_relay(settings)

    def test_policy_for_hosts_in_general(self) -> None:
        """§4.2.2: who has written it would have the mail in clear rather than not at all."""
        self.configure(own=False)

        self.ask(MailParameters())
        self.assertEqual([], self.taken())
        self.ask(self.OPTIONAL)

        self.assertEqual(1, len(self.taken()))

    def test_policy_for_the_domain(self) -> None:
        """What the operator has said of this domain is no guess."""
        self.configure(own=True)

        self.ask(self.OPTIONAL)

        self.assertEqual([], self.taken())
