"""Bindings, passwords, servers, settings, and what is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings.ldap import AttributeKeys, LDAPSettings
from mailhost.config.structure import Structurer
from mailhost.config.yaml_source import read_yaml
from mailhost.directory.binding import Binding, BindingKind, DirectoryServer
from mailhost.directory.cache import TimedCache
from mailhost.directory.making import binding_of, make_resolver, schema_of
from mailhost.directory.resolver import LDAPAddressResolver
from mailhost.directory.servers import STRIKES, ServerList
from mailhost.errors import LookupProblem
from mailhost.model.security import Secret
from mailhost.smtp.sasl.md4 import md4


class BindingTests(SynchronousTestCase):
    def test_incomplete(self) -> None:
        """A name without a password would be nobody (RFC 4513 §5.1.2), and is refused."""
        plain, sspi = BindingKind.PLAIN_TEXT, BindingKind.SSPI
        file = Path("x")
        wrong: list[tuple[Any, ...]] = [
            (plain, "cn=x", ""),
            (plain, "", "secret"),
            (plain, "cn=x", "secret", file),
            (sspi, "x", "secret"),
            (BindingKind.ANONYMOUS, "cn=x"),
            (BindingKind.SERVICE_ACCOUNT, "", "secret"),
        ]
        for arguments in wrong:
            self.assertRaises(ValueError, Binding, *arguments)

    def test_password_is_not_shown(self) -> None:
        """Neither in a log nor in a traceback."""
        self.assertNotIn("secret", repr(Binding(BindingKind.PLAIN_TEXT, "cn=x", "secret")))
        self.assertNotIn(
            "hidden",
            repr(LDAPSettings(password=Secret("hidden"), binding="plain_text", username="cn=x")),
        )

    def test_password_file(self) -> None:
        """Its first line; refused where others may use it, where it is empty or missing."""
        with TemporaryDirectory() as folder:
            file = Path(folder) / "secret"
            file.write_bytes("p\u00e4ss word\r\nmore\n".encode())
            file.chmod(0o640)
            binding = Binding(BindingKind.PLAIN_TEXT, "cn=x", password_file=file)
            self.assertEqual("p\u00e4ss word", binding.secret())
            for mode, octets in ((0o644, b"x"), (0o602, b"x"), (0o600, b""), (0o600, b"\nx")):
                file.write_bytes(octets)
                file.chmod(mode)
                problem = self.assertRaises(LookupProblem, binding.secret)
                self.assertEqual("4.3.5", problem.status)
            file.unlink()
            self.assertRaises(LookupProblem, binding.secret)

    def test_password_in_the_environment(self) -> None:
        """It is read when the resolver is made; a variable that is not set is named."""
        known = Secret("", variable="MAILHOST_TEST_VARIABLE")
        settings = LDAPSettings(password=known, binding="plain_text", username="cn=x")
        with patch.dict(os.environ, {"MAILHOST_TEST_VARIABLE": "hidden"}):
            self.assertEqual("hidden", binding_of(settings).secret())
        wrong = self.assertRaises(ValueError, binding_of, settings)
        self.assertIn("MAILHOST_TEST_VARIABLE is not set", str(wrong))

    def test_md4(self) -> None:
        """RFC 1320 §A.5."""
        known = {
            b"": "31d6cfe0d16ae931b73c59d7e0c089c0",
            b"abc": "a448017aaf21d8525fc10ae87aa6729d",
            b"1234567890" * 8: "e33b4ddc9c38f2199c3e7b164fcc0536",
        }
        for octets, digest in known.items():
            self.assertEqual(digest, md4(octets).hex())


class ServerTests(SynchronousTestCase):
    def test_parse(self) -> None:
        """URLs, hosts, and the path of a socket."""
        told = [
            str(DirectoryServer.parse(text))
            for text in ("dc1", "ldap://DC1:3268", "ldaps://[::1]/", "ldapi://%2Frun%2Fldapi")
        ]
        self.assertEqual(
            ["ldap://dc1:389", "ldap://dc1:3268", "ldaps://[::1]:636", "ldapi:/run/ldapi"], told
        )
        for text in ("", "http://x", "ldap://", "ldapi://x", "ldap://a b", "ldap://x/dc=y"):
            self.assertRaises(ValueError, DirectoryServer.parse, text)

    def test_down_and_up(self) -> None:
        """Failover, the breaker, fail-back."""
        told: list[int] = []
        servers = ServerList(tuple(map(DirectoryServer.parse, ("a", "b"))), lambda: told.append(1))
        servers.failed(0, "a is gone")
        servers.failed(0, "again")
        self.assertEqual((1, False, 1), (servers.choose(), servers.all_down, len(told)))
        for _ in range(STRIKES - 1):
            servers.slow(1, "b is slow")
        servers.answered(1)
        servers.slow(1, "b is slow")
        self.assertFalse(servers.all_down)
        for _ in range(STRIKES):
            servers.slow(1, "b is slow")
        self.assertTrue(servers.all_down)
        self.assertEqual("again; b is slow", servers.why())
        servers.recovered(0)
        self.assertEqual((0, 1, 1), (servers.choose(), servers.failovers, servers.outages))


class CacheTests(SynchronousTestCase):
    def test_bounds(self) -> None:
        """Time and number; the one not asked for longest goes."""
        cache: TimedCache[str, int] = TimedCache(2)
        cache.keep("a", 1, 10.0)
        cache.keep("b", 2, 20.0)
        self.assertEqual(1, cache.find("a", 9.9))
        cache.keep("c", 3, 20.0)
        self.assertEqual([1, None, 3], [cache.find(name, 9.9) for name in "abc"])
        self.assertIsNone(cache.find("a", 10.0))
        self.assertEqual((3, 2), (cache.hits, cache.misses))

    def test_nothing(self) -> None:
        """Room for none keeps none."""
        cache: TimedCache[str, int] = TimedCache(0)
        cache.keep("a", 1, 10.0)
        self.assertEqual(0, len(cache))


class SettingsTests(SynchronousTestCase):
    def read(self, text: str) -> tuple[Any, list[str]]:
        tree, flaws, _ = read_yaml(text)
        self.assertEqual([], flaws)
        structurer = Structurer("f")
        settings = structurer.settings(tree, LDAPSettings)
        return settings, [f"{fault.key}: {fault.words}" for fault in structurer.faults]

    def test_defaults(self) -> None:
        """LDAP routing is off, as in IIS."""
        settings, faults = self.read("{}")
        self.assertEqual([], faults)
        self.assertFalse(settings.enabled)
        self.assertEqual(LDAPSettings(), settings)

    def test_whole(self) -> None:
        """All keys of the contract, and an attribute of one's own."""
        settings, faults = self.read(
            "enabled: true\n"
            'server: ["ldap://dc1.example.com", "ldaps://[::1]:637", dc3]\n'
            "schema: inetorgperson\nbinding: plain_text\n"
            "username: cn=reader,dc=example,dc=com\npassword: a b\nbase: dc=example,dc=com\n"
            "start_tls: true\ncache: 1m\nhome_servers: [MAIL1=mail.example.com]\n"
            "attributes: {searched: 'mail emailAddress=smtp:', login: uid}\n"
        )
        self.assertEqual([], faults)
        schema = schema_of(settings)
        self.assertEqual((("mail", ""), ("emailAddress", "smtp:")), schema.prefixes)
        self.assertEqual((("uid",), "mailHost"), (schema.login, schema.host))
        self.assertEqual("a b", binding_of(settings).secret())
        resolver = make_resolver(settings, _Threads())
        self.assertIsInstance(resolver, LDAPAddressResolver)
        self.assertEqual(60, resolver.limits.found_seconds)
        self.assertEqual(
            ["ldap://dc1.example.com:389", "ldaps://[::1]:637", "ldap://dc3:389"],
            [str(one) for one in resolver.servers.servers],
        )

    def test_faults(self) -> None:
        """What is missing or has no use is told by name."""
        cases: Mapping[str, str] = {
            "enabled: true\nbase: dc=x": "server",
            "enabled: true\nserver: a": "base",
            "binding: plain_text\nusername: cn=x": "binding",
            "binding: anonymous\nusername: cn=x": "binding",
            "binding: sspi\nusername: x\npassword: y": "binding",
            "password: ''": "password",
            "server: http://x": "server",
            "server: ldap://x/dc=y": "server",
            "schema: novell": "schema",
            "base: nonsense": "base",
            "attributes: {searched: 'mail)(x'}": "attributes.searched",
            "home_servers: [MAIL1]": "home_servers",
        }
        for text, name in cases.items():
            _, faults = self.read(text)
            self.assertEqual(1, len(faults), (text, faults))
            self.assertIn(name, faults[0].partition(" ")[0] + faults[0].partition(": ")[2])

    def test_password_is_not_told(self) -> None:
        """No message of ours repeats it."""
        _, faults = self.read("binding: anonymous\npassword: very secret")
        self.assertNotIn("very secret", str(faults))

    def test_attributes(self) -> None:
        """Each key is a field of the schema; what is not given changes nothing."""
        self.assertEqual({}, AttributeKeys().given())
        names = set(AttributeKeys.__annotations__) - {"given"}
        self.assertLessEqual(names, set(schema_of(LDAPSettings()).__class__.__annotations__))


class _Threads(Clock):
    """A clock that never has anything from threads."""

    def callFromThread(self, function: Any, *arguments: Any) -> None:
        raise AssertionError("no thread was started")
