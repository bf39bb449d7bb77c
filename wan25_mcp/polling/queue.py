"""The order in which an account's tasks are polled: by due time, rate limited, few at a time."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Final

import anyio

from wan25_mcp.polling.rate_limit import RateLimit
from wan25_mcp.polling.watch import Watch

POLLS_AT_ONCE: Final = 80
"""Limit of concurrent polls of one process. Ten thousand waiting calls need about 800 polls a
second, and each takes as long as the provider's answer and the journal do: with a limit of 20,
polls were late. Fewer waiting calls never reach the limit. A provider that wants fewer polls
refuses some. Some of the client's 100 connections remain for submits."""

_MIN_COMPACTED: Final = 256
"""Outdated entries are not removed from a shorter queue."""


class DueQueue:
    """Which task is polled next.

    Args:
        slots: Limits the concurrent polls of the process.
    """

    def __init__(self, slots: anyio.Semaphore) -> None:
        self._waiting: list[tuple[float, int, Watch]] = []
        self._numbers = itertools.count()
        self._compact_at = _MIN_COMPACTED
        self._changed = anyio.Event()
        self._slots = slots
        self._rate_limit = RateLimit()

    def put(self, watch: Watch, when: float) -> None:
        """Schedule the next poll of a task, in place of the one scheduled before."""
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
        """Remove the entries of tasks that were rescheduled since."""
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
                continue  # it was rescheduled since
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
        """Whether the rate limit allows the poll now. If not, the task is rescheduled."""
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

    def limited(self, requested: float | None) -> None:
        """The provider refused a poll with a 429 and asked for a pause of `requested` seconds."""
        self._rate_limit = self._rate_limit.limited(anyio.current_time(), requested)

    @property
    def closed_until(self) -> float:
        """The moment until which the provider wants no polls at all."""
        return self._rate_limit.closed_until
