"""Tests for `mailhost.config.settings.security`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailhost.config.settings.security import HTTPS, OAuthKeys, SecurityKeys
from mailhost.model.security import Login, Secret, TLSLevel, TokenGrant

URL = "https://login.example/token"
SECRET = Secret("hidden")


class TokenTests(SynchronousTestCase):
    def test_grants(self) -> None:
        """By client credentials, by a refresh token, or both."""
        file = Path("x")
        for given in (
            {"client_secret": SECRET},
            {"client_secret_file": file},
            {"refresh_token": SECRET},
            {"refresh_token_file": file, "client_secret": SECRET},
        ):
            keys: Any = {"token_url": URL, "client_id": "us", **given}
            grant = OAuthKeys(**keys).grant()
            self.assertEqual(TokenGrant(URL, "us", **given), grant)  # type: ignore[arg-type]
            assert grant is not None
            self.assertEqual("refresh" in str(given), grant.refreshes)
        self.assertIsNone(OAuthKeys().grant())

    def test_incomplete_grants(self) -> None:
        """What an endpoint could not be asked with."""
        cases: tuple[dict[str, Any], ...] = (
            {"token_url": URL},
            {"client_id": "us"},
            {"client_secret": SECRET},
            {"refresh_token_file": Path("x")},
            {"token_url": URL, "client_id": "us"},
            {"client_secret": SECRET, "client_secret_file": Path("x")},
            {"refresh_token": SECRET, "refresh_token_file": Path("x")},
        )
        for given in cases:
            self.assertRaises(ValueError, OAuthKeys, **given)

    def test_addresses(self) -> None:
        """Nothing but HTTPS, and nothing that hides where it leads."""
        self.assertEqual(URL, HTTPS.parse(f" {URL} "))
        for text in (
            "http://login.example/", "login.example", "https://", "https://a:0/", "https://a:x/",
            "https://u@a/", "https://u:p@a/", "https://a/#b", "https://a/ b", "https://\u00e4/",
        ):  # fmt: skip
            self.assertRaises(ValueError, HTTPS.parse, text)

    def test_labels(self) -> None:
        """Ways to log in as one account are told apart, since their sessions must be; no secret."""
        grant = TokenGrant(URL, "us", SECRET)
        other = TokenGrant(URL, "them", SECRET)
        logins = [
            Login("kim", SECRET),
            Login("kim", SECRET, mechanisms=("NTLM",)),
            Login("kim", password_file=Path("one")),
            Login("kim", password_file=Path("two")),
            Login("kim", Secret("", variable="RELAY")),
            Login("kim", mechanisms=("XOAUTH2",), tokens=grant),
            Login("kim", mechanisms=("XOAUTH2",), tokens=other),
            Login("kim", mechanisms=("GSSAPI",), keytab=Path("keytab")),
            Login("lee", SECRET),
        ]
        labels = [one.label for one in logins]
        self.assertEqual(len(labels), len(set(labels)))
        self.assertEqual("kim", labels[0])
        self.assertNotIn("hidden", "".join(labels))

    def test_tickets(self) -> None:
        """Kerberos takes a principal and a keytab, and nothing else."""
        ticket, keytab = ("GSSAPI",), Path("keytab")
        login = SecurityKeys(ticket, "kim@EXAMPLE.COM", keytab=keytab).security().login
        assert login is not None
        self.assertEqual((keytab, ticket), (login.keytab, login.mechanisms))
        self.assertRaises(ValueError, SecurityKeys, ticket, "kim@EXAMPLE.COM")
        self.assertRaises(ValueError, SecurityKeys, ticket, None, keytab=keytab)
        self.assertRaises(ValueError, SecurityKeys, ticket, "kim", SECRET, keytab=keytab)
        self.assertRaises(ValueError, SecurityKeys, ("PLAIN",), "kim", SECRET, keytab=keytab)

    def test_login(self) -> None:
        """Needs a name and a grant, takes no password; the host has to prove who it is."""
        grant = TokenGrant(URL, "us", SECRET)
        tokens = ("XOAUTH2", "OAUTHBEARER")
        security = SecurityKeys(tokens, "kim", oauth=grant).security()
        self.assertIs(TLSLevel.VERIFIED, security.tls)
        assert security.login is not None
        self.assertEqual((grant, tokens), (security.login.tokens, security.login.mechanisms))
        self.assertIs(
            TLSLevel.REQUIRED,
            SecurityKeys(tokens, "kim", oauth=grant, tls=TLSLevel.REQUIRED).security().tls,
        )
        self.assertRaises(ValueError, SecurityKeys, tokens, "kim")
        self.assertRaises(ValueError, SecurityKeys, tokens, None, oauth=grant)
        self.assertRaises(ValueError, SecurityKeys, tokens, "kim", SECRET, oauth=grant)
        self.assertRaises(ValueError, SecurityKeys, ("PLAIN",), "kim", SECRET, oauth=grant)
        self.assertRaises(ValueError, SecurityKeys, (), oauth=grant)
