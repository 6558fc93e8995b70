"""
Next hops that break the rules: what was put off waits, what was taken goes once, nothing hangs.

Each host does one thing wrong and is good afterwards, so that every message has an end that
can be seen: what was only put off arrives, and what was taken does not arrive again.
Meanwhile a message to a good host leaves five times a second.
"""

from __future__ import annotations

import signal
import smtplib
import threading
import time
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from tests.support.peer_case import SENDER, PeerCase, Server, content
from tests.support.process import LOOPBACK, PATIENCE_SECONDS, split_address
from tests.support.recording_sink import RecordingSink
from tests.support.scripted_host import (
    Manner,
    ScriptedHost,
    dribbles,
    garbled_handshake,
    goes,
    hears_and_goes,
    is_silent,
    late,
    never_ends,
    says,
    says_and_goes,
)

#: Our patience with a host that says nothing.
TIMEOUT_SECONDS = 2
#: The deadline is looked at once a second.
TOO_LATE_SECONDS = TIMEOUT_SECONDS + 2.5
#: So long may a good host's message take while the others are hostile.
BOUND_SECONDS = 5.0
_BEAT_SECONDS = 0.2
GREETING, TAKEN = b"220 host.example\r\n", b"250 2.0.0 taken\r\n"
_GARBAGE = bytes(range(256)) * 4 + b"\r\n"


@frozen
class Case:
    """
    :ivar script: what the host does wrong.
    :ivar copies: how often the whole message comes to it; a second time is in doubt.
    :ivar delays: attempts that have to fail.
    """

    script: Mapping[str, list[Manner]]
    copies: int = 1
    delays: int = 1
    extensions: tuple[str, ...] = ("PIPELINING", "8BITMIME")
    octets: int = 500

    @property
    def doubts(self) -> int:
        return self.copies - 1


def once(phase: str, manner: Manner, **more: Any) -> Case:
    return Case({phase: [manner]}, **more)


