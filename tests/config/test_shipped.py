"""Tests for the files in ``etc/``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from click.testing import CliRunner
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli.check import check
from mailhost.config.keys import SectionKey, SectionsKey, known_keys
from mailhost.config.reader import load_settings, read_configuration
from mailhost.config.settings import Settings, VirtualServerSettings
from mailhost.config.tree import Listing, Node, Table
from mailhost.config.yaml_source import read_yaml
from mailhost.intake.greylist import Greylist
from tests.support.world import World

ETC = Path(__file__).parents[2] / "etc"


class ShippedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.settings = load_settings(ETC / "mailhost.yaml")

    def test_both_forms_say_the_same(self) -> None:
        """YAML and INI give equal settings."""
        self.assertEqual(self.settings, load_settings(ETC / "mailhost.ini"))

    def test_without_warnings(self) -> None:
        """What is shipped is what is advised."""
        for name in ("mailhost.yaml", "mailhost.ini"):
            self.assertEqual((), read_configuration(ETC / name).findings)

    def test_closed(self) -> None:
        """Promise P8: it relays for nobody, to no domain."""
        for server in self.settings.virtual_servers:
            relay = server.access.relay
            self.assertEqual((False, (), ()), (relay.allow, relay.networks, relay.domains))
            self.assertEqual([], [domain.name for domain in server.domains if domain.relay])

    def test_needs_no_root(self) -> None:
        """High ports of the loopback interface, and homes below ``mailroot``."""
        for server in self.settings.virtual_servers:
            self.assertEqual("mailroot", server.home.parts[0])
            for address in server.listen:
                self.assertEqual("127.0.0.1", address.host)
                self.assertGreater(address.port, 1023)

    def test_two_servers_that_differ(self) -> None:
        """The example shows what virtual servers are for."""
        first, second = self.settings.virtual_servers[:2]

        self.assertNotEqual(first.domain, second.domain)
        self.assertNotEqual(first.home, second.home)
        self.assertNotEqual(first.messages, second.messages)
        self.assertNotEqual(first.max_connections, second.max_connections)

    def test_first_server_has_the_defaults(self) -> None:
        """Beside names and places the first server's values are the defaults."""
        first, plain = self.settings.virtual_servers[0], VirtualServerSettings()
        for name in (
            "max_connections",
            "connection_timeout",
            "access",
            "messages",
            "delivery",
            "drop",
            "accept_any_recipient",
        ):
            self.assertEqual(getattr(plain, name), getattr(first, name), name)
        self.assertEqual(Settings().resolver, self.settings.resolver)

    def test_every_setting_is_shown(self) -> None:
        """The first server, with what stands above it, has every key there is."""
        root, _, _ = read_yaml((ETC / "mailhost.yaml").read_text("utf-8"))

        self.assertEqual([], _not_shown(root, Settings))


class PublicTests(SynchronousTestCase):
    """``etc/public.yaml``, the example for a server on the Internet."""

    def test_check_accepts_it(self) -> None:
        """No fault, and nothing unwise in it; what this machine lacks is a warning."""
        self.assertEqual((), read_configuration(ETC / "public.yaml").findings)
        result = CliRunner().invoke(check, ["--config", str(ETC / "public.yaml")])
        self.assertEqual(0, result.exit_code, result.output)
        self.assertIn("relays for nobody", result.output)

    def test_all_is_on(self) -> None:
        """What its comments promise to strangers."""
        (server,) = load_settings(ETC / "public.yaml").virtual_servers
        access = server.access
        self.assertTrue(access.greylist.enabled and not access.early_talkers)
        self.assertEqual(4, len(access.dns_lists))
        self.assertTrue(access.counts_faults and access.per_network.any)

    def test_a_stranger(self) -> None:
        """He is greeted late, told to come back, and let in; who is in a list is refused."""
        (settings,) = load_settings(ETC / "public.yaml").virtual_servers
        world = World(settings)
        greylist = Greylist(Path(self.mktemp()) / "greylist.sqlite", maybeDeferred)
        self.addCleanup(lambda: Deferred.fromCoroutine(greylist.stop()))
        world.desk.greylist = greylist
        world.names.hosts["8.2.0.192.zen.spamhaus.org"] = ["127.0.0.4"]
        heard = [self.heard(world, peer) for peer in ("192.0.2.7", "192.0.2.8")]
        world.clock.advance(300)
        heard.append(self.heard(world, "192.0.2.7"))
        self.assertEqual([b"451", b"550", b"250"], heard)

    def heard(self, world: World, peer: str) -> bytes:
        """The answer to his recipient."""
        session = world.connect(peer)
        self.assertEqual(b"", session.read())
        world.clock.advance(5)
        self.assertTrue(session.read().startswith(b"220 mail.example.com"))
        session.send(b"EHLO client.example\r\n")
        session.send(b"MAIL FROM:<a@example.org>\r\n")
        return session.send(b"RCPT TO:<b@example.com>\r\n")[:3]


def _not_shown(node: Node, page: type[Any]) -> list[str]:
    """The keys of *page* that are not in *node*; of a list, its fullest item counts."""
    assert isinstance(node, Table)
    missing: list[str] = []
    for name, declared in known_keys(page).items():
        if name not in node.entries:
            missing.append(name)
            continue
        below = node.entries[name].node
        if isinstance(declared.key, SectionKey):
            missing += _not_shown(below, declared.key.page)
        elif isinstance(declared.key, SectionsKey):
            assert isinstance(below, Listing)
            each = [_not_shown(item, declared.key.page) for item in below.items]
            # What is not there by itself is shown as a comment.
            shown = (ETC / "mailhost.yaml").read_text("utf-8").partition("# fetch:")[2]
            keys = known_keys(declared.key.page)
            each.append([one for one in keys if name != "fetch" or f"{one}:" not in shown])
            missing += sorted(each, key=len)[0]
    return missing
