"""Room for so much work at a time, given in turn."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class WeightedSemaphore:
    """Like a semaphore, where who asks for much is not overtaken by those who ask for little."""

    def __init__(self, most: int) -> None:
        self._left = most
        self._line: deque[tuple[int, anyio.Event]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room for so much; give it back with `give`."""
        if not self._line and size <= self._left:
            self._left -= size
            return
        place = (size, anyio.Event())
        self._line.append(place)
        try:
            await place[1].wait()
        except BaseException:
            if place in self._line:
                self._line.remove(place)
                self.give(0)  # who stands behind may need less
            else:
                self.give(size)
            raise

    def give(self, size: int) -> None:
        """Give back what was taken."""
        self._left += size
        while self._line and self._line[0][0] <= self._left:
            size, given = self._line.popleft()
            self._left -= size
            given.set()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Room for so much, as long as the block runs."""
        await self.take(size)
        try:
            yield
        finally:
            self.give(size)