CHUNKING = ("PIPELINING", "CHUNKING")
#: Octets; Linux keeps at most 4 MiB for a sender (tcp_wmem), so the dot cannot have left.
_MORE_THAN_BUFFERS = 8_000_000
#: The first attempt fails, the second does not.
PUT_OFF = {
    "banner-554": once("banner", says("554 5.3.2 not here")),
    "banner-421": once("banner", says("421 4.3.2 not now")),
    "banner-none": once("banner", is_silent),
    "banner-closed": once("banner", goes),
    "banner-endless-line": once("banner", never_ends(b"2")),
    "banner-endless-reply": once("banner", never_ends(b"220-more\r\n")),
    "banner-garbage": once("banner", says(_GARBAGE)),
    "banner-twice": once("banner", says(GREETING + b"250 more\r\n")),
    "banner-dribbled": once("banner", dribbles(b"220-x\r\n", 0.3, for_ever=True)),
    "hello-endless-reply": once("EHLO", never_ends(b"250-X-MORE\r\n")),
    "hello-421": once("EHLO", says("421 4.3.2 not now")),
    "hello-354": once("EHLO", says("354 go on")),
    "mail-421": once("MAIL", says("421 4.3.2 not now")),
    "mail-endless-line": once("MAIL", never_ends(b"250 ")),
    "mail-354": once("MAIL", says("354 go on"), extensions=()),
    "rcpt-421": once("RCPT", says("421 4.3.2 not now")),
    "rcpt-silent": once("RCPT", is_silent),
    "rcpt-twice": once("RCPT", says(b"250 ok\r\n250 ok\r\n"), extensions=CHUNKING),
    "data-421": once("DATA", says("421 4.3.2 not now")),
    "data-250": once("DATA", says("250 2.0.0 taken")),
    "data-250-alone": once("DATA", says("250 2.0.0 taken"), extensions=()),
    "data-taken": once("DATA", says_and_goes(b"354 go on\r\n" + TAKEN)),
    "data-closed": once("DATA", goes),
    "content-closed": once("DATA", hears_and_goes(100_000), octets=_MORE_THAN_BUFFERS),
    "content-unread": once("DATA", says_and_goes("354 go on"), octets=_MORE_THAN_BUFFERS),
    "dot-421": Case({".": [says("421 4.3.2 not now")]}, copies=2),
    "dot-450": Case({".": [says("450 4.2.0 not now")]}, copies=2),
    "chunk-450": Case({".": [says("450 4.2.0 not now")]}, copies=2, extensions=CHUNKING),
}
#: The host has the message, and we cannot know it: it comes once more (promise P3).
IN_DOUBT = {
    "dot-closed": once(".", goes, copies=2),
    "dot-silent": once(".", is_silent, copies=2),
    "dot-354": once(".", says("354 go on"), copies=2),
    "dot-garbage": once(".", says(_GARBAGE), copies=2),
    "dot-endless-reply": once(".", never_ends(b"250-more\r\n"), copies=2),
    "dot-too-late": once(".", late(TOO_LATE_SECONDS, "250 2.0.0 taken"), copies=2),
    "dot-dribbled": once(".", dribbles(b"250-more\r\n", 0.3, for_ever=True), copies=2),
    "dot-closed-twice": Case({".": [goes, goes]}, copies=3, delays=2),
    "chunk-closed": once(".", goes, copies=2, extensions=CHUNKING),
}
#: The first attempt succeeds, and is not repeated.
TAKEN_ONCE = {
    "old": once("EHLO", says("500 5.5.1 what"), delays=0),
    "slow": Case({phase: [late(0.7, "250 ok")] for phase in ("MAIL", ".")}, delays=0),
    "dribbling": Case(
        {
            "banner": [dribbles(GREETING, 0.01)],
            "MAIL": [dribbles(b"250 ok\r\n", 0.01)],
            "DATA": [dribbles(b"354 go on\r\n", 0.01)],
            ".": [dribbles(TAKEN, 0.01)],
        },
        delays=0,
    ),
    # Opportunistic TLS goes on in clear at once (RFC 7435).
    "tls-garbage": Case(
        {"STARTTLS": [says(b"220 go\r\n" + _GARBAGE)]}, delays=0, extensions=("STARTTLS",)
    ),
    "tls-broken": Case({"STARTTLS": [garbled_handshake]}, delays=0, extensions=("STARTTLS",)),
    "nul": once("MAIL", says(b"250 a\0b\r\n"), delays=0),
    "long": once("EHLO", says(b"250 " + b"x" * 9000 + b"\r\n"), delays=0),
    "many-lines": once(".", says(b"250-more\r\n" * 60 + TAKEN), delays=0),
    "then-closes": Case({".": [says_and_goes(TAKEN)] * 2}, delays=0),
    "then-421": Case({".": [says_and_goes(TAKEN + b"421 bye\r\n")] * 2}, delays=0),
    "then-550": Case({".": [says_and_goes(TAKEN + b"550 no\r\n")] * 2}, delays=0),
    "then-endless": Case({".": [never_ends(b"x", TAKEN)] * 2}, delays=0),
    "then-more": Case({".": [says(TAKEN * 3)] * 2}, delays=0),
    "quit-silent": Case({"QUIT": [is_silent] * 2}, delays=0),
    "quit-endless": Case({"QUIT": [never_ends(b"221-x\r\n")] * 2}, delays=0),
}


@define(eq=False)
class Beat:
    """
    A message to a good host, five times a second.

    :ivar submitted: when each was acknowledged, by its id.
    """

    server: Server
    receiver: str
    submitted: dict[str, float] = field(factory=dict)
    problems: list[Exception] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(PATIENCE_SECONDS)

    def _run(self) -> None:
        try:
            while not self._over.wait(_BEAT_SECONDS):
                test_id = f"beat{len(self.submitted)}"
                self.server.submit(self.receiver, content(test_id))
                self.submitted[test_id] = time.monotonic()
        except (OSError, smtplib.SMTPException) as problem:
            self.problems.append(problem)


