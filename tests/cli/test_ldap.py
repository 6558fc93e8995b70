"""Tests for ``mailhost ldap``, with a real directory."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailhost.cli import main
from tests.config.files import file_for
from tests.support.process import reserve_address
from tests.support.slapd import AD, MISSING, PEOPLE, SHARED, Slapd


def page(url: str, base: str = AD, **more: Any) -> dict[str, Any]:
    return {"enabled": True, "server": url, "base": base, **more}


class LDAPCase(SynchronousTestCase):
    if MISSING:
        skip = MISSING

    def setUp(self) -> None:
        self.slapd: Slapd = SHARED.get()

    def run_on(self, pages: dict[str, dict[str, Any]], *words: str) -> Result:
        """``mailhost ldap`` with virtual servers that have these LDAP pages."""
        servers = [
            {
                "name": name,
                "fqdn": "mail.example.com",
                "domain": "ad.example.com",
                "home": f"no such folder/{name}",
                "listen": [f"127.0.0.1:{25250 + number}"],
                "ldap": keys,
            }
            for number, (name, keys) in enumerate(pages.items())
        ]
        path = file_for(self, json.dumps({"virtual_servers": servers}), "mailhost.yaml")
        return CliRunner().invoke(main, ["ldap", *words, "--config", str(path)])

    def run_ldap(self, *words: str) -> Result:
        return self.run_on({"one": page(self.slapd.url)}, *words)


class ResolveTests(LDAPCase):
    def test_user(self) -> None:
        """Where it goes, and which question said so."""
        result = self.run_ldap("resolve", "away@ad.example.com")

        self.assertEqual(0, result.exit_code, result.output)
        self.assertIn("(proxyAddresses=smtp:away@ad.example.com)", result.output)
        self.assertIn("user away@ad.example.com: cn=away,ou=People", result.output)
        self.assertIn("\nto clerk@ad.example.com\n", result.output)

    def test_unqualified(self) -> None:
        """Completed as at RCPT."""
        self.assertIn("\nto clerk@ad.example.com\n", self.run_ldap("resolve", "clerk").output)

    def test_group(self) -> None:
        """A group's members, and who hears of failures."""
        said = self.run_ldap("resolve", "silent@ad.example.com").output

        self.assertIn("to the group silent@ad.example.com", said)
        self.assertIn("1 recipients, failures to: nobody\n        clerk@ad.example.com\n", said)
        self.assertIn("1 recipients, failures to: helper@ad.example.com", said)
        self.assertIn("and 4980 more", self.run_ldap("resolve", "everybody").output)
        self.assertIn("refused ring.a@ad", self.run_ldap("resolve", "mixed").output)

    def test_refused(self) -> None:
        """The reply that a client would hear; exit status 1."""
        result = self.run_ldap("resolve", "nobody@example.net")

        self.assertEqual(1, result.exit_code)
        self.assertIn("nobody@example.net is in no local domain", result.output)
        self.assertIn("refused: 550 5.1.1 User unknown: nobody@example.net", result.output)

    def test_no_answer(self) -> None:
        """A directory that is down, in words; exit status 1."""
        nowhere = page(f"ldap://{reserve_address()}")
        for words in (("resolve", "a"), ("resolve", "a", "--json")):
            result = self.run_on({"one": nowhere}, *words)
            self.assertEqual(1, result.exit_code)
            self.assertIn("4.4.3 no directory server answers", result.output)

    def test_group_too_large(self) -> None:
        """A group beyond max_members is refused, and said to be."""
        pages = {"one": page(self.slapd.url, max_members=10)}
        told = json.loads(self.run_on(pages, "resolve", "everybody", "--json").output)

        self.assertEqual("5.5.3", told["groups"][0]["refused"]["status"])
        said = self.run_on(pages, "resolve", "everybody").output
        self.assertIn("refused: 5.5.3 Group has more than 10 recipients", said)

    def test_json(self) -> None:
        """All of it for programs."""
        told = json.loads(self.run_ldap("resolve", "owned", "--json").output)

        self.assertEqual(("group", True), (told["kind"], told["local"]))
        (part,) = told["groups"][0]["parts"]
        self.assertEqual("helper@ad.example.com", part["owner"])
        self.assertEqual(["clerk@ad.example.com", "helper@ad.example.com"], part["recipients"])
        self.assertEqual(1, told["steps"][0]["count"])
        told = json.loads(self.run_ldap("resolve", "nobody", "--json").output)
        self.assertEqual("5.1.1", told["refused"]["status"])

    def test_home(self) -> None:
        """The home server stands behind the address."""
        pages = {"one": page(self.slapd.url, home_servers=["MAIL1=mail1.example.com"])}

        said = self.run_on(pages, "resolve", "homed").output

        self.assertIn("to homed@ad.example.com at mail1.example.com", said)


class CheckTests(LDAPCase):
    def test_findings(self) -> None:
        """What is right and what is advised; no fault."""
        result = self.run_ldap("check")

        self.assertEqual(0, result.exit_code, result.output)
        self.assertIn(f"good    {self.slapd.url}: Connected and bound (anonymous)", result.output)
        self.assertIn("advice  One server only", result.output)

    def test_fault(self) -> None:
        """A base that is not there; exit status 1, in JSON too."""
        result = self.run_on({"one": page(self.slapd.url, "dc=nowhere")}, "check", "--json")

        self.assertEqual(1, result.exit_code)
        faults = [one["words"] for one in json.loads(result.output) if one["weight"] == "fault"]
        self.assertTrue(faults[0].startswith("The base dc=nowhere: the server has "), faults)


class ChoiceTests(LDAPCase):
    def test_which_server(self) -> None:
        """The only one with a directory; of several the one that is named."""
        ours, theirs = page(self.slapd.url), page(self.slapd.url, PEOPLE, schema="inetorgperson")
        none: dict[str, Any] = {"enabled": False}
        cases = (
            ({"one": none, "two": ours}, (), 0, "to clerk@"),
            ({"one": ours, "two": theirs}, (), 2, "--server: one of one, two"),
            ({"one": ours, "two": theirs}, ("--server", "one"), 0, "to clerk@"),
            ({"one": ours}, ("--server", "three"), 2, "there is no virtual server 'three'"),
            ({"one": none}, (), 2, "no virtual server has ldap.server and ldap.base"),
        )
        for pages, more, status, words in cases:
            result = self.run_on(pages, "resolve", "clerk", *more)
            self.assertEqual(status, result.exit_code, result.output)
            self.assertIn(words, result.output)

    def test_wrong(self) -> None:
        """A faulty configuration, and what is no address."""
        result = self.run_on({"one": {"enabled": True}}, "check")
        self.assertEqual(1, result.exit_code)
        self.assertIn("server: nobody to ask", result.output)

        result = self.run_ldap("resolve", "a b")
        self.assertEqual(2, result.exit_code)
        self.assertIn("a b is not an address", result.output)
