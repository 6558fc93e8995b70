"""
One connection to one server, used by one thread at a time.

:Room: ``directory``
:RFC: 4511 (LDAP), 2696 (paged results), 4513 (binding), 3383 (result codes).
:Called by: `mailhost.directory.session`, in its thread; everything here blocks.

What the other side may do to a connection, and what comes of it: see `Link.search`.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import ceil
from typing import Any

import ldap3  # type: ignore[import-untyped] # no annotations upstream
from attrs import define, field, frozen
from ldap3.core.exceptions import (  # type: ignore[import-untyped] # no annotations upstream
    LDAPException,
    LDAPInvalidFilterError,
)

from mailhost.directory.binding import BindingKind, DirectoryServer, Terms
from mailhost.directory.problems import SearchFailed, ServerFailed, TimedOut
from mailhost.smtp.sasl.ntlm_messages import nt_hash

#: RFC 4511 Appendix A.
_SUCCESS = 0
_SIZE_LIMIT = 4
_REFERRAL = 10
_NO_SUCH_OBJECT = 32
#: The server has said of itself that it cannot: unavailable, busy, other.
_SERVER_CODES = frozenset({51, 52, 80})
#: The name or the password is wrong, or of a sort that is not taken.
REJECTED_CODES = frozenset({48, 49})

_PAGED_RESULTS = "1.2.840.113556.1.4.319"
_SCOPES = {"base": ldap3.BASE, "one": ldap3.LEVEL, "sub": ldap3.SUBTREE}


@frozen
class Query:
    """
    One question.

    :ivar base: a DN.
    :ivar scope: ``base``, ``one`` or ``sub``.
    :ivar filter: RFC 4515, with what came from outside escaped.
    :ivar attributes: what to read.
    :ivar most: no more entries than this are wanted; 0: all.
    """

    base: str
    scope: str
    filter: str
    attributes: tuple[str, ...]
    most: int = 0


@frozen
class Row:
    """
    One entry as it came.

    :ivar attributes: by name in lower case, options (``;range=``) included.
    """

    dn: str
    attributes: Mapping[str, tuple[bytes, ...]]


@frozen
class Answer:
    """
    What a server said.

    :ivar rows: entries; all of them, unless *more*.
    :ivar referrals: URLs of places to ask in addition, or instead where *elsewhere*.
    :ivar elsewhere: this server does not have the base.
    :ivar missing: the base does not exist.
    :ivar more: there are more entries than were wanted.
    :ivar cookie: for the next page; empty after the last.
    """

    rows: tuple[Row, ...]
    referrals: tuple[str, ...] = ()
    elsewhere: bool = False
    missing: bool = False
    more: bool = False
    cookie: bytes = b""


class Rejected(ServerFailed):
    """The server does not take our name and password."""


#: Makes an unopened ``ldap3.Connection``; `connection_to` is the usual one.
Connect = Callable[[DirectoryServer, Terms], Any]


def connection_to(server: DirectoryServer, terms: Terms) -> Any:
    """
    An ``ldap3.Connection`` as `Terms` say; not open yet.

    ``SYNC`` and not ``SAFE_SYNC``: one thread at a time uses it, and the other copies each
    answer in depth (``docs/decisions/0013-ldap.rst``).
    """
    seconds = terms.connect_seconds
    tls = ldap3.Tls(
        validate=ssl.CERT_REQUIRED,
        ca_certs_file=str(terms.ca) if terms.ca else None,
        sni=server.host,
    )
    if server.scheme == "ldapi":
        made = ldap3.Server(f"ldapi://{server.host}", get_info=ldap3.NONE, connect_timeout=seconds)
    else:
        made = ldap3.Server(
            server.host,
            server.port,
            use_ssl=server.scheme == "ldaps",
            tls=tls,
            get_info=ldap3.NONE,
            connect_timeout=seconds,
        )
    return ldap3.Connection(
        made,
        client_strategy=ldap3.SYNC,
        read_only=True,
        auto_referrals=False,
        auto_range=False,
        check_names=False,
        auto_escape=False,
        return_empty_attributes=False,
        # ldap3 packs it as whole seconds.
        receive_timeout=ceil(seconds),
        **_credentials(server, terms),
    )


def _credentials(server: DirectoryServer, terms: Terms) -> dict[str, Any]:
    binding = terms.binding
    if binding.kind is BindingKind.PLAIN_TEXT:
        return {
            "authentication": ldap3.SIMPLE,
            "user": binding.username,
            "password": binding.secret(),
        }
    if binding.kind is BindingKind.SSPI:
        digest = nt_hash(binding.secret()).hex()
        return {
            "authentication": ldap3.NTLM,
            "user": f"{binding.domain}\\{binding.username}",
            # ldap3 takes the two digests for the password; the first is not used by NTLMv2.
            "password": f"{'0' * 32}:{digest}",
        }
    if binding.kind is BindingKind.SERVICE_ACCOUNT:
        mechanism = ldap3.EXTERNAL if server.scheme == "ldapi" else ldap3.KERBEROS
        credentials = "" if server.scheme == "ldapi" else None
        return {
            "authentication": ldap3.SASL,
            "sasl_mechanism": mechanism,
            "sasl_credentials": credentials,
        }
    return {"authentication": ldap3.ANONYMOUS}


@define(eq=False)
class Link:
    """
    :ivar server: the other end.
    :ivar terms: see `Terms`.
    :ivar connect: makes the connection.
    :ivar used: a search has succeeded on it: when it fails now, it may have been idle too long.
    """

    server: DirectoryServer
    terms: Terms
    connect: Connect = connection_to
    used: bool = field(default=False, init=False)
    _connection: Any = field(default=None, init=False)

    def open(self) -> None:
        """
        Connect, begin TLS, bind.

        :raises Rejected: not with this name and password.
        :raises ServerFailed: any other reason.
        :raises mailhost.errors.LookupProblem: 4.3.5, the password cannot be read.
        """
        self._connection = connection = self.connect(self.server, self.terms)
        try:
            connection.open(read_server_info=False)
            if self.terms.start_tls and self.server.scheme == "ldap":
                connection.start_tls(read_server_info=False)
            connection.bind(read_server_info=False)
        except Exception as error:
            # ldap3 raises what its parser stumbles on as well: IndexError, TypeError, ...
            self.close()
            raise ServerFailed(f"{self.server}: {_words(error)}") from error
        if not connection.bound:
            result = connection.result or {}
            self.close()
            words = f"{self.server}: bind: {result.get('description', 'refused')}"
            rejected = result.get("result") in REJECTED_CODES
            raise Rejected(words) if rejected else ServerFailed(words)

    def search(self, query: Query, seconds: float, page: int = 0, cookie: bytes = b"") -> Answer:
        """
        Ask, and wait for the whole answer.

        A connection that ends, stays silent for *seconds* or says what is no LDAP is closed.

        :param page: entries at a time (RFC 2696); 0: all at once.
        :raises TimedOut: no answer in time; the connection is closed.
        :raises ServerFailed: no answer; the connection is closed.
        :raises SearchFailed: an answer, and a refusal.
        """
        connection = self._connection
        try:
            if connection.socket is not None:
                connection.socket.settimeout(max(0.01, seconds))
            told = connection.search(
                query.base,
                query.filter,
                _SCOPES[query.scope],
                ldap3.DEREF_NEVER,
                list(query.attributes),
                size_limit=query.most,
                time_limit=max(1, ceil(seconds)),
                paged_size=page or None,
                paged_cookie=cookie or None,
            )
            # The SAFE strategies give what the others keep.
            safe = isinstance(told, tuple)
            result, response = told[1:3] if safe else (connection.result, connection.response)
            answer = _answer(query, result, response)
        except (SearchFailed, ServerFailed):
            raise
        except LDAPInvalidFilterError as error:
            raise SearchFailed(f"filter {query.filter}: {_words(error)}", "4.3.5") from error
        except Exception as error:
            # What is not an LDAPException or an OSError is ldap3's decoder over garbage.
            self.close()
            sort = TimedOut if "timed out" in str(error) else ServerFailed
            raise sort(f"{self.server}: {_words(error)}") from error
        self.used = True
        return answer

    def close(self) -> None:
        """Say good-bye, where that is still possible."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(LDAPException, OSError, AttributeError, TypeError):
            connection.unbind()

    def shut(self) -> None:
        """Make a thread that waits for this connection fail at once; from any thread."""
        found = getattr(self._connection, "socket", None)
        if isinstance(found, socket.socket):
            with suppress(OSError):
                # Not SSLSocket's own: that would take the TLS object from under the thread.
                socket.socket.shutdown(found, socket.SHUT_RDWR)


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _answer(query: Query, result: Mapping[str, Any], response: Any) -> Answer:
    code = result["result"]
    given = response or ()
    rows = tuple(_row(one) for one in given if one.get("type") == "searchResEntry")
    continued = tuple(
        uri for one in given if one.get("type") == "searchResRef" for uri in one["uri"]
    )
    if code == _SUCCESS:
        return Answer(rows, continued, cookie=_cookie(result))
    if code == _REFERRAL:
        return Answer((), tuple(result.get("referrals") or ()), elsewhere=True)
    if code == _NO_SUCH_OBJECT:
        return Answer((), missing=True)
    if code == _SIZE_LIMIT and 0 < query.most <= len(rows):
        return Answer(rows, continued, more=True)
    words = f"{result.get('description')} {result.get('message') or ''}".strip()
    if code in _SERVER_CODES:
        raise ServerFailed(words)
    raise SearchFailed(f"search for {query.filter} below {query.base!r}: {words}")


def _row(one: Mapping[str, Any]) -> Row:
    # An AD object that is only referred to has a name in no UTF-8; it is nobody we look for.
    attributes = {
        name.lower(): tuple(bytes(value) for value in values)
        for name, values in one["raw_attributes"].items()
    }
    return Row(one["dn"], attributes)


def _cookie(result: Mapping[str, Any]) -> bytes:
    control = (result.get("controls") or {}).get(_PAGED_RESULTS)
    return bytes(control["value"]["cookie"] or b"") if control else b""
