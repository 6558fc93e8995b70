"""
The contract of `mailhost.interfaces.IQueueStore`: every store passes these tests.

Mix `QueueStoreContract` into a trial ``TestCase`` that says how to make a store.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from zope.interface.verify import verifyObject

from mailhost.errors import ContentDamaged
from mailhost.interfaces import IIncomingMessage, IQueueStore, IStoredContent
from mailhost.model.address import Mailbox
from mailhost.model.directory import Destination, EnvelopePart, ReportTo
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.listing import QueueFilter
from mailhost.model.outcome import Fate, Outcome
from mailhost.model.parameters import NO_MAIL_PARAMETERS, MailParameters, RecipientParameters
from mailhost.model.queue import (
    HELD_AT,
    AgeCounts,
    Postponement,
    QueueCensus,
    QueueCounts,
    QueuedMessage,
    Result,
    Submission,
)
from mailhost.model.route import NextHop

SENDER = Mailbox("alice", "example.com")
BOB, CAROL = Mailbox("bob", "example.net"), Mailbox('"c d"', "Example.org")
START = 1_000_000_000.0
DONE = Outcome(Fate.RELAYED, "2.0.0", "250 ok")
LATER = Outcome(Fate.DELAYED, "4.4.1", "no answer")
TEAM, BOARD = Mailbox("team", "example.com"), Mailbox("board", "example.com")
OWNER, DAVE = Mailbox("owner", "example.com"), Mailbox("dave", "example.com")
GROUPS = {0: Handling(group="cn=team"), 1: Handling(group="cn=board")}


def members(*paths: Mailbox) -> EnvelopePart:
    """Those who hear in the sender's name."""
    return EnvelopePart(ReportTo.ORIGINATOR, None, tuple(map(Destination, paths)))


def owned(*paths: Mailbox) -> EnvelopePart:
    """Those for whom the list's owner answers."""
    return EnvelopePart(ReportTo.OWNER, OWNER, tuple(map(Destination, paths)))


def paths_of(message: QueuedMessage) -> dict[int, Mailbox]:
    return {number: one.forward_path for number, one in message.recipients.items()}


async def whole(answer: Any) -> bytes:
    """All of a stored content."""
    content = await answer if isinstance(answer, Deferred) else answer
    verifyObject(IStoredContent, content)
    blocks = []
    while True:
        block = content.read()
        if isinstance(block, Deferred):
            block = await block
        if not block:
            content.close()
            return b"".join(blocks)
        blocks.append(block)


