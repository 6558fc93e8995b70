"""Tests for `mailhost.net.server_tls`: handshakes in memory, with Python's own client."""

from __future__ import annotations

import contextlib
import os
import shutil
import ssl
from pathlib import Path
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.task import Clock

from mailhost.net.certificates import CertificateFiles, client_names, names_in
from mailhost.net.server_tls import (
    LOOK_AGAIN_SECONDS,
    ClientCertificates,
    ServerTLS,
    Visitors,
)
from tests.net.test_tls import CertificateCase
from tests.support.certificates import Authority


def shake(
    subject: ServerTLS, client: ssl.SSLContext, name: str | None, session: Any = None
) -> tuple[SSL.Connection, ssl.SSLObject]:
    """Both ends after the handshake, and after what the server says behind it."""
    creator: Any = subject.context_factory()
    server = creator.serverConnectionForTLS(object())
    server.set_accept_state()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(incoming, outgoing, server_hostname=name, session=session)
    shaken = {"client": False, "server": False}
    for _ in range(6):
        try:
            ours.do_handshake() if not shaken["client"] else ours.read(1)
            shaken["client"] = True
        except ssl.SSLWantReadError:
            pass
        if octets := outgoing.read():
            server.bio_write(octets)
        try:
            server.do_handshake() if not shaken["server"] else None
            shaken["server"] = True
        except SSL.WantReadError:
            pass
        with contextlib.suppress(SSL.WantReadError):
            incoming.write(server.bio_read(65536))
    assert all(shaken.values()), shaken
    return server, ours


class ServerTLSCase(CertificateCase):
    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.client = ssl.create_default_context(cafile=str(self.authority.file))
        self.client.check_hostname = False

    def server(self, *files: CertificateFiles, **given: Any) -> ServerTLS:
        return ServerTLS(files, "1.2", self.clock.seconds, **given)

    def shown(self, subject: ServerTLS, name: str | None) -> str:
        """The first name in the certificate that a client sees."""
        _, ours = shake(subject, self.client, name)
        octets = ours.getpeercert(True)
        assert octets is not None
        return names_in(x509.load_der_x509_certificate(octets))[0]


class NameTests(ServerTLSCase):
    def test_by_name(self) -> None:
        """RFC 6066 §3: each name has its certificate; other names, and none, have the first."""
        subject = self.server(
            self.files("a", "mail.example.com"),
            self.files("b", "mail.example.net", "smtp.example.net"),
            self.files("c", "*.example.org"),
        )
        for name, shown in (
            ("mail.example.com", "mail.example.com"),
            ("smtp.example.net", "mail.example.net"),
            ("SMTP.Example.NET", "mail.example.net"),
            ("any.example.org", "*.example.org"),
            ("any.any.example.org", "mail.example.com"),
            ("other.example", "mail.example.com"),
            (None, "mail.example.com"),
        ):
            self.assertEqual(shown, self.shown(subject, name), name)

    def test_renewed(self) -> None:
        """certbot's way: links that are turned around; the next client sees the new one."""
        first, second = self.files("one", "a.example"), self.files("two", "b.example")
        live = self.folder / "live"
        self.turn(live, second)
        subject = self.server(first, CertificateFiles(live / "fullchain", live / "privkey"))
        self.assertEqual("b.example", self.shown(subject, "b.example"))
        self.turn(live, self.files("three", "b2.example", "b.example"))
        self.assertEqual("b.example", self.shown(subject, "b.example"))
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual("b2.example", self.shown(subject, "b.example"))
        (live / "privkey").unlink()
        self.clock.advance(LOOK_AGAIN_SECONDS)
        self.assertEqual("b2.example", self.shown(subject, "b.example"))

    def turn(self, live: Path, files: CertificateFiles) -> None:
        live.mkdir(exist_ok=True)
        for name, path in (("fullchain", files.certificate), ("privkey", files.key_file)):
            fresh = live / f"{name}.new"
            fresh.symlink_to(path)
            os.replace(fresh, live / name)

    def test_minimum(self) -> None:
        """Who is too old is refused, whatever name he asks for."""
        files = self.files("a", "a.example"), self.files("b", "b.example")
        subject = ServerTLS(files, "1.3", self.clock.seconds)
        self.client.maximum_version = ssl.TLSVersion.TLSv1_2
        for name in ("a.example", "b.example"):
            with self.assertRaises((ssl.SSLError, SSL.Error)):
                shake(subject, self.client, name)


class ResumptionTests(ServerTLSCase):
    def test_no_session_is_taken_twice(self) -> None:
        """A22: a session of one virtual server is worth nothing at another, nor at itself."""
        files = self.files()
        one, other = self.server(files), self.server(files)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            self.client.minimum_version = self.client.maximum_version = version
            _, first = shake(one, self.client, "mail.example.com")
            for subject in (other, one):
                _, again = shake(subject, self.client, "mail.example.com", first.session)
                self.assertFalse(again.session_reused)


class VisitorTests(ServerTLSCase):
    def setUp(self) -> None:
        super().setUp()
        folder = self.folder / "visitors"
        folder.mkdir()
        self.visitors = Authority(folder)
        self.own = self.visitors.issue("kim", "kim.example", mailboxes=("kim@example.com",))

    def names(self, policy: ClientCertificates, *shown: Path, name: str = "a.example") -> Any:
        subject = self.server(
            self.files("a", "a.example"),
            self.files("b", "b.example"),
            visitors=Visitors(self.visitors.file, policy),
        )
        client = ssl.create_default_context(cafile=str(self.authority.file))
        client.check_hostname = False
        if shown:
            client.load_cert_chain(*shown)
        server, _ = shake(subject, client, name)
        return subject.client_names(server)

    def test_asked(self) -> None:
        """Who has one of the authority's is known by it; all others are strangers, and served."""
        ask, known = ClientCertificates.ASK, ("kim@example.com", "kim.example")
        for name in ("a.example", "b.example"):
            self.assertEqual(known, self.names(ask, *self.own, name=name))
            self.assertEqual((), self.names(ask, name=name))
            stranger = self.authority.issue("stranger", "kim.example")
            self.assertEqual((), self.names(ask, *stranger, name=name))
        expired = self.visitors.issue("old", "kim.example", days=-1)
        self.assertEqual((), self.names(ask, *expired))

    def test_required(self) -> None:
        """No handshake without one, or with another authority's."""
        require = ClientCertificates.REQUIRE
        for name in ("a.example", "b.example"):
            self.assertTrue(self.names(require, *self.own, name=name))
            for shown in ((), self.authority.issue("stranger", "kim.example")):
                with self.assertRaises((ssl.SSLError, SSL.Error)):
                    self.names(require, *shown, name=name)

    def test_not_asked(self) -> None:
        """Nobody shows what nobody has asked for."""
        self.assertEqual((), self.names(ClientCertificates.NONE, *self.own))

    def test_names(self) -> None:
        """Addresses, DNS names, then the common name; each once."""
        octets = self.own[0].read_bytes()
        found = client_names(x509.load_pem_x509_certificate(octets))
        self.assertEqual(("kim@example.com", "kim.example"), found)

    def test_authorities_that_cannot_be_read(self) -> None:
        """Then there is no TLS, rather than strangers who pass for known."""
        shutil.rmtree(self.folder / "visitors")
        visitors = Visitors(self.visitors.file, ClientCertificates.ASK)
        self.assertIsNone(self.server(self.files(), visitors=visitors).context_factory())
