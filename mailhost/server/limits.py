"""
The limits of one virtual server on connections, where several processes run it together.

:Room: ``server``
:IIS: GEN-06 (in), DEL-30 (out), DEL-32 (to one domain).
:Called by: `mailhost.server.virtual_server`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from attrs import evolve

from mailhost.config.settings import VirtualServerSettings
from mailhost.intake.desk import Desk
from mailhost.intake.reception import Reception
from mailhost.model.session import SessionFacts
from mailhost.relay.gates import Gates
from mailhost.relay.slots import SiteSlots, Slots
from mailhost.server.portion import Portion, SharedReception, SharedSlots, SiteShare
from mailhost.server.share import ALL_OUTGOING, Share, incoming_key, outgoing_key, site_key


class AllOutgoing:
    """
    The limit on outbound connections of all virtual servers together.

    :param limit: of all processes; `None`: any number.
    :param share: this process's part of the service.
    :ivar slots: where the virtual servers of this process take them; who has fewer comes first.
    """

    def __init__(self, limit: int | None, share: Share) -> None:
        setting = "max_outbound_connections"
        self._share = share
        self._portion: SharedSlots | None = None
        if share.lending is not None:
            portion = Portion(share.small_part(limit), share.lending, ALL_OUTGOING)
            self._portion = SharedSlots(portion, limit, setting)
        self.slots = Slots(limit, setting, self._portion)

    def configure(self, limit: int | None) -> None:
        """Go by *limit* from now on; what is open beyond it ends by itself."""
        self.slots.limit = limit
        if self._portion is not None:
            self._portion.configure(self._share.small_part(limit), limit)
        self.slots.serve()


class ConnectionLimits:
    """
    This process's portions.

    :param settings: those in force.
    :param share: this process's part of the virtual server.
    :param reactor: has the time.
    :ivar outgoing: outbound connections, which all its queues share.
    :ivar gates: the rates of outbound mail, for all its queues as well.
    """

    def __init__(self, settings: VirtualServerSettings, share: Share, reactor: Any) -> None:
        self._name = settings.name
        self._share = share
        self._incoming = self._portion(
            share.small_part(settings.max_connections), incoming_key(self._name)
        )
        most = settings.delivery.connections.max
        self.outgoing = SharedSlots(
            self._portion(share.small_part(most), outgoing_key(self._name)),
            most,
            pool=share.outgoing,
        )
        self._per_site = settings.delivery.connections.max_per_domain
        self.gates = Gates(reactor)
        # Whether connections to one site are counted by several.
        self._shared = share.lending is not None or bool(share.orphans(settings))
        self._portions: WeakValueDictionary[str, Portion] = WeakValueDictionary()

    def configure(self, settings: VirtualServerSettings) -> None:
        """Go by *settings* from now on."""
        self._incoming.limit = self._share.small_part(settings.max_connections)
        self._incoming.settle()
        most = settings.delivery.connections.max
        self.outgoing.configure(self._share.small_part(most), most)
        self._per_site = settings.delivery.connections.max_per_domain
        for portion in list(self._portions.values()):
            portion.limit = self._share.part(self._per_site)
            portion.settle()
            portion.serve()

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
        return self._share_site if self._shared else None

    def _share_site(self, key: str, slots: Slots) -> SiteShare:
        """Of one site, one portion for each queue that has mail for it."""
        key = site_key(self._name, key)
        portion = self._portions.get(key)
        if portion is None:
            portion = self._portions[key] = self._portion(self._share.part(self._per_site), key)
        return SiteShare(portion, slots)

    def _portion(self, part: int | None, key: str) -> Portion:
        return Portion(part, self._share.lending, key)
