"""How fast all tasks of a process together may be looked at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

_MIN_GAP: Final = 0.005
"""Seconds between looks below which none is kept: the pace is free again."""
_MAX_GAP: Final = 10.0
_MIN_CLOSING: Final = 1.0
_RECOVERY: Final = 0.2
"""By how many looks a second the pace rises in each second of answers."""
_SMOOTHING: Final = 0.05


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One look after another, with gaps that a refusal doubles and answers wear away.

    A value: every method gives the next one. Free until the provider first refuses; from then on
    looks stand in line, evenly spaced, whichever tasks they are for. Times are moments on the
    caller's clock, none of them before 0.

    Args:
        gap: Seconds between two looks; 0 is free.
        next_free: The next moment that no look was given yet.
        closed_until: The moment until which the provider wants to be left alone.
        usual: Seconds between two looks of late, smoothed: what the first refusal doubles.
    """

    gap: float = 0.0
    next_free: float = 0.0
    closed_until: float = 0.0
    usual: float = 1.0

    def admit(self, wanted: float) -> tuple[RateLimit, float]:
        """Take a place in the line.

        Returns the pace for those who come later, and when to look: `wanted` or later. Who sleeps
        until then and finds the pace closed meanwhile asks again.
        """
        when = max(wanted, self.next_free if self.gap else 0.0, self.closed_until)
        passed = min(max(when - self.next_free + self.gap, 0.0), _MAX_GAP)
        usual = self.usual + _SMOOTHING * (passed - self.usual)
        after = max(when + self.gap, self.next_free)
        return replace(self, next_free=after, usual=usual), when

    def limited(self, now: float, asked: float | None = None) -> RateLimit:
        """The provider refused a look as one too many.

        Looks that were under way together are refused together: while the pace is closed, further
        refusals close it for longer, but slow it no more.
        """
        gap = self.gap
        if now >= self.closed_until:
            gap = min(max(2 * (self.gap or self.usual), 4 * _MIN_GAP), _MAX_GAP)
        until = max(self.closed_until, now + max(asked or 0.0, gap, _MIN_CLOSING))
        return replace(self, gap=gap, closed_until=until, next_free=max(self.next_free, until))

    def answered(self) -> RateLimit:
        """A look was answered."""
        gap = self.gap / (1 + _RECOVERY * self.gap * self.gap)
        return replace(self, gap=gap if gap >= _MIN_GAP else 0.0)
