"""Tests for `mailhost.config.reader` and `mailhost.config.structure`."""

from __future__ import annotations

import os
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mailhost.config import reader
from mailhost.config.checks import cross_check
from mailhost.config.faults import ConfigurationFaults
from mailhost.config.reader import find_configuration, load_settings, read_configuration
from mailhost.config.settings import ListenAddress, LogSettings
from mailhost.config.settings import virtual_server as settings_module
from mailhost.model.access import AccessList
from mailhost.model.address import Mailbox
from mailhost.model.protocol_log import DEFAULT_FIELDS, FIELDS, LogSchedule
from mailhost.model.route import NextHop
from mailhost.model.schedule import RetrySchedule
from mailhost.model.security import OutboundSecurity, TLSLevel
from tests.config.files import (
    directory_for,
    faults_of,
    file_for,
    located,
    server_of,
    settings_of,
)

TWENTY_YAML = """\
workers: 65
# a comment
resolver: {servers: [ns.example.com], timeout: soon}
virtual_servers:
  - name: one/two
    home: ~
    fqdn: 192.0.2.1
    listen: [127.0.0.1, "127.0.0.1:0"]
    max_conections: 5
    connection_timeout: 10 minutes
    access:
      relay: {default: maybe, except: [10.0.0.0/99]}
    messages:
      max_message_size: 2MB
      max_message_size: 2M
      copy_ndr_to: postmaster
      badmail: {keep: often}
    delivery:
      outbound: {retry: [15m, never]}
      smart_host: 192.0.2.10
    accept_any_recipient: false
    domains:
      - {name: "*.example.net", type: alias}
"""

TWENTY_INI = """\
[mailhost]
workers = 65
# a comment
[resolver]
servers = ns.example.com
timeout = soon
[virtual_server one]
home =
fqdn = 192.0.2.1
listen = 127.0.0.1,
    127.0.0.1:0
max_conections = 5
connection_timeout = 10 minutes
accept_any_recipient = no
what is this
[virtual_server one / access / relay]
default = maybe
except = 10.0.0.0/99
[virtual_server one / messages]
max_message_size = 2MB
max_message_size = 2M
copy_ndr_to = postmaster
[virtual_server one / messages / badmail]
keep = often
[virtual_server one / delivery]
smart_host = 192.0.2.10
[virtual_server one / delivery / outbound]
retry = 15m, never
[virtual_server one / domain *.example.net]
type = alias
"""


