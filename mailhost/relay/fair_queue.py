"""
Whose turn it is at one site.

:Room: ``relay``
:Called by: `mailhost.relay.sites`; each step costs the same however much waits.

Senders take turns, and the messages of a sender take turns: a message with fifty thousand
recipients is many jobs and gets one turn as everybody else.  Mail with the null reverse-path
(reports) has a lane of its own and every fourth turn.  Mail of a higher priority (RFC 6710)
goes before all of a lower one.  A job that was refused by one host of the site needs a
connection to another, and stands in a lane for these.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator

from attrs import define, field

from mailhost.model.address import Mailbox
from mailhost.model.queue import QueuedMessage
from mailhost.relay.job import Job

#: One turn in so many is for reports, while some wait.
REPORT_TURN = 4
#: So many jobs of the lane for other hosts are looked at for one connection.
_LOOKED_AT = 8

_Messages = OrderedDict[int, deque[Job]]
_Senders = OrderedDict[Mailbox | None, _Messages]


@define(eq=False)
class FairQueue:
    """
    Jobs that wait for a connection.

    :ivar message_count: messages they belong to, a message with jobs in the lane for other
        hosts counted once more for each.
    """

    message_count: int = field(default=0, init=False)
    _count: int = field(default=0, init=False)
    _mail: _Senders = field(factory=OrderedDict, init=False)
    _reports: _Senders = field(factory=OrderedDict, init=False)
    # Mail of another priority than 0; no lane is empty.
    _ranked: dict[int, _Senders] = field(factory=dict, init=False)
    _elsewhere: deque[Job] = field(factory=deque, init=False)
    _turn: int = field(default=0, init=False)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Job]:
        for lane in (self._reports, self._mail, *self._ranked.values()):
            for messages in lane.values():
                for jobs in messages.values():
                    yield from jobs
        yield from self._elsewhere

    @property
    def has_reports(self) -> bool:
        """Whether mail with the null reverse-path waits."""
        return bool(self._reports)

    def add(self, job: Job, first: bool = False) -> None:
        """
        *job* waits.

        :param first: it has the next turn: it had one that came to nothing.
        """
        self._count += 1
        if job.tried:
            self.message_count += 1
            self._elsewhere.append(job)
            return
        sender = job.message.reverse_path
        lane = self._lane_of(job.message)
        messages = lane.get(sender)
        if messages is None:
            messages = lane[sender] = OrderedDict()
        jobs = messages.get(job.message.key)
        if jobs is None:
            jobs = messages[job.message.key] = deque()
            self.message_count += 1
        if first:
            jobs.appendleft(job)
            messages.move_to_end(job.message.key, last=False)
            lane.move_to_end(sender, last=False)
        else:
            jobs.append(job)

    def _lane_of(self, message: QueuedMessage) -> _Senders:
        priority = message.parameters.mt_priority
        if priority:
            return self._ranked.setdefault(priority, OrderedDict())
        return self._reports if message.reverse_path is None else self._mail

    def pop(self) -> Job | None:
        """The job for a connection that is to be opened; `None`: nothing waits."""
        if self._elsewhere:
            self._count -= 1
            self.message_count -= 1
            return self._elsewhere.popleft()
        return self._pop_in_turn()

    def pop_for(self, spot: tuple[str, int]) -> Job | None:
        """The job for a connection to the address and port *spot*: not where it was refused."""
        for position in range(min(len(self._elsewhere), _LOOKED_AT)):
            if spot not in self._elsewhere[position].tried:
                job = self._elsewhere[position]
                del self._elsewhere[position]
                self._count -= 1
                self.message_count -= 1
                return job
        return self._pop_in_turn()

    def _pop_in_turn(self) -> Job | None:
        if self._ranked:
            highest = max(self._ranked)
            if highest > 0 or not (self._mail or self._reports):
                job = self._take(self._ranked[highest])
                self._drop_if_empty(highest)
                return job
        self._turn += 1
        reports_turn = not self._mail or self._turn % REPORT_TURN == 0
        lane = self._reports if self._reports and reports_turn else self._mail
        return self._take(lane) if lane else None

    def _drop_if_empty(self, priority: int) -> None:
        if priority in self._ranked and not self._ranked[priority]:
            del self._ranked[priority]

    def _take(self, lane: _Senders) -> Job:
        """The job whose turn it is in *lane*, which is not empty."""
        sender, messages = next(iter(lane.items()))
        key, jobs = next(iter(messages.items()))
        job = jobs.popleft()
        self._count -= 1
        if jobs:
            messages.move_to_end(key)
        else:
            del messages[key]
            self.message_count -= 1
        if messages:
            lane.move_to_end(sender)
        else:
            del lane[sender]
        return job

    def take_back(self, message: QueuedMessage) -> list[Job]:
        """The jobs of *message* that have not been tried; they do not wait any longer."""
        sender = message.reverse_path
        lane = self._lane_of(message)
        messages = lane.get(sender)
        jobs = None if messages is None else messages.pop(message.key, None)
        if messages is not None and jobs is not None:
            self._count -= len(jobs)
            self.message_count -= 1
            if not messages:
                del lane[sender]
        self._drop_if_empty(message.parameters.mt_priority)
        return list(jobs or ())

    def clear(self) -> None:
        """Forget all; the store has them."""
        self._mail.clear()
        self._ranked.clear()
        self._reports.clear()
        self._elsewhere.clear()
        self._count = self.message_count = 0
