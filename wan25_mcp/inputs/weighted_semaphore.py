"""A weighted semaphore that serves requests in order of arrival."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class WeightedSemaphore:
    """A weighted semaphore. A large request is not overtaken by small ones."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._queue: deque[tuple[int, anyio.Event]] = deque()

    async def take(self, size: int) -> None:
        """Wait until `size` is free, and take it. Return it with `give`."""
        if not self._queue and size <= self._left:
            self._left -= size
            return
        place = (size, anyio.Event())
        self._queue.append(place)
        try:
            await place[1].wait()
        except BaseException:
            if place in self._queue:
                self._queue.remove(place)
                self.give(0)  # the next in the queue may need less
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Return what was taken."""
        self._left += size
        while self._queue and self._queue[0][0] <= self._left:
            size, given = self._queue.popleft()
            self._left -= size
            given.set()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Take `size` while the block runs."""
        await self.take(size)
        try:
            yield
        finally:
            self.give(size)