class AllAtOnceTests(SynchronousTestCase):
    """Twenty faults in one file are twenty messages with twenty places."""

    def test_yaml(self) -> None:
        """All faults of a YAML file are told in one go."""
        found = faults_of(self, TWENTY_YAML)

        server = "virtual_servers[0]"
        self.assertEqual(
            [
                (1, "workers"),
                (3, "resolver.servers[0]"),
                (3, "resolver.timeout"),
                (5, f"{server}.name"),
                (6, f"{server}.home"),
                (7, f"{server}.fqdn"),
                (8, f"{server}.listen[0]"),
                (8, f"{server}.listen[1]"),
                (9, f"{server}.max_conections"),
                (10, f"{server}.connection_timeout"),
                (12, f"{server}.access.relay.default"),
                (12, f"{server}.access.relay.except[0]"),
                (14, f"{server}.messages.max_message_size"),
                (15, f"{server}.messages.max_message_size"),
                (16, f"{server}.messages.copy_ndr_to"),
                (17, f"{server}.messages.badmail.keep"),
                (19, f"{server}.delivery.outbound.retry[1]"),
                (20, f"{server}.delivery.smart_host[0]"),
                (21, f"{server}.accept_any_recipient"),
                (23, f"{server}.domains[0].name"),
            ],
            located(found),
        )

    def test_ini(self) -> None:
        """All faults of an INI file are told in one go, with the same keys."""
        found = faults_of(self, TWENTY_INI, "mailhost.ini")

        server = "virtual_servers[0]"
        self.assertEqual(
            [
                (2, "workers"),
                (5, "resolver.servers[0]"),
                (6, "resolver.timeout"),
                (8, f"{server}.home"),
                (9, f"{server}.fqdn"),
                (10, f"{server}.listen[0]"),
                (11, f"{server}.listen[1]"),
                (12, f"{server}.max_conections"),
                (13, f"{server}.connection_timeout"),
                (14, f"{server}.accept_any_recipient"),
                (15, f"{server}"),
                (17, f"{server}.access.relay.default"),
                (18, f"{server}.access.relay.except[0]"),
                (20, f"{server}.messages.max_message_size"),
                (21, f"{server}.messages.max_message_size"),
                (22, f"{server}.messages.copy_ndr_to"),
                (24, f"{server}.messages.badmail.keep"),
                (26, f"{server}.delivery.smart_host[0]"),
                (28, f"{server}.delivery.outbound.retry[1]"),
                (29, f"{server}.domains[0].name"),
            ],
            located(found),
        )

    def test_every_message_says_what_is_allowed(self) -> None:
        """``file:line: key: what is wrong; allowed: what is allowed``, one line each."""
        for content, name in ((TWENTY_YAML, "mailhost.yaml"), (TWENTY_INI, "mailhost.ini")):
            path = file_for(self, content, name)
            with self.assertRaises(ConfigurationFaults) as caught:
                load_settings(path)
            lines = str(caught.exception).split("\n")
            self.assertEqual(20, len(lines))
            for line in lines:
                self.assertRegex(line, r"^\S+mailhost\.(yaml|ini):\d+: \S+: .+")
                self.assertRegex(line, "; (allowed: |those that have: )")


