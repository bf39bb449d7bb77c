"""The state that all calls waiting for one task share."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import Final

import anyio

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import Snapshot
from wan25_mcp.polling.schedule import Estimate, Polled
from wan25_mcp.provider.statuses import is_settled

logger: Final = logging.getLogger(__name__)

_MIN_AGE: Final = 1.0
"""Seconds. The snapshot of a younger task is the answer to its submit, not a poll."""

_WAKE_GAP: Final = 2.0
_LONGEST_WAKE_GAP: Final = 60.0
"""Seconds between polls caused by callbacks. Each false callback doubles the gap."""


@dataclass(slots=True, eq=False)
class Watch:
    """The state of one task, and when it is polled next. Only `Poller` and its queue write it.

    Moments are those of `anyio.current_time`.

    Args:
        began: The moment at which the task began.
        expected: The ages of its first polls.
        speed: How many times faster than the provider an emulator runs; 1 for the provider.
    """

    task_id: str
    began: float
    expected: Estimate
    speed: float = 1.0

    snapshot: Snapshot | None = None
    """The latest one."""
    updated_at: float = -math.inf
    """The moment of the latest snapshot."""
    failure: Wan25Error | None = None
    """Why the last poll failed, if it did."""
    over: bool = False
    """Whether waiting is over: the task is settled, or the provider refuses to show it. In the
    second case a task that is followed is still polled again."""
    polled: Polled = field(default_factory=Polled)
    """What the last poll of the running task showed; its age is multiplied by `speed`."""

    waiters: int = 0
    is_followed: bool = False
    """Whether it is polled even if nobody waits."""
    is_called_back: bool = False
    """Whether the provider was given an address to call when the task is settled."""
    left_at: float = -math.inf
    """The moment the last waiter left."""

    next_poll_at: float = math.inf
    is_urgent: bool = False
    """Whether the next poll is made even if the last one was a moment ago."""
    is_polling: bool = False
    failures: int = 0
    """Polls in a row that failed."""
    not_before: float = -math.inf
    """The moment before which a failed poll is not repeated."""
    limited_until: float = -math.inf
    """The moment until which the provider asked not to be polled for this task."""
    refused_at: float = -math.inf
    """The moment the provider refused to show it."""
    refusals: int = 0
    """Refusals since the provider last showed it."""
    reserved_at: float = -math.inf
    """The moment that the rate limit reserved for its next poll, if any."""
    wakes: int = 0
    """Polls caused by callbacks."""
    woken_at: float = -math.inf
    """The moment of the last of them."""

    _changed: anyio.Event = field(default_factory=anyio.Event)

    @property
    def is_of_interest(self) -> bool:
        """Whether it should be polled."""
        is_waited_for = self.waiters > 0 and not self.over
        return not self.is_settled and (is_waited_for or self.is_followed or self.is_urgent)

    @property
    def is_settled(self) -> bool:
        """Whether the latest snapshot shows it settled."""
        return self.snapshot is not None and is_settled(self.snapshot.task.status)

    @property
    def never_existed(self) -> bool:
        """Whether the provider does not know it, and is not known to have ever known it."""
        is_unknown = self.failure is not None and self.failure.code == "not_found"
        return is_unknown and self.snapshot is None

    @property
    def age(self) -> float:
        """Seconds since the task began."""
        return max(anyio.current_time() - self.began, 0.0)

    async def changed(self) -> None:
        """Wait for the next poll, whoever makes it."""
        await self._changed.wait()

    def notify(self) -> None:
        """Wake all callers of `changed`."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def wake(self) -> None:
        """Make the next poll urgent because of a callback."""
        now = anyio.current_time()
        gap = min(_WAKE_GAP * math.ldexp(1.0, min(self.wakes, 10) - 1), _LONGEST_WAKE_GAP)
        self.woken_at = max(now, self.woken_at + gap)
        self.wakes += 1
        self.is_urgent = True

    def update(self, snapshot: Snapshot, *, ago: float = 0.0) -> None:
        """Take over a snapshot that is `ago` seconds old."""
        self.snapshot, self.failure, self.failures, self.refusals = snapshot, None, 0, 0
        self.updated_at = anyio.current_time() - ago
        self.over = self.is_settled
        task = snapshot.task
        logger.debug("Task %s: %s, progress %s", task.id, task.status, task.progress)
        age = (self.age - ago) * self.speed
        if not self.over and age >= _MIN_AGE:
            self.polled = self.polled.then(age, snapshot.task.progress)
