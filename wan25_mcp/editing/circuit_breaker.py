"""Pauses submits while the provider keeps failing, because each could have an unknown outcome.

No I/O; the caller passes the time. Polls are never paused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FAILURES_TO_OPEN: Final = 5
FIRST_PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 600.0


@dataclass(slots=True)
class CircuitBreaker:
    """Counts failures of the service in a row. The first success resets it.

    After the pause it lets one submit through. The others wait for its outcome.
    """

    failures: int = 0
    open_until: float = 0.0
    trying: bool = False

    def pause(self, now: float) -> float | None:
        """Seconds until a submit may be tried again; None if one may be tried now."""
        return self.open_until - now if now < self.open_until else None

    def started(self, now: float) -> None:
        """A submit was started."""
        if self.failures >= FAILURES_TO_OPEN and self.pause(now) is None:
            self.trying, self.open_until = True, now + FIRST_PAUSE

    def succeeded(self) -> None:
        """The provider answered, with a task or a proper refusal."""
        self.failures, self.open_until, self.trying = 0, 0.0, False

    def failed(self, now: float) -> None:
        """The service failed. The fifth failure in a row pauses submits, each later one longer."""
        if self.pause(now) is not None and not self.trying:
            return  # a submit that was sent before the pause
        self.failures, self.trying = self.failures + 1, False
        if self.failures >= FAILURES_TO_OPEN:
            again = self.failures - FAILURES_TO_OPEN
            self.open_until = now + min(FIRST_PAUSE * 2.0 ** min(again, 10), LONGEST_PAUSE)