class YAMLTests(SynchronousTestCase):
    """From a file to values."""

    def test_every_sort_of_value(self) -> None:
        """Each key of the contract reaches its place in its type."""
        one = server_of(
            self,
            """\
    listen: ["127.0.0.1:25", {address: "[::1]:25"}]
    max_connections: 7
    connection_timeout: 90
    access:
      connections: {default: deny, except: [192.0.2.0/24, "*.Good.example"]}
      relay: {except: 127.0.0.1}
    messages: {max_message_size: 0, max_session_size: unlimited, max_recipients: none,
               copy_ndr_to: pm@example.com, badmail: {directory: bad}}
    delivery:
      outbound: {retry: [1m, 2m], delay_notification: none, expiration: 1h}
      local: {expiration: 3d}
      connections: {source_address: 192.0.2.9, port: 2525}
      smart_host: "[192.0.2.10]; Relay.example.net:587"
      direct_first: yes
    drop: {quota: 22M}
    domains:
      - {name: "*.P.example", type: remote, relay: true, helo: on, route: "[2001:db8::1]:25"}
      - {name: q.example, type: remote, route: dns}
""",
        )

        self.assertEqual((ListenAddress("127.0.0.1", 25), ListenAddress("::1", 25)), one.listen)
        self.assertEqual((7, 90), (one.max_connections, one.connection_timeout))
        self.assertEqual(
            AccessList.build(False, ["192.0.2.0/24", "*.good.example"]), one.access.connections
        )
        relay = evolve(AccessList.build(False, ["127.0.0.1"]), logins=True)
        self.assertEqual(relay, one.access.relay)
        self.assertIsNone(one.messages.max_message_size)
        self.assertIsNone(one.messages.max_session_size)
        self.assertIsNone(one.messages.max_recipients)
        self.assertEqual(Mailbox("pm", "example.com"), one.messages.copy_ndr_to)
        self.assertEqual(Path("bad"), one.badmail_directory)
        self.assertEqual(RetrySchedule((60, 120), None, 3600), one.delivery.outbound)
        self.assertEqual(RetrySchedule((3600,), 43200, 259200), one.delivery.local)
        self.assertEqual("192.0.2.9", one.delivery.connections.source_address)
        self.assertEqual(2525, one.delivery.connections.port)
        self.assertEqual(
            (NextHop("192.0.2.10", None, True), NextHop("relay.example.net", 587)),
            one.delivery.smart_host,
        )
        self.assertTrue(one.delivery.direct_first)
        self.assertEqual(22 << 20, one.drop.quota)
        first, second = one.domains
        self.assertEqual(
            ("*.p.example", "remote", True, True), (first.name, first.type, first.relay, first.helo)
        )
        self.assertEqual((NextHop("2001:db8::1", 25, True),), first.route)
        self.assertIsNone(second.route)

    def test_resolver(self) -> None:
        """Name servers are addresses, the port 53 unless another is given."""
        found = settings_of(
            self,
            'resolver: {servers: [192.0.2.1, "127.0.0.1:5353"], timeout: 0.5}\n'
            "virtual_servers: [{name: a}]\n",
        )

        self.assertEqual((("192.0.2.1", 53), ("127.0.0.1", 5353)), found.resolver.servers)
        self.assertEqual(0.5, found.resolver.timeout)

    def test_sections_without_keys(self) -> None:
        """A page or list whose every line is a comment has its defaults."""
        one = server_of(
            self, "    access:\n      # nothing\n    domains:\n    delivery: {smart_host: none}\n"
        )

        self.assertEqual(server_of(self, ""), one)

    def test_none_is_null(self) -> None:
        """ "none" where null is allowed is never taken for a name or a path."""
        one = server_of(
            self,
            "    fqdn: a.example\n    domain: none\n    drop: {directory: none}\n"
            "    delivery: {masquerade_domain: None}\n    access: {relay: {except: none}}\n",
        )

        self.assertEqual("a.example", one.domain)
        self.assertIsNone(one.drop.directory)
        self.assertIsNone(one.delivery.masquerade_domain)
        self.assertEqual(AccessList(False, logins=True), one.access.relay)

    def test_byte_order_mark_and_crlf(self) -> None:
        """What Windows editors write is read."""
        text = "\ufeffworkers: 1\r\nvirtual_servers:\r\n  - name: a\r\n    nme: b\r\n"

        self.assertEqual([(4, "virtual_servers[0].nme")], located(faults_of(self, text)))


class TLSKeysTests(SynchronousTestCase):
    def test_listen(self) -> None:
        """GEN-05: as a table, and as a word behind the port (the only way in INI)."""
        yaml = settings_of(
            self,
            "virtual_servers:\n"
            "  - name: a\n"
            "    access: {tls: {certificate: a.pem, key: a.key, minimum: '1.3'}}\n"
            "    listen: ['127.0.0.1:25', {address: '127.0.0.1:465', tls: implicit}]\n",
        )
        ini = settings_of(
            self,
            "[virtual_server a]\nlisten = 127.0.0.1:25, 127.0.0.1:465 tls\n"
            "[virtual_server a / access / tls]\ncertificate = a.pem\nkey = a.key\nminimum = 1.3\n",
            "mailhost.ini",
        )
        self.assertEqual(yaml, ini)
        (server,) = yaml.virtual_servers
        self.assertEqual([False, True], [one.implicit_tls for one in server.listen])
        self.assertEqual("1.3", server.access.tls.minimum)

    def test_outbound(self) -> None:
        """DEL-23, DOM-12: verify makes required mean verified; a domain may say its own."""
        (server,) = settings_of(
            self,
            "virtual_servers:\n"
            "  - name: a\n"
            "    delivery: {security: {tls: required, verify: true, ca: ca.pem}}\n"
            "    domains:\n"
            "      - {name: b.example, type: remote, security: {tls: none}}\n"
            "      - {name: c.example, type: remote}\n",
        ).virtual_servers
        self.assertEqual(
            OutboundSecurity(TLSLevel.VERIFIED, Path("ca.pem")), server.delivery.security
        )
        own = [domain.security for domain in server.domains]
        self.assertEqual([OutboundSecurity(TLSLevel.NONE), None], own)

    def test_nothing_to_verify(self) -> None:
        """To verify what need not be there makes no sense."""
        (fault,) = faults_of(
            self, "virtual_servers: [{name: a, delivery: {security: {verify: true}}}]\n"
        )
        self.assertIn("there is nothing to verify with tls opportunistic", fault.words)


