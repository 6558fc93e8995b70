"""
An answer that is yet to come, for one who waits.

:Room: ``later`` (floor 1)
:Called by: `mailhost.spool.group`, `mailhost.intake.reception`, which answer;
    `mailhost.net.inbound`, `mailhost.relay.recording`, which wait; promise P9.

Every message waits for two commits, and at each there is one who waits, and wants nothing from
the chain of a Deferred.  A `Later` is a Deferred for everybody else, and tells this one
directly: a third of the bytecodes (ADR 0016).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

T = TypeVar("T")
_log = Logger()
#: As with a Deferred: who answers goes on, because others wait for it as well.
_UNHANDLED = "Unhandled error in a listener"


class Later(Deferred[T]):
    """A Deferred that `hear` can listen to; callbacks, where there are any, run behind that."""

    _done: Callable[[T], object] | None = None
    _failed: Callable[[Failure], object] | None = None

    def callback(self, result: T) -> None:  # type: ignore[override]  # never another Deferred
        """See `Deferred`."""
        done = self._done
        if done is not None and not self.called:
            try:
                done(result)
            except Exception:
                _log.failure(_UNHANDLED)
            if not self._callbacks:
                # All that is left of it without a chain.
                self.called, self.result = True, result
                return
        super().callback(result)

    def errback(self, fail: Any = None) -> None:
        """See `Deferred`."""
        failed = self._failed
        if failed is None or self.called:
            super().errback(fail)
            return
        failure = fail if isinstance(fail, Failure) else Failure(fail)  # type: ignore[no-untyped-call]  # upstream
        try:
            failed(failure)
        except Exception:
            _log.failure(_UNHANDLED)
        if self._callbacks:
            super().errback(failure)
        else:
            self.called, self.result = True, None


def hear(
    answer: Awaitable[T], done: Callable[[T], object], failed: Callable[[Failure], object]
) -> None:
    """
    Have *done* or *failed* called with what *answer* comes to, once.

    What they return is for nobody: whoever adds a callback to a `Later` gets its own result.

    :param answer: a Deferred or a coroutine.
    """
    # Its very type: as an Awaitable a Deferred is slow to be asked whether it is an instance.
    if type(answer) is Later and not answer.called and answer._done is None:
        answer._done, answer._failed = done, failed
    elif isinstance(answer, Deferred):
        answer.addCallbacks(done, failed)
    else:
        coroutine = cast("Coroutine[Deferred[Any], Any, T]", answer)
        Deferred.fromCoroutine(coroutine).addCallbacks(done, failed)
