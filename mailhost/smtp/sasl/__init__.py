"""
The mechanisms of AUTH, both sides, sans-I/O; one file each.

:Room: ``smtp``
:RFC: 4954 (AUTH), 4422 (SASL).

The server's side of a mechanism is an object with `base.ServerMechanism`'s
methods; who compares passwords, and how long that takes, is not its business.
"""

from __future__ import annotations

from collections.abc import Callable

from mailhost.smtp.sasl.base import Bindings, ServerMechanism
from mailhost.smtp.sasl.login import LoginServer
from mailhost.smtp.sasl.plain import PlainServer
from mailhost.smtp.sasl.scram import PLUS, SCRAM, ScramServer

#: What a password in clear is sent with; EHLO lists them in this order.
PASSWORD_MECHANISMS = ("PLAIN", "LOGIN")
SCRAM_MECHANISMS = (SCRAM,)
#: With channel binding, so with TLS only.
BINDING_MECHANISMS = (PLUS,)


def _plain(bindings: Bindings) -> ServerMechanism:
    return PlainServer()


def _login(bindings: Bindings) -> ServerMechanism:
    return LoginServer()


def _scram(bindings: Bindings) -> ServerMechanism:
    return ScramServer(bindings, plus=False)


def _plus(bindings: Bindings) -> ServerMechanism:
    return ScramServer(bindings, plus=True)


#: name -> what makes its server side.
MECHANISMS: dict[str, Callable[[Bindings], ServerMechanism]] = {
    "PLAIN": _plain,
    "LOGIN": _login,
    SCRAM: _scram,
    PLUS: _plus,
}

__all__ = [
    "BINDING_MECHANISMS",
    "MECHANISMS",
    "PASSWORD_MECHANISMS",
    "SCRAM_MECHANISMS",
    "Bindings",
    "ServerMechanism",
]
