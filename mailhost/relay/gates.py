"""
Which rates hold for a site.

:Room: ``relay``
:Called by: `mailhost.relay.site_table` and `mailhost.relay.sites`; one for each virtual server
    in a process, whatever number of queues it empties there.
"""

from __future__ import annotations

from typing import Any

from attrs import define, field

from mailhost.model.rate import RateLimits
from mailhost.model.route import NextHop
from mailhost.relay.job import Destination
from mailhost.relay.rates import RateGate
from mailhost.relay.terms import Terms

#: Sites remembered at once; the one that was met longest ago goes first.
MAX_REMEMBERED = 10_000


@define(eq=False)
class Gates:
    """
    Rates of the virtual server, of its remote domains, and of each site.

    A site's own rate is remembered when nothing waits for it any more: a message now and then
    is not to find a new one each time.

    :ivar clock: runs the timers.
    """

    clock: Any
    _server: RateGate = field(init=False)
    _domains: dict[str, RateGate] = field(factory=dict, init=False)
    # In the order of their first mail.
    _sites: dict[frozenset[NextHop], RateGate] = field(factory=dict, init=False)
    _per_site: RateLimits = field(default=RateLimits(), init=False)

    def __attrs_post_init__(self) -> None:
        self._server = RateGate(self.clock, "delivery.rates")

    def configure(self, terms: Terms) -> None:
        """Go by *terms* from now on."""
        self._server.configure(terms.rates)
        for name in terms.domain_rates.keys() | self._domains.keys():
            if name not in self._domains:
                self._domains[name] = RateGate(self.clock, f"domains[{name}].rates")
            self._domains[name].configure(terms.domain_rates.get(name, RateLimits()))
        self._per_site = terms.site_rates
        for gate in self._sites.values():
            gate.configure(terms.site_rates)

    def of(self, destination: Destination) -> tuple[RateGate, ...]:
        """Those that limit mail for *destination* now."""
        found = [self._server]
        if destination.rated in self._domains:
            found.append(self._domains[destination.rated])
        if not self._per_site.none and not destination.is_turned:
            found.append(self._of_site(frozenset(destination.hops)))
        return tuple([gate for gate in found if not gate.is_open])

    def _of_site(self, hops: frozenset[NextHop]) -> RateGate:
        gate = self._sites.get(hops)
        if gate is None:
            if len(self._sites) >= MAX_REMEMBERED:
                del self._sites[next(iter(self._sites))]
            gate = self._sites[hops] = RateGate(self.clock, "delivery.rates_per_site")
            gate.configure(self._per_site)
        return gate
