"""
A ``twisted.mail`` application behind `ESMTPFactory`: an ``IMessageDelivery`` as it always was.

    python message_delivery.py 127.0.0.1 2525 example.com

Address and port to listen on (port 0: the kernel chooses), and the domain to
take mail for.  Prints ``listening on ADDRESS PORT``, then each message: its
sender, its recipient, and its lines between two rules.

An application moves over by making `mailhost.ESMTPFactory` in place of
``twisted.mail.smtp.SMTPFactory``; its delivery and its messages stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet import reactor
from twisted.internet.defer import Deferred, succeed
from twisted.mail.interfaces import IMessageDelivery
from twisted.mail.smtp import IMessage, SMTPBadRcpt
from zope.interface import implementer

from mailhost import ESMTPFactory
from mailhost.smtp.rules import Rules


@implementer(IMessage)
@define(eq=False)
class PrintedMessage:
    """One message for one recipient."""

    sender: str
    recipient: str
    _lines: list[bytes] = field(factory=list, init=False)

    def lineReceived(self, line: bytes) -> None:
        """A line of content, without its end."""
        self._lines.append(line)

    def eomReceived(self) -> Deferred[None]:
        """The final dot.  What is printed here is gone with the screen: it is an example."""
        text = "\n".join(line.decode("latin-1") for line in self._lines)
        print(f"from {self.sender} to {self.recipient}\n---\n{text}\n---", flush=True)
        return succeed(None)

    def connectionLost(self) -> None:
        """The content stays incomplete, or is refused."""
        self._lines.clear()


@implementer(IMessageDelivery)
@define(eq=False)
class PrintingDelivery:
    """Decides, for all sessions."""

    domain: bytes

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        """The trace field, without its last line end."""
        return b"Received: from %b ([%b]) by mail.example.com" % helo

    def validateFrom(self, helo: Any, origin: Any) -> Any:
        """Every sender is welcome."""
        return origin

    def validateTo(self, user: Any) -> Callable[[], PrintedMessage]:
        """Only our own domain."""
        if user.dest.domain.lower() != self.domain:
            raise SMTPBadRcpt(user)  # type: ignore[no-untyped-call]  # upstream has no annotations
        return lambda: PrintedMessage(str(user.orig), str(user.dest))


def main(address: str, port: str, domain: str) -> None:
    """Listen until the process is ended."""
    delivery = PrintingDelivery(domain.lower().encode("ascii"))
    factory = ESMTPFactory(delivery, reactor, Rules("mail.example.com"))
    listening: Any = reactor.listenTCP(int(port), factory, interface=address)
    print("listening on", address, listening.getHost().port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
