"""
The configuration file: found, read, understood, or refused with every fault at once.

:Room: ``config.reader`` (floor 7)
:Called by: `mailhost.tap`, `mailhost.service` (at SIGHUP) and `mailhost.cli`.

    load_settings(find_configuration(Path.cwd()))
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from attrs import frozen

from mailhost.config import faults
from mailhost.config.checks import Finding, Severity, cross_check
from mailhost.config.faults import WHOLE_FILE, ConfigurationFaults, Fault
from mailhost.config.ini_source import read_ini
from mailhost.config.keys import ScalarKey, known_keys
from mailhost.config.settings import Settings
from mailhost.config.structure import Structurer
from mailhost.config.tree import Flaw, Scalar, Table
from mailhost.config.yaml_source import read_yaml

__all__ = [
    "ConfigurationFaults",
    "Fault",
    "Reading",
    "find_configuration",
    "load_settings",
    "read_configuration",
    "read_control",
]

#: Far more than the 50 KB of two hundred virtual servers.
LARGEST_OCTETS = 4 * 1024 * 1024

_SYSTEM = Path("/etc/mailhost")
_NAMES = ("mailhost.yaml", "mailhost.ini")
_YAML = frozenset({".yaml", ".yml"})
_INI = frozenset({".ini"})
# Control characters, and what some but not all editors and parsers take for a line's end.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


@frozen
class Reading:
    """
    A configuration that may be used.

    :ivar file: the file as it was named.
    :ivar settings: what it says.
    :ivar findings: warnings; errors would have been raised.
    :ivar lines: where the keys stand in the file.
    """

    file: str
    settings: Settings
    findings: tuple[Finding, ...]
    _structurer: Structurer

    def fault(self, finding: Finding) -> Fault:
        """*finding* with its place in the file."""
        line = self._structurer.line_of(finding.path)
        return Fault(self.file, line, faults.dotted(finding.path), finding.words)


def find_configuration(cwd: Path) -> Path:
    """
    The configuration to use where none was named: below *cwd*, else the system's.

    :raises ConfigurationFaults: there is none; all places are named.
    """
    places = [cwd / "etc" / name for name in _NAMES] + [_SYSTEM / name for name in _NAMES]
    for place in places:
        if os.path.lexists(place):
            return place
    named = ", ".join(str(place) for place in places)
    words = f"no configuration; allowed: one of {named}, or --config FILE"
    raise ConfigurationFaults([Fault(str(places[0]), 1, WHOLE_FILE, words)])


def load_settings(path: Path) -> Settings:
    """
    The settings in the file *path*: YAML or INI, by its ending.

    :raises ConfigurationFaults: with everything that is wrong.
    """
    return read_configuration(path).settings


def read_control(path: Path) -> Path:
    """
    Where the server of the configuration *path* listens for its operators.

    What else is wrong in the file does not matter: it may have been changed since.

    :raises ConfigurationFaults: the file cannot be read, or says nothing of use about it.
    """
    root, _, is_whole = _read_tree(path)
    declared = known_keys(Settings)["control"].key
    assert isinstance(declared, ScalarKey)
    entry = root.entries.get("control")
    if not is_whole or (entry is not None and not isinstance(entry.node, Scalar)):
        raise _unreadable(path, "it does not say where the control socket is")
    text = entry.node.text if entry is not None and isinstance(entry.node, Scalar) else None
    found: Path = declared.kind.parse(text or declared.default)
    return found


def read_configuration(path: Path) -> Reading:
    """
    As `load_settings`, with the warnings as well.

    :raises ConfigurationFaults: with everything that is wrong.
    """
    file = str(path)
    root, flaws, is_whole = _read_tree(path)
    structurer = Structurer(file)
    for flaw in flaws:
        structurer.note_flaw(flaw.line, flaw.path, flaw.words)
    settings = structurer.settings(root, Settings) if is_whole else None
    findings = _sound_findings(settings, structurer) if settings is not None else ()
    for finding in findings:
        if finding.severity is Severity.ERROR:
            line = structurer.line_of(finding.path)
            structurer.note(line, finding.path, finding.words)
    if structurer.faults or settings is None:
        raise ConfigurationFaults(structurer.faults)
    return Reading(file, settings, findings, structurer)


def _sound_findings(settings: Settings, structurer: Structurer) -> tuple[Finding, ...]:
    """What does not go together, leaving out what rests on faulty values."""
    return tuple(
        finding
        for finding in cross_check(settings)
        if all(structurer.is_sound(path) for path in (finding.path, *finding.others))
    )


def _read_tree(path: Path) -> tuple[Table, list[Flaw], bool]:
    ending = path.suffix.lower()
    if ending not in _YAML | _INI:
        raise _unreadable(path, f"ends in '{ending}'; allowed: .yaml, .yml or .ini")
    text = _decode(path, _read_octets(path))
    if not _says_anything(text):
        raise _unreadable(path, "empty; allowed: at least one virtual server")
    return read_yaml(text) if ending in _YAML else read_ini(text, Settings)


def _says_anything(text: str) -> bool:
    lines = (line.strip() for line in text.split("\n"))
    return any(line and not line.startswith("#") for line in lines)


def _unreadable(path: Path, words: str, line: int = 1) -> ConfigurationFaults:
    return ConfigurationFaults([Fault(str(path), line, WHOLE_FILE, words)])


def _read_octets(path: Path) -> bytes:
    allowed = "allowed: a text file that this user may read"
    try:
        # Not a pipe: opening one would wait for its writer.
        if not stat.S_ISREG(path.stat().st_mode):
            raise _unreadable(path, f"not a file but a directory or device; {allowed}")
        with path.open("rb") as file:
            octets = file.read(LARGEST_OCTETS + 1)
    except OSError as error:
        raise _unreadable(path, f"{error.strerror or error}; {allowed}") from None
    except ValueError:
        raise _unreadable(path, f"not a file's name; {allowed}") from None
    if len(octets) > LARGEST_OCTETS:
        raise _unreadable(path, f"too large; allowed: up to {LARGEST_OCTETS} octets")
    return octets


def _decode(path: Path, octets: bytes) -> str:
    """*octets* as text with ``\\n`` line ends and without a byte order mark."""
    octets = octets.removeprefix(b"\xef\xbb\xbf")
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError as error:
        line = octets[: error.start].count(b"\n") + 1
        words = f"octet 0x{octets[error.start]:02x} is not UTF-8; allowed: UTF-8 text"
        raise _unreadable(path, words, line) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    forbidden = _FORBIDDEN.search(text)
    if forbidden is not None:
        line = text.count("\n", 0, forbidden.start()) + 1
        words = f"character U+{ord(forbidden[0]):04X}; allowed: text without control characters"
        raise _unreadable(path, words, line)
    return text
