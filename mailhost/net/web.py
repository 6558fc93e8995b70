"""
Small answers from HTTPS servers: tokens, and the keys that sign them.

:Room: ``net``
:Called by: `mailhost.net.tokens`, and `mailhost.server.logins`.

Whoever answers is verified, is never followed to another place, and is read only as far as
an answer may be long; all of it within one time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from attrs import define, frozen
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import (
    Agent,
    BrowserLikePolicyForHTTPS,
    ResponseDone,
    ResponseFailed,
    ResponseNeverReceived,
)
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IBodyProducer, IResponse
from zope.interface import implementer

from mailhost.errors import MailhostError, WebProblem
from mailhost.model.web import WebAnswer
from mailhost.net.outbound import failure_words
from mailhost.net.tls import trusted_roots

#: An answer that is longer is none.
MAX_ANSWER_OCTETS = 256 * 1024


@define(eq=False)
class WebClient:
    """
    Asks one server.

    :ivar reactor: connects and tells the time.
    :ivar ca: file with the authorities we trust; `None`: the system's.
    :ivar timeout_seconds: for all of it.
    """

    reactor: Any
    ca: Path | None = None
    timeout_seconds: float = 10

    def get(self, url: str) -> Deferred[WebAnswer]:
        """:raises WebProblem: there is no answer."""
        return self._bounded(self._ask("GET", url, None, {}))

    def post(
        self, url: str, form: Mapping[str, str], headers: Mapping[str, str]
    ) -> Deferred[WebAnswer]:
        """
        Send *form* as a browser would.

        :raises WebProblem: there is no answer.
        """
        return self._bounded(self._ask("POST", url, form, headers))

    def _bounded(self, asking: Any) -> Deferred[WebAnswer]:
        answer: Deferred[WebAnswer] = Deferred.fromCoroutine(asking)
        answer.addTimeout(self.timeout_seconds, self.reactor)
        return answer.addErrback(self._explain)

    def _explain(self, failure: Failure) -> WebAnswer:
        error = failure.value
        if isinstance(error, MailhostError):
            raise WebProblem(str(error)) from error
        if isinstance(error, TimeoutError):
            raise WebProblem(f"no answer within {self.timeout_seconds:g} s") from error
        if isinstance(error, CancelledError):
            raise error
        raise WebProblem(_words(failure)) from error

    async def _ask(
        self, method: str, url: str, form: Mapping[str, str] | None, headers: Mapping[str, str]
    ) -> WebAnswer:
        roots = trusted_roots(self.ca)
        policy = BrowserLikePolicyForHTTPS(roots)  # type: ignore[no-untyped-call]  # upstream
        agent: Any = Agent(  # type: ignore[no-untyped-call]  # upstream
            self.reactor, policy, connectTimeout=self.timeout_seconds
        )
        # One for each question: no cookies are kept, and no connection.
        client = HTTPClient(_PlainAgent(agent))
        response = await client.request(
            method,
            url,
            headers=Headers(
                {"Accept": ["application/json"]} | {k: [v] for k, v in headers.items()}
            ),
            data=dict(form) if form is not None else None,
            allow_redirects=False,
            unbuffered=True,
            reactor=self.reactor,
        )
        body = _Body()
        response.deliverBody(body)
        octets = await body.finished
        return WebAnswer(response.code, octets, _retry_after(response.headers))


def _retry_after(headers: Headers) -> int:
    found = headers.getRawHeaders("retry-after") or [""]
    return int(found[0]) if found[0].isdecimal() and len(found[0]) < 6 else 0


@implementer(IAgent)
@frozen
class _PlainAgent:
    """Asks for answers as they are: what is packed may become of any size."""

    agent: Any

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """See `IAgent`."""
        own = headers.copy() if headers is not None else Headers()
        own.setRawHeaders("Accept-Encoding", ["identity"])
        asked = self.agent.request(method, uri, own, bodyProducer)
        return cast("Deferred[IResponse]", asked.addCallback(_not_packed))


def _not_packed(response: Any) -> Any:
    if response.headers.hasHeader("content-encoding"):
        response.headers.removeHeader("content-encoding")
        raise WebProblem("the answer is packed")
    return response


class _Body(Protocol):
    """
    Gathers a body of bounded length.

    :ivar finished: fires with it; when it is cancelled the connection is closed.
    """

    def __init__(self) -> None:
        self.finished: Deferred[bytes] = Deferred(lambda _: self._end())
        self._blocks: list[bytes] = []
        self._left = MAX_ANSWER_OCTETS

    def dataReceived(self, data: bytes) -> None:
        """Some of it."""
        self._left -= len(data)
        if self._left < 0:
            self._blocks.clear()
            self._end()
            self._fail(WebProblem(f"the answer has more than {MAX_ANSWER_OCTETS} octets"))
        else:
            self._blocks.append(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """All of it, or there will be no more."""
        if reason.check(ResponseDone, PotentialDataLoss):  # type: ignore[no-untyped-call]
            if not self.finished.called:
                self.finished.callback(b"".join(self._blocks))
        else:
            self._fail(WebProblem("the connection was lost in the middle of the answer"))

    def _fail(self, problem: WebProblem) -> None:
        if not self.finished.called:
            self.finished.errback(problem)

    def _end(self) -> None:
        transport: Any = self.transport
        if transport is not None:
            # Not loseConnection(): a peer that goes on sending is not waited for.
            transport.stopProducing()


def _words(failure: Failure) -> str:
    """The innermost reason of what Twisted's client has to say."""
    while isinstance(failure.value, ResponseFailed | ResponseNeverReceived):
        reasons: list[Failure] = failure.value.reasons
        if not reasons:
            break
        failure = reasons[0]
    return failure_words(failure) or type(failure.value).__name__
