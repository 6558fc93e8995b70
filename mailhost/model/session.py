"""
The facts of one inbound session that decisions rest on.

:Room: ``model``
:RFC: 5321 §2.3.10; the test for what belongs here: RSET keeps it.
"""

from __future__ import annotations

from typing import Any

from attrs import asdict, define, evolve, field, frozen

from mailhost.model.account import Account
from mailhost.model.security import TLSFacts


@frozen
class SpokenFor:
    """
    What a proxy says of its client; `None`: nothing, and what is known stays.

    :ivar login: the name that the client has logged in by at the proxy; ``""``: none.
    """

    peer: str | None = None
    peer_port: int | None = None
    peer_names: tuple[str, ...] | None = None
    local: str | None = None
    local_port: int | None = None
    hello: str | None = None
    protocol: str | None = None
    login: str | None = None


@define
class SessionFacts:
    """
    One inbound session, as far as it is known by now.

    :ivar session_id: unique in this process; for logs.
    :ivar peer: the client's IP address.
    :ivar peer_port: its port, 0 where there is none.
    :ivar local: our IP address on this connection.
    :ivar local_port: our port.
    :ivar hello: what the client called itself, ``""`` before HELO/EHLO.
    :ivar lmtp: it speaks LMTP (RFC 2033).
    :ivar protocol: ``SMTP``, ``ESMTP``, ``ESMTPS``, ``LMTP``, ``LMTPS`` (RFC 5321 §4.4, *with*
        clause); see `with_word` for what is said of it.
    :ivar peer_names: names that DNS gives the client and that lead back to it;
        `None` when nobody has asked.
    :ivar content_octets: octets of content accepted so far (IIS MSG-02).
    :ivar message_count: messages accepted so far.
    :ivar tls: what the handshake agreed on; `None` in clear.
    :ivar account: who has logged in; `None`: nobody.
    :ivar trusted: the client is one of the operator's own.
    :ivar expected: we have made the connection ourselves.
    :ivar proxy: the client may say for whom it speaks.
    :ivar connected_at: seconds since the epoch.
    """

    session_id: str
    peer: str
    peer_port: int = 0
    local: str = ""
    local_port: int = 0
    hello: str = ""
    protocol: str = "SMTP"
    peer_names: tuple[str, ...] | None = None
    content_octets: int = 0
    message_count: int = 0
    tls: TLSFacts | None = None
    account: Account | None = None
    trusted: bool = False
    proxy: bool = False
    connected_at: float = field(default=0.0)
    lmtp: bool = False
    expected: bool = False

    @property
    def told(self) -> dict[str, str]:
        """Who it is, for a line of the log."""
        return {"peer": self.peer, "session": self.session_id}

    def speaking_for(self, client: SpokenFor) -> SessionFacts:
        """The facts of a session of *client*, which comes by this connection."""
        said: dict[str, Any] = {"peer_names": None, "content_octets": 0, "message_count": 0}
        said |= {name: value for name, value in asdict(client).items() if value is not None}
        login = said.pop("login", None)
        if login is not None:
            said["account"] = Account(login) if login else None
        return evolve(self, **said)

    def with_word(self, smtputf8: bool = False) -> str:
        """
        The *with* clause of Received: ESMTPA and ESMTPSA after a login (RFC 3848).

        :param smtputf8: the transaction was begun with SMTPUTF8 (RFC 6531 §4.3).
        """
        word = f"UTF8{self.protocol.removeprefix('E')}" if smtputf8 else self.protocol
        return word if self.account is None or word == "SMTP" else f"{word}A"
