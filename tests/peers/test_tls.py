"""TLS in both directions, with clients and servers that are not ours."""

from __future__ import annotations

import os
import shutil
import signal
import smtplib
import socket
import ssl
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority
from tests.support.peer_case import SENDER, PeerCase, Server, content
from tests.support.process import PATIENCE_SECONDS, reserve_address, split_address


class TLSCase(PeerCase):
    """Has an authority."""

    def setUp(self) -> None:
        super().setUp()
        folder = self.path("tls")
        folder.mkdir()
        self.authority = Authority(folder)
        self.certificate, self.key = self.authority.issue("mail", "mail.example.com")
        self.client = ssl.create_default_context(cafile=str(self.authority.file))

    def tls_settings(self, **changes: Any) -> dict[str, Any]:
        files = {"certificate": str(self.certificate), "key": str(self.key)}
        return {"tls": files | changes}


def heard(peer: socket.socket, words: bytes) -> bytes:
    """What the server says until it has said *words*."""
    said = b""
    while words not in said:
        block = peer.recv(4096)
        if not block:
            raise AssertionError(f"the server has closed after {said!r}")
        said += block
    return said


def greeted(peer: socket.socket) -> bytes:
    """The banner, and the answer to EHLO."""
    said = heard(peer, b"220 ")
    peer.sendall(b"EHLO x\r\n")
    return said + heard(peer, b"250 ")


