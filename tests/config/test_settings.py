"""Tests for `mailhost.config.settings` and what `mailhost.config.keys` makes of it."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from attrs.exceptions import FrozenInstanceError
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.keys import (
    Declared,
    ListKey,
    ScalarKey,
    SectionKey,
    SectionsKey,
    known_keys,
)
from mailhost.config.settings import (
    DomainSettings,
    ListenAddress,
    MessagesSettings,
    OutboundConnections,
    ResolverSettings,
    Settings,
    VirtualServerSettings,
    machine_name,
)
from mailhost.model.access import AccessList
from mailhost.model.schedule import RetrySchedule
from tests.config.files import settings_of

#: Every row of the issue's pages that stands for a setting.
IIS_ROWS = (
    [f"GEN-0{n}" for n in (1, 2, 3, 4, 6, 7)]
    + [f"ACC-{n}" for n in (20, 21, 22, 23, 30, 31)]
    + [f"MSG-0{n}" for n in range(1, 7)]
    + [f"DEL-0{n}" for n in range(1, 9)]
    + [f"DEL-{n}" for n in (30, 31, 32, 33, 40, 41, 42, 43, 44, 45)]
    + ["DOM-01", "DOM-02", "DOM-10", "DOM-11", "DOM-13", "DOM-14"]
)


def every_key(page: type[Any] = Settings, path: str = "") -> Iterator[tuple[str, Declared]]:
    """All keys below *page*, with their dotted names."""
    for name, declared in known_keys(page).items():
        yield f"{path}{name}", declared
        if isinstance(declared.key, SectionKey | SectionsKey):
            yield from every_key(declared.key.page, f"{path}{name}.")


def every_page() -> list[type[Any]]:
    """All classes that have keys."""
    below = [d.key.page for _, d in every_key() if isinstance(d.key, SectionKey | SectionsKey)]
    return [Settings, *below]


class DefaultTests(SynchronousTestCase):
    """The defaults, as the contract gives them."""

    def test_virtual_server_in_code(self) -> None:
        """A name, a home and an address are enough."""
        server = VirtualServerSettings(
            name="x", home=Path("there"), listen=(ListenAddress("127.0.0.1", 0),)
        )

        self.assertIsNone(server.max_connections)
        self.assertEqual(600, server.connection_timeout)
        self.assertEqual(AccessList(allow=True), server.access.connections)
        self.assertEqual(AccessList(allow=False, logins=True), server.access.relay)
        self.assertTrue(server.accept_any_recipient)
        self.assertEqual((), server.domains)
        self.assertIsNone(server.drop.quota)

    def test_messages(self) -> None:
        """IIS's own limits (MSG-01..06)."""
        messages = MessagesSettings()

        self.assertEqual(2097152, messages.max_message_size)
        self.assertEqual(10485760, messages.max_session_size)
        self.assertEqual(20, messages.max_messages_per_connection)
        self.assertEqual(100, messages.max_recipients)
        self.assertEqual(998, messages.max_line_length)
        self.assertIsNone(messages.copy_ndr_to)

    def test_delivery(self) -> None:
        """IIS's schedules and limits (DEL-01..09, DEL-30..33, DEL-40..45)."""
        delivery = VirtualServerSettings(fqdn="mail.example.com").delivery

        self.assertEqual(RetrySchedule((900, 1800, 3600, 14400), 43200, 172800), delivery.outbound)
        self.assertEqual(RetrySchedule((3600,), 43200, 172800), delivery.local)
        self.assertEqual(OutboundConnections(1000, 100, 600, 25, None), delivery.connections)
        self.assertEqual(
            (15, None, ()), (delivery.max_hops, delivery.masquerade_domain, delivery.smart_host)
        )
        self.assertEqual((False, False), (delivery.direct_first, delivery.reverse_dns))

    def test_resolver(self) -> None:
        """The system's name servers, five seconds, ten thousand answers."""
        self.assertEqual(ResolverSettings(None, 5.0, 10000), Settings().resolver)

    def test_written_default_is_the_default(self) -> None:
        """Every key written with the default it is documented with changes nothing."""
        server = _written(VirtualServerSettings)
        text = yaml.safe_dump({**_written(Settings), "virtual_servers": [server]})

        loaded = settings_of(self, text)

        self.assertEqual(Settings(virtual_servers=(VirtualServerSettings(),)), loaded)


def _written(page: type[Any]) -> dict[str, Any]:
    """The keys of *page* as YAML data, each with its written default."""
    data: dict[str, Any] = {}
    for name, declared in known_keys(page).items():
        if isinstance(declared.key, SectionKey):
            data[name] = _written(declared.key.page)
        elif isinstance(declared.key, SectionsKey):
            data[name] = []
        else:
            data[name] = yaml.load(declared.key.default, yaml.BaseLoader)
            if declared.key.default == "null":
                data[name] = None
    return data


