"""
The directory that one virtual server asks: made, exchanged, ended.

:Room: ``server``
:IIS: LDP-01..08.
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import define, field
from twisted.internet.defer import Deferred, DeferredList

from mailhost.config.settings import LDAPSettings, VirtualServerSettings

if TYPE_CHECKING:
    from mailhost.directory.resolver import LDAPAddressResolver


@define(eq=False)
class Directory:
    """
    :ivar reactor: for threads and time.
    :ivar resolver: the one in force; `None` where LDAP routing is off.
    """

    reactor: Any
    resolver: LDAPAddressResolver | None = field(default=None, init=False)
    _made_of: tuple[LDAPSettings, str] | None = field(default=None, init=False)
    _leaving: set[LDAPAddressResolver] = field(factory=set, init=False)

    def configure(self, settings: VirtualServerSettings) -> None:
        """
        Go by *settings*; who still waits for the resolver before is told to try again.

        :raises ValueError: it cannot be done here; what was in force still is.
        """
        wanted = (settings.ldap, settings.fqdn) if settings.ldap.enabled else None
        if wanted == self._made_of:
            return
        made = self._make(settings) if wanted else None
        before, self.resolver, self._made_of = self.resolver, made, wanted
        if before is not None:
            self._leaving.add(before)
            before.stop().addCallback(lambda nothing: self._leaving.discard(before))

    def _make(self, settings: VirtualServerSettings) -> LDAPAddressResolver:
        # ldap3 is large: who asks no directory does not load it.
        from mailhost.directory.making import make_resolver

        return make_resolver(settings.ldap, self.reactor, (settings.fqdn,))

    def stop(self) -> Deferred[Any]:
        """Fires when no thread is left."""
        leaving = {*self._leaving, *({self.resolver} if self.resolver is not None else ())}
        self.resolver, self._made_of = None, None
        return DeferredList([one.stop() for one in leaving])
