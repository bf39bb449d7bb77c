"""The rate at which all tasks of an account together may be polled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_MIN_GAP: Final = 0.005
"""Seconds. A shorter gap between polls counts as none: the rate is unlimited again."""
_MAX_GAP: Final = 10.0
_MIN_CLOSING: Final = 1.0
_RECOVERY: Final = 0.2
"""How much the rate, in polls per second, rises in each second of answers."""
_SMOOTHING: Final = 0.05


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Gaps between polls, doubled by each refusal and shortened by each answer.

    A value: every method returns the next one. There are no gaps until the provider first refuses a
    poll. From then on polls are evenly spaced, whichever tasks they are for. Times are moments on
    the caller's clock, and never negative.

    Args:
        gap: Seconds between two polls; 0 for no limit.
        next_free: The next moment that is not yet reserved for a poll.
        closed_until: The moment until which the provider wants no polls.
        usual: Seconds between two recent polls, smoothed. The first refusal doubles it.
    """

    gap: float = 0.0
    next_free: float = 0.0
    closed_until: float = 0.0
    usual: float = 1.0

    def admit(self, wanted: float) -> tuple[RateLimit, float]:
        """Reserve the moment of one poll.

        Returns the limit for later polls, and the moment: `wanted` or later. If `closed_until` is
        moved past that moment in the meantime, reserve another.
        """
        when = max(wanted, self.next_free if self.gap else 0.0, self.closed_until)
        passed = min(max(when - self.next_free + self.gap, 0.0), _MAX_GAP)
        usual = self.usual + _SMOOTHING * (passed - self.usual)
        after = max(when + self.gap, self.next_free)
        return replace(self, next_free=after, usual=usual), when

    def limited(self, now: float, requested: float | None = None) -> RateLimit:
        """The provider refused a poll with a 429.

        Concurrent polls are refused together, so further refusals before `closed_until` move that
        moment but do not widen the gap.
        """
        gap = self.gap
        if now >= self.closed_until:
            gap = min(max(2 * (self.gap or self.usual), 4 * _MIN_GAP), _MAX_GAP)
        until = max(self.closed_until, now + max(requested or 0.0, gap, _MIN_CLOSING))
        return replace(self, gap=gap, closed_until=until, next_free=max(self.next_free, until))

    def answered(self) -> RateLimit:
        """A poll was answered."""
        gap = self.gap / (1 + _RECOVERY * self.gap * self.gap)
        return replace(self, gap=gap if gap >= _MIN_GAP else 0.0)