class RefusedTests(SynchronousTestCase):
    def words(self, keys: str) -> list[str]:
        """The words of the faults of a virtual server with these keys."""
        text = f"virtual_servers:\n  - name: one\n{keys}"
        return [fault.words for fault in faults_of(self, text)]

    def test_log(self) -> None:
        """A level and a format there are, and a file."""
        text = "log: {level: loud, format: xml, file: '~/x'}\nvirtual_servers: [{name: a}]\n"
        found = [fault.words for fault in faults_of(self, text)]
        for words, allowed in zip(
            found,
            ("debug or info or warn or error or critical", "text or json", "a path;"),
            strict=True,
        ):
            self.assertIn(f"; allowed: {allowed}", words)
        good = settings_of(
            self, "log: {level: WARN, format: json, file: x}\nvirtual_servers: [{name: a}]\n"
        )
        self.assertEqual(LogSettings("warn", "json", Path("x")), good.log)

    def test_remote_control(self) -> None:
        """A certificate, and somebody who can come; names without colons."""
        top = "virtual_servers: [{name: a}]\nremote_control: "
        for keys, words in (
            ("{listen: '127.0.0.1:8443', users: u}", "there is none; allowed: a path"),
            ("{listen: '127.0.0.1:8443', certificate: c}", "there are none, nor tokens"),
            ("{listen: 8443}", "allowed: an IP address of this machine and a port"),
            ("{readers: ['a:b']}", "is not the name of a user"),
        ):
            (fault,) = faults_of(self, f"{top}{keys}\n")
            self.assertIn(words, fault.words, keys)
        good = settings_of(self, f"{top}{{listen: '[::1]:8443', certificate: c, tokens: t}}\n")
        self.assertEqual(("::1", 8443), good.remote_control.listen)

    def test_rights_without_an_address(self) -> None:
        """Operators whom nobody can hear are worth a word."""
        settings = settings_of(self, "virtual_servers: [{name: a, operators: [olga]}]\n")
        (finding,) = [one for one in cross_check(settings) if "remote_control" in one.words]
        self.assertEqual(("virtual_servers", 0, "operators"), finding.path)

    def test_protocol_log(self) -> None:
        """GEN-08..12: formats, schedules and fields there are."""
        wrong = "{format: xml, schedule: 1K, fields: [time, colour]}"
        found = self.words(f"    protocol_log: {wrong}\n")
        for words, allowed in zip(
            found, ("w3c or ncsa", "hourly, daily", "default, all, or some of date"), strict=True
        ):
            self.assertIn(f"allowed: {allowed}", words)
        for text, expected in (
            ("daily", LogSchedule("daily")),
            ("Weekly", LogSchedule("weekly")),
            ("20M", LogSchedule("size", 20 << 20)),
        ):
            server = server_of(self, f"    protocol_log: {{schedule: {text}}}\n")
            self.assertEqual(expected, server.protocol_log.schedule)
        for text, fields in (
            ("default", DEFAULT_FIELDS),
            ("all", FIELDS),
            ("[sc-status, 'cs(user-agent)', default]", (*DEFAULT_FIELDS, "cs(User-Agent)")),
        ):
            server = server_of(self, f"    protocol_log: {{fields: {text}}}\n")
            self.assertEqual(fields, server.protocol_log.fields)

    def test_metrics(self) -> None:
        """An IP address and a port, both."""
        for text in ("c", "127.0.0.1", "9125", "localhost:9125", '"127.0.0.1:0"'):
            (fault,) = faults_of(self, f"metrics: {text}\nvirtual_servers: [{{name: a}}]\n")
            self.assertIn("allowed: an IP address of this machine and a port", fault.words)
        good = settings_of(self, 'metrics: "[::1]:9125"\nvirtual_servers: [{name: a}]\n')
        self.assertEqual(("::1", 9125), good.metrics)

    def test_workers_and_user(self) -> None:
        """1 to 64 workers, and a user there is."""
        for keys, words in (
            ("workers: 0", "0 is too small; allowed: a whole number from 1 to 64"),
            ("workers: 65", "65 is too large; allowed: a whole number from 1 to 64"),
            ("user: no such", "is not a user of this machine; allowed: the name of a user"),
        ):
            (fault,) = faults_of(self, f"{keys}\nvirtual_servers: [{{name: a}}]\n")
            self.assertIn(words, fault.words)
        good = settings_of(self, "workers: 64\nuser: root\nvirtual_servers: [{name: a}]\n")
        self.assertEqual((64, "root"), (good.workers, good.user))

    def test_values_not_supported_yet(self) -> None:
        """A list of recipients is for later."""
        self.assertIn("not supported yet", self.words("    accept_any_recipient: false\n")[0])

    def test_nearest_known_key(self) -> None:
        """A misspelt key is told the nearest known one; an IIS name counts as a spelling."""
        for key, nearest in (
            ("max_conection", "max_connections"),
            ("Listen", "listen"),
            ("ServerBindings", "listen"),
            ("ServerComment", "comment"),
            ("connection-timeout", "connection_timeout"),
            ("message", "messages"),
        ):
            self.assertEqual(
                [f"unknown key; allowed: the nearest known is '{nearest}'"],
                self.words(f"    {key}: 1\n"),
            )

    def test_key_of_another_page(self) -> None:
        """A key that is known on a page below is told which."""
        self.assertEqual(
            ["unknown key here; allowed: below 'messages'"], self.words("    max_recipients: 5\n")
        )
        self.assertEqual(
            ["unknown key here; allowed: below 'delivery.connections'"],
            self.words("    max_per_domain: 5\n"),
        )

    def test_unlike_anything(self) -> None:
        """A key that resembles none is told them all."""
        (words,) = self.words("    xyzzy_plugh: 1\n")

        self.assertTrue(words.startswith("unknown key; allowed: name, comment, home, "), words)

    def test_misspelt_section_in_ini(self) -> None:
        """The head of an INI section is helped as well."""
        (fault, missing) = faults_of(self, "[virtul_server a]\nhome = x\n", "mailhost.ini")

        self.assertEqual(
            "unknown key; allowed: the nearest known is 'virtual_server NAME'", fault.words
        )
        self.assertEqual("missing; allowed: at least 1", missing.words)

    def test_wrong_shapes(self) -> None:
        """A list, a table or a word where another is expected."""
        for keys, words in (
            ("    home: [a]\n", "a list where one value is expected"),
            ("    home: {a: b}\n", "a table where one value is expected"),
            ("    access: deny\n", "'deny' where keys are expected"),
            ("    access: [deny]\n", "a list where keys are expected"),
            ("    domains: example.net\n", "'example.net' where a list of tables is expected"),
            ("    domains: {name: a}\n", "a table where a list of tables is expected"),
            ("    listen: [[a]]\n", "a list in a list"),
            ("    access: {relay: {except: [{a: b}]}}\n", "a table in a list"),
            ("    listen: []\n", "no value"),
            ("    listen:\n", "no value"),
            ("    listen: ['']\n", "no value"),
            ("    max_connections:\n", "no value"),
            ("    delivery: {outbound: {retry: []}}\n", "no value"),
            ("    drop: {directory: ''}\n", "no value"),
        ):
            found = self.words(keys)
            self.assertEqual(1, len(found), (keys, found))
            self.assertTrue(found[0].startswith(f"{words}; allowed: "), (keys, found))

    def test_word_among_values(self) -> None:
        """``dns`` is not a host among others."""
        found = self.words(
            "    domains: [{name: a.example, type: remote, route: [dns, b.example]}]\n"
        )

        self.assertEqual(["'dns' among others; allowed: 'dns' alone"], found)

    def test_missing(self) -> None:
        """A domain has a name and a type."""
        found = faults_of(self, "virtual_servers:\n  - domains:\n      - {}\n")

        self.assertEqual(
            [(3, "virtual_servers[0].domains[0].name"), (3, "virtual_servers[0].domains[0].type")],
            located(found),
        )
        self.assertTrue(all(fault.words.startswith("missing; allowed: ") for fault in found))

    def test_no_virtual_server(self) -> None:
        """A configuration without a virtual server is none."""
        for text in ("workers: 1\n", "virtual_servers: []\n", "virtual_servers:\n"):
            (fault,) = faults_of(self, text)
            self.assertEqual("virtual_servers", fault.key, text)

    def test_bracketless_smart_host(self) -> None:
        """YAML makes a list of unquoted brackets; the message shows what was meant."""
        (words,) = self.words("    delivery: {smart_host: [192.0.2.10]}\n")

        self.assertIn('"[192.0.2.10]"', words)

    def test_together(self) -> None:
        """What does not go together is located as well."""
        found = faults_of(
            self,
            """\
virtual_servers:
  - name: one
    home: a
    messages:
      max_message_size: 20M
  - name: one
    home: ./a
    domains:
      - name: b.example
        type: alias
      - name: b.example
        type: remote
""",
        )

        self.assertEqual(
            [
                (6, "virtual_servers[1].name"),
                (7, "virtual_servers[1].home"),
                (11, "virtual_servers[1].domains[1].name"),
            ],
            located(found),
        )

    def test_what_rests_on_a_fault_is_not_judged(self) -> None:
        """A default in place of a faulty value gives no further message."""
        found = self.words(
            "    messages: {max_message_size: lots, max_session_size: 1M}\n"
            "    delivery: {connections: {max: lots, max_per_domain: 2000}}\n"
            "    domains: [{name: b.example, type: aliass, relay: true}]\n"
        )

        self.assertEqual(3, len(found), found)

    def test_machine_without_a_usable_name(self) -> None:
        """Where the machine's name is needed and is none, the fault says what to set."""

        def no_name() -> str:
            raise ValueError("fqdn: this machine's name 'a b' is not; allowed: set fqdn")

        self.patch(settings_module, "machine_name", no_name)

        (words,) = self.words("    home: a\n")

        self.assertIn("allowed: set fqdn", words)


