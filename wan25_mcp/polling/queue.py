"""The order in which an account's tasks are polled: by due time, few at once, rate limited."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Final

import anyio

from wan25_mcp.polling.rate_limit import RateLimit
from wan25_mcp.polling.watch import Watch

POLLS_AT_ONCE: Final = 80
"""How many polls of one process are under way at the same time. Ten thousand waits want some 800 a
second, each as long as the provider's answer and the journal take: with 20 they fell behind. Fewer
waits never come near it, a provider that minds slows us by refusing, and of the client's 100
connections some are left for submits."""

_MIN_COMPACTED: Final = 256
"""Outdated entries are not removed from a shorter queue."""


class DueQueue:
    """Which task is polled next.

    Args:
        slots: One for each poll of the process under way.
    """

    def __init__(self, slots: anyio.Semaphore) -> None:
        self._waiting: list[tuple[float, int, Watch]] = []
        self._numbers = itertools.count()
        self._compact_at = _MIN_COMPACTED
        self._changed = anyio.Event()
        self._slots = slots
        self._rate_limit = RateLimit()

    def put(self, watch: Watch, when: float) -> None:
        """Have a task polled at that moment, instead of when it was to be before."""
        watch.next_poll_at = when
        if when == math.inf:
            return
        entry = (when, next(self._numbers), watch)
        if len(self._waiting) >= self._compact_at:
            self._compact()
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._changed.set()

    def _compact(self) -> None:
        """Remove the entries of tasks that were given another moment since."""
        due = {id(entry[2]): entry for entry in self._waiting if entry[0] == entry[2].next_poll_at}
        self._waiting = list(due.values())
        heapq.heapify(self._waiting)
        self._compact_at = max(_MIN_COMPACTED, 2 * len(self._waiting))

    async def next(self) -> Watch:
        """The next task to poll, when it is due. `done` must follow."""
        while True:
            await self._until_due()
            when, _, watch = heapq.heappop(self._waiting)
            if when != watch.next_poll_at:
                continue  # it was given another moment since
            watch.next_poll_at = math.inf
            is_wanted = watch.is_of_interest and not watch.is_polling
            if is_wanted and self._admits(watch):
                await self._slots.acquire()
                return watch

    async def _until_due(self) -> None:
        while not self._waiting or self._waiting[0][0] > anyio.current_time():
            self._changed = anyio.Event()
            until = self._waiting[0][0] if self._waiting else math.inf
            with anyio.CancelScope(deadline=until):
                await self._changed.wait()

    def _admits(self, watch: Watch) -> bool:
        """Whether the rate limit allows the poll now; if not, the task is put back for later."""
        now = anyio.current_time()
        if watch.reserved_at > -math.inf and self._rate_limit.closed_until <= now:
            watch.reserved_at = -math.inf
            return True
        self._rate_limit, watch.reserved_at = self._rate_limit.admit(now)
        if watch.reserved_at > now:
            self.put(watch, watch.reserved_at)
            return False
        watch.reserved_at = -math.inf
        return True

    def done(self) -> None:
        """A poll has ended."""
        self._slots.release()

    def answered(self) -> None:
        """The provider answered a poll."""
        self._rate_limit = self._rate_limit.answered()

    def limited(self, asked: float | None) -> None:
        """The provider refused a poll with a 429, asking for `asked` seconds without another."""
        self._rate_limit = self._rate_limit.limited(anyio.current_time(), asked)

    @property
    def closed_until(self) -> float:
        """The moment until which the provider wants no polls at all."""
        return self._rate_limit.closed_until