class InboundTests(TLSCase):
    def start_tls_server(self, **changes: Any) -> Server:
        return self.start_server(access=self.tls_settings(**changes))

    def session(self, server: Server) -> smtplib.SMTP:
        client = server.client()
        self.addCleanup(client.close)
        # smtplib checks the certificate against this name.
        client._host = "mail.example.com"  # type: ignore[attr-defined]  # its only way
        return client

    def test_starttls(self) -> None:
        """A verifying client sends through TLS, and Received says so (RFC 3848)."""
        server = self.start_tls_server()
        client = self.session(server)
        client.ehlo()
        self.assertIn("starttls", client.esmtp_features)
        client.starttls(context=self.client)
        client.ehlo()
        self.assertNotIn("starttls", client.esmtp_features)
        client.sendmail(SENDER, "user@example.com", content("one"))

        (delivered,) = server.wait_for_drop("user@example.com")
        self.assertIn(b" with ESMTPS id ", delivered.content)

    def test_swaks(self) -> None:
        """swaks agrees."""
        server = self.start_tls_server()
        said = self.swaks(server.address, "--tls", "--from", SENDER, "--to", "user@example.com")

        self.assertIn("=== TLS started with cipher TLSv1.3", said)
        server.wait_for_drop("user@example.com")

    def test_certificate_of_an_address(self) -> None:
        """ACC-10: an address shows its own certificate, also when it is exchanged by a reload."""
        server = self.make_server(access=self.tls_settings())
        other = reserve_address()
        shown = [self.authority.issue(f"other{n}", f"other{n}.example.com") for n in (1, 2)]

        def listen(certificate: Path, key: Path) -> list[Any]:
            own = {"address": other, "certificate": str(certificate), "key": str(key)}
            return [server.address, own]

        server.configure(listen=listen(*shown[0]))
        server.start()
        self.assertEqual("mail.example.com", self.name_at(server.address))
        self.assertEqual("other1.example.com", self.name_at(other))
        server.configure(listen=listen(*shown[1]))
        server.process.send_signal(signal.SIGHUP)
        server.process.wait_until(
            lambda: self.name_at(other) == "other2.example.com", "the new certificate"
        )
        self.assertEqual("mail.example.com", self.name_at(server.address))

    def name_at(self, address: str) -> str:
        """The name in the certificate that *address* shows."""
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.check_hostname = False
        with smtplib.SMTP(*split_address(address), timeout=PATIENCE_SECONDS) as client:
            client.starttls(context=context)
            told: Any = client.sock.getpeercert()  # type: ignore[union-attr]
            ((_, name),) = told["subjectAltName"]
            return str(name)

    def test_behind_a_proxy(self) -> None:
        """PROXY comes first, on an address where TLS comes first as well."""
        server = self.make_server(access=self.tls_settings() | {"proxies": ["127.0.0.1"]})
        server.configure(listen=[{"address": server.address, "tls": "implicit", "proxy": True}])
        server.start()
        with socket.create_connection(split_address(server.address), PATIENCE_SECONDS) as peer:
            peer.sendall(b"PROXY TCP4 203.0.113.9 198.51.100.1 40001 465\r\n")
            with self.client.wrap_socket(peer, server_hostname="mail.example.com") as secure:
                self.assertEqual(b"220 ", secure.recv(4096)[:4])
                secure.sendall(b"EHLO x\r\n")
                self.assertIn(b"Hello [203.0.113.9]", secure.recv(4096))

    def test_everything_is_forgotten(self) -> None:
        """RFC 3207 §4.2: after the handshake MAIL needs a new EHLO, and STARTTLS is over."""
        client = self.session(self.start_tls_server())
        client.ehlo()
        client.starttls(context=self.client)

        self.assertEqual(503, client.mail(SENDER)[0])
        client.ehlo()
        self.assertEqual(503, client.docmd("STARTTLS")[0])
        self.assertEqual(250, client.mail(SENDER)[0])

    def test_required(self) -> None:
        """ACC-11: no mail before TLS, and mail after it."""
        client = self.session(self.start_tls_server(require=True))
        client.ehlo()
        refused = client.mail(SENDER)
        client.starttls(context=self.client)
        client.ehlo()

        self.assertEqual(530, refused[0])
        self.assertIn(b"5.7.0", refused[1])
        self.assertEqual(250, client.mail(SENDER)[0])

    def test_octets_behind_starttls(self) -> None:
        """A10: commands sent in clear behind STARTTLS end the session unexecuted."""
        server = self.start_tls_server()
        with socket.create_connection(split_address(server.address), PATIENCE_SECONDS) as peer:
            said = greeted(peer)
            peer.sendall(b"STARTTLS\r\nNOOP\r\n")
            while block := peer.recv(4096):
                said += block

        self.assertTrue(said.rstrip().splitlines()[-1].startswith(b"554 5.5.0"), said)
        self.assertNotIn(b"220 2.0.0", said)

    def test_no_handshake(self) -> None:
        """A14: garbage in place of a handshake ends the session, not the server."""
        server = self.start_tls_server()
        with socket.create_connection(split_address(server.address), PATIENCE_SECONDS) as peer:
            said = greeted(peer)
            peer.sendall(b"STARTTLS\r\n")
            said += heard(peer, b"220 2.0.0")
            peer.sendall(b"MAIL FROM:<a@example.org>\r\n")
            while block := peer.recv(4096):
                said += block

        self.assertNotIn(b"250 2.1.0", said)
        server.submit("user@example.com")
        server.wait_for_drop("user@example.com")
        self.assertNotIn("Traceback", server.process.said())

    def test_implicit(self) -> None:
        """GEN-05: a listening address where every session begins with TLS."""
        secure = reserve_address()
        server = self.make_server(access=self.tls_settings())
        server.configure(listen=[server.address, {"address": secure, "tls": "implicit"}])
        server.start()
        host, port = split_address(secure)
        context = ssl.create_default_context(cafile=str(self.authority.file))
        context.check_hostname = False
        with smtplib.SMTP_SSL(host, port, context=context, timeout=PATIENCE_SECONDS) as client:
            client.ehlo()
            offered = set(client.esmtp_features)
            client.sendmail(SENDER, "user@example.com", content("one"))

        self.assertNotIn("starttls", offered)
        (delivered,) = server.wait_for_drop("user@example.com")
        self.assertIn(b" with ESMTPS id ", delivered.content)

    def test_minimum(self) -> None:
        """ACC-12: a client of an older version is turned away."""
        server = self.start_tls_server(minimum="1.3")
        client = self.session(server)
        client.ehlo()
        self.client.maximum_version = ssl.TLSVersion.TLSv1_2

        with self.assertRaises(ssl.SSLError):
            client.starttls(context=self.client)

    def test_faulty_certificate(self) -> None:
        """A key that belongs to another certificate: 454, mail in clear, and words in the log."""
        _, other = self.authority.issue("other", "mail.example.com")
        server = self.start_server(access=self.tls_settings(key=str(other)))
        client = self.session(server)
        client.ehlo()

        self.assertEqual(454, client.docmd("STARTTLS")[0])
        self.assertEqual(250, client.mail(SENDER)[0])
        server.process.wait_for_words("is not the key of")


