"""Clients that submit without end, and remember what was acknowledged to them."""

from __future__ import annotations

import hashlib
import smtplib
import threading
import time
from collections.abc import Callable

from attrs import define, field, frozen

from tests.support.peer_case import content
from tests.support.process import split_address
from tests.support.recording_sink import REFUSED_DOMAIN

#: The server waits for its next hop longer than this only if something is wrong.
_REPLY_SECONDS = 15.0
_RECONNECT_SECONDS = 0.02
#: Between two messages of a session, so that the queue is not all there is.
_PAUSE_SECONDS = 0.02


@frozen
class Errand:
    """
    One message and what is to become of it.

    :ivar test_id: its X-Test-ID; its sender is the same ``@example.com``.
    :ivar relayed: whether a copy is to reach the sink.
    :ivar dropped: whether a file is to appear in Drop.
    :ivar returned: whether its sender is to get a failure report.
    """

    test_id: str
    relayed: bool = False
    dropped: bool = False
    returned: bool = False
    large: bool = False

    @property
    def sender(self) -> str:
        return f"{self.test_id}@example.com"

    @property
    def receivers(self) -> list[str]:
        return [
            path
            for path, wanted in (
                ("there@example.org", self.relayed),
                ("here@example.com", self.dropped),
                (f"nobody@{REFUSED_DOMAIN}", self.returned),
            )
            if wanted
        ]

    @property
    def octets(self) -> bytes:
        """Its content; every one has another body, so that a mixture is noticed."""
        line = hashlib.sha256(self.test_id.encode()).hexdigest() + "\r\n"
        return content(self.test_id, line * (2000 if self.large else 60))


def errand(test_id: str, number: int) -> Errand:
    """The sorts of messages in turn."""
    return (
        Errand(test_id, relayed=True),
        Errand(test_id, dropped=True),
        Errand(test_id, relayed=True, dropped=True),
        Errand(test_id, returned=True),
        Errand(test_id, relayed=True, large=True),
        Errand(test_id, dropped=True, large=True),
        Errand(test_id, relayed=True, returned=True),
    )[number % 7]


@define(eq=False)
class Submitters:
    """
    Several sessions at a time.

    :ivar address: the server, which may be gone at any time.
    :ivar submitted: every message that was begun, by its id.
    :ivar acknowledged: the ids that got their 250.
    """

    address: str
    sessions: int = 4
    submitted: dict[str, Errand] = field(factory=dict)
    acknowledged: set[str] = field(factory=set)
    problems: list[BaseException] = field(factory=list)
    _over: threading.Event = field(factory=threading.Event)
    _threads: list[threading.Thread] = field(factory=list)

    def start(self) -> None:
        """Begin to submit."""
        for session in range(self.sessions):
            thread = threading.Thread(target=self._run, args=(session,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """
        Let each session end its message.

        :raises AssertionError: one has failed otherwise than by the server's absence.
        """
        self._over.set()
        for thread in self._threads:
            thread.join(_REPLY_SECONDS * 2)
        if self.problems or any(thread.is_alive() for thread in self._threads):
            raise AssertionError(f"a client has failed: {self.problems}")

    def _run(self, session: int) -> None:
        try:
            number = session
            while not self._over.is_set():
                number = self._one_session(session, number)
                time.sleep(_RECONNECT_SECONDS)
        except BaseException as problem:
            self.problems.append(problem)

    def _one_session(self, session: int, number: int) -> int:
        """Submit until the server goes away; the number to go on with."""
        try:
            with smtplib.SMTP(*split_address(self.address), timeout=_REPLY_SECONDS) as client:
                while not self._over.is_set():
                    number += 1
                    self._submit(client, errand(f"s{session}n{number}", number))
                    time.sleep(_PAUSE_SECONDS)
        except TimeoutError:
            raise
        except (OSError, smtplib.SMTPServerDisconnected):
            return number
        except smtplib.SMTPResponseException as refused:
            # A server that is going, or full of us, may say so; anything else is wrong.
            if refused.smtp_code != 421:
                raise
        return number

    def _submit(self, client: smtplib.SMTP, one: Errand) -> None:
        self.submitted[one.test_id] = one
        refused = client.sendmail(one.sender, one.receivers, one.octets)
        if refused:
            raise AssertionError(f"refused: {refused}")
        self.acknowledged.add(one.test_id)


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether *condition* comes true in *seconds*."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end:
            return False
        time.sleep(0.001)
    return True
