"""Configuration files for tests, each in a directory of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from unittest import TestCase

from mailhost.config.faults import ConfigurationFaults, Fault
from mailhost.config.reader import load_settings
from mailhost.config.settings import Settings, VirtualServerSettings


def directory_for(case: TestCase) -> Path:
    """An empty directory, removed when *case* is over."""
    directory = tempfile.TemporaryDirectory()
    case.addCleanup(directory.cleanup)
    return Path(directory.name)


def file_for(case: TestCase, content: str | bytes, name: str = "mailhost.yaml") -> Path:
    """A file with *content*; a text is written as UTF-8, its line ends as they are."""
    path = directory_for(case) / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def settings_of(case: TestCase, content: str, name: str = "mailhost.yaml") -> Settings:
    """What the file says; the test fails where it has faults."""
    return load_settings(file_for(case, content, name))


def server_of(case: TestCase, keys: str) -> VirtualServerSettings:
    """The virtual server with these YAML keys, indented by four, and a name of its own."""
    return settings_of(case, f"virtual_servers:\n  - name: one\n{keys}").virtual_servers[0]


def faults_of(
    case: TestCase, content: str | bytes, name: str = "mailhost.yaml"
) -> tuple[Fault, ...]:
    """The faults of a file that must have some."""
    try:
        found = load_settings(file_for(case, content, name))
    except ConfigurationFaults as wrong:
        return wrong.faults
    raise AssertionError(f"no fault found: {found}")


def located(faults: tuple[Fault, ...]) -> list[tuple[int, str]]:
    """Line and key of each fault."""
    return [(fault.line, fault.key) for fault in faults]
