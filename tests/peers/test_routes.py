"""Where mail goes: smart host, remote-domain route, MX; real sinks, a real name server."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.peer_case import SENDER, PeerCase, Sink, content
from tests.support.process import reserve_port

RELAY = {"relay": {"default": "allow"}}
#: Two more machines, as far as sockets can tell.
FIRST, SECOND = "127.0.0.3", "127.0.0.4"


class FixedRouteTests(PeerCase):
    def test_smart_host(self) -> None:
        """DEL-43: all mail for others goes to the smart host, ours does not."""
        sink = self.start_sink()
        server = self.start_server(access=RELAY, delivery={"smart_host": sink.next_hop})

        server.submit(["a@example.org", "b@example.net", "c@example.com"], content("all"))

        sink.wait_for("all")
        taken = sink.taken()[0]
        self.assertIn(b"X-Mail-Args: <sender@example.com>", taken)
        self.assertIn(b"X-Rcpt-Args: <a@example.org>", taken)
        self.assertIn(b"X-Rcpt-Args: <b@example.net>", taken)
        self.assertNotIn(b"X-Rcpt-Args: <c@example.com>", taken)
        server.wait_for_drop("c@example.com")
        server.wait_until_empty()

    def test_second_smart_host(self) -> None:
        """The next smart host is tried at once where the first one does not answer."""
        sink = self.start_sink()
        server = self.start_server(
            access=RELAY,
            delivery={"smart_host": [f"[{FIRST}]:{reserve_port(FIRST)}", sink.next_hop]},
        )

        server.submit("a@example.org", content("second"))

        sink.wait_for("second")

    def test_remote_domain(self) -> None:
        """DOM-13: a remote domain's route goes before the smart host; DOM-10 lets it be relayed."""
        smart, partner = self.start_sink(), self.start_sink()
        domain = {"name": "*.partner.example", "type": "remote", "route": partner.next_hop}
        server = self.start_server(
            delivery={"smart_host": smart.next_hop}, domains=[{**domain, "relay": True}]
        )

        server.submit("a@sub.partner.example", content("partner"))

        partner.wait_for("partner")
        server.wait_until_empty()
        self.assertEqual([], smart.taken())
        with server.client() as client:
            client.ehlo()
            client.mail(SENDER)
            self.assertEqual(550, client.rcpt("c@elsewhere.example")[0])

    def test_helo(self) -> None:
        """DOM-11: a remote domain that asks for it hears HELO."""
        sink = self.start_sink()
        domain = {"name": "old.example", "type": "remote", "helo": True, "route": sink.next_hop}
        server = self.start_server(access=RELAY, domains=[domain])

        server.submit("a@old.example", content("helo"))

        sink.wait_for("helo")
        self.assertIn(b"X-Client-Proto: SMTP\n", sink.taken()[0])

    def test_peer_without_extensions(self) -> None:
        """A peer that refuses EHLO is served by HELO (RFC 5321 §3.2)."""
        sink = self.start_sink("-e")
        server = self.start_server(access=RELAY, delivery={"smart_host": sink.next_hop})

        server.submit("a@example.org", content("plain", body=".\r\n..dots\r\n.\r\n"))

        sink.wait_for("plain")
        self.assertIn(b"\n\n.\n..dots\n.\n", sink.taken()[0])

    def test_eight_bit_to_a_seven_bit_peer(self) -> None:
        """8-bit content is sent in 7 bits, where it can be (RFC 6152 §3)."""
        sink = self.start_sink("-8")
        server = self.start_server(access=RELAY, delivery={"smart_host": sink.next_hop})

        with server.client() as client:
            client.sendmail(
                SENDER, "a@example.org", content("eight") + b"\xe4\r\n", ["body=8bitmime"]
            )
            subject = content("header").replace(b"Subject: test", b"Subject: \xe4")
            client.sendmail(SENDER, "a@example.org", subject, ["body=8bitmime"])

        server.wait_for_drop(SENDER)
        self.assertEqual("5.6.3", server.root.reports_for(SENDER)[0].fields["status"])
        sink.wait_for("eight")
        self.assertIn(b"\nContent-Transfer-Encoding: quoted-printable\n", sink.taken()[0])
        self.assertTrue(sink.taken()[0].endswith(b"\n=E4\n\n"))

    def test_large_message(self) -> None:
        """A message that is kept as a file reaches the next hop as it was."""
        sink = self.start_sink()
        server = self.start_server(access=RELAY, delivery={"smart_host": sink.next_hop})
        lines = b"".join(b".%07d\r\n" % number for number in range(150_000))

        server.submit("a@example.org", content("large", body="") + lines)

        sink.wait_for("large")
        body = sink.taken()[0].partition(b"X-Test-ID: large\n\n")[2]
        self.assertEqual(lines.replace(b"\r\n", b"\n"), body.removesuffix(b"\n"))

    def test_many_messages(self) -> None:
        """200 messages in 20 sessions all arrive, once each."""
        sink = self.start_sink()
        server = self.start_server(access=RELAY, delivery={"smart_host": sink.next_hop})

        self.run_source(server.address, "-d", "-s", "20", "-m", "200", "-t", "a@example.org")

        server.wait_until_empty()
        self.assertEqual(200, len(sink.taken()))