class FileTests(SynchronousTestCase):
    """Files that cannot be read are faults with a place, never tracebacks."""

    def refused(self, path: Path, line: int, words: str) -> None:
        """Reading *path* gives one fault with this line and these words."""
        with self.assertRaises(ConfigurationFaults) as caught:
            load_settings(path)
        (fault,) = caught.exception.faults
        self.assertEqual((str(path), line, "(file)"), (fault.file, fault.line, fault.key))
        self.assertIn(words, fault.words)
        self.assertIn("allowed: ", fault.words)

    def test_missing(self) -> None:
        """A file that is not there."""
        self.refused(directory_for(self) / "none.yaml", 1, "No such file")

    def test_directory(self) -> None:
        """A directory, whatever its name ends in."""
        path = directory_for(self) / "etc.yaml"
        path.mkdir()

        self.refused(path, 1, "not a file")

    def test_pipe(self) -> None:
        """A pipe is not waited for."""
        path = directory_for(self) / "pipe.ini"
        os.mkfifo(path)

        self.refused(path, 1, "not a file")

    def test_unreadable(self) -> None:
        """A file that this user may not read."""
        path = file_for(self, "workers: 1\n")
        path.chmod(0)
        if os.access(path, os.R_OK):
            raise SkipTest("this user may read everything")

        self.refused(path, 1, "Permission denied")

    def test_name_that_is_none(self) -> None:
        """A name no file can have."""
        self.refused(Path("a\0b.yaml"), 1, "not a file's name")

    def test_unknown_ending(self) -> None:
        """The ending says which form it is, so there must be one."""
        for name in ("mailhost", "mailhost.toml", "mailhost.yaml.bak"):
            self.refused(file_for(self, "workers: 1\n", name), 1, "allowed: .yaml, .yml or .ini")

    def test_empty(self) -> None:
        """Nothing, or nothing but comments."""
        for content in ("", "\n\n", "# a\n   # b\n", "\ufeff"):
            for name in ("a.yaml", "a.ini"):
                self.refused(file_for(self, content, name), 1, "empty")

    def test_not_utf8(self) -> None:
        """Another encoding is refused at its first line that shows it."""
        for name in ("a.yaml", "a.ini"):
            self.refused(file_for(self, b"# a\n# \xe9\n", name), 2, "octet 0xe9 is not UTF-8")
        self.refused(file_for(self, "a: 1\n".encode("utf-16")), 1, "is not UTF-8")

    def test_control_characters(self) -> None:
        """Binary data, and line ends that only some programs know, are refused."""
        for character in "\0\x07\x0b\x0c\x1b\x7f\x85\x9b\u2028\ufeff\uffff":
            for name in ("a.yaml", "a.ini"):
                path = file_for(self, f"# a\n# {character}\n", name)
                self.refused(path, 2, f"character U+{ord(character):04X}")

    def test_too_large(self) -> None:
        """No file is read whole into memory because it is large."""
        self.patch(reader, "LARGEST_OCTETS", 100)

        self.refused(file_for(self, "#" * 101), 1, "too large; allowed: up to 100 octets")


