"""Tests for `mailhost.smtp.extensions` and `mailhost.smtp.xtext`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailhost.errors import SyntaxProblem
from mailhost.model.address import Mailbox
from mailhost.model.envelope import Envelope, Handling
from mailhost.model.parameters import MailParameters, RecipientParameters
from mailhost.smtp.client_events import ContentWanted
from mailhost.smtp.extensions import EXTENSIONS, offer
from mailhost.smtp.extensions.dsn import DSN, with_original
from mailhost.smtp.rules import PLAIN_EXTENSIONS, Rules
from mailhost.smtp.xtext import from_utf8_xtext, from_xtext, to_utf8_xtext, to_xtext
from tests.smtp.test_client_dialogue import ready

A, B, C = (Mailbox(name, "example.com") for name in "abc")
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1)


def envelope_lines(envelope: Envelope, *keywords: str) -> list[str]:
    """MAIL and RCPT as they are said to a host that offers *keywords*."""
    offered = ["x", "PIPELINING", *keywords]
    last = len(offered) - 1
    ehlo = "".join(f"250{' ' if n == last else '-'}{word}\r\n" for n, word in enumerate(offered))
    dialogue = ready(ehlo.encode())
    dialogue.send_envelope(envelope, 7)
    return dialogue.octets_to_send().decode().splitlines()[:-1]


class OfferTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """Whoever embeds the protocol has to ask for what his own code must keep."""
        offered = offer(Rules("mail.example.com"), secure=False)

        self.assertEqual({}, offered.rcpt_parameters)
        self.assertNotIn("DSN", offered.ehlo_lines(0.0))

    def test_what_is_off(self) -> None:
        """It is neither announced, nor are its parameters known."""
        every = frozenset(one.keyword for one in EXTENSIONS)
        for one in EXTENSIONS:
            rules = Rules("x", starttls=True, extensions=every - {one.keyword})
            offered = offer(rules, one.keyword == "REQUIRETLS")
            named = [line.partition(" ")[0] for line in offered.ehlo_lines(0.0)]
            self.assertNotIn(one.keyword, named)
            gone = one.mail_parameters.keys() - ({"BODY"} if one.keyword == "BINARYMIME" else set())
            self.assertFalse(offered.mail_parameters.keys() & gone)
            self.assertFalse(offered.rcpt_parameters.keys() & one.rcpt_parameters.keys())
        self.assertLess(PLAIN_EXTENSIONS, every)


class XtextTests(SynchronousTestCase):
    @given(PRINTABLE)
    def test_round_trip(self, text: str) -> None:
        """Whatever can be printed comes back, and goes as one word."""
        coded = to_xtext(text)

        self.assertEqual(text, from_xtext(coded))
        self.assertNotIn(" ", coded)
        self.assertNotIn("=", coded)

    def test_refused(self) -> None:
        """RFC 3461 §4: two capital digits behind a plus sign, and nothing that ends a line."""
        for text in ("", "+", "+4", "+4g", "+e9", "a b", "a=b", "+0A", "+FF", "é"):
            self.assertRaises(SyntaxProblem, from_xtext, text)


class DSNTests(SynchronousTestCase):
    ENVELOPE = Envelope(
        A,
        (B, C, A),
        special={
            0: Handling(parameters=RecipientParameters(("SUCCESS", "DELAY"), "rfc822;b@old")),
            2: Handling(parameters=RecipientParameters(("NEVER",))),
        },
        parameters=MailParameters("HDRS", "QQ+2B1"),
    )

    def test_sent_on(self) -> None:
        """RFC 3461 §5.2.1: as it was given, to a host that offers it."""
        self.assertEqual(
            [
                "MAIL FROM:<a@example.com> RET=HDRS ENVID=QQ+2B1",
                "RCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b@old",
                "RCPT TO:<c@example.com>",
                "RCPT TO:<a@example.com> NOTIFY=NEVER",
            ],
            envelope_lines(self.ENVELOPE, "DSN"),
        )

    def test_not_offered(self) -> None:
        """A host that does not know of it hears nothing of it."""
        self.assertEqual(
            ["MAIL FROM:<a@example.com>"]
            + [f"RCPT TO:<{path}>" for path in self.ENVELOPE.forward_paths],
            envelope_lines(self.ENVELOPE),
        )

    def test_original_recipient(self) -> None:
        """It is noted where somebody wants to hear, and has not noted it himself."""
        asked = RecipientParameters(("SUCCESS",))
        named = RecipientParameters(("SUCCESS",), "rfc822;x")

        self.assertEqual("rfc822;b@example.com", with_original(asked, B).orcpt)
        self.assertEqual("rfc822;a+20b@x", with_original(asked, Mailbox("a b", "x")).orcpt)
        self.assertEqual(named, with_original(named, B))
        self.assertEqual("", with_original(RecipientParameters(orcpt=""), B).orcpt)

    def test_copies(self) -> None:
        """Copies of a mail do not each tell of success (RFC 3461 §5.2.7.3)."""
        self.assertEqual(("NEVER",), RecipientParameters(("SUCCESS",)).quiet.notify)
        self.assertEqual(("DELAY",), RecipientParameters(("SUCCESS", "DELAY")).quiet.notify)


class OriginalRecipientTests(SynchronousTestCase):
    def kept(self, value: str) -> str:
        """ORCPT as it is kept, from a RCPT in UTF-8."""
        parse = DSN.rcpt_parameters["ORCPT"]
        return str(parse(value))

    def test_outside_ascii(self) -> None:
        """RFC 6533 §3: kept in ASCII; Postfix's way of saying it is understood."""
        for value in (
            "utf-8;jörg@x",
            "UTF-8;j\\x{F6}rg@x",
            "rfc822;jörg@x",
            "rfc822;jör+67@x",
            "rfc822;j+C3+B6rg@x",
        ):
            self.assertEqual("utf-8;j\\x{F6}rg@x", self.kept(value))
        self.assertEqual("utf-8;a\\x{2B}\\x{5C}b\\x{1F600}", self.kept("utf-8;a\\x{2B}\\x{5C}b😀"))

    def test_refused(self) -> None:
        """What is no character, and what cannot be shown."""
        for value in (
            "utf-8;",
            "utf-8;\\x{D800}",
            "utf-8;\\x{110000}",
            "utf-8;a+b",
            "utf-8;\\x{0A}",
        ):
            self.assertRaises(SyntaxProblem, self.kept, value)

    @given(PRINTABLE)
    def test_round_trip(self, text: str) -> None:
        """Whatever can be printed comes back."""
        self.assertEqual(text, from_utf8_xtext(to_utf8_xtext(text)))


