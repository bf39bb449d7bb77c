"""The line in which all looks of a process stand: in order of time, few at once, at one pace."""

from __future__ import annotations

import heapq
import itertools
import math
from typing import Final

import anyio

from wan25_mcp.polling.rate_limit import RateLimit
from wan25_mcp.polling.watch import Watch

POLLS_AT_ONCE: Final = 80
"""How many looks of one process are under way at the same time. Ten thousand waits want some 800 a
second, each as long as the provider's answer and the journal take: with 20 they fell behind. Fewer
waits never come near it, a provider that minds slows us by refusing, and of the client's 100
connections some are left for submits."""


_FEW: Final = 256


class DueQueue:
    """Who is looked at next."""

    def __init__(self, slots: anyio.Semaphore) -> None:
        self._waiting: list[tuple[float, int, Watch]] = []
        self._numbers = itertools.count()
        self._most = _FEW
        self._changed = anyio.Event()
        self._slots = slots
        self._pace = RateLimit()

    def put(self, watch: Watch, when: float) -> None:
        """Have a task looked at then, and not when it was to be before."""
        watch.next_look = when
        if when == math.inf:
            return
        entry = (when, next(self._numbers), watch)
        if len(self._waiting) >= self._most:
            self._drop_outdated()
        heapq.heappush(self._waiting, entry)
        if self._waiting[0] is entry:
            self._changed.set()

    def _drop_outdated(self) -> None:
        """Forget the places of tasks that were given another since."""
        due = {id(entry[2]): entry for entry in self._waiting if entry[0] == entry[2].next_look}
        self._waiting = list(due.values())
        heapq.heapify(self._waiting)
        self._most = max(_FEW, 2 * len(self._waiting))

    async def next(self) -> Watch:
        """The task whose turn it is, when it is. `done` must follow."""
        while True:
            await self._until_due()
            when, _, watch = heapq.heappop(self._waiting)
            if when != watch.next_look:
                continue  # it was given another moment since
            watch.next_look = math.inf
            is_wanted = watch.is_of_interest and not watch.is_looking
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
        """Whether the pace lets it through now; if not, it is given a place further on."""
        now = anyio.current_time()
        if watch.place > -math.inf and self._pace.closed_until <= now:
            watch.place = -math.inf
            return True
        self._pace, watch.place = self._pace.admit(now)
        if watch.place > now:
            self.put(watch, watch.place)
            return False
        watch.place = -math.inf
        return True

    def done(self) -> None:
        """A look has ended."""
        self._slots.release()

    def answered(self) -> None:
        """The provider answered a look."""
        self._pace = self._pace.answered()

    def limited(self, asked: float | None) -> None:
        """The provider refused a look as one too many; `asked` seconds without another, if told."""
        self._pace = self._pace.limited(anyio.current_time(), asked)

    @property
    def closed_until(self) -> float:
        """The moment until which the provider wants no looks at all."""
        return self._pace.closed_until
