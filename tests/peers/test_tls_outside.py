"""Our TLS as scanners see it: sslscan, and OpenSSL's own client."""

from __future__ import annotations

import subprocess
from xml.etree import ElementTree

from tests.peers.test_tls import TLSCase
from tests.support.certificates import Key
from tests.support.peer_case import Server
from tests.support.postfix_tools import installed_program
from tests.support.process import PATIENCE_SECONDS, reserve_address, split_address

OLD = [("ssl", "2"), ("ssl", "3"), ("tls", "1.0"), ("tls", "1.1")]


class OutsideTests(TLSCase):
    def start_both(self, **changes: str) -> tuple[Server, str]:
        """A server that offers STARTTLS, and the address of it where TLS comes first."""
        server = self.make_server(access=self.tls_settings(**changes))
        implicit = reserve_address()
        server.configure(listen=[server.address, {"address": implicit, "tls": "implicit"}])
        server.start()
        return server, implicit

    def scan(self, address: str, *options: str) -> ElementTree.Element:
        """What sslscan has found."""
        report = self.path("scan.xml")
        scanner = installed_program("sslscan")
        # Names the host, as senders do.
        name = "--sni-name=mail.example.com"
        self.run_peer([scanner, "--no-colour", name, f"--xml={report}", *options, address], None, 0)
        (found,) = ElementTree.parse(report).getroot().iter("ssltest")
        return found

    def assert_sound(self, found: ElementTree.Element, versions: list[str]) -> None:
        protocols = {
            (one.attrib["type"], one.attrib["version"]): one.attrib["enabled"] == "1"
            for one in found.iter("protocol")
        }
        self.assertEqual(6, len(protocols))
        enabled = [version for (_, version), on in sorted(protocols.items()) if on]
        self.assertEqual(versions, enabled)
        ciphers = [one.attrib for one in found.iter("cipher")]
        self.assertEqual({f"TLSv{one}" for one in versions}, {c["sslversion"] for c in ciphers})
        for one in ciphers:
            self.assertIn(one["strength"], ("strong", "acceptable"), one)
            self.assertGreaterEqual(int(one["bits"]), 128, one)
            # Forward secrecy: TLS 1.3 knows nothing else.
            self.assertTrue("ecdhebits" in one or "dhebits" in one, one)
        preferred = [c["cipher"] for c in ciphers if c["status"] == "preferred"]
        self.assertTrue(all("GCM" in one or "POLY1305" in one for one in preferred), preferred)
        self.assertEqual(["0"], [one.attrib["supported"] for one in found.iter("renegotiation")])
        self.assertEqual({"0"}, {one.attrib["vulnerable"] for one in found.iter("heartbleed")})
        self.assertNotIn("1", [one.attrib["supported"] for one in found.iter("compression")])

    def test_scanned(self) -> None:
        """ACC-10..12: STARTTLS and implicit TLS, both sorts of keys."""
        server, implicit = self.start_both()
        self.assert_sound(self.scan(server.address, "--starttls-smtp"), ["1.2", "1.3"])
        self.assert_sound(self.scan(implicit), ["1.2", "1.3"])
        self.certificate, self.key = self.authority.issue(
            "rsa", "mail.example.com", key=Key.RSA2048
        )
        server, implicit = self.start_both()
        self.assert_sound(self.scan(server.address, "--starttls-smtp"), ["1.2", "1.3"])

    def test_minimum(self) -> None:
        """ACC-12: nothing below what is configured answers."""
        server, implicit = self.start_both(minimum="1.3")
        self.assert_sound(self.scan(server.address, "--starttls-smtp"), ["1.3"])
        self.assert_sound(self.scan(implicit), ["1.3"])

    def test_chain(self) -> None:
        """openssl follows the whole chain to the root; where a part is missing it says so."""
        whole = self.authority.issue("whole", "mail.example.com", through=True)
        self.certificate, self.key = whole
        server, implicit = self.start_both()
        for address, options in ((server.address, ("-starttls", "smtp")), (implicit, ())):
            said = self.connect(address, *options)
            self.assertIn("Verification: OK", said)
            self.assertIn("Verified peername: mail.example.com", said)
            self.assertIn("Secure Renegotiation IS NOT supported", said)  # TLS 1.3 has none
            self.assertIn("Compression: NONE", said)
            self.assertIn("Early data was not sent", said)
            self.assertIn("\n221 2.0.0 ", said)
        end = b"-----END CERTIFICATE-----\n"
        self.certificate.write_bytes(whole[0].read_bytes().partition(end)[0] + end)
        server, _ = self.start_both()
        self.assertIn(
            "unable to get local issuer certificate",
            self.connect(server.address, "-starttls", "smtp"),
        )

    def connect(self, address: str, *options: str) -> str:
        """What `openssl s_client` says, and what is said in its session."""
        host, port = split_address(address)
        ended = subprocess.run(
            [
                installed_program("openssl"), "s_client", "-connect", f"{host}:{port}", *options,
                "-CAfile", str(self.authority.file), "-verify_hostname", "mail.example.com",
                "-servername", "mail.example.com", "-crlf", "-ign_eof",
            ],
            input="QUIT\n",
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip
        return ended.stdout
