"""
When a delayed recipient is tried again, warned about, and given up.

:Room: ``model`` -- arithmetic on seconds; the clock belongs to the caller.
:RFC: 5321 §4.5.4.1 (the defaults are IIS 6's, which give up sooner).
:Read by: `mailhost.relay`, at each attempt's end.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import deep_iterable, gt, min_len

MINUTE = 60
HOUR = 3600
DAY = 86400


@frozen
class RetrySchedule:
    """
    One half (outbound or local) of the *Delivery* page.

    :ivar intervals: seconds after the 1st, 2nd, ... attempt; the last repeats
        until expiry (IIS: "subsequent retry interval").
    :ivar delay_notification_seconds: after so long in the queue one delay
        report goes out; `None` for never.
    :ivar expiration_seconds: after so long the recipient fails with 4.4.7.
    :raises ValueError: a time is not positive, or there is no interval.
    """

    intervals: tuple[int, ...] = field(
        default=(15 * MINUTE, 30 * MINUTE, 60 * MINUTE, 240 * MINUTE),
        validator=[min_len(1), deep_iterable(gt(0))],
    )
    delay_notification_seconds: int | None = 12 * HOUR
    expiration_seconds: int = field(default=2 * DAY, validator=gt(0))

    def next_attempt_at(self, attempts: int, accepted_at: float, now: float) -> float:
        """
        When to look at the recipient again.

        Expiry and an unsent delay notice are reasons to look as well, so the
        answer is never later than the expiry.

        :param attempts: how many have failed, at least 1.
        """
        wait = self.intervals[min(attempts, len(self.intervals)) - 1]
        return min(now + wait, self.expires_at(accepted_at))

    def expires_at(self, accepted_at: float) -> float:
        """The instant after which a failed attempt is the last."""
        return accepted_at + self.expiration_seconds

    def delay_due(self, accepted_at: float, now: float) -> bool:
        """Whether the sender should have heard of the delay by *now*."""
        after = self.delay_notification_seconds
        return after is not None and now >= accepted_at + after