class RequireTLSTests(SynchronousTestCase):
    def test_through_tls_only(self) -> None:
        """RFC 8689 §2: in clear it is neither announced nor known."""
        rules = Rules("x", extensions=frozenset({"REQUIRETLS"}))
        self.assertEqual((), offer(rules, False).lines)
        self.assertEqual({}, offer(rules, False).mail_parameters)
        self.assertEqual(("REQUIRETLS",), offer(rules, True).lines)

    def test_sent_on(self) -> None:
        """To a host that offers it; what its header says is for each host to read."""
        asked = MailParameters(requiretls=True)
        self.assertEqual(
            "MAIL FROM:<a@example.com> REQUIRETLS",
            envelope_lines(Envelope(A, (B,), parameters=asked), "REQUIRETLS")[0],
        )
        header = MailParameters(tls_optional=True)
        self.assertEqual(
            "MAIL FROM:<a@example.com>",
            envelope_lines(Envelope(A, (B,), parameters=header), "REQUIRETLS")[0],
        )


class BinaryTests(SynchronousTestCase):
    def test_comes_with_others(self) -> None:
        """RFC 3030 §3: whoever offers it offers CHUNKING; without it BODY knows two words."""
        both = {"CHUNKING", "8BITMIME"}
        for missing in both:
            rules = Rules("x", extensions=frozenset({"BINARYMIME"} | both - {missing}))
            self.assertNotIn("BINARYMIME", offer(rules, False).lines)
        without = offer(Rules("x", extensions=frozenset(both)), False)
        self.assertRaises(SyntaxProblem, without.mail_parameters["BODY"], "BINARYMIME")
        every = offer(Rules("x", extensions=frozenset(both | {"BINARYMIME"})), False)
        parse = every.mail_parameters["BODY"]
        self.assertEqual(
            ["7BIT", "8BITMIME", "BINARYMIME"],
            [parse(word) for word in ("7bit", "8bitmime", "binarymime")],
        )
        self.assertRaises(SyntaxProblem, parse, None)

    def test_sent(self) -> None:
        """Octet by octet, and none is looked at."""
        dialogue = ready(b"250-x\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n")
        octets = bytes(range(256)) + b"\r\n.\r\n\n"
        dialogue.send_envelope(Envelope(A, (B,), "BINARYMIME"), len(octets))
        self.assertTrue(
            dialogue.octets_to_send().startswith(b"MAIL FROM:<a@example.com> BODY=BINARYMIME\r\n")
        )
        dialogue.receive_octets(b"250 ok\r\n250 ok\r\n")
        self.assertIsInstance(dialogue.next_event(), ContentWanted)
        for octet in octets:
            dialogue.write_content(bytes([octet]))

        self.assertTrue(dialogue.end_content())
        self.assertEqual(b"BDAT %d LAST\r\n%b" % (len(octets), octets), dialogue.octets_to_send())
