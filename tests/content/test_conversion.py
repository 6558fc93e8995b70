"""Tests for `mailhost.content.conversion`, `mime` and `encodings`."""

from __future__ import annotations

import binascii
import email
import random
import time
from email.message import Message
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.content.mime import MAX_DEPTH, MAX_ENTITIES, Unreadable
from tests.content.converted import converted

MIXED = b'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="-b ?"\r\n'
UTF8 = b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
GREETING = "Guten Tag, und alles Gute zum Geburtstag, lieber J\u00f6rg!\r\n".encode()
SMALL = b"\xe4\xe4\r\n"


def leaves(octets: bytes) -> list[tuple[str, Any]]:
    """Type and decoded body of whatever has no parts, as Python's parser sees it."""
    message = email.message_from_bytes(octets)
    return [
        (part.get_content_type(), part.get_payload(decode=True))
        for part in message.walk()
        if not part.is_multipart()
    ]


def of_parts(
    *parts: bytes, kind: bytes = b"mixed", more: bytes = b"", boundary: bytes = b"-b ?"
) -> bytes:
    """A multipart with everything that may stand around its parts."""
    head = b'MIME-Version: 1.0\r\nContent-Type: multipart/%b; boundary="%b"\r\n' % (kind, boundary)
    inner = b"".join(b"--%b\r\n%b" % (boundary, part) for part in parts)
    return b"%b%b\r\nbefore\r\n%b--%b--\r\nbehind\r\n--other\r\n" % (head, more, inner, boundary)


class EncodedTests(SynchronousTestCase):
    def test_text(self) -> None:
        """Text in few letters of others stays legible."""
        encodings, octets = converted(b"Subject: x\r\n" + UTF8 + GREETING, eight_bit=False)

        self.assertEqual({0: "quoted-printable"}, encodings)
        self.assertTrue(octets.isascii())
        self.assertIn(b"lieber J=C3=B6rg!\r\n", octets)
        self.assertEqual([("text/plain", GREETING)], leaves(octets))

    def test_text_in_other_letters(self) -> None:
        """Base64, where quoted-printable would be larger."""
        body = "\u0434\u043e\u0431\u0440\u044b\u0439\r\n".encode() * 9
        encodings, octets = converted(UTF8 + body, eight_bit=False)

        self.assertEqual({0: "base64"}, encodings)
        self.assertEqual([("text/plain", body)], leaves(octets))

    def test_parts(self) -> None:
        """Only what has to be changed is; whatever stands around it stays octet by octet."""
        plain = b"Content-Type: text/html\r\nX: y\r\n\r\n<b>. --b\r\n-- \r\n.\r\n"
        data = b"Content-Type: a/b\r\nContent-Transfer-Encoding: base64\r\n\r\nAA==\r\n"
        before = of_parts(plain, UTF8 + GREETING, data, more=b"Content-Transfer-Encoding: 8bit\r\n")

        encodings, octets = converted(before, eight_bit=False)

        self.assertEqual({0: "7bit", 2: "quoted-printable"}, encodings)
        self.assertEqual(leaves(before), leaves(octets))
        for part in (plain, data, b"\r\nbefore\r\n", b"---b ?--\r\nbehind\r\n--other\r\n"):
            self.assertIn(part, octets)
        self.assertIn(b"\r\nContent-Transfer-Encoding: 7bit\r\n\r\nbefore\r\n", octets)

    def test_message_in_a_message(self) -> None:
        """RFC 2046 §5.2.1: it is never encoded itself, what is in it is."""
        inner = b"Subject: in\r\n\r\n" + SMALL
        before = of_parts(b"Content-Type: message/rfc822\r\n\r\n" + inner)

        encodings, octets = converted(before, eight_bit=False)

        self.assertEqual({2: "base64"}, encodings)
        self.assertEqual(
            [("text/plain", SMALL[:-2] + b"\r\n")], [(k, b + b"\r\n") for k, b in leaves(octets)]
        )
        self.assertIn(
            b"Subject: in\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=unknown-8bit\r\n",
            octets,
        )

    def test_digest(self) -> None:
        """RFC 2046 §5.1.5: its parts are messages, said or not."""
        before = of_parts(b"\r\nSubject: in\r\n\r\n" + SMALL, kind=b"digest")

        self.assertEqual({2: "base64"}, converted(before, eight_bit=False)[0])

    def test_eight_bit_host(self) -> None:
        """Long lines and binary parts are encoded for it, text with its letters stays."""
        long = b"\r\n" + b"a" * 999 + b"\r\n"
        binary = b"Content-Type: image/x\r\nContent-Transfer-Encoding: binary\r\n\r\n\0\r\n\n\r\r\n"
        before = of_parts(
            UTF8 + GREETING, long, binary, more=b"Content-Transfer-Encoding: binary\r\n"
        )

        encodings, octets = converted(before, eight_bit=True)

        self.assertEqual({0: "8bit", 2: "quoted-printable", 3: "base64"}, encodings)
        self.assertEqual(leaves(before), leaves(octets))
        self.assertIn(GREETING, octets)
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 999)

    def test_nothing_to_do(self) -> None:
        """What fits comes out as it went in; the last line is ended."""
        before = of_parts(UTF8 + GREETING, b"\r\nplain\r\n")
        self.assertEqual(({}, before), converted(before, eight_bit=True))
        self.assertEqual(({}, b"a: b\r\n"), converted(b"a: b", eight_bit=False))
        self.assertEqual(({}, b"\r\n"), converted(b"", eight_bit=False))

    def test_parts_that_end_early(self) -> None:
        """No header, no body, no end: what is there is found."""
        for before in (
            of_parts(b"", UTF8 + SMALL, b"Content-Type: message/rfc822\r\n"),
            MIXED + b"\r\n---b ?\r\n" + UTF8 + SMALL,
            MIXED + b"\r\n---b ?\r\n" + UTF8 + SMALL + b"---b ?",
            MIXED + b"\r\n---b ?  \t\r\n" + UTF8 + SMALL + b"---b ?-- \r\n",
        ):
            encodings, octets = converted(before, eight_bit=False)
            self.assertEqual(["base64"], list(encodings.values()))
            self.assertEqual(
                [body.strip(b"\r\n") for _, body in leaves(before) if body is not None],
                [body.strip(b"\r\n") for _, body in leaves(octets) if body is not None],
            )