class OutboundTests(TLSCase):
    def start_pair(self, access: dict[str, Any], **security: Any) -> tuple[Server, Server]:
        """A server that sends all to a second one, which takes all for example.com."""
        second = self.start_server(access=access)
        host, port = split_address(second.address)
        first = self.start_server(
            domain="first.example",
            access={"relay": {"except": ["127.0.0.1"]}} | self.tls_settings(),
            delivery={
                "smart_host": f"relay.example:{port}",
                "security": security,
                "outbound": {"retry": ["1s"]},
            },
            resolver=self.start_dns({"relay.example": {"A": [host]}}),
        )
        return first, second

    def received(self, server: Server) -> bytes:
        (delivered,) = server.wait_for_drop("user@example.com")
        return delivered.content.partition(b"\r\n\r\n")[0]

    def test_opportunistic(self) -> None:
        """TLS where it is offered, whatever the certificate says."""
        first, second = self.start_pair(self.tls_settings())
        first.submit("user@example.com")

        self.assertIn(b" with ESMTPS id ", self.received(second))

    def test_not_offered(self) -> None:
        """Opportunistic: clear text where there is no TLS."""
        first, second = self.start_pair({})
        first.submit("user@example.com")

        self.assertIn(b" with ESMTP id ", self.received(second))

    def test_none(self) -> None:
        """The operator may want clear text."""
        first, second = self.start_pair(self.tls_settings(), tls="none")
        first.submit("user@example.com")

        self.assertIn(b" with ESMTP id ", self.received(second))

    def test_no_certificate_there(self) -> None:
        """RFC 7435: STARTTLS that the peer cannot do now is followed by mail in clear."""
        _, other = self.authority.issue("other", "mail.example.com")
        first, second = self.start_pair(self.tls_settings(key=str(other)))
        first.submit("user@example.com")

        self.assertIn(b" with ESMTP id ", self.received(second))

    def test_required_and_not_offered(self) -> None:
        """A66: mail waits rather than go in clear, and says why."""
        first, second = self.start_pair({}, tls="required")
        first.submit("user@example.com")

        waiting = first.wait_for_attempts("user@example.com")
        self.assertIn("TLS is required, and STARTTLS is not offered", waiting.words)
        self.assertEqual([], second.root.drop_for("user@example.com"))

    def test_verified(self) -> None:
        """A certificate for the host we meant, from an authority we trust."""
        self.certificate, self.key = self.authority.issue("relay", "relay.example")
        first, second = self.start_pair(
            self.tls_settings(), tls="verified", ca=str(self.authority.file)
        )
        first.submit("user@example.com")

        self.assertIn(b" with ESMTPS id ", self.received(second))

    def test_requiretls(self) -> None:
        """RFC 8689: asked for through TLS, and promised by the next host."""
        self.certificate, self.key = self.authority.issue("relay", "relay.example")
        first, second = self.start_pair(self.tls_settings(), ca=str(self.authority.file))
        with first.client() as client:
            client._host = "relay.example"  # type: ignore[attr-defined]  # its only way
            client.ehlo()
            self.assertNotIn("requiretls", client.esmtp_features)
            client.starttls(context=self.client)
            client.ehlo()
            self.assertIn("requiretls", client.esmtp_features)
            client.sendmail(SENDER, "user@example.com", content(), ["REQUIRETLS"])

        self.assertIn(b" with ESMTPS id ", self.received(second))

    def test_verified_for_another_host(self) -> None:
        """Mail waits when the certificate is for somebody else."""
        first, _ = self.start_pair(self.tls_settings(), tls="verified", ca=str(self.authority.file))
        first.submit("user@example.com")

        waiting = first.wait_for_attempts("user@example.com")
        self.assertIn("its certificate is not for relay.example", waiting.words)

    def test_verified_by_a_stranger(self) -> None:
        """Mail waits when nobody we trust has signed the certificate."""
        self.certificate, self.key = self.authority.issue("relay", "relay.example")
        folder = self.path("stranger")
        folder.mkdir()
        first, _ = self.start_pair(
            self.tls_settings(), tls="required", verify=True, ca=str(Authority(folder).file)
        )
        first.submit("user@example.com")

        waiting = first.wait_for_attempts("user@example.com")
        self.assertIn("certificate verify failed", waiting.words)

    def test_renewed(self) -> None:
        """Renewed files are used without a restart."""
        server = self.start_server(access=self.tls_settings())
        first = self.peer_certificate(server)
        for old, new in zip(
            (self.certificate, self.key),
            self.authority.issue("next", "mail.example.com"),
            strict=True,
        ):
            shutil.copy(new, f"{old}.new")
            os.replace(f"{old}.new", old)

        # Looked at once in so many seconds; a reload looks at once.
        server.process.send_signal(signal.SIGHUP)
        server.process.wait_until(
            lambda: self.peer_certificate(server) != first, "the new certificate"
        )

    def peer_certificate(self, server: Server) -> bytes:
        with server.client() as client:
            client.ehlo()
            client._host = "mail.example.com"  # type: ignore[attr-defined]  # its only way
            client.starttls(context=self.client)
            assert isinstance(client.sock, ssl.SSLSocket)
            return client.sock.getpeercert(True) or b""
