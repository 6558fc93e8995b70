"""Contents that not every host takes: they go as they are, converted, or come back."""

from __future__ import annotations

from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from mailhost.model.queue import QueuedMessage
from mailhost.relay.fitting import fitted
from mailhost.spool.content import MemoryContent
from tests.relay.test_asked import AskedCase
from tests.support.world import make_settings

BINARY = b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\n\r\r\n.\r\n\xff"
SIGNED = (
    b"Content-Type: multipart/signed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: image/x\r\n\r\n\0\xff\r\n--b--\r\n"
)


class FittingCase(AskedCase):
    def sent(self, content: bytes, body: str, *keywords: str) -> tuple[str, bytes]:
        """MAIL, and the content that a host got which offers *keywords*."""
        self.offer(*keywords)
        self.submit("a@remote.example", content=content, body=body)
        self.run_for(10)  # the session ends
        mail, _, octets = self.host.envelopes[-1]
        return mail, octets


class BinaryTests(FittingCase):
    def test_as_it_is(self) -> None:
        """RFC 3030 §3: by BDAT, to a host that takes any octets."""
        mail, octets = self.sent(BINARY, "BINARYMIME", "CHUNKING", "BINARYMIME", "SIZE")

        self.assertTrue(mail.endswith(f" SIZE={len(BINARY)} BODY=BINARYMIME"), mail)
        self.assertEqual(BINARY, octets)

    def test_encoded(self) -> None:
        """In base64, to any other."""
        for keywords in (("8BITMIME",), ("CHUNKING", "8BITMIME"), ("BINARYMIME", "SIZE"), ()):
            mail, octets = self.sent(BINARY, "BINARYMIME", *keywords)
            self.assertNotIn("BINARYMIME", mail)
            self.assertTrue(octets.endswith(b"\r\n\r\nAAoNDQouDQr/\r\n"), octets)
            self.assertEqual("SIZE" in keywords, f" SIZE={len(octets)}" in mail)

    def test_text_after_all(self) -> None:
        """What was only said to be binary goes as what it is."""
        mail, octets = self.sent(b"\r\n\xe4\r\n", "BINARYMIME", "8BITMIME")
        self.assertTrue(mail.endswith(" BODY=8BITMIME"))
        self.assertEqual(b"\r\n\xe4\r\n", octets)
        mail, octets = self.sent(b"\r\nx\r\n", "BINARYMIME", "8BITMIME")
        self.assertNotIn("BODY", mail)

    def test_sealed(self) -> None:
        """5.6.1, where nothing may be changed; after every host of the domain was asked."""
        self.names.exchanges["remote.example"] += [(20, "mx2.remote.example")]
        self.offer("8BITMIME")
        self.second.says["EHLO"] = "250 mx2"

        self.submit("a@remote.example", content=SIGNED, body="BINARYMIME")

        self.assertEqual([("failed", "5.6.1")], self.statuses())
        self.assertEqual((1, 1), (self.host.connections, self.second.connections))
        self.second.says["EHLO"] = "250-mx2\r\n250-CHUNKING\r\n250 BINARYMIME"
        self.run_for(10)
        self.submit("a@remote.example", content=SIGNED, body="BINARYMIME")
        self.assertEqual([SIGNED], [content for _, _, content in self.second.envelopes])
        self.assertEqual(1, len(self.statuses()))


class TextTests(FittingCase):
    def test_undeclared(self) -> None:
        """A client may have sent octets above 127 without a word; the host takes none."""
        _, octets = self.sent(b"\r\nna\xefve\r\n", "7BIT")
        self.assertTrue(octets.endswith(b"\r\n\r\nna=EFve\r\n"))

    def test_long_lines(self) -> None:
        """RFC 5321 §4.5.3.1.6: where the operator lets them in, they are wrapped on the way out."""
        settings = make_settings()
        messages = evolve(settings.messages, max_line_length=None)
        self.relay = self.make_relay(evolve(settings, messages=messages))
        long = b"\r\n" + b"a" * 1000 + b"\r\n"

        _, octets = self.sent(long, "7BIT", "8BITMIME")

        self.assertIn(b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\naaa", octets)
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 77)
        self.assertEqual(b"\r\nx\r\n", self.sent(b"\r\nx\r\n", "7BIT", "8BITMIME")[1])


class _Blocks:
    """Comes in blocks, some of them later."""

    def __init__(self, octets: bytes) -> None:
        self.size = len(octets)
        self.blocks = [octets[start : start + 3] for start in range(0, len(octets), 3)] + [b""]
        self.waiting: list[Deferred[bytes]] = []
        self.closed = False

    def read(self) -> Any:
        if len(self.blocks) % 2:
            return self.blocks.pop(0)
        later: Deferred[bytes] = Deferred()
        self.waiting.append(later)
        return later

    def give(self) -> None:
        while self.waiting:
            self.waiting.pop().callback(self.blocks.pop(0))

    def close(self) -> None:
        self.closed = True


class ContentTests(FittingCase):
    def test_from_a_disk(self) -> None:
        """Blocks that come later: nothing is lost, and the size is what comes out."""
        message = QueuedMessage(1, "x", None, "BINARYMIME", len(BINARY), 0.0)
        opened = [MemoryContent(BINARY), MemoryContent(BINARY), MemoryContent(BINARY)]
        last = _Blocks(BINARY)

        class Store:
            def open_content(self, message: QueuedMessage) -> Any:
                return opened.pop() if opened else last

        store: Any = Store()
        fit = self.successResultOf(Deferred.fromCoroutine(fitted(store, message, {})))
        gathered = b""
        while True:
            block = fit.content.read()
            if not isinstance(block, bytes):
                last.give()
                block = self.successResultOf(block)
            if not block:
                break
            gathered += block
        fit.content.close()

        self.assertTrue(last.closed)
        self.assertEqual(fit.content.size, len(gathered))
        self.assertTrue(gathered.endswith(b"\r\n\r\nAAoNDQouDQr/\r\n"))