class ResolvedTests(SynchronousTestCase):
    """What is worked out from other settings and from the machine."""

    def test_domain_follows_fqdn(self) -> None:
        """Without a domain the fqdn is the default domain, in lower case."""
        server = VirtualServerSettings(fqdn="Mail.Example.com")

        self.assertEqual("Mail.Example.com", server.fqdn)
        self.assertEqual("mail.example.com", server.domain)

    def test_domains_in_lower_case(self) -> None:
        """Domains are compared in lower case, so that is how they are kept."""
        server = VirtualServerSettings(
            fqdn="a.example", domain="B.Example", domains=(DomainSettings("*.C.Example", "remote"),)
        )

        self.assertEqual("b.example", server.domain)
        self.assertEqual("*.c.example", server.domains[0].name)

    def _machine(self, short: str, full: str) -> str:
        self.patch(socket, "gethostname", lambda: short)
        self.patch(socket, "getfqdn", lambda name: full)
        machine_name.cache_clear()
        self.addCleanup(machine_name.cache_clear)
        return VirtualServerSettings().fqdn

    def test_machine_name(self) -> None:
        """Without a fqdn it is this machine's name, with its domain where it is known (DEL-42)."""
        self.assertEqual("box.example.org", self._machine("box", "box.example.org"))

    def test_machine_name_unknown_to_dns(self) -> None:
        """An answer about something else, such as localhost, is not this machine's name."""
        self.assertEqual("box", self._machine("box", "localhost"))

    def test_machine_without_a_usable_name(self) -> None:
        """A machine whose name is no domain name has to be given a fqdn."""
        with self.assertRaisesRegex(ValueError, "'my box' is not a domain name; allowed: set fqdn"):
            self._machine("my box", "my box")

    def test_directories(self) -> None:
        """The five directories lie below home, unless another place is named."""
        server = settings_of(
            self,
            "virtual_servers: [{home: h, drop: {directory: d},"
            " messages: {badmail: {directory: /b}}}]",
        ).virtual_servers[0]
        plain = VirtualServerSettings(home=Path("h"), fqdn="a.example")

        self.assertEqual(
            [Path("h/Pickup"), Path("h/Queue"), Path("h/SortTemp"), Path("d"), Path("/b")],
            [
                server.pickup_directory,
                server.queue_directory,
                server.sort_temp_directory,
                server.drop_directory,
                server.badmail_directory,
            ],
        )
        self.assertEqual(Path("h/Drop"), plain.drop_directory)
        self.assertEqual(Path("h/Badmail"), plain.badmail_directory)


class BoundsTests(SynchronousTestCase):
    """Values from code are held to the same bounds as those from files."""

    def test_refused(self) -> None:
        """What no file may say, no program may say either; the key is named."""
        for page, arguments, name in (
            (Settings, {"workers": 65}, "workers"),
            (Settings, {"user": "no such user"}, "user"),
            (VirtualServerSettings, {"name": "a/b"}, "name"),
            (VirtualServerSettings, {"fqdn": "a b"}, "fqdn"),
            (VirtualServerSettings, {"fqdn": "a", "max_connections": 0}, "max_connections"),
            (VirtualServerSettings, {"fqdn": "a", "connection_timeout": 0}, "connection_timeout"),
            (VirtualServerSettings, {"fqdn": "a", "accept_any_recipient": False}, "accept_any"),
            (MessagesSettings, {"max_message_size": 1}, "max_message_size"),
            (MessagesSettings, {"max_line_length": 997}, "max_line_length"),
            (ResolverSettings, {"timeout": 0}, "timeout"),
            (DomainSettings, {"name": "*", "type": "remote"}, "name"),
            (ListenAddress, {"host": "127.0.0.1", "port": 65536}, "port"),
        ):
            with self.assertRaisesRegex(ValueError, name):
                page(**arguments)

    def test_frozen(self) -> None:
        """Settings never change; a new reading makes new ones."""
        with self.assertRaises(FrozenInstanceError):
            Settings().workers = 1  # type: ignore[misc]  # what the test is about


class DeclarationTests(SynchronousTestCase):
    """What is known about the keys."""

    def test_every_key_says_what_it_does(self) -> None:
        """No key is without help, nor a value without what is allowed."""
        found = 0
        for name, declared in every_key():
            found += 1
            self.assertTrue(declared.key.help, name)
            if isinstance(declared.key, ScalarKey | ListKey):
                self.assertTrue(declared.key.kind.allowed, name)
        self.assertGreater(found, 50)

    def test_every_row_of_iis(self) -> None:
        """Every IIS property of the issue's pages has its key."""
        named = " ".join(declared.key.iis for _, declared in every_key())

        self.assertEqual([], [row for row in IIS_ROWS if row not in named])

    def test_twisted_stays_out(self) -> None:
        """The ground floor of the configuration does not import Twisted."""
        code = (
            "import sys, mailhost\n"
            "before = set(sys.modules)\n"
            "import mailhost.config.settings, mailhost.config.checks\n"
            "sys.exit(any(n.split('.')[0] == 'twisted' for n in set(sys.modules) - before))"
        )

        done = subprocess.run([sys.executable, "-c", code], check=False)

        self.assertEqual(0, done.returncode)
