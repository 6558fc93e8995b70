"""``mailhost explain`` on two virtual servers in two workers."""

from __future__ import annotations

from tests.cli.test_steer import SteerCase


class ExplainTests(SteerCase):
    def setUp(self) -> None:
        super().setUp()
        self.tree["virtual_servers"][0] |= {
            "access": {"relay": {"default": "deny", "except": ["127.0.0.0/8"]}},
            "delivery": {"smart_host": "[127.0.0.9]:2525"},
        }
        self.mailhost.write(self.tree)

    def test_explained(self) -> None:
        """Every decision with its setting; the exit status says whether it would be taken."""
        self.start()
        asked = ("explain", "--from", "a@b.example", "--to", "c@d.example")

        shown = self.run_command(*asked).stdout
        for words in (
            "127.0.0.1 is let in: not listed, and the default is allow",
            "allowed to this client: listed as 127.0.0.0/8",
            "delivery.smart_host",
            "TLS where it is offered, with whatever certificate",
            "accepted: 250 2.1.5",
            "c@d.example: relayed to smart:[127.0.0.9]:2525",
        ):
            self.assertIn(words, shown)
        found = self.ask(*asked, "--client", "192.0.2.7", status=1)
        self.assertEqual((False, "550"), (found["accepted"], found["reply"][:3]))
        other = self.ask(*asked, "--server", "the other", status=1)
        self.assertEqual("the other", other["server"])
        local = self.ask("explain", "--to", "x@example.com", "--client", "192.0.2.7")
        self.assertEqual("delivered", local["ways"][0]["fate"])
        self.assertIn(
            "nobody can log in here",
            self.run_command("explain", "--to", "x@example.com", "--auth", "u", status=1).stdout,
        )
        self.assertNotIn("may not relay", self.mailhost.process.said())

    def test_bad_questions(self) -> None:
        """Each is told what is wrong with it."""
        self.start()
        for words, status in (
            ((), 2),
            (("--to", "a b@x"), 1),
            (("--to", "<>"), 1),
            (("--to", "a@b.example", "--from", "a b@x"), 1),
            (("--to", "a@b.example", "--client", "host.example"), 1),
            (("--to", "a@b.example", "--server", "nobody"), 1),
        ):
            self.run_command("explain", *words, status=status)
        self.run_command("stop", "the other")
        stopped = self.run_command(
            "explain", "--to", "a@b.example", "--server", "the other", status=1
        )
        self.assertIn("the other is stopped", stopped.stderr)
