"""
What holds for every test: no example has a deadline, and no thread is left behind.

A store that nobody closed has threads that wait for work for ever, and the interpreter waits
for them. The test that left them fails, and a run with any left ends all the same.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes says something about the machine, not about us.
settings.register_profile("suite", deadline=None)
settings.load_profile("suite")

#: Twisted's own pool is one for all tests; it ends with the reactor.
_REACTOR = "PoolThread-twisted.internet.reactor"
#: Longer than a thread that was told to end ever takes.
_ENDING_SECONDS = 10.0


def _lasting() -> set[threading.Thread]:
    return {
        thread
        for thread in threading.enumerate()
        if not thread.daemon
        and thread is not threading.main_thread()
        and not thread.name.startswith(_REACTOR)
    }


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, in whatever order: begun last, one worker would end alone."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/crash/"))


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = _lasting()
    yield
    left = _lasting() - before
    for thread in left:
        thread.join(_ENDING_SECONDS / len(left))
    names = sorted(thread.name for thread in left if thread.is_alive())
    if names:
        pytest.fail(f"threads were left behind: {', '.join(names)}")


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    """End a run that threads would keep alive; their tests have failed already."""
    if _lasting():
        sys.stdout.flush()
        atexit._run_exitfuncs()  # the servers that were started for the tests
        os._exit(1)