class MailExchangeTests(PeerCase):
    """MX records in a name server on loopback; all hosts listen on one port."""

    def setUp(self) -> None:
        super().setUp()
        self.port = reserve_port(FIRST, SECOND)

    def start_sink_on(self, host: str) -> Sink:
        return self.start_sink(address=f"{host}:{self.port}")

    def start_relay(self, zones: dict[str, dict[str, list[str]]], **faults: str) -> None:
        """A server that asks a name server holding *zones* and the addresses of two hosts."""
        hosts = {"mx1.hosts.example": {"A": [FIRST]}, "mx2.hosts.example": {"A": [SECOND]}}
        broken = {name.replace("_", "."): fault for name, fault in faults.items()}
        self.server = self.start_server(
            self.start_dns({**hosts, **zones}, broken),
            access=RELAY,
            delivery={
                "connections": {"port": self.port},
                "outbound": {"retry": ["1h"]},
            },
        )

    def test_equal_preferences(self) -> None:
        """Hosts of equal preference are all used (RFC 5321 §5.1: the sender MUST randomize)."""
        first, second = self.start_sink_on(FIRST), self.start_sink_on(SECOND)
        records = ["10 mx1.hosts.example.", "10 mx2.hosts.example."]
        self.start_relay({"equal.example": {"MX": records}})

        # Of 64 sessions none for one of the two: once in 2^63 runs.
        self.run_source(self.server.address, "-s", "8", "-m", "640", "-t", "a@equal.example")

        self.server.wait_until_empty()
        self.assertEqual(640, len(first.taken()) + len(second.taken()))
        self.assertTrue(first.taken())
        self.assertTrue(second.taken())

    def test_better_host_first(self) -> None:
        """The host of lower preference gets it all while it answers."""
        first, second = self.start_sink_on(FIRST), self.start_sink_on(SECOND)
        self.start_relay(
            {"two.example": {"MX": ["20 mx1.hosts.example.", "10 mx2.hosts.example."]}}
        )

        for number in range(3):
            self.server.submit("a@two.example", content(str(number)))

        second.wait_for("0", "1", "2")
        self.assertEqual([], first.taken())

    def test_first_host_down(self) -> None:
        """Where the first host does not answer the second has the message in the same attempt."""
        second = self.start_sink_on(SECOND)
        self.start_relay(
            {"two.example": {"MX": ["10 mx1.hosts.example.", "20 mx2.hosts.example."]}}
        )

        self.server.submit("a@two.example", content("second"))

        second.wait_for("second")
        self.server.wait_until_empty()

    def test_first_host_busy(self) -> None:
        """Where the first host says 4xx at its greeting the second is asked at once."""
        self.start_sink("-r", "CONNECT", address=f"{FIRST}:{self.port}")
        second = self.start_sink_on(SECOND)
        self.start_relay(
            {"two.example": {"MX": ["10 mx1.hosts.example.", "20 mx2.hosts.example."]}}
        )

        self.server.submit("a@two.example", content("second"))

        second.wait_for("second")

    def test_no_exchange_but_address(self) -> None:
        """A domain without MX is its own host (RFC 5321 §5.1)."""
        first = self.start_sink_on(FIRST)
        self.start_relay({"bare.example": {"A": [FIRST]}})

        self.server.submit("a@bare.example", content("bare"))

        first.wait_for("bare")

    def test_alias(self) -> None:
        """A domain that is a CNAME is looked up under its canonical name (RFC 5321 §5.1)."""
        first = self.start_sink_on(FIRST)
        self.start_relay(
            {
                "alias.example": {"CNAME": ["real.example."]},
                "real.example": {"MX": ["10 mx1.hosts.example."]},
            }
        )

        self.server.submit("a@alias.example", content("alias"))

        first.wait_for("alias")
        self.assertIn(b"X-Rcpt-Args: <a@alias.example>", first.taken()[0])

    def test_domains_of_one_site(self) -> None:
        """Recipients of two domains with the same hosts share one transaction."""
        first = self.start_sink_on(FIRST)
        self.start_relay(
            {
                "one.example": {"MX": ["10 mx1.hosts.example."]},
                "two.example": {"MX": ["50 mx1.hosts.example."]},
            }
        )

        # What is not in the cache yet is found at its own time, and goes at its own time.
        self.server.submit("a@one.example", content("first"))
        self.server.submit("b@two.example", content("second"))
        first.wait_for("first", "second")

        self.server.submit(["a@one.example", "b@two.example"], content("shared"))

        first.wait_for("first", "second", "shared")
        shared = [octets for octets in first.taken() if b"X-Test-ID: shared" in octets]
        self.assertEqual(2, shared[0].count(b"X-Rcpt-Args: "))

    def test_null_exchange(self) -> None:
        """A null MX is a permanent failure, 5.1.10 (RFC 7505 §3); nobody is connected to."""
        first = self.start_sink_on(FIRST)
        self.start_relay({"never.example": {"MX": ["0 ."], "A": [FIRST]}})

        self.assert_returned("a@never.example", "5.1.10")
        self.assertEqual([], first.taken())

    def test_no_such_domain(self) -> None:
        """NXDOMAIN is a permanent failure, 5.1.2."""
        self.start_relay({})

        self.assert_returned("a@missing.test", "5.1.2")

    def test_own_host(self) -> None:
        """A domain whose best host is ourselves is returned, not sent in a circle (5.4.6)."""
        self.start_relay(
            {"loop.example": {"MX": ["10 mail.example.com."]}, "mail.example.com": {"A": [FIRST]}}
        )

        self.assert_returned("a@loop.example", "5.4.6")

    def test_servfail(self) -> None:
        """SERVFAIL says nothing about the domain: the message waits, nobody is told."""
        self.start_relay({}, broken_example="SERVFAIL")

        self.assert_delayed("a@broken.example", "4.4.3")

    def test_silence(self) -> None:
        """A name server that does not answer in time is the same."""
        self.start_relay({}, silent_example="SILENCE")

        self.assert_delayed("a@silent.example", "4.4.3")

    def test_host_unknown_for_now(self) -> None:
        """A host whose address cannot be found now is passed over; alone, the message waits."""
        second = self.start_sink_on(SECOND)
        self.start_relay(
            {
                "both.example": {"MX": ["10 bad.example.", "20 mx2.hosts.example."]},
                "alone.example": {"MX": ["10 bad.example."]},
            },
            bad_example="SERVFAIL",
        )

        self.server.submit("a@both.example", content("both"))

        second.wait_for("both")
        self.assert_delayed("a@alone.example", "4.4.3")

    def test_truncated_answer(self) -> None:
        """What is too long for UDP is asked again by TCP."""
        first = self.start_sink_on(FIRST)
        self.start_relay(
            {"long.example": {"MX": ["10 mx1.hosts.example."]}}, long_example="TRUNCATED"
        )

        self.server.submit("a@long.example", content("long"))

        first.wait_for("long")

    def assert_returned(self, receiver: str, status: str) -> None:
        self.server.submit(receiver)
        self.server.wait_for_drop(SENDER)
        self.server.wait_until_empty()
        reports = self.server.root.reports_for(SENDER)
        self.assertEqual(["Failure"], [report.kind for report in reports])
        self.assertEqual(status, reports[0].fields["status"])
        self.assertEqual(f"rfc822;{receiver}", reports[0].fields["final-recipient"])

    def assert_delayed(self, receiver: str, status: str) -> None:
        self.server.submit(receiver)
        self.assertEqual(status, self.server.wait_for_attempts(receiver).status)
        self.assertEqual([], self.server.root.drop())


