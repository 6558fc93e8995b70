"""
What has happened at one virtual server since its process began, in plain numbers.

:Room: ``model``
:IIS: §13.1 (the counters of "SMTP Server").
:Made by: `mailhost.server`; counted by `mailhost.intake` and `mailhost.relay`, read by
    `mailhost.control`.

Whoever has something to count adds to an attribute: no name is looked up and nothing is locked,
for all of it happens in the reactor's thread.
"""

from __future__ import annotations

from bisect import bisect_left

from attrs import define, field

#: Upper bounds in seconds: a commit takes as long as the disk does.
COMMIT_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
#: Upper bounds in seconds: how late the reactor may be.
LATENESS_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
#: Upper bounds in seconds, up to the time after which mail is given up.
AGE_BOUNDS = (1.0, 5.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0, 172_800.0)


@define(eq=False)
class Spread:
    """
    How often a number was up to each of some bounds.

    :ivar bounds: rising.
    :ivar counts: what was above the bound before and up to this one; the last: above all.
    :ivar total: the sum of all numbers.
    """

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """One more number."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@define(eq=False)
class Tally:
    """
    :ivar sessions: inbound sessions that have begun.
    :ivar received_octets: what clients and other hosts have said to us, contents and all.
    :ivar sent_octets: what we have said to them.
    :ivar accepted_messages: messages that became ours, reports of our own not among them.
    :ivar accepted_octets: of their contents.
    :ivar accepted_recipients: of them.
    :ivar oversized_messages: refused as larger than ``max_message_size``.
    :ivar pickup_messages: those of the accepted that came out of Pickup or from a program.
    :ivar outbound_connections: begun.
    :ivar unreachable_connections: those of them that were never established.
    :ivar refused_connections: those that the other host refused.
    :ivar relayed_messages: transactions that another host has taken for one recipient at least.
    :ivar relayed_octets: of their contents.
    :ivar relayed_recipients: of them.
    :ivar relay_retries: transactions that were not the first attempt.
    :ivar delivered_messages: files that came into Drop.
    :ivar delivered_recipients: of them.
    :ivar delivery_retries: deliveries that were not the first attempt.
    :ivar expanded_recipients: groups whose members have taken their place.
    :ivar failed_recipients: given up.
    :ivar delayed_recipients: put off until another attempt; counted at each.
    :ivar failure_reports: made.
    :ivar delay_reports: made.
    :ivar success_reports: made.
    :ivar report_problems: times that reports could not be made and were put off.
    :ivar badmail_reports: reports that came into Badmail because they cannot be delivered.
    :ivar badmail_files: Pickup files that came into Badmail because they cannot be sent, those
        of the next two not among them.
    :ivar badmail_nobody: Pickup files that came into Badmail because they name no recipient.
    :ivar badmail_loops: Pickup files that came into Badmail because they have gone in circles.
    :ivar routed_recipients: whose way was looked up, at each attempt anew.
    :ivar etrn_requests: times that a client asked by ETRN for mail that waits.
    :ivar etrn_messages: messages that were started by it.
    :ivar commit_seconds: from the end of a content to its commit.
    :ivar age_seconds: of messages when they were relayed or delivered.
    """

    sessions: int = 0
    received_octets: int = 0
    sent_octets: int = 0
    accepted_messages: int = 0
    accepted_octets: int = 0
    accepted_recipients: int = 0
    oversized_messages: int = 0
    pickup_messages: int = 0
    outbound_connections: int = 0
    unreachable_connections: int = 0
    refused_connections: int = 0
    relayed_messages: int = 0
    relayed_octets: int = 0
    relayed_recipients: int = 0
    relay_retries: int = 0
    delivered_messages: int = 0
    delivered_recipients: int = 0
    delivery_retries: int = 0
    expanded_recipients: int = 0
    failed_recipients: int = 0
    delayed_recipients: int = 0
    failure_reports: int = 0
    delay_reports: int = 0
    success_reports: int = 0
    report_problems: int = 0
    badmail_reports: int = 0
    badmail_files: int = 0
    badmail_nobody: int = 0
    badmail_loops: int = 0
    etrn_requests: int = 0
    etrn_messages: int = 0
    routed_recipients: int = 0
    commit_seconds: Spread = field(factory=lambda: Spread(COMMIT_BOUNDS), init=False)
    age_seconds: Spread = field(factory=lambda: Spread(AGE_BOUNDS), init=False)

    def accept(self, size: int, recipients: int) -> None:
        """A message became ours."""
        self.accepted_messages += 1
        self.accepted_octets += size
        self.accepted_recipients += recipients