class HostileCase(PeerCase):
    """One server, and a remote domain for each hostile host."""

    def start_with(self, cases: Mapping[str, Case], timeout: str = f"{TIMEOUT_SECONDS}s") -> None:
        self.good = RecordingSink(LOOPBACK)
        self.good.start()
        self.addCleanup(self.good.stop)
        self.hosts = {name: self.start_host(case) for name, case in cases.items()}
        self.server = self.start_server(
            access={"relay": {"default": "allow"}},
            messages={"max_message_size": "10M", "max_session_size": "unlimited"},
            delivery={
                "outbound": {"retry": ["1s"]},
                "connections": {"timeout": timeout},
                "suspension": {"shortest": "1s", "longest": "1s"},
            },
            domains=[
                {"name": f"{name}.example", "type": "remote", "route": host.next_hop}
                for name, host in self.hosts.items()
            ]
            + [
                {
                    "name": "good.example",
                    "type": "remote",
                    "route": "[{}]:{}".format(*split_address(self.good.address)),
                }
            ],
        )
        self.beat = Beat(self.server, "a@good.example")
        self.beat.start()
        self.addCleanup(self.beat.stop)

    def start_host(self, case: Case) -> ScriptedHost:
        host = ScriptedHost(LOOPBACK, case.script, case.extensions)
        host.start()
        self.addCleanup(host.stop)
        return host

    def submit(self, name: str, test_id: str, octets: int, *receivers: str) -> None:
        paths = [f"{one}@{name}.example" for one in receivers or ("a",)]
        body = ("x" * 76 + "\r\n") * (octets // 78)
        self.server.submit(paths, content(test_id, body), f"{name}@example.com")

    def delays(self, name: str, receiver: str = "a") -> list[str]:
        """The log's lines about failed attempts."""
        words = f"to={receiver}@{name}.example delayed"
        return [line for line in self.server.process.said().splitlines() if words in line]

    def finish(self) -> None:
        """Until nobody waits; then the good host must have had its mail in time."""
        self.server.process.wait_until(self.is_over, "no mail for hostile hosts")
        self.beat.stop()
        self.server.wait_until_empty()
        self.server.process.terminate()  # the last lines of the log are written then
        self.assertEqual([], self.beat.problems)
        taken = {copy.test_id: copy.taken_at for copy in self.good.copies}
        self.assertEqual(set(self.beat.submitted), set(taken))
        self.assertEqual(len(taken), len(self.good.copies))
        worst = max(taken[one] - at for one, at in self.beat.submitted.items())
        self.assertLess(worst, BOUND_SECONDS)
        self.assertNotIn("Traceback", self.server.process.said())

    def is_over(self) -> bool:
        waiting = {one.domain for one in self.server.root.queue()} - {"good.example"}
        return not waiting and len(self.beat.submitted) >= 2

    def wrong(self, name: str, case: Case, test_id: str) -> list[str]:
        """What is not as *case* has it."""
        copies = self.hosts[name].copies_of(test_id)
        doubts = sum("(in doubt)" in line for line in self.delays(name))
        reports = self.server.root.reports_for(f"{name}@example.com")
        known_to_us = [one for one in copies[:-1] if one.promised]
        expected_promises = 1 if case in IN_DOUBT.values() else 0
        return [
            f"{name}: {what}: {found}, not {expected}"
            for what, found, expected in (
                ("copies", len(copies), case.copies),
                ("last promised", bool(copies and copies[-1].promised), True),
                ("sent after 250", len(known_to_us) > expected_promises, False),
                ("doubts", doubts, case.doubts if case in IN_DOUBT.values() else 0),
                ("delays", len(self.delays(name)), case.delays),
                ("reports", len(reports), 0),
            )
            if found != expected
        ]


class ScriptTests(HostileCase):
    def check(self, cases: Mapping[str, Case]) -> None:
        self.start_with(cases)
        for name, case in cases.items():
            self.submit(name, name, case.octets)
        self.server.process.wait_until(
            lambda: all(
                len(host.copies_of(name)) >= cases[name].copies for name, host in self.hosts.items()
            ),
            "all copies",
        )
        self.finish()

        wrong = [one for name, case in cases.items() for one in self.wrong(name, case, name)]
        self.assertEqual([], wrong)

    def test_put_off(self) -> None:
        """P4: what a host breaks, refuses for now or answers wrongly waits, and goes once."""
        self.check(PUT_OFF)

    def test_in_doubt(self) -> None:
        """P3: after our dot only a 250 is a 250; anything else is a doubt, counted, and retried."""
        self.check(IN_DOUBT)

    def test_taken_once(self) -> None:
        """After a 250 nothing is sent again, whatever the host does next."""
        self.start_with(TAKEN_ONCE)
        for number in (1, 2):
            for name in TAKEN_ONCE:
                self.submit(name, f"{name}{number}", 500)
        self.finish()

        wrong = [
            one
            for name, case in TAKEN_ONCE.items()
            for number in (1, 2)
            for one in self.wrong(name, case, f"{name}{number}")
        ]
        self.assertEqual([], wrong)


class RecipientTests(HostileCase):
    def reported(self, name: str) -> list[str]:
        """Of whom the sender was told that they failed, one report for each entry."""
        reports = self.server.root.reports_for(f"{name}@example.com")
        self.assertEqual({"Failure"} if reports else set(), {one.kind for one in reports})
        return [one.fields["final-recipient"] for one in reports]

    def test_each_has_an_answer(self) -> None:
        """250, 450 and 550 in one envelope: gone, gone later, returned; each once."""
        refused = {
            "RCPT later": [says("450 4.2.0 grey")],
            "RCPT never": [says("550 5.1.1 nobody")],
        }
        closing = {"RCPT never": [says("550 5.1.1 nobody")], "RCPT later": [says("421 bye")]}
        dotted = {"RCPT never": [says("550 5.1.1 nobody")], ".": [goes]}
        cases = {
            "mixed": Case(refused),
            "alone": Case(refused, extensions=()),
            "chunked": Case(refused, extensions=CHUNKING),
            "closing": Case(closing),
            "dotted": Case(dotted),
        }
        self.start_with(cases)
        for name in cases:
            self.submit(name, name, 500, "now", "never", "later")
        self.finish()

        envelopes = {
            name: [
                tuple(path.partition("@")[0] for path in copy.receivers)
                for copy in host.copies_of(name)
            ]
            for name, host in self.hosts.items()
        }
        later = [("now",), ("later",)]
        both = ("now", "later")
        self.assertEqual(
            {
                "mixed": later,
                "alone": later,
                "chunked": later,
                "closing": [both],
                "dotted": [both, both],
            },
            envelopes,
        )
        for name in cases:
            self.assertEqual([f"rfc822;never@{name}.example"], self.reported(name), name)
        doubted = "to=now@dotted.example,later@dotted.example delayed 4.4.2 (in doubt)"
        self.server.process.wait_for_words(doubted)
        self.assertEqual(1, self.server.process.said().count(doubted))

    def test_returned_once(self) -> None:
        """5xx gives one report, with words that cannot break it, and whatever follows."""
        cases = {
            "odd": once("MAIL", says(b"550-5.7.1 a\0b\x1b[2J\xff\r\n550 5.7.1 \x08Subject: x\r\n")),
            "flood": once(".", never_ends(b"x", b"554 5.6.0 no\r\n")),
            "closes": once(".", says_and_goes("554 5.6.0 no")),
            "nobody": Case({"RCPT": [says("550 5.1.1 no")], "DATA": [says("354 go on")]}),
            "long": once("DATA", says(b"554-" + b"y" * 400 + b"\r\n554 z\r\n")),
        }
        self.start_with(cases)
        for name in cases:
            self.submit(name, name, 500)
        for name in cases:
            self.server.wait_for_drop(f"{name}@example.com")
        self.finish()

        for name in cases:
            self.assertEqual([f"rfc822;a@{name}.example"], self.reported(name), name)
            self.assertEqual([], self.delays(name))
        self.assertEqual([], [one for one in self.hosts["nobody"].copies if one.test_id])
        (odd,) = self.server.root.reports_for("odd@example.com")
        self.assertEqual(
            "smtp;550 5.7.1 a?b?[2J? ?Subject: x", odd.fields["diagnostic-code"].split("\n")[0]
        )


class SinkTests(HostileCase):
    """Postfix's smtp-sink, with what the tests of refusals do not ask of it."""

    def test_delays_and_windows(self) -> None:
        """A sink that waits before it reads, or before it answers, has everything once."""
        # The whole sink waits with each session: three of them wait for one another.
        self.start_with({}, timeout="60s")
        small = ["-T", "1024"]
        sinks = {
            "slow": self.start_sink("-w", "1"),
            "now-and-then": self.start_sink("-W", "DATA:1:50"),
            "unread": self.start_sink("-H", "1", *small),
            "narrow": self.start_sink(*small),
            "alone": self.start_sink("-p", "-w", "1"),
        }
        domains = self.server.settings["domains"]
        self.server.configure(
            domains=domains
            + [
                {"name": f"{name}.example", "type": "remote", "route": sink.next_hop}
                for name, sink in sinks.items()
            ]
        )
        self.server.process.send_signal(signal.SIGHUP)
        self.server.process.wait_for_words("The configuration is reloaded")
        for name in sinks:
            for number in range(3):
                self.submit(name, f"{name}{number}", 200_000)

        for name, sink in sinks.items():
            sink.wait_for(*(f"{name}{number}" for number in range(3)))
        self.finish()
        self.assertNotIn(" delayed ", self.server.process.said())
        self.assertEqual([], self.server.root.drop_for(SENDER))
