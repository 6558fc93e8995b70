"""
Dialogues that are files: every one is played whole, octet by octet and pipelined.

A file has lines of four kinds::

    # comment, or ``## setting``: relay ADDRESS, max_size N, max_recipients N, off EXTENSION ...
    # ``## hold DOMAIN ACCOUNT ...``: mail for branch.example and a.partner.example waits
    # ``## lmtp yes``: an address where LMTP is spoken
    # ``## through tls``: as after the handshake
    # ``## logins anonymous`` or ``## logins only``: kim@example.com has the password pencil,
    # and may send as himself
    C: what the client sends, CRLF added; ``\\n``, ``\\r``, ``\\0`` and ``\\xhh`` stand for octets
    S: what the server must answer: a line, or its beginning followed by ``...``
    = closed | open | accepted N      what holds at the end
    = started DOMAIN,DOMAIN | turned DOMAIN    what was asked for by ETRN, and by ATRN

``c:`` sends a line without the CRLF.
"""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.throttle import MAX_DELAY_SECONDS
from mailhost.config.settings import DomainSettings, VirtualServerSettings
from mailhost.config.settings.access import BasicKeys
from mailhost.model.access import AccessList
from mailhost.model.held import Holding
from mailhost.model.line_ends import BareLineEnds
from mailhost.server.logins import rules_of
from tests.authentication.passwords import Passwords
from tests.support.world import World, make_settings

SENDER = "kim@example.com"
FILES = Path(__file__).parent / "files"


def apply(settings: VirtualServerSettings, word: str, value: str) -> VirtualServerSettings:
    """One ``##`` line."""
    messages = settings.messages
    if word == "relay":
        return with_access(settings, relay=AccessList(False, (ip_network(value),)))
    if word == "trusted":
        return with_access(settings, trusted=(ip_network(value),))
    if word == "bare_line_ends":
        messages = evolve(messages, bare_line_ends=BareLineEnds(value))
        return evolve(settings, messages=messages)
    if word == "logins":
        basic = BasicKeys(enabled=True, require_tls=False, default_domain="example.com")
        return with_access(settings, basic=basic, anonymous=value == "anonymous")
    if word == "refuse":
        return with_access(settings, connections=AccessList(True, (ip_network(value),)))
    if word == "on":
        names = dict.fromkeys(value.split(), True)
        return evolve(settings, extensions=evolve(settings.extensions, **names))
    if word == "no_soliciting":
        return evolve(settings, messages=evolve(messages, no_soliciting=tuple(value.split(","))))
    if word in ("max_messages_per_session", "max_recipient_domains"):
        return evolve(settings, messages=evolve(messages, **{word: int(value)}))
    if word in ("max_message_size", "max_session_size", "max_recipients", "max_line_length"):
        return evolve(settings, messages=evolve(messages, **{word: int(value)}))
    if word == "hold":
        name, *accounts = value.split(" ")
        domain = DomainSettings(name, "remote", hold=Holding(tuple(accounts)))
        return evolve(settings, domains=(*settings.domains, domain))
    if word == "off":
        names = dict.fromkeys(value.split(), False)
        return evolve(settings, extensions=evolve(settings.extensions, **names))
    if word == "max_hops":
        return evolve(settings, delivery=evolve(settings.delivery, max_hops=int(value)))
    raise ValueError(f"unknown setting {word}")


def with_access(settings: VirtualServerSettings, **changes: object) -> VirtualServerSettings:
    return evolve(settings, access=evolve(settings.access, **changes))


def octets(text: str) -> bytes:
    return text.encode("utf-8").decode("unicode_escape").encode("latin-1")


