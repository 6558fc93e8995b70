"""Keeps the tests of the configuration from asking DNS for this machine's name."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from mailhost.config.settings import machine_name


@pytest.fixture(autouse=True, scope="module")
def no_dns() -> Iterator[None]:
    """This machine is called what it calls itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getfqdn", lambda name: name)
        machine_name.cache_clear()
        yield
    machine_name.cache_clear()
