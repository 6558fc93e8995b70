"""
What one virtual server's sessions are told and allowed.

:Room: ``smtp``
:RFC: 5321 §4.5.3.1 (sizes; all of them are minima, we allow no less); 4954; 2033.
"""

from __future__ import annotations

from attrs import evolve, field, frozen
from attrs.validators import ge

from mailhost.model.line_ends import BareLineEnds
from mailhost.model.reply import Reply
from mailhost.smtp import replies

#: Extensions that ask nothing of whoever decides about the mail.
PLAIN_EXTENSIONS = frozenset(
    {
        "SIZE",
        "PIPELINING",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "CHUNKING",
        "STARTTLS",
        "AUTH",
        "HELP",
    }
)


@frozen(cache_hash=True)
class Rules:
    """
    :ivar fqdn: our name in the banner and after HELO.
    :ivar banner_words: what follows the name in the banner.
    :ivar max_message_octets: announced as SIZE; `None`: no fixed maximum.
    :ivar max_line_octets: longest text line without CRLF; `None`: any.
    :ivar max_command_octets: longest command line with CRLF (§4.5.3.1.4: at
        least 512 and what each extension adds).
    :ivar starttls: STARTTLS is offered: there is a certificate.
    :ivar require_tls: no mail without TLS (IIS ACC-11).
    :ivar secure_mechanisms: of AUTH, offered with TLS; see `mailhost.smtp.sasl`.
    :ivar clear_mechanisms: of AUTH, offered without.
    :ivar certificate_mechanisms: of AUTH, offered to who has shown a certificate.
    :ivar require_login: no mail from those who have not logged in (IIS ACC-01).
    :ivar extensions: EHLO keywords that are on; by default those that an `IReception` need not
        know of.
    :ivar max_messages: in one session; `None`: any number.
    :ivar max_recipients: of one message; `None`: any number.
    :ivar max_recipient_domains: of one message; `None`: any number.
    :ivar solicitation_classes: of mail that is not wanted (RFC 3865).
    :ivar max_hold_seconds: the longest wait that may be asked for (RFC 4865).
    :ivar min_deliver_by_seconds: the shortest time to be in (RFC 2852).
    :ivar bare_line_ends: whose bare CR and LF in content are mended; else 554.
    :ivar early_talkers: who does not wait where he must (RFC 2920 §3.1; 5321 §4.3.1) is
        heard all the same; else 554, and the session is over.
    :ivar holds: there are remote domains whose mail waits to be asked for (RFC 1985, 2645).
    :ivar lmtp: LMTP is spoken (RFC 2033): LHLO, and a reply for each recipient of a content.
    :ivar xclient: the client is a proxy, and may say for whom it speaks.
    :ivar max_errors: so many wrong commands end the session with 421.
    :ivar tell_faults: `mailhost.smtp.events.FaultMade` comes before the reply to what was wrong
        or is refused for good.
    """

    fqdn: str
    banner_words: str = "ESMTP mailhost"
    max_message_octets: int | None = None
    max_line_octets: int | None = field(default=998)
    max_command_octets: int = field(default=4096, validator=ge(512))
    starttls: bool = False
    require_tls: bool = False
    secure_mechanisms: tuple[str, ...] = ()
    clear_mechanisms: tuple[str, ...] = ()
    certificate_mechanisms: tuple[str, ...] = ()
    require_login: bool = False
    extensions: frozenset[str] = PLAIN_EXTENSIONS
    max_messages: int | None = None
    max_recipients: int | None = None
    max_recipient_domains: int | None = None
    solicitation_classes: tuple[str, ...] = ()
    max_hold_seconds: int = 0
    min_deliver_by_seconds: int = 0
    bare_line_ends: BareLineEnds = BareLineEnds.MEND_TRUSTED
    early_talkers: bool = False
    holds: bool = False
    lmtp: bool = False
    xclient: bool = False
    max_errors: int = field(default=10, validator=ge(1))
    tell_faults: bool = False

    def for_certified(self, known: bool) -> Rules:
        """
        The same for a client that has shown a certificate.

        :param known: it has logged in by that.
        """
        return evolve(
            self,
            secure_mechanisms=self.certificate_mechanisms + self.secure_mechanisms,
            require_login=self.require_login and not known,
        )

    def mends(self, known: bool) -> bool:
        """Whether bare line ends are mended, for a client who is trusted or has logged in."""
        if known:
            return self.bare_line_ends is not BareLineEnds.REFUSE
        return self.bare_line_ends is BareLineEnds.MEND

    def login_refusal(self, name: str, secure: bool) -> Reply | None:
        """Why nobody may log in by the mechanism *name* now (RFC 4954 §4)."""
        if name in self.mechanisms(secure):
            return None
        known = name in self.secure_mechanisms
        return replies.TLS_FOR_MECHANISM if known else replies.UNKNOWN_MECHANISM

    def mechanisms(self, secure: bool) -> tuple[str, ...]:
        """What AUTH may be used with now (RFC 4954 §3)."""
        if self.require_tls and not secure:
            return ()
        return self.secure_mechanisms if secure else self.clear_mechanisms
