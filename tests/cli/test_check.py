"""Tests for ``mailhost check``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from mailhost.authentication.hashing import hash_password
from mailhost.authentication.users import change_file, make_user
from mailhost.cli import main, probes
from mailhost.config import reader
from mailhost.config.settings import ListenAddress
from mailhost.directory import binding
from tests.config.files import directory_for, file_for
from tests.support.process import reserve_address

ROOT = Path(__file__).parents[2]


def listening_port(case: SynchronousTestCase) -> int:
    """A port of 127.0.0.1 that is taken until *case* is over."""
    taken = socket.create_server(("127.0.0.1", 0))
    case.addCleanup(taken.close)
    return int(taken.getsockname()[1])


def reserve_port() -> int:
    """One that is free."""
    return int(reserve_address().rpartition(":")[2])


class CheckTests(SynchronousTestCase):
    def check(self, text: str, name: str = "mailhost.yaml") -> Result:
        """Run the command on a file with *text*."""
        self.path = file_for(self, text, name)
        return CliRunner().invoke(main, ["check", "--config", str(self.path)])

    def server(self, keys: str = "", port: int = 0) -> Result:
        """Run it on one virtual server whose home can be made."""
        home = directory_for(self)
        listen = f"    listen: ['127.0.0.1:{port}']\n" if port else ""
        return self.check(
            f"virtual_servers:\n  - name: one\n    fqdn: mail.example.com\n    home: {home}\n"
            f"{listen}{keys}"
        )

    def warnings(self, result: Result) -> list[str]:
        """The warnings, without the file's name."""
        self.assertEqual(0, result.exit_code, result.output)
        lines = result.output.splitlines()
        prefix = f"{self.path}:"
        return [line.removeprefix(prefix) for line in lines if ": warning: " in line]

    def test_users_file(self) -> None:
        """A users file that is missing, empty, faulty, without keys, or open to everybody."""
        users = directory_for(self) / "users"
        keys = f"    access: {{scram: true, users: '{users}'}}\n"

        def told() -> str:
            found = self.warnings(self.server(keys, reserve_port()))
            # Somebody else may have taken the port meanwhile, and that is told too.
            (warning,) = [one for one in found if "users" in one]
            self.assertNotIn("$argon2id", warning)
            return warning

        self.assertIn("cannot be read", told())
        users.touch(0o600)
        self.assertIn("has no user", told())
        change_file(users, make_user("kim", "pencil"), "kim")
        self.assertEqual([], self.warnings(self.server(keys, reserve_port())))
        users.chmod(0o644)
        self.assertIn("by every user of this machine", told())
        users.chmod(0o600)
        users.write_text(f"kim:{hash_password('pencil')}\n")
        self.assertIn("has no keys for SCRAM", told())
        users.write_text(make_user("kim", "pencil").line + "\nlee:pencil\n")
        self.assertIn("line 2", told())

    def test_password_file(self) -> None:
        """A password for the next hop that is missing, or open to everybody."""
        secret = directory_for(self) / "secret"
        keys = f"""    delivery:
      smart_host: relay.example.net
      security: {{auth: basic, username: us, password_file: '{secret}', tls: verified}}
"""
        (warning,) = self.warnings(self.server(keys, reserve_port()))
        self.assertIn("cannot be read", warning)
        secret.write_text("the-password\n")
        secret.chmod(0o644)
        (warning,) = self.warnings(self.server(keys, reserve_port()))
        self.assertIn("by every user of this machine", warning)
        self.assertNotIn("the-password", warning)
        secret.chmod(0o600)
        self.assertEqual([], self.warnings(self.server(keys, reserve_port())))

    def test_ldap_servers(self) -> None:
        """Those that take no connection are named, each on its line; off they are not asked."""
        there, gone = f"ldap://127.0.0.1:{listening_port(self)}", f"ldap://{reserve_address()}"
        keys = f"""    ldap:
      enabled: true
      base: dc=example,dc=com
      server:
        - {there}
        - {gone}
        - ldapi://%2Fno%2Fsuch%2Fsocket
"""
        found = [one for one in self.warnings(self.server(keys)) if ".ldap." in one]

        self.assertEqual(2, len(found), found)
        self.assertIn(f"10: virtual_servers[0].ldap.server[1]: warning: {gone} cannot be", found[0])
        self.assertIn("Connection refused; advised: look at its name and port", found[0])
        self.assertIn("No such file or directory", found[1])
        self.patch(binding, "has_kerberos", lambda: False)
        kerberos = self.warnings(self.server(keys + "      binding: service_account\n"))
        self.assertIn("ldap.binding: warning: binding service_account needs", str(kerberos))
        off = self.warnings(self.server(keys.replace("true", "false")))
        self.assertEqual([], [one for one in off if ".ldap." in one])

    def test_faults(self) -> None:
        """Every fault on a line of its own, exit status 1."""
        result = self.check("workers: 0\nuser: no such user\n")

        self.assertEqual(1, result.exit_code)
        lines = result.output.splitlines()
        self.assertEqual(
            [f"{self.path}:1: workers", f"{self.path}:1: virtual_servers", f"{self.path}:2: user"],
            sorted(
                (line.rpartition(": ")[0].rpartition(": ")[0] for line in lines),
                key=lambda line: (line.split(":")[1], "virtual" in line),
            ),
        )

    def test_summary(self) -> None:
        """One line for each virtual server, exit status 0."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        home = directory_for(self)

        result = self.check(
            f"[virtual_server one]\nfqdn = mail.example.com\ndomain = example.com\n"
            f"home = {home}\nlisten = 127.0.0.1:{port}\n"
            "[virtual_server one / access / relay]\nexcept = 127.0.0.1\n"
            "[virtual_server one / domain example.net]\ntype = alias\n",
            "mailhost.ini",
        )

        self.assertEqual(
            (
                0,
                f"one: listens on 127.0.0.1:{port}; domain example.com (alias domains: 1, remote "
                f"domains: 0); home {home}; relays for nobody except 1 listed\n",
            ),
            (result.exit_code, result.output),
        )

    def test_open_relay(self) -> None:
        """An open relay is allowed, and warned of."""
        for relay, key in (
            ("{default: allow}", "default"),
            ("{except: [0.0.0.0/0]}", "except"),
        ):
            result = self.server(f"    access: {{relay: {relay}}}\n", listening_port(self))
            warnings = self.warnings(result)
            self.assertEqual(2, len(warnings), warnings)
            self.assertRegex(
                warnings[1], rf"^6: virtual_servers\[0\]\.access\.relay\.{key}: .*an open relay"
            )

    def test_port_taken(self) -> None:
        """A port that another program has is warned of."""
        port = listening_port(self)

        (warning,) = self.warnings(self.server(port=port))

        place = "5: virtual_servers[0].listen[0]: warning: "
        self.assertIn(f"{place}127.0.0.1:{port} is taken", warning)

    def test_home_that_cannot_be(self) -> None:
        """A home below a file can never be made."""
        blocked = file_for(self, "", "file") / "home"

        warnings = self.warnings(
            self.check(
                f"virtual_servers:\n  - fqdn: a.example\n    home: {blocked}\n"
                f"    listen: ['127.0.0.1:{listening_port(self)}']\n"
            )
        )

        self.assertEqual(2, len(warnings), warnings)
        self.assertIn("3: virtual_servers[0].home: warning: ", warnings[0])
        self.assertIn("is not a directory", warnings[0])

    def test_usage(self) -> None:
        """What the command does not know is exit status 2."""
        for words in ("check --confg x", "check x", "chek", "check --config"):
            arguments = words.split()
            self.assertEqual(2, CliRunner().invoke(main, arguments).exit_code, arguments)

    def test_missing_file(self) -> None:
        """A file that is not there is a fault like others."""
        result = CliRunner().invoke(main, ["check", "--config", "/nonexistent/mailhost.yaml"])

        self.assertEqual(1, result.exit_code)
        self.assertTrue(result.output.startswith("/nonexistent/mailhost.yaml:1: (file): No such"))

    def test_finds_the_shipped_configuration(self) -> None:
        """Without ``--config`` it is the one below the current directory; no reactor is made."""
        code = (
            "import sys\nfrom mailhost.cli import main\n"
            "try:\n    main(['check'])\n"
            "except SystemExit as done:\n"
            "    sys.exit(3 if 'twisted.internet.reactor' in sys.modules else done.code)\n"
        )

        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )

        self.assertEqual(0, done.returncode, done.stderr)
        self.assertTrue(done.stdout.startswith("default: listens on 127.0.0.1:2525; "), done.stdout)

    def test_no_configuration(self) -> None:
        """Where there is none, the places are named and the status is 1."""
        self.patch(reader, "_SYSTEM", directory_for(self))
        self.addCleanup(os.chdir, Path.cwd())
        os.chdir(directory_for(self))

        result = CliRunner().invoke(main, ["check"])

        self.assertEqual(1, result.exit_code)
        self.assertIn("etc/mailhost.yaml", result.output)

    def test_version_and_help(self) -> None:
        """The command tells what it is."""
        self.assertIn("mailhost", CliRunner().invoke(main, ["--version"]).output)
        self.assertIn("check", CliRunner().invoke(main, ["-h"]).output)


class ProbeTests(SynchronousTestCase):
    def test_free_port(self) -> None:
        """Port 0 is always free, and is free again after the probe."""
        self.assertIsNone(probes.probe_address(ListenAddress("127.0.0.1", 0)))

    def test_foreign_address(self) -> None:
        """An address of another machine cannot be listened on."""
        words = probes.probe_address(ListenAddress("192.0.2.1", 0))

        self.assertIsNotNone(words)
        self.assertIn("not an address of this machine", words or "")

    def test_interface_that_is_not_there(self) -> None:
        """A scope without its interface is a warning, not a traceback."""
        words = probes.probe_address(ListenAddress("fe80::1%nowhere0", 0))

        self.assertIn("advised: ", words or "")

    def test_directory(self) -> None:
        """A directory that is there, or can be made, is good."""
        directory = directory_for(self)

        self.assertIsNone(probes.probe_directory(directory))
        self.assertIsNone(probes.probe_directory(directory / "a" / "b"))
        self.assertEqual([], list(directory.iterdir()))

    def test_directory_without_rights(self) -> None:
        """A directory this user may not write, or make, is told apart."""
        directory = directory_for(self)
        directory.chmod(0o500)
        self.addCleanup(directory.chmod, 0o700)
        if os.access(directory, os.W_OK):
            raise SkipTest("this user may write everywhere")

        self.assertIn("by this user", probes.probe_directory(directory) or "")
        self.assertIn("cannot be made", probes.probe_directory(directory / "a") or "")

    def test_rights_are_asked_for(self) -> None:
        """Without the rights, as the system tells them, both cases are warned of."""
        directory = directory_for(self)
        self.patch(os, "access", lambda path, mode: False)

        self.assertIn("by this user", probes.probe_directory(directory) or "")
        self.assertIn("cannot be made", probes.probe_directory(directory / "a") or "")