class RefusedTests(SynchronousTestCase):
    def why(self, octets: bytes, eight_bit: bool = False) -> str:
        error = self.assertRaises(Unreadable, converted, octets, eight_bit=eight_bit)
        return str(error)

    def test_sealed(self) -> None:
        """What is signed or encrypted is never touched, at any depth; what is beside it is."""
        part = UTF8 + GREETING
        for kind in (b"signed; micalg=x", b"Encrypted"):
            sealed = of_parts(part, kind=kind)
            self.assertIn("signed or encrypted", self.why(sealed))
            self.assertIn("signed or encrypted", self.why(of_parts(sealed, boundary=b"c")))
            fine = sealed.replace(GREETING, b"plain\r\n")
            self.assertEqual(({}, fine), converted(fine, eight_bit=False))

    def test_what_no_encoding_helps(self) -> None:
        """Headers, what stands between parts, wrong labels, types that may not be encoded."""
        for octets, words in (
            (b"Subject: \xe4\r\n\r\n", "a header"),
            (b"X: " + b"a" * 999 + b"\r\n\r\n", "a header"),
            (of_parts(b"\r\n").replace(b"behind", b"\xe4"), "between"),
            (of_parts(b"\r\n") + b"\r", "between"),
            (UTF8.replace(b"8bit", b"base64") + SMALL, "base64 is not"),
            (UTF8.replace(b"8bit", b"x-uuencode") + SMALL, "x-uuencode is not"),
            (b"Content-Type: multipart/mixed\r\n\r\n" + SMALL, "boundary"),
            (b"Content-Type: message/partial\r\n\r\n" + SMALL, "message/partial"),
        ):
            self.assertIn(words, self.why(octets))

    def test_bombs(self) -> None:
        """A33, A34: nested or divided without measure; it costs little to find out."""
        begun = time.process_time()
        nested = b"".join(
            b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n)
            for n in range(10 * MAX_DEPTH)
        )
        self.assertIn("in each other", self.why(nested))
        messages = b"Content-Type: message/rfc822\r\n\r\n" * 10 * MAX_DEPTH
        self.assertIn("in each other", self.why(messages))
        self.assertIn("more than 1000 parts", self.why(of_parts(*[b"\r\n"] * 2 * MAX_ENTITIES)))
        self.assertIn("a header of more", self.why(b"a: b\r\n" * 100_000))
        quotes = b"Content-Type: a/b" + b'; boundary="' * 20_000 + b"\r\n\r\n\xe4\r\n"
        self.assertIn("a header", self.why(quotes))
        near = of_parts(b"\r\n" + b"---b ?x\r\n" * 20_000 + SMALL)
        self.assertEqual({1: "quoted-printable"}, converted(near, eight_bit=False)[0])
        self.assertLess(time.process_time() - begun, 5)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Messages as Python makes them, with bodies of any octets."""
    random_ = random.Random(draw(st.integers(0, 2**32)))

    def make(depth: int) -> Message:
        if depth and random_.random() < 0.6:
            made: Message = MIMEMultipart(random_.choice(["mixed", "alternative", "related"]))
            for _ in range(random_.randrange(1, 4)):
                made.attach(make(depth - 1))
            return made
        alphabet = random_.choice([b"a \t.=\r\n", b"a\xe4\xff\n\r\0-b", bytes(range(256))])
        body = bytes(random_.choices(alphabet, k=random_.randrange(3000)))
        leaf = MIMEApplication(b"")
        leaf.replace_header("Content-Transfer-Encoding", "binary")
        leaf.set_type(random_.choice(["text/plain", "image/x", "application/octet-stream"]))
        leaf.set_payload(body.decode("latin-1"))
        return leaf

    return _flat(make(draw(st.integers(0, 3))))


def _flat(message: Message) -> bytes:
    """Its octets; Python itself would mend line ends."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in message.items())
    if not message.is_multipart():
        return f"{lines}\r\n{message.get_payload()}".encode("latin-1")
    parts: Any = message.get_payload()
    boundary = f"=_{id(message):x}"
    head = lines.replace("\r\n", f'; boundary="{boundary}"\r\n', 1).encode()
    inner = b"".join(b"--%b\r\n%b\r\n" % (boundary.encode(), _flat(part)) for part in parts)
    return head + b"\r\n" + inner + b"--%b--\r\n" % boundary.encode()