class RefusalTests(PeerCase):
    """
    What a peer's refusal of a command means for the message.

    One server; for each refusal a remote domain whose sink refuses so, and a sender of
    its own, so that each case has a Drop of its own as it were.
    """

    def start_with(self, cases: dict[str, list[str]]) -> None:
        self.sinks = {name: self.start_sink(*options) for name, options in cases.items()}
        self.server = self.start_server(
            access=RELAY,
            delivery={"outbound": {"retry": ["1h"]}},
            domains=[
                {"name": f"{name}.example", "type": "remote", "route": sink.next_hop}
                for name, sink in self.sinks.items()
            ],
        )
        for name in cases:
            self.server.submit(f"a@{name}.example", content(name), f"{name}@example.com")

    def test_hard(self) -> None:
        """5xx to a command of the transaction gives exactly one report, and the queue is empty."""
        commands = {"mail": "MAIL", "rcpt": "RCPT", "data": "DATA", "dot": "."}
        self.start_with({name: ["-f", command] for name, command in commands.items()})

        for name in commands:
            self.server.wait_for_drop(f"{name}@example.com")
        self.server.wait_until_empty()

        for name in commands:
            reports = self.server.root.reports_for(f"{name}@example.com")
            self.assertEqual(["Failure"], [report.kind for report in reports], name)
            fields = reports[0].fields
            self.assertEqual("failed", fields["action"])
            self.assertEqual("5.3.0", fields["status"])
            self.assertEqual("smtp;500 5.3.0 Error: command failed", fields["diagnostic-code"])
            self.assertIn(f"X-Test-ID: {name}", reports[0].returned)

    def test_hard_before_the_envelope(self) -> None:
        """5xx in place of a greeting or to both HELOs is about the host: the message waits."""
        cases = {"connect": ["-f", "CONNECT"], "hello": ["-f", "EHLO,HELO"]}
        self.start_with(cases)

        self.assert_waiting(cases)

    def test_soft(self) -> None:
        """4xx leaves the message in Queue, whatever the command."""
        commands = {
            "connect": "CONNECT",
            "hello": "EHLO,HELO",
            "mail": "MAIL",
            "rcpt": "RCPT",
            "data": "DATA",
            "dot": ".",
        }
        cases = {name: ["-r", command] for name, command in commands.items()}
        self.start_with(cases)

        self.assert_waiting(cases)

    def test_hanging_up(self) -> None:
        """So does a peer that goes without a word."""
        commands = {"connect": "CONNECT", "hello": "EHLO", "mail": "MAIL", "data": "DATA"}
        cases = {name: ["-q", command] for name, command in commands.items()}
        self.start_with(cases)

        self.assert_waiting(cases)
        self.assertNotIn("(in doubt)", self.server.process.said())

    def test_closing(self) -> None:
        """So does a 421 in the middle of a transaction (RFC 5321 §3.8)."""
        cases = {name: ["-Q", name.upper()] for name in ("mail", "rcpt", "data")}
        self.start_with(cases)

        self.assert_waiting(cases)

    def test_doubt(self) -> None:
        """P3: a peer that goes after our final dot leaves a doubt, which the log names."""
        self.start_with({"dot": ["-q", "."]})

        self.assert_waiting(["dot"])
        self.server.process.wait_for_words("to=a@dot.example delayed 4.4.2 (in doubt)")

    def test_one_of_two_recipients(self) -> None:
        """A refusal of one domain's host does not touch the other domain."""
        good, bad = self.start_sink(), self.start_sink("-f", "RCPT")
        server = self.start_server(
            access=RELAY,
            domains=[
                {"name": "good.example", "type": "remote", "route": good.next_hop},
                {"name": "bad.example", "type": "remote", "route": bad.next_hop},
            ],
        )

        server.submit(["a@good.example", "b@bad.example"], content("both"))

        good.wait_for("both")
        server.wait_for_drop(SENDER)
        server.wait_until_empty()
        fields = [report.fields for report in server.root.reports_for(SENDER)]
        self.assertEqual(["rfc822;b@bad.example"], [one["final-recipient"] for one in fields])

    def assert_waiting(self, names: Iterable[str]) -> None:
        for name in names:
            waiting = self.server.wait_for_attempts(f"a@{name}.example")
            self.assertEqual("4", (waiting.status or "")[:1], waiting)
        self.assertEqual([], self.server.root.drop())