class FindTests(SynchronousTestCase):
    """Which file is used where none is named."""

    def setUp(self) -> None:
        self.here, self.system = directory_for(self), directory_for(self)
        (self.here / "etc").mkdir()
        self.patch(reader, "_SYSTEM", self.system)

    def test_order(self) -> None:
        """YAML before INI, the current directory before the system's."""
        places = [
            self.system / "mailhost.ini",
            self.system / "mailhost.yaml",
            self.here / "etc" / "mailhost.ini",
            self.here / "etc" / "mailhost.yaml",
        ]
        for place in places:
            place.write_text("workers: 1\n")
            self.assertEqual(place, find_configuration(self.here))

    def test_none(self) -> None:
        """Where there is none, every place is named."""
        with self.assertRaises(ConfigurationFaults) as caught:
            find_configuration(self.here)

        for directory in (self.here / "etc", self.system):
            for name in ("mailhost.yaml", "mailhost.ini"):
                self.assertIn(str(directory / name), str(caught.exception))

    def test_dangling_link(self) -> None:
        """A link that leads nowhere is a fault to report, not a reason to look elsewhere."""
        link = self.here / "etc" / "mailhost.yaml"
        link.symlink_to("nowhere")

        self.assertEqual(link, find_configuration(self.here))


class WarningTests(SynchronousTestCase):
    def test_located(self) -> None:
        """Warnings do not refuse, and know their lines."""
        reading = read_configuration(
            file_for(
                self,
                """\
virtual_servers:
  - name: a
    home: a
    access:
      relay:
        default: allow
  - name: b
    home: b
    listen: ["127.0.0.1:25"]
""",
            )
        )

        self.assertEqual(
            [(9, "virtual_servers[1].listen[0]"), (6, "virtual_servers[0].access.relay.default")],
            located(tuple(map(reading.fault, reading.findings))),
        )
