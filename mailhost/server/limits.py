"""
The limits of one virtual server on connections, where several processes run it together.

:Room: ``server``
:IIS: GEN-06 (in), DEL-30 (out), DEL-32 (to one domain).
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakSet

from attrs import evolve

from mailhost.config.settings import VirtualServerSettings
from mailhost.intake.desk import Desk
from mailhost.intake.reception import Reception
from mailhost.model.session import SessionFacts
from mailhost.relay.slots import SiteSlots, Slots
from mailhost.server.portion import Portion, SharedReception, SharedSlots, SiteShare
from mailhost.server.share import Share, incoming_key, outgoing_key, site_key


class ConnectionLimits:
    """
    This process's portions.

    :param settings: those in force.
    :param share: this process's part of the virtual server.
    :ivar outgoing: outbound connections, which all its queues share.
    """

    def __init__(self, settings: VirtualServerSettings, share: Share) -> None:
        self._name = settings.name
        self._share = share
        self._incoming = self._portion(settings.max_connections, incoming_key(self._name))
        self.outgoing = SharedSlots(
            self._portion(settings.delivery.connections.max, outgoing_key(self._name))
        )
        self._per_site = settings.delivery.connections.max_per_domain
        self._sites: WeakSet[SiteShare] = WeakSet()

    def configure(self, settings: VirtualServerSettings) -> None:
        """Go by *settings* from now on."""
        self._incoming.limit = self._share.part(settings.max_connections)
        self._incoming.settle()
        self.outgoing.configure(self._share.part(settings.delivery.connections.max))
        self._per_site = settings.delivery.connections.max_per_domain
        for site in list(self._sites):
            site.portion.limit = self._share.part(self._per_site)
            site.portion.settle()

    # ---- in

    def of_desk(self, settings: VirtualServerSettings) -> VirtualServerSettings:
        """Sessions of several processes are counted together, not at each desk."""
        return settings if self._share.lending is None else evolve(settings, max_connections=None)

    def receive(self, desk: Desk, session: SessionFacts) -> Reception:
        """Whoever decides for *session*."""
        if self._share.lending is None:
            return Reception(desk, session)
        return SharedReception(desk, session, self._incoming)

    # ---- out

    @property
    def site_slots(self) -> Callable[[str, Slots], SiteSlots] | None:
        """See `mailhost.relay.manager.RelayManager`."""
        return None if self._share.lending is None else self._share_site

    def _share_site(self, key: str, slots: Slots) -> SiteShare:
        made = SiteShare(self._portion(self._per_site, site_key(self._name, key)), slots)
        self._sites.add(made)
        return made

    def _portion(self, limit: int | None, key: str) -> Portion:
        return Portion(self._share.part(limit), self._share.lending, key)
