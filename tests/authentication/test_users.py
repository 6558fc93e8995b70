"""Tests for `mailhost.authentication.users`, `hashing` and `mailhost passwd`."""

from __future__ import annotations

import stat
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailhost.authentication.hashing import check_phc, fits, hash_of_nobody, hash_password
from mailhost.authentication.users import change_file, make_user, read_line, read_users
from mailhost.cli import main
from mailhost.errors import AuthenticationProblem, SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.smtp.sasl.ntlm_messages import nt_hash
from mailhost.smtp.sasl.scram import make_keys


class HashTests(SynchronousTestCase):
    def test_password(self) -> None:
        """A hash fits its password and no other; two hashes of one password differ."""
        phc = hash_password("pencil")
        self.assertTrue(fits("pencil", phc))
        self.assertFalse(fits("Pencil", phc))
        self.assertNotEqual(phc, hash_password("pencil"))
        self.assertEqual(phc, check_phc(phc))

    def test_spellings(self) -> None:
        """A password typed with composed or decomposed letters is the same (RFC 4013)."""
        self.assertTrue(fits("u\u0308ber", hash_password("\u00fcber")))

    def test_nobody(self) -> None:
        """What is compared for an unknown name costs as much, and fits nothing."""
        like = "$argon2id$v=19$m=4096,t=3,p=1$" + "A" * 22 + "$" + "A" * 43
        phc = hash_of_nobody(like)
        self.assertTrue(phc.startswith("$argon2id$v=19$m=4096,t=3,p=1$"))
        self.assertFalse(fits("", phc))

    def test_dangerous(self) -> None:
        """A hash that would take gigabytes, or that is not Argon2id, is not used."""
        rest = "$" + "A" * 22 + "$" + "A" * 43
        for head in (
            "$argon2id$v=19$m=4194304,t=1,p=1", "$argon2id$v=19$m=65536,t=99,p=1",
            "$argon2i$v=19$m=65536,t=1,p=1", "$argon2id$v=19$m=65536,t=0,p=1", "$6$rounds=1",
        ):  # fmt: skip
            with self.assertRaises(ValueError) as caught:
                check_phc(head + rest)
            self.assertNotIn("AAAA", str(caught.exception))


class FileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def test_line(self) -> None:
        """A user is written as he is read."""
        user = make_user("kim@example.com", "pencil", ("kim@example.com", "@*.example.net"))
        found = read_line(user.line)
        self.assertEqual(user, found)
        self.assertIsNotNone(found.keys)
        assert found.keys is not None
        self.assertEqual(found.keys, make_keys("pencil", found.keys.salt, found.keys.iterations))
        self.assertTrue(found.account.may_send_as(Mailbox("Kim", "EXAMPLE.com")))
        self.assertTrue(found.account.may_send_as(Mailbox("any", "a.example.net")))
        self.assertFalse(found.account.may_send_as(Mailbox("lee", "example.com")))
        self.assertTrue(found.account.may_send_as(None))

    def test_hash_alone(self) -> None:
        """Other tools write name:hash; whoever has no senders may use any."""
        user = read_line(f"kim:{hash_password('pencil')}")
        self.assertIsNone(user.keys)
        self.assertTrue(user.account.may_send_as(Mailbox("any", "example.org")))

    def test_secrets(self) -> None:
        """What weak mechanisms need stands last, with or without senders; never in words."""
        nt = nt_hash("pencil")
        for senders in (None, ("@example.com",)):
            user = make_user("kim", "pencil", senders, ("nt",))
            self.assertEqual({"nt": nt}, user.secrets)
            self.assertEqual(user, read_line(user.line))
            self.assertTrue(user.line.endswith(f":$nt${nt.hex()}"))
            self.assertNotIn(nt.hex(), repr(user))
        good = make_user("kim", "pencil").line
        for secret in ("$nt$00", f"$nt${'g' * 32}", f"$md5${'0' * 32}", nt.hex(), "x"):
            wrong = self.assertRaises(ValueError, read_line, f"{good}::{secret}")
            self.assertNotIn(secret, str(wrong))

    def test_faults(self) -> None:
        """A bad line is named by its number, without what it holds; the others count."""
        good = make_user("kim", "pencil").line
        text = f"# users\n\n{good}\nlee:plain-text-password\nlonely\n{good}\nx:{good}::\n"
        users, faults = read_users(text)
        self.assertEqual(["kim"], list(users))
        self.assertEqual(
            ["line 4", "line 5", "line 6", "line 7"], [fault.split(":")[0] for fault in faults]
        )
        self.assertNotIn("plain-text-password", "".join(faults))

    def test_names_that_cannot_be(self) -> None:
        """A name that would break the file is refused."""
        for name in ("", "a:b", "#a", "a\x07"):
            with self.assertRaises(SyntaxProblem, msg=name):
                make_user(name, "pencil")
        with self.assertRaises(ValueError):
            make_user("kim", "pencil", ("no address",))

    def test_change(self) -> None:
        """A user keeps his place, remarks stay, and the mode too."""
        self.path.write_text("# ours\nlee:x\n")
        self.path.chmod(0o640)
        self.assertFalse(change_file(self.path, make_user("kim", "a"), "kim"))
        self.assertTrue(change_file(self.path, make_user("KIM", "b"), "KIM"))
        remark, lee, kim = self.path.read_text().splitlines()
        self.assertEqual(("# ours", "lee:x"), (remark, lee))
        self.assertTrue(fits("b", read_line(kim).phc))
        self.assertEqual(0o640, stat.S_IMODE(self.path.stat().st_mode))
        self.assertTrue(change_file(self.path, None, "kim"))
        self.assertEqual("# ours\nlee:x\n", self.path.read_text())
        self.assertFalse(change_file(self.path, None, "kim"))

    def test_readable_by_others(self) -> None:
        """A file that everybody can read is not used."""
        self.path.write_text("")
        self.path.chmod(0o644)
        with self.assertRaises(AuthenticationProblem):
            change_file(self.path, make_user("kim", "a"), "kim")


class CommandTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp())

    def run_command(self, *arguments: str, typed: str = "") -> Result:
        return CliRunner().invoke(main, ["passwd", str(self.path), *arguments], input=typed)

    def test_add_and_change(self) -> None:
        """A new file is for its owner only; a password is typed twice, and not shown."""
        added = self.run_command("kim", typed="pencil\npencil\n")
        self.assertEqual(0, added.exit_code, added.output)
        self.assertIn("kim has been added", added.output)
        self.assertNotIn("pencil", added.output)
        self.assertEqual(0o600, stat.S_IMODE(self.path.stat().st_mode))
        changed = self.run_command("kim", "-i", "-s", "kim@example.com", typed="pen\n")
        self.assertIn("kim has a new password", changed.output)
        user = read_line(self.path.read_text().strip())
        self.assertTrue(fits("pen", user.phc))
        self.assertEqual({}, user.secrets)
        self.assertEqual(("kim@example.com",), user.account.senders)

    def test_ntlm(self) -> None:
        """The hash for NTLM is kept only where it is asked for."""
        self.run_command("kim", "-i", "--ntlm", typed="pencil\n")
        user = read_line(self.path.read_text().strip())
        self.assertEqual({"nt": nt_hash("pencil")}, user.secrets)

    def test_refusals(self) -> None:
        """What cannot be done is told, with exit status 1, and changes nothing."""
        for arguments, typed in (
            (("kim", "-i"), "\n"),
            (("a:b", "-i"), "pencil\n"),
            (("kim", "-i", "-s", "nonsense"), "pencil\n"),
            (("kim", "--delete"), ""),
        ):
            result = self.run_command(*arguments, typed=typed)
            self.assertEqual(1, result.exit_code, result.output)
            self.assertTrue(result.output.startswith("Error: "), result.output)
        self.assertFalse(self.path.exists())

    def test_delete(self) -> None:
        """A user can be removed."""
        self.run_command("kim", "-i", typed="pencil\n")
        self.assertIn("removed", self.run_command("kim", "-D").output)
        self.assertEqual("", self.path.read_text())
