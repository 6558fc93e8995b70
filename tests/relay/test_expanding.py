"""Tests for `mailhost.relay.expanding`: groups in the queue."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.logger import capturedLogs

from mailhost.errors import ContentDamaged, LookupProblem, SpoolFull
from mailhost.model.directory import (
    Expansion,
    disabled,
    too_many_members,
)
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.queue import QueuedMessage
from mailhost.model.route import NextHop
from tests.relay.test_manager import CONTENT, SENDER, RelayTestCase
from tests.support.directory import FakeDirectory, mailbox, part

DOWN = LookupProblem("ldap://192.0.2.1 does not answer")


class GroupCase(RelayTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.directory = FakeDirectory()
        self.relay.directory = self.directory

    def submit_special(
        self, to: dict[str, Handling], sender: Any = SENDER, content: bytes = CONTENT
    ) -> QueuedMessage:
        """A message to *to*, some of whom are groups."""
        incoming = self.store.new_message(b"", None)
        incoming.write(content)
        envelope = Envelope(sender, tuple(map(mailbox, to)), special=dict(enumerate(to.values())))
        message = self.successResultOf(
            self.store.commit(
                incoming, self.store.new_queue_id(), envelope, "", self.clock.seconds()
            )
        )
        self.relay.accept(message)
        self.run_for(1)
        return message

    def group(self, *names: str, **more: Any) -> QueuedMessage:
        """A message to groups of example.com."""
        to = {f"{name}@example.com": Handling(group=f"cn={name}") for name in names}
        return self.submit_special(to, **more)

    def delivered(self) -> list[tuple[str, list[str]]]:
        """Return path and recipients of what reached Drop."""
        return sorted(
            (str(message.reverse_path or ""), paths) for message, paths, _ in self.shelf.taken
        )

    def sent(self) -> list[list[str]]:
        """RCPT lines that the remote host has taken."""
        return [paths for _, paths, _ in self.host.envelopes]

    def assert_idle(self) -> None:
        self.assertEqual({}, self.store.messages)
        self.assertEqual(0, len(self.relay._window))
        self.assertEqual(0, self.relay._window.recipients)


class HomeTests(GroupCase):
    def test_routed_home(self) -> None:
        """A recipient with a home server goes there, though his domain is local."""
        self.names.hosts["mail1.example.com"] = ["192.0.2.1"]
        home = Handling(NextHop("mail1.example.com"))

        self.submit_special({"bob@example.com": home, "carl@example.com": Handling()})

        self.assertEqual([["RCPT TO:<bob@example.com>"]], self.sent())
        self.assertEqual([("alice@example.com", ["carl@example.com"])], self.delivered())


class ExpandTests(GroupCase):
    def test_members(self) -> None:
        """Members get the message in the sender's name, here and elsewhere."""
        self.directory.groups["cn=all"] = Expansion((part("b@example.com", "c@remote.example"),))

        with capturedLogs() as events:
            self.group("all")

        self.assertEqual([("alice@example.com", ["b@example.com"])], self.delivered())
        self.assertEqual([["RCPT TO:<c@remote.example>"]], self.sent())
        told = [event for event in events if event.get("fate") == "expanded"]
        self.assertEqual([2], [event["count"] for event in told])
        self.assert_idle()

    def test_return_paths(self) -> None:
        """An owner's list has his return path, a silent one the null one; each member once."""
        self.directory.groups["cn=all"] = Expansion(
            (
                part("b@example.com"),
                part("c@example.com", "b@example.com", owner="o@example.com"),
                part("d@example.com", silent=True),
            )
        )

        self.group("all")

        self.assertEqual(
            [
                ("", ["d@example.com"]),
                ("alice@example.com", ["b@example.com"]),
                ("o@example.com", ["c@example.com"]),
            ],
            self.delivered(),
        )
        self.assert_idle()

    def test_null_return_path_stays(self) -> None:
        """A report to a list draws no other report (RFC 5321 §4.5.5)."""
        self.directory.groups["cn=all"] = Expansion((part("c@example.com", owner="o@example.com"),))

        self.group("all", sender=None)

        self.assertEqual([("", ["c@example.com"])], self.delivered())

    def test_two_groups_one_member(self) -> None:
        """Who is in both groups, or is named beside them, gets it once."""
        self.directory.groups["cn=a"] = Expansion((part("b@example.com", "x@example.com"),))
        self.directory.groups["cn=b"] = Expansion((part("b@example.com", "y@example.com"),))

        self.submit_special(
            {
                "a@example.com": Handling(group="cn=a"),
                "x@example.com": Handling(),
                "b@example.com": Handling(group="cn=b"),
            }
        )

        got = sorted(path for _, paths in self.delivered() for path in paths)
        self.assertEqual(["b@example.com", "x@example.com", "y@example.com"], got)
        self.assert_idle()

    def test_no_members(self) -> None:
        """A group of nobody: done."""
        self.directory.groups["cn=all"] = Expansion(())

        self.group("all")

        self.assertEqual([], self.delivered())
        self.assert_idle()

    def test_two_at_once(self) -> None:
        """However many wait; the others follow."""
        answers: list[Deferred[Any]] = []
        for name in "abcd":
            answers.append(Deferred())
            self.directory.groups[f"cn={name}"] = answers[-1]
            self.group(name)
        self.assertEqual(["cn=a", "cn=b"], self.directory.asked)

        for name, answer in zip("abcd", answers, strict=True):
            answer.callback(Expansion((part(f"{name}@example.com"),)))
            self.run_for(0)

        self.assertEqual(4, len(self.delivered()))
        self.assert_idle()

    def test_others_do_not_wait(self) -> None:
        """While a group is looked up the message's other recipients are served."""
        answer: Deferred[Any] = Deferred()
        self.directory.groups["cn=all"] = answer

        self.submit_special(
            {"all@example.com": Handling(group="cn=all"), "b@example.com": Handling()}
        )
        self.assertEqual([("alice@example.com", ["b@example.com"])], self.delivered())
        answer.callback(Expansion((part("b@example.com", "c@example.com"),)))
        self.run_for(1)

        self.assertIn(("alice@example.com", ["c@example.com"]), self.delivered())
        self.assertEqual(2, len(self.delivered()))


