"""
Who may log in at one virtual server.

:Room: ``server``
:IIS: ACC-01..06, ACC-13.
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from mailhost.authentication.credentials import (
    DirectoryCredentials,
    FileCredentials,
    Hashers,
    SeveralCredentials,
)
from mailhost.authentication.exchange import Authentication
from mailhost.authentication.kerberos import acceptor
from mailhost.authentication.throttle import Throttle
from mailhost.authentication.tokens import TokenReader
from mailhost.config.settings import VirtualServerSettings
from mailhost.config.settings.access import AccessSettings, TokenKeys
from mailhost.errors import WebProblem
from mailhost.server.directory import Directory
from mailhost.smtp.rules import Rules
from mailhost.smtp.sasl import (
    BINDING_MECHANISMS,
    CERTIFICATE_MECHANISMS,
    CRAM_MECHANISMS,
    KERBEROS_MECHANISMS,
    NTLM_MECHANISMS,
    PASSWORD_MECHANISMS,
    SCRAM_MECHANISMS,
    TOKEN_MECHANISMS,
)


@define(eq=False)
class Logins:
    """
    :ivar reactor: for threads and time.
    :ivar directory: is asked where the settings say so.
    :ivar authentication: what is in force; `None` where nobody can log in.
    :ivar name: of the virtual server.
    """

    reactor: Any
    directory: Directory
    authentication: Authentication | None = field(default=None, init=False)
    name: str = field(default="", init=False)
    # Outlives changes of the settings: who guesses is not forgiven by them.
    _throttle: Throttle = field(factory=Throttle, init=False)
    _hashers: Hashers | None = field(default=None, init=False)

    def configure(self, settings: VirtualServerSettings) -> None:
        """Go by *settings* for sessions that begin from now on."""
        access, self.name = settings.access, settings.name
        if not access.logins:
            self.authentication = None
            return
        self.authentication = Authentication(
            SeveralCredentials(tuple(self._sources(settings))),
            self.reactor,
            access.basic.default_domain,
            settings.fqdn,
            self._token_reader(access.oauth),
            access.tls.client_map,
            partial(acceptor, access.keytab) if access.keytab is not None else None,
            self._in_thread,
            self._throttle,
        )

    def _token_reader(self, keys: TokenKeys) -> TokenReader | None:
        if keys.issuer is None or keys.audience is None or keys.keys_url is None:
            return None
        url, ca = keys.keys_url, keys.ca

        async def fetch() -> bytes:
            # treq is large: who takes no tokens does not load it.
            from mailhost.net.web import WebClient

            answer = await WebClient(self.reactor, ca).get(url)
            if answer.status != 200:
                raise WebProblem(f"{url}: {answer.status}")
            return answer.body

        return TokenReader(keys.issuer, keys.audience, keys.claim, fetch, self.reactor.seconds)

    def _threads(self) -> Hashers:
        """They come when they are needed for the first time."""
        if self._hashers is None:
            self._hashers = Hashers(self.reactor, self.name)
            self._hashers.start()
        return self._hashers

    @property
    def pools(self) -> dict[str, ThreadPool]:
        """The threads that check passwords, once there are some."""
        return {} if self._hashers is None else {"passwords": self._hashers.pool}

    def _in_thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return self._threads().run(work)

    def _sources(self, settings: VirtualServerSettings) -> list[Any]:
        found: list[Any] = []
        if settings.access.users is not None:
            found.append(
                FileCredentials(settings.access.users, self._threads(), self.reactor.seconds)
            )
        if settings.access.ldap:
            found.append(DirectoryCredentials(lambda: self.directory.resolver))
        return found

    def stop(self) -> None:
        """Wait for passwords that are being checked."""
        self.authentication = None
        hashers, self._hashers = self._hashers, None
        if hashers is not None:
            hashers.stop()


def rules_of(settings: VirtualServerSettings, starttls: bool, lmtp: bool = False) -> Rules:
    """
    What sessions are told and allowed.

    :param starttls: there is a certificate where they come in.
    :param lmtp: they speak LMTP.
    """
    access, messages = settings.access, settings.messages
    return Rules(
        settings.fqdn,
        "LMTP mailhost" if lmtp else "ESMTP mailhost",
        max_message_octets=messages.max_message_size,
        max_line_octets=messages.max_line_length,
        starttls=starttls,
        require_tls=access.tls.require,
        secure_mechanisms=_mechanisms(access, secure=True),
        clear_mechanisms=_mechanisms(access, secure=False),
        certificate_mechanisms=CERTIFICATE_MECHANISMS if access.external else (),
        require_login=not access.anonymous,
        extensions=settings.extensions.keywords,
        max_messages=messages.max_messages_per_session,
        max_recipients=messages.max_recipients,
        max_recipient_domains=messages.max_recipient_domains,
        solicitation_classes=messages.no_soliciting,
        max_hold_seconds=messages.max_hold,
        min_deliver_by_seconds=messages.min_deliver_by,
        bare_line_ends=messages.bare_line_ends,
        early_talkers=access.early_talkers,
        holds=any(domain.hold is not None for domain in settings.domains),
        lmtp=lmtp,
        tell_faults=access.counts_faults,
    )


def _mechanisms(access: AccessSettings, secure: bool) -> tuple[str, ...]:
    """The strongest come first; clients that do not look take the first."""
    found: tuple[str, ...] = ()
    if access.oauth.enabled and secure:
        found += TOKEN_MECHANISMS
    if access.scram:
        found += (*(BINDING_MECHANISMS if secure else ()), *SCRAM_MECHANISMS)
    if access.keytab is not None and (secure or not access.integrated_require_tls):
        found += KERBEROS_MECHANISMS
    if access.integrated and (secure or not access.integrated_require_tls):
        found += NTLM_MECHANISMS
    if access.cram_md5:
        found += CRAM_MECHANISMS
    if access.basic.enabled and (secure or not access.basic.require_tls):
        found += PASSWORD_MECHANISMS
    return found