class Dialogue:
    """One file: settings, turns, and what holds at the end."""

    def __init__(self, path: Path) -> None:
        self.settings = make_settings()
        self.secure = self.lmtp = False
        # Each turn: what is sent, and the reply lines that must follow.
        self.turns: list[tuple[bytes, list[str]]] = [(b"", [])]
        self.endings: list[str] = []
        for line in path.read_text("utf-8").splitlines():
            self._line(line)

    def _line(self, line: str) -> None:
        kind, _, rest = line.partition(" ")
        if line == "## through tls":
            self.secure = True
        elif line == "## lmtp yes":
            self.lmtp = True
        elif kind == "##":
            self.settings = apply(self.settings, *rest.split(" ", 1))
        elif kind in ("C:", "c:"):
            sent = octets(rest) + (b"\r\n" if kind == "C:" else b"")
            if self.turns[-1][1]:
                self.turns.append((sent, []))
            else:
                self.turns[-1] = (self.turns[-1][0] + sent, [])
        elif kind == "S:":
            self.turns[-1][1].append(rest)
        elif kind == "=":
            self.endings.append(rest)
        elif kind not in ("#", ""):
            raise ValueError(f"what is {line!r}?")


class DialogueTests(SynchronousTestCase):
    """One test per file and way of playing it; made below."""

    def play(self, name: str, whole: bool, step: int | None) -> None:
        dialogue = Dialogue(FILES / name)
        if not whole:
            dialogue.settings = with_access(dialogue.settings, early_talkers=False)
        world = World(
            dialogue.settings, passwords=Passwords({"kim@example.com": "pencil"}, (SENDER,))
        )
        world.held.domains = {"branch.example", "a.partner.example"}
        if dialogue.lmtp:
            world.factory.rules = rules_of(dialogue.settings, starttls=False, lmtp=True)
        session = world.connect()
        if dialogue.secure:
            session.secure()
        expected: list[str] = []
        said = session.read()
        everything = b""
        for sent, replies in dialogue.turns:
            expected += replies
            everything += sent
            if whole:
                continue
            for start in range(0, len(sent), step or max(1, len(sent))):
                said += session.send(sent[start : start + (step or len(sent))])
            # The reply to a wrong password is late.
            world.clock.advance(MAX_DELAY_SECONDS)
            said += session.read()
        if whole:
            said += session.send(everything)
        self.compare(name, expected, said.decode("ascii").splitlines())
        for ending in dialogue.endings:
            self.check_ending(ending, world, session.closed)

    def compare(self, name: str, expected: list[str], said: list[str]) -> None:
        for number, line in enumerate(expected):
            self.assertLess(number, len(said), f"{name}: {line!r} is missing after {said[-3:]}")
            if line.endswith("..."):
                good = said[number].startswith(line[:-3])
            else:
                good = said[number] == line
            self.assertTrue(good, f"{name}: expected {line!r}, got {said[number]!r}")
        self.assertEqual(len(expected), len(said), f"{name}: and then {said[len(expected) :]}")

    def check_ending(self, ending: str, world: World, closed: bool) -> None:
        word, _, number = ending.partition(" ")
        if word == "accepted":
            self.assertEqual(int(number), len(world.accepted))
        elif word == "started":
            self.assertIn(tuple(number.split(",")), [names for names, _ in world.held.started])
        elif word == "turned":
            self.assertEqual([tuple(number.split(","))], [one[0] for one in world.held.turned])
        else:
            self.assertEqual(word == "closed", closed)


def _make(name: str, whole: bool, step: int | None) -> object:
    def test(self: DialogueTests) -> None:
        self.play(name, whole, step)

    return test


for _path in sorted(FILES.glob("*.txt")):
    _stem = _path.stem.replace("-", "_")
    setattr(DialogueTests, f"test_{_stem}_by_turns", _make(_path.name, False, None))
    setattr(DialogueTests, f"test_{_stem}_octet_by_octet", _make(_path.name, False, 1))
    # A client that does not wait for 354 may lose its content, so a dialogue in
    # which DATA is refused says itself that it cannot be sent at once.
    if "# not at once" not in _path.read_text("utf-8"):
        setattr(DialogueTests, f"test_{_stem}_at_once", _make(_path.name, True, None))
