"""
What the protocol offers: every extension of SMTP can be switched off.

:Room: ``config.settings``
:IIS: §11.2 (SmtpInboundCommandSupportOptions).
:RFC: 5321 §2.2 (extensions), §3.5 (VRFY and EXPN), §7.3.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

from mailhost.config.keys import key, known_keys
from mailhost.config.units import TRUTH


def _on(help: str, bit: str = "", name: str = "") -> Any:
    """
    A key that is true where nothing is said.

    :param bit: of IIS's mask.
    """
    iis = f"SmtpInboundCommandSupportOptions {bit}" if bit else ""
    return key(TRUTH, "true", help=help, iis=iis, name=name)


@frozen
class ExtensionSettings:
    """
    What clients are offered, by EHLO keyword. What is off is not announced, its parameters are
    answered 555 and its commands 502. To other hosts all of it is spoken where they offer it.
    """

    size: bool = _on("SIZE: how large a message may be (RFC 1870).")
    pipelining: bool = _on(
        "PIPELINING: commands may come without waiting for each reply (RFC 2920)."
    )
    dsn: bool = _on("DSN: senders say of what they want to hear (RFC 3461).", "0x40")
    enhancedstatuscodes: bool = _on(
        "ENHANCEDSTATUSCODES: replies have a status such as 5.1.1 (RFC 2034).", "0x1000"
    )
    eightbitmime: bool = _on(
        "8BITMIME: clients may declare 8-bit content (RFC 6152).", "0x400000", "8bitmime"
    )
    chunking: bool = _on("CHUNKING: content may come by BDAT (RFC 3030).", "0x100000")
    binarymime: bool = _on(
        "BINARYMIME: content may have any octets (RFC 3030); with chunking and 8bitmime only.",
        "0x200000",
    )
    smtputf8: bool = _on(
        "SMTPUTF8: addresses and header fields in every script (RFC 6531); with 8bitmime only."
    )
    limits: bool = _on("LIMITS: messages and recipients that are taken (RFC 9422).")
    deliverby: bool = _on("DELIVERBY: mail that has to be there in time (RFC 2852).")
    mt_priority: bool = _on(
        "MT-PRIORITY: which mail goes first (RFC 6710); more than 0 only for those who may relay.",
        name="mt-priority",
    )
    no_soliciting: bool = _on(
        "NO-SOLICITING: see messages.no_soliciting (RFC 3865).", name="no-soliciting"
    )
    futurerelease: bool = key(
        TRUTH,
        "false",
        help="FUTURERELEASE: mail that waits in the queue for its time (RFC 4865), "
        "messages.max_hold at most.",
    )
    requiretls: bool = _on(
        "REQUIRETLS: mail that goes through TLS on its whole way or comes back (RFC 8689); offered "
        "through TLS."
    )
    starttls: bool = _on(
        "STARTTLS: clients may change to TLS, where there is a certificate (RFC 3207)."
    )
    auth: bool = _on("AUTH: clients may log in, where access allows it (RFC 4954).")
    etrn: bool = _on(
        "ETRN: mail of a remote domain with hold is sent to its hosts (RFC 1985).", "0x80"
    )
    turn: bool = _on(
        "TURN: mail of the remote domains that name the client's login under hold goes over its "
        "own session.",
        "0x400",
    )
    atrn: bool = _on("ATRN: the same, for the domains that the client names (RFC 2645).", "0x400")
    xclient: bool = _on(
        "XCLIENT: a proxy says for which client it speaks; offered to access.proxies only."
    )
    help: bool = _on("HELP lists the commands that are on.")
    vrfy: bool = key(
        TRUTH,
        "false",
        help="VRFY says who has a mailbox, as the directory knows (see ldap). Where it is false, "
        "or no directory is asked, the answer is 252, which tells nothing.",
    )
    expn: bool = key(
        TRUTH,
        "false",
        help="EXPN lists the members of a group, as the directory knows (see ldap).",
    )

    @property
    def keywords(self) -> frozenset[str]:
        """EHLO keywords of those that are on."""
        return frozenset(
            name.upper()
            for name, declared in known_keys(type(self)).items()
            if getattr(self, declared.argument)
        )