class QueueStoreContract:
    """What every store does; `store` is open, and `now` is its clock."""

    now = START

    def clock(self) -> float:
        return self.now

    def make_store(self) -> Any:
        """A store on fresh ground, started; stopped by a clean-up."""
        raise NotImplementedError("say how to make a store")

    def setUp(self) -> None:
        self.store = self.make_store()

    async def submit(
        self,
        *paths: Mailbox,
        content: bytes = b"\r\ntext\r\n",
        sender: Mailbox | None = SENDER,
        special: Mapping[int, Handling] | None = None,
        asked: MailParameters = NO_MAIL_PARAMETERS,
    ) -> QueuedMessage:
        incoming = self.store.new_message(b"Received: x\r\n", None)
        verifyObject(IIncomingMessage, incoming)
        for start in range(0, len(content), 100_000):
            waiting = incoming.write(content[start : start + 100_000])
            if waiting is not None:
                await waiting
        envelope = Envelope(sender, paths or (BOB,), "8BITMIME", special or {}, parameters=asked)
        message: QueuedMessage = await self.store.commit(
            incoming, self.store.new_queue_id(), envelope, "client.example", self.now
        )
        return message

    async def due(self, **given: Any) -> list[QueuedMessage]:
        asked = {"before": self.now + 0.001, "limit": 100, "skip": frozenset(), **given}
        found: list[QueuedMessage] = await self.store.load_due(*asked.values())
        return found

    def test_provides_the_interface(self) -> None:
        """Every method is there, with its arguments."""
        verifyObject(IQueueStore, self.store)

    def test_ids(self) -> None:
        """24 hexadecimal digits that rise, also when the clock jumps back."""
        ids = [self.store.new_queue_id()]
        for jump in (0, 1, -86400, -86400, 5):
            self.now += jump
            ids.append(self.store.new_queue_id())

        self.assertEqual(sorted(set(ids)), ids)
        self.assertTrue(all(len(one) == 24 and int(one, 16) for one in ids))

    async def test_commit(self) -> None:
        """What comes back is what was given, and all recipients are due now."""
        message = await self.submit(BOB, CAROL)
        (found,) = await self.due()

        for one in (message, found):
            self.assertEqual((SENDER, "8BITMIME"), (one.reverse_path, one.body))
            self.assertEqual((START, "client.example"), (one.accepted_at, one.hello))
            paths = [recipient.forward_path for recipient in one.recipients.values()]
            self.assertEqual([BOB, CAROL], paths)
        self.assertEqual(message.queue_id, found.queue_id)
        self.assertEqual(
            b"Received: x\r\n\r\ntext\r\n", await whole(self.store.open_content(found))
        )
        self.assertEqual(QueueCounts(1, 2), await self.store.counts())

    async def test_ready_for_the_wire(self) -> None:
        """What was seen of the content is known to the first attempt."""
        for known in (True, False):
            incoming = self.store.new_message(b"Received: x\r\n", None)
            incoming.write(b"\r\ntext\r\n")
            envelope = Envelope(SENDER, (BOB,), wire_ready=known)
            message = await self.store.commit(
                incoming, self.store.new_queue_id(), envelope, "", self.now
            )
            self.assertEqual(known, message.wire_ready)

    async def test_null_reverse_path(self) -> None:
        """``<>`` stays ``<>``."""
        await self.submit(sender=None)

        self.assertIsNone((await self.due())[0].reverse_path)

    async def test_large_content(self) -> None:
        """Three megabytes go in and come out in blocks."""
        content = b"".join(b"%07d\r\n" % number for number in range(340_000))
        message = await self.submit(content=content)

        self.assertEqual(
            b"Received: x\r\n" + content, await whole(self.store.open_content(message))
        )
        self.assertEqual(len(content) + 13, message.size)

    async def test_discarded_message(self) -> None:
        """Nothing is left of what was not committed."""
        for size in (10, 1_000_000):
            incoming = self.store.new_message(b"", size)
            waiting = incoming.write(b"x" * size)
            if waiting is not None:
                await waiting
            incoming.discard()
            incoming.discard()

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_leaves_with_its_last_recipient(self) -> None:
        """One outcome at a time; the message goes when there is no recipient left."""
        message = await self.submit(BOB, CAROL)

        await self.store.record(message, [Result(0, DONE)], [], self.now)
        between = await self.store.counts()
        left = [list(one.recipients) for one in await self.due()]
        await self.store.record(message, [Result(1, DONE)], [], self.now)

        self.assertEqual(QueueCounts(1, 1), between)
        self.assertEqual([[1]], left)
        self.assertEqual({}, message.recipients)
        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_two_records_at_once(self) -> None:
        """Outcomes from two sites that come together leave nothing behind."""
        message = await self.submit(BOB, CAROL)

        first = self.store.record(message, [Result(0, DONE)], [], self.now)
        second = self.store.record(message, [Result(1, DONE)], [], self.now)
        await first
        await second

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_counts(self) -> None:
        """What is held is counted, and when the oldest message came is known."""
        empty = await self.store.counts()
        first = await self.submit(BOB, CAROL)
        await self.submit(BOB)
        await self.store.postpone([Postponement(first, (0,), HELD_AT)])

        found = await self.store.counts()

        self.assertEqual((0, None), (empty.held, empty.oldest_at))
        self.assertEqual(QueueCounts(2, 3, 1), found)
        self.assertEqual(first.accepted_at, found.oldest_at)

    async def test_census(self) -> None:
        """By age, by what the most urgent recipient waits for, and by where it is served."""
        now, day = self.now + 1.0, 86400.0
        self.assertEqual(
            QueueCensus(QueueCounts(0, 0), (AgeCounts(), AgeCounts()), 0, 0),
            await self.store.census(now, (60.0,), {"example.net"}),
        )
        mixed = await self.submit(BOB, CAROL)
        local, held = await self.submit(BOB), await self.submit(BOB, CAROL)
        await self.submit(BOB)
        put_off = [Result(number, LATER, self.now + 900) for number in (0, 1)]
        await self.store.record(mixed, put_off, [], self.now)
        await self.store.record(local, put_off[:1], [], self.now)
        await self.store.postpone([Postponement(held, (0, 1), HELD_AT)])

        found = await self.store.census(now, (60.0, day), {"example.net"})

        self.assertEqual(QueueCounts(4, 6, 2), found.counts)
        self.assertEqual(mixed.accepted_at, found.counts.oldest_at)
        self.assertEqual((AgeCounts(1, 2, 1), AgeCounts(), AgeCounts()), found.ages)
        self.assertEqual((2, 1), (found.local_retries, found.remote_retries))
        old = await self.store.census(now + day, (60.0, day), {"example.org"})
        self.assertEqual((AgeCounts(), AgeCounts(), AgeCounts(3, 0, 1)), old.ages)
        self.assertEqual((0, 0), (old.local_retries, old.remote_retries))
        other = await self.store.census(now, (), {"example.org"})
        self.assertEqual((1, 2), (other.local_retries, other.remote_retries))

    async def test_delayed(self) -> None:
        """A delayed recipient is counted, due later, and remembers its report."""
        message = await self.submit(BOB, CAROL)
        results = [Result(0, LATER, self.now + 900, notified=True), Result(1, LATER, self.now + 60)]

        await self.store.record(message, results, [], self.now)

        self.assertEqual([], await self.due())
        self.assertEqual(self.now + 60, await self.store.next_due_at(self.now))
        self.assertEqual(self.now + 900, await self.store.next_due_at(self.now + 60))
        self.assertIsNone(await self.store.next_due_at(self.now + 900))
        (found,) = await self.due(before=self.now + 61)
        for one in (message, found):
            first, second = one.recipients[0], one.recipients[1]
            self.assertEqual((1, True, START + 900), (first.attempts, first.notified, first.due_at))
            self.assertEqual((1, False), (second.attempts, second.notified))

    async def test_in_doubt(self) -> None:
        """P3: a doubt stays with its recipient, whatever later attempts say."""
        message = await self.submit(BOB, CAROL)
        doubtful = Outcome(Fate.DELAYED, "4.4.2", "gone after the dot", in_doubt=True)
        for outcome in (doubtful, LATER):
            await self.store.record(message, [Result(0, outcome, START)], [], START)

        (found,) = await self.store.load_due(START + 1, 10, frozenset())
        self.assertEqual([True, False], [r.in_doubt for r in found.recipients.values()])

    async def test_postponed(self) -> None:
        """Due at another time, and nothing counted; who has left is passed over."""
        message = await self.submit(BOB, CAROL)
        gone = await self.submit()
        await self.store.record(gone, [Result(0, DONE)], [], self.now)

        await self.store.postpone(
            [
                Postponement(message, (1,), self.now + 60, "4.4.1", "no answer"),
                Postponement(gone, (0,), self.now + 60),
            ]
        )

        self.assertEqual(self.now + 60, await self.store.next_due_at(self.now))
        (found,) = await self.due()
        for one in (message, found):
            times = [(r.attempts, r.due_at) for r in one.recipients.values()]
            self.assertEqual([(0, START), (0, START + 60)], times)
        self.assertEqual(QueueCounts(1, 2), await self.store.counts())

    async def test_reports(self) -> None:
        """A report enters with the outcome it tells of."""
        message = await self.submit()
        report = Submission(Envelope(None, (SENDER,)), b"\r\nreport\r\n")

        (made,) = await self.store.record(message, [Result(0, DONE)], [report], self.now + 5)
        (found,) = await self.due(before=self.now + 6)

        self.assertEqual(made.queue_id, found.queue_id)
        self.assertIsNone(made.reverse_path)
        self.assertEqual(b"\r\nreport\r\n", await whole(self.store.open_content(found)))
        self.assertEqual(QueueCounts(1, 1), await self.store.counts())

    async def test_special_recipients(self) -> None:
        """A home server and a group's name come back with their recipient, and stay with him."""
        hop = NextHop("mail1.example.com", 2525)
        special = {1: Handling(host=hop), 2: Handling(group="cn=team")}
        message = await self.submit(BOB, CAROL, TEAM, special=special)
        await self.store.record(message, [Result(n, LATER, self.now) for n in range(3)], [], 0)
        (found,) = await self.due()

        for one in (message, found):
            kept = [(recipient.host, recipient.group) for recipient in one.recipients.values()]
            self.assertEqual([(None, ""), (hop, ""), (None, "cn=team")], kept)

    async def test_parameters(self) -> None:
        """What was asked for comes back, and stays; who wants no delay report has had it."""
        asked = MailParameters("HDRS", "QQ+2B1")
        mine = RecipientParameters(("SUCCESS", "FAILURE"), "rfc822;bob")
        message = await self.submit(BOB, CAROL, special={0: Handling(parameters=mine)}, asked=asked)
        ordinary = await self.submit(BOB)
        await self.store.record(message, [Result(n, LATER, self.now) for n in range(2)], [], 0)
        found, plain = await self.due()

        for one in (message, found):
            self.assertEqual(asked, one.parameters)
            kept = [(each.parameters, each.notified) for each in one.recipients.values()]
            self.assertEqual([(mine, True), (RecipientParameters(), False)], kept)
        for one in (ordinary, plain):
            self.assertIs(NO_MAIL_PARAMETERS, one.parameters)
            self.assertFalse(one.recipients[0].is_special)

    async def test_expand_what_was_asked_for(self) -> None:
        """It holds for members in the sender's name, and for nobody in a list's."""
        asked = RecipientParameters(("SUCCESS", "DELAY"))
        special = {0: Handling(group="cn=team", parameters=asked)}
        message = await self.submit(TEAM, special=special, asked=MailParameters("FULL", "id"))

        made = await self.store.expand(message, 0, [members(CAROL), owned(DAVE)], [], self.now)
        found, copy = await self.due()

        inherited = RecipientParameters(("DELAY",), "rfc822;team@example.com")
        for one in (message, found):
            self.assertEqual([inherited], [each.parameters for each in one.recipients.values()])
            self.assertEqual(MailParameters("FULL", "id"), one.parameters)
        for one in (*made.made, copy):
            self.assertEqual(OWNER, one.reverse_path)
            self.assertFalse(one.recipients[0].is_special)
            self.assertEqual(MailParameters(), one.parameters)

    async def test_expand(self) -> None:
        """Members take their group's place, with numbers that nobody ever had."""
        message = await self.submit(TEAM, BOB, special={0: GROUPS[0]})
        await self.store.record(message, [Result(1, DONE)], [], self.now)

        expanded = await self.store.expand(message, 0, [members(CAROL, DAVE)], [], self.now)
        (found,) = await self.due()

        for one in (message, found):
            self.assertEqual({2: CAROL, 3: DAVE}, paths_of(one))
        self.assertEqual([2, 3], [one.number for one in expanded.added])
        self.assertEqual((), expanded.made)
        self.assertEqual(QueueCounts(1, 2), await self.store.counts())

    async def test_expand_for_an_owner(self) -> None:
        """Another return path is another message with the same content, of any size."""
        for size in (10, 300_000):
            content = b"\r\n" + b"x" * size + b"\r\n"
            message = await self.submit(TEAM, BOB, content=content, special={0: GROUPS[0]})

            expanded = await self.store.expand(message, 0, [owned(CAROL, DAVE)], [], self.now)
            await self.store.record(message, [Result(1, DONE)], [], self.now)
            (found,) = await self.due()

            (made,) = expanded.made
            self.assertNotEqual(message.queue_id, made.queue_id)
            for one in (made, found):
                self.assertEqual(made.queue_id, one.queue_id)
                self.assertEqual({0: CAROL, 1: DAVE}, paths_of(one))
                self.assertEqual((OWNER, "8BITMIME"), (one.reverse_path, one.body))
                self.assertEqual(
                    b"Received: x\r\n" + content, await whole(self.store.open_content(one))
                )
            await self.store.record(made, [Result(0, DONE), Result(1, DONE)], [], self.now)
            self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_expand_to_nobody(self) -> None:
        """A message whose only recipient was a group without members leaves the queue."""
        message = await self.submit(TEAM, special={0: GROUPS[0]})
        report = Submission(Envelope(None, (SENDER,)), b"report")

        expanded = await self.store.expand(message, 0, [], [report], self.now)

        self.assertEqual({}, message.recipients)
        self.assertEqual([{0: SENDER}], [paths_of(one) for one in expanded.made])
        self.assertEqual(QueueCounts(1, 1), await self.store.counts())

    async def test_nobody_twice(self) -> None:
        """Not who is a recipient, or was one, or has a copy from another group."""
        message = await self.submit(TEAM, BOARD, BOB, CAROL, special=GROUPS)
        await self.store.record(message, [Result(2, DONE)], [], self.now)
        await self.store.expand(message, 0, [members(BOB, CAROL, OWNER), owned(DAVE)], [], self.now)
        self.assertEqual({1: BOARD, 3: CAROL, 4: OWNER}, paths_of(message))
        await self.store.record(message, [Result(3, DONE), Result(4, DONE)], [], self.now)

        big_bob = Mailbox("Bob", "Example.NET")
        last = [members(big_bob, CAROL, OWNER, DAVE), owned(DAVE, OWNER)]
        expanded = await self.store.expand(message, 1, last, [], self.now)

        self.assertEqual(((), ()), (expanded.added, expanded.made))
        self.assertEqual({}, message.recipients)
        self.assertEqual([{0: DAVE}], [paths_of(one) for one in await self.due()])

    async def test_expand_beside_records(self) -> None:
        """Who leaves while his group is expanded is not called back; the last one ends it."""
        for size in (10, 300_000):
            text = b"\r\n" + b"x" * size + b"\r\n"
            message = await self.submit(TEAM, BOB, CAROL, content=text, special={0: GROUPS[0]})
            part = [members(BOB, CAROL, DAVE), owned(OWNER)]

            first = self.store.record(message, [Result(1, DONE)], [], self.now)
            expanding = self.store.expand(message, 0, part, [], self.now)
            last = self.store.record(message, [Result(2, DONE)], [], self.now)
            _, expanded, _ = [await one for one in (first, expanding, last)]

            self.assertEqual({3: DAVE}, paths_of(message))
            (made,) = expanded.made
            done = [Result(3, DONE)], [Result(0, DONE)]
            ending = [
                self.store.record(one, results, [], self.now)
                for one, results in zip((message, made), done, strict=True)
            ]
            for one in ending:
                await one
            self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_group_fails(self) -> None:
        """A group that cannot be expanded leaves like anybody else."""
        message = await self.submit(TEAM, BOB, special={0: GROUPS[0]})
        await self.store.record(message, [Result(1, DONE)], [], self.now)

        await self.store.record(message, [Result(0, DONE)], [], self.now)

        self.assertEqual(QueueCounts(0, 0), await self.store.counts())

    async def test_order_limit_and_skip(self) -> None:
        """The most urgent first, no more than asked for, none that the caller has."""
        messages = []
        for _ in range(5):
            self.now += 1
            messages.append(await self.submit())
        ids = [message.queue_id for message in messages]

        three = await self.due(limit=3)
        others = await self.due(skip=frozenset(message.key for message in messages[:4]))

        self.assertEqual(ids[:3], [message.queue_id for message in three])
        self.assertEqual(ids[4:], [message.queue_id for message in others])

    async def test_unknown_content(self) -> None:
        """Content that is not there is damage, never silence."""
        message = await self.submit()
        await self.store.record(message, [Result(0, DONE)], [], self.now)

        async def read() -> bytes:
            return await whole(self.store.open_content(message))

        await self.assertFailure(ensureDeferred(read()), ContentDamaged)

    # ---- operators

    async def look(self, after: int = 0, limit: int = 100, **wanted: Any) -> list[QueuedMessage]:
        page = await self.store.look_through(QueueFilter(**wanted), after, limit)
        return list(page.messages)

    async def test_look_through(self) -> None:
        """In the order in which they came, a page at a time."""
        ids = [(await self.submit(BOB)).queue_id for _ in range(5)]

        page = await self.store.look_through(QueueFilter(), 0, 3)
        rest = await self.store.look_through(QueueFilter(), page.messages[-1].key, 3)

        self.assertEqual(ids[:3], [one.queue_id for one in page.messages])
        self.assertEqual(page.messages[-1].key, page.reached)
        self.assertEqual((ids[3:], None), ([one.queue_id for one in rest.messages], rest.reached))

    async def test_filters(self) -> None:
        """What is given has to hold; a message is there with all its recipients."""
        one = await self.submit(BOB, CAROL)
        report = await self.submit(CAROL, sender=None)
        self.now += 60
        young = await self.submit(DAVE, sender=Mailbox("x[1]", "EXAMPLE.com"))
        await self.store.postpone([Postponement(one, (1,), HELD_AT)])
        for expected, wanted in (
            ([one, report, young], {}),
            ([one], {"domain": "EXAMPLE.NET"}),
            ([one, report], {"domain": "example.o*"}),
            ([], {"domain": "xample.org"}),
            ([young], {"recipient": "DAVE@*"}),
            ([one, report], {"recipient": '"c d"@example.org'}),
            ([report], {"sender": "<>"}),
            ([one, young], {"sender": "*@example.com"}),
            ([young], {"sender": "X[1]@*"}),
            ([], {"sender": "?[1]@*"}),
            ([one, report], {"accepted_before": self.now}),
            ([one], {"held": True}),
            ([one, report, young], {"held": False}),
            ([report], {"held": False, "domain": "example.org"}),
            ([one, young], {"ids": frozenset({one.queue_id, young.queue_id, "0" * 24})}),
            ([one], {"ids": frozenset({one.queue_id}), "domain": "example.org"}),
            ([], {"ids": frozenset({young.queue_id}), "domain": "example.org"}),
        ):
            found = await self.look(**wanted)
            self.assertEqual(
                [each.queue_id for each in expected], [each.queue_id for each in found], wanted
            )
            chosen = {each.queue_id: len(QueueFilter(**wanted).chosen(each)) for each in found}
            selected = await self.store.select(QueueFilter(**wanted), 0, 100)
            self.assertEqual(chosen, selected.counts, wanted)
        self.assertEqual({0: BOB, 1: CAROL}, paths_of((await self.look(domain="example.org"))[0]))

    async def test_find(self) -> None:
        """Those that are there; another store's are not."""
        one, other = await self.submit(BOB), await self.submit(CAROL)
        strange = f"{one.queue_id[:16]}{int(one.queue_id[16:], 16) ^ 1:08x}"

        found = await self.store.find([other.queue_id, strange, one.queue_id, "f" * 24])

        self.assertEqual({one.queue_id, other.queue_id}, {message.queue_id for message in found})

    async def test_held(self) -> None:
        """Not due, however late it is; still counted."""
        message = await self.submit(BOB, CAROL)
        await self.store.postpone([Postponement(message, (0, 1), HELD_AT)])

        self.assertEqual([], await self.due(before=self.now + 1e9))
        (found,) = await self.look()
        self.assertTrue(all(one.held for one in found.recipients.values()))
        self.assertEqual(QueueCounts(1, 2, 2), await self.store.counts())
        await self.store.postpone([Postponement(found, (1,), self.now)])
        (due,) = await self.due()
        self.assertEqual([True, False], [one.held for one in due.recipients.values()])

    async def test_rehome(self) -> None:
        """A home server comes and goes."""
        message = await self.submit(BOB, CAROL)
        host = NextHop("192.0.2.9", 2525, literal=True)

        await self.store.rehome(message, [1], host)
        (found,) = await self.look()
        for one in (message, found):
            self.assertEqual([None, host], [each.host for each in one.recipients.values()])
        await self.store.rehome(found, [0, 1], None)
        (found,) = await self.look()
        self.assertEqual([None, None], [each.host for each in found.recipients.values()])

    async def test_content_part(self) -> None:
        """Any part of a small content and of a large one."""
        for content in (b"\r\nabcdef\r\n", b"\r\n" + b"x" * 300_000 + b"yz"):
            message = await self.submit(content=content)
            stored = b"Received: x\r\n" + content
            self.assertEqual(stored[5:12], await self.store.content_part(message, 5, 7))
            self.assertEqual(
                stored[-3:], await self.store.content_part(message, len(stored) - 3, 9)
            )
            self.assertEqual(b"", await self.store.content_part(message, len(stored), 9))
            await self.store.record(message, [Result(0, DONE)], [], self.now)
            with self.assertRaises(ContentDamaged):
                await self.store.content_part(message, 0, 9)