def _bodies(octets: bytes) -> list[bytes]:
    """The decoded bodies; Python's parser would take a bare LF for the end of a line."""
    found: list[bytes] = []
    head, _, body = octets.partition(b"\r\n\r\n")
    fields = email.message_from_bytes(head + b"\r\n\r\n")
    boundary = fields.get_boundary()
    if boundary:
        mark = b"\r\n--" + boundary.encode()
        parts = (b"\r\n" + body).split(mark)[1:-1]
        return [one for part in parts for one in _bodies(part[2:])]
    encoding = fields["Content-Transfer-Encoding"]
    if encoding == "base64":
        body = binascii.a2b_base64(body)
    elif encoding == "quoted-printable":
        body = binascii.a2b_qp(body)
    found.append(body)
    return found


class AnyMessageTests(SynchronousTestCase):
    @given(messages(), st.sampled_from([None, 1, 3, 77, 1000]), st.booleans())
    def test_same_bodies(self, before: bytes, step: int | None, eight_bit: bool) -> None:
        """Whatever the blocks: every body decodes to what it was, and no octet is unfit."""
        encodings, octets = converted(before, eight_bit=eight_bit)

        self.assertEqual((encodings, octets), converted(before, eight_bit=eight_bit, step=step))
        self.assertTrue(eight_bit or octets.isascii())
        self.assertEqual(octets.count(b"\r\n"), octets.count(b"\n"))
        self.assertEqual(octets.count(b"\r\n"), octets.count(b"\r"))
        self.assertNotIn(b"\0", octets)
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 999)
        whole = [body.removesuffix(b"\r\n") for body in _bodies(octets)]
        self.assertEqual([body.removesuffix(b"\r\n") for body in _bodies(before)], whole)


PIECES = [
    b"Content-Type: multipart/mixed; boundary=b\r\n", b"Content-Type: message/rfc822\r\n",
    b'Content-Type: multipart/signed; boundary="b c"\r\n',
    b"Content-Type: multipart/digest; boundary=d",
    b"Content-Transfer-Encoding: 8bit\r\n", b"Content-Transfer-Encoding: base64\r\n",
    b"MIME-Version: 1.0\r\n", b"\r\n", b"\r\n\r\n", b"--b\r\n", b"\r\n--b\r\n", b"\r\n--b--\r\n",
    b"\r\n--b c\r\n", b"--b c--", b"\r\n--d \t\r\n", b"\r\n--", b"--", b"\r", b"\n", b"\0", b"\xe4",
    b"text\r\n", b"=\r\n", b". \r\n", b"x" * 1100,
]  # fmt: skip


class AnyOctetsTests(SynchronousTestCase):
    @settings(max_examples=300)
    @given(
        st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=8)), max_size=25),
        st.integers(1, 40),
        st.booleans(),
    )
    def test_fits_or_is_refused(self, pieces: list[bytes], step: int, eight_bit: bool) -> None:
        """Whatever it is: what comes out a host takes, whatever the blocks, or it is unreadable."""
        before = b"".join(pieces)
        try:
            encodings, octets = converted(before, eight_bit=eight_bit)
        except Unreadable:
            self.assertRaises(Unreadable, converted, before, eight_bit=eight_bit, step=step)
            return

        self.assertEqual((encodings, octets), converted(before, eight_bit=eight_bit, step=step))
        self.assertTrue(eight_bit or octets.isascii())
        ends = octets.count(b"\r\n")
        self.assertEqual((ends, ends, 0), tuple(map(octets.count, (b"\r", b"\n", b"\0"))))
        self.assertLess(max(map(len, octets.split(b"\r\n"))), 999)
        if not encodings:
            self.assertEqual(before.removesuffix(b"\r\n"), octets.removesuffix(b"\r\n"))