class TroubleTests(GroupCase):
    def test_directory_is_down(self) -> None:
        """The group waits by the usual schedule, and nobody is bounced (P4)."""
        self.directory.groups["cn=all"] = DOWN
        message = self.group("all")

        (waiting,) = message.recipients.values()
        self.assertEqual(
            (1, self.clock.seconds() - 1 + 15 * 60), (waiting.attempts, waiting.due_at)
        )
        self.directory.groups["cn=all"] = Expansion((part("b@example.com"),))
        self.run_for(15 * 60)

        self.assertEqual([("alice@example.com", ["b@example.com"])], self.delivered())
        self.assert_idle()

    def test_switched_off(self) -> None:
        """A group in the queue waits for a directory."""
        self.relay.directory = None
        message = self.group("all")

        self.assertEqual([1], [one.attempts for one in message.recipients.values()])
        self.assertEqual([], self.delivered())

    def test_exchanged(self) -> None:
        """Who waits for a directory that is exchanged asks the new one."""
        answer: Deferred[Any] = Deferred()
        self.directory.groups["cn=all"] = answer
        self.group("all")
        self.relay.directory = FakeDirectory(groups={"cn=all": Expansion((part("b@example.com"),))})

        answer.errback(DOWN)
        self.run_for(1)

        self.assertEqual([("alice@example.com", ["b@example.com"])], self.delivered())

    def test_expires(self) -> None:
        """In the end the sender hears of it."""
        self.directory.groups["cn=all"] = DOWN
        self.group("all")

        self.run_for(2 * 86400 + 4 * 3600)

        kinds = [self.status_of(report)["Status"] for report in self.reports()]
        self.assertEqual("4.4.7", kinds[-1])
        self.assertNotIn("192.0.2.1", self.reports()[-1].as_string())
        self.assert_idle()

    def test_refused(self) -> None:
        """A group that cannot be expanded fails, and the sender hears of it."""
        self.directory.groups["cn=all"] = too_many_members(mailbox("all@example.com"), 5)

        self.group("all")

        (report,) = self.reports()
        self.assertEqual("5.5.3", self.status_of(report)["Status"])
        self.assert_idle()

    def test_refused_members(self) -> None:
        """Members that cannot be reached are reported to whom their list says."""
        refused = {"off@example.com": disabled(mailbox("off@example.com"))}
        for rules, hears in (
            ({}, "alice@example.com"),
            ({"owner": "o@example.com"}, "o@example.com"),
        ):
            self.shelf.taken.clear()
            self.directory.groups["cn=all"] = Expansion(
                (part("b@example.com", refused=refused, **rules),)
            )
            self.group("all")

            (report,) = self.reports()
            self.assertEqual(hears, report["To"].strip("<>"))
            self.assertIn("off@example.com", self.status_of(report)["Final-Recipient"])
            self.assertEqual("5.2.1", self.status_of(report)["Status"])
        self.assert_idle()

    def test_refused_members_of_a_silent_list(self) -> None:
        """What cannot be returned goes to Badmail."""
        refused = {"off@example.com": disabled(mailbox("off@example.com"))}
        self.directory.groups["cn=all"] = Expansion((part(silent=True, refused=refused),))

        self.group("all")

        self.assertEqual([], self.reports())
        self.assertEqual(1, len(list(self.badmail.directory.glob("*.BDR"))))
        self.assert_idle()

    def test_store_in_trouble(self) -> None:
        """No room for the members: the group waits."""
        self.directory.groups["cn=all"] = Expansion((part("b@example.com"),))
        self.store.expand = lambda *given: fail(SpoolFull("disk"))  # type: ignore[method-assign]

        message = self.group("all")

        self.assertEqual([1], [one.attempts for one in message.recipients.values()])

    def test_damaged(self) -> None:
        """A content that is lost is reported, not sent."""
        self.directory.groups["cn=all"] = Expansion((part("b@example.com", owner="o@example.com"),))
        self.store.expand = lambda *given: fail(ContentDamaged("gone"))  # type: ignore[method-assign]

        self.group("all")

        self.assertEqual("5.3.0", self.status_of(self.reports()[0])["Status"])

    def test_stumbled(self) -> None:
        """What nobody foresaw is temporary."""
        self.directory.groups["cn=all"] = RuntimeError("unforeseen")
        message = self.group("all")

        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual([1], [one.attempts for one in message.recipients.values()])

    def test_answered_while_stopping(self) -> None:
        """Members take their group's place, and wait for the next start."""
        answer: Deferred[Any] = Deferred()
        self.directory.groups["cn=all"] = answer
        message = self.group("all")

        stopped = self.relay.stop()
        answer.callback(Expansion((part("b@example.com"),)))
        self.run_for(1)

        self.successResultOf(stopped)
        self.assertEqual([], self.delivered())
        waiting = [str(one.forward_path) for one in message.recipients.values()]
        self.assertEqual(["b@example.com"], waiting)

    def test_stopped(self) -> None:
        """A stop does not wait for the directory's answer longer than the directory lives."""
        answers = {f"cn={name}": Deferred[Any]() for name in "ab"}
        self.directory.groups |= answers
        message = self.group("a", "b")

        stopped = self.relay.stop()
        self.assertNoResult(stopped)
        answers["cn=a"].errback(DOWN)
        self.run_for(1)

        self.successResultOf(stopped)
        self.assertEqual([0, 0], [one.attempts for one in message.recipients.values()])
        self.assertEqual(["cn=a"], self.directory.asked)
