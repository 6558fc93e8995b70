"""
The mechanisms of AUTH, both sides, sans-I/O; one file each.

:Room: ``smtp``
:RFC: 4954 (AUTH), 4422 (SASL).

The server's side of a mechanism is an object with `base.ServerMechanism`'s
methods; who compares passwords, and how long that takes, is not its business.
"""

from __future__ import annotations

from collections.abc import Callable

from mailhost.smtp.sasl.base import Place, ServerMechanism
from mailhost.smtp.sasl.bearer import BEARER, XOAUTH2, BearerServer
from mailhost.smtp.sasl.cram import CRAM, CramServer
from mailhost.smtp.sasl.external import EXTERNAL, ExternalServer
from mailhost.smtp.sasl.gssapi import GSSAPI, GSSAPIServer
from mailhost.smtp.sasl.login import LoginServer
from mailhost.smtp.sasl.ntlm import NTLM_MECHANISM, NTLMServer
from mailhost.smtp.sasl.plain import PlainServer
from mailhost.smtp.sasl.scram import PLUS, SCRAM, ScramServer

#: What a password in clear is sent with; EHLO lists them in this order.
PASSWORD_MECHANISMS = ("PLAIN", "LOGIN")
SCRAM_MECHANISMS = (SCRAM,)
#: With channel binding, so with TLS only.
BINDING_MECHANISMS = (PLUS,)
NTLM_MECHANISMS = (NTLM_MECHANISM,)
CRAM_MECHANISMS = (CRAM,)
KERBEROS_MECHANISMS = (GSSAPI,)
TOKEN_MECHANISMS = (BEARER, XOAUTH2)
#: For clients that have shown a certificate.
CERTIFICATE_MECHANISMS = (EXTERNAL,)

#: name -> what makes its server side.
MECHANISMS: dict[str, Callable[[Place], ServerMechanism]] = {
    "PLAIN": lambda place: PlainServer(),
    "LOGIN": lambda place: LoginServer(),
    SCRAM: lambda place: ScramServer(place.bindings, plus=False),
    PLUS: lambda place: ScramServer(place.bindings, plus=True),
    NTLM_MECHANISM: NTLMServer,
    CRAM: CramServer,
    GSSAPI: GSSAPIServer,
    EXTERNAL: ExternalServer,
    BEARER: lambda place: BearerServer(BEARER),
    XOAUTH2: lambda place: BearerServer(XOAUTH2),
}

__all__ = [
    "BINDING_MECHANISMS",
    "CERTIFICATE_MECHANISMS",
    "CRAM_MECHANISMS",
    "KERBEROS_MECHANISMS",
    "MECHANISMS",
    "NTLM_MECHANISMS",
    "PASSWORD_MECHANISMS",
    "SCRAM_MECHANISMS",
    "TOKEN_MECHANISMS",
    "Place",
    "ServerMechanism",
]
