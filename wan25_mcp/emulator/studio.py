"""Carries tasks out: waits their time, reads their images, settles their money, calls back.

Knows no HTTP routes. All waiting is `wait` (scaled), all stamps are `clock`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from wan25_mcp.emulator.inspection import BadImage, inspect
from wan25_mcp.emulator.ledger import Ledger
from wan25_mcp.emulator.reach import Reach, Unreachable
from wan25_mcp.emulator.tasks import PENDING_SHARE, Task
from wan25_mcp.emulator.virtual import in_thread


class Failed(Exception):
    """The end of a task that made nothing."""

    def __init__(self, code: str, message: str) -> None:
        self.error = {"code": code, "message": message, "type": "task_error"}
        super().__init__(message)


class Cancelled(Failed):
    """The end of a task somebody stopped."""


class Studio:
    def __init__(
        self,
        reach: Reach,
        ledger: Ledger,
        clock: Callable[[], float],
        wait: Callable[[float], Awaitable[None]],
        check_images: bool,
    ) -> None:
        self._reach = reach
        self._ledger = ledger
        self._clock = clock
        self._wait = wait
        self._check_images = check_images

    async def carry_out(self, task: Task) -> None:
        """From pending to settled, money included."""
        try:
            await self._work(task)
        except Failed as failure:
            self._give_up(task, failure)

    async def _work(self, task: Task) -> None:
        await self._wait(task.run_seconds * PENDING_SHARE)
        task.move("processing")
        if self._check_images:
            task.sources = [await self._source(link) for link in task.order.image_urls]
        await self._wait(task.run_seconds * (1 - PENDING_SHARE))
        await self._meet_fate(task)
        self._complete(task)

    async def _source(self, link: str) -> bytes:
        try:
            raw = await self._reach.download(link)
            await in_thread(lambda: inspect(raw))
        except Unreachable as error:
            message = f"The image could not be downloaded: {error}."
            raise Failed("image_processing_error", message) from error
        except BadImage as error:
            raise Failed(error.code, error.message) from error
        return raw

    async def _meet_fate(self, task: Task) -> None:
        if task.fate.stuck_at is not None:
            await anyio.sleep_forever()
        if task.fate.cancelled:
            raise Cancelled("request_cancelled", "The task was cancelled.")
        if task.fate.fail:
            raise Failed(task.fate.fail, task.fate.words)

    def _complete(self, task: Task) -> None:
        wanted = task.order.n
        task.images = wanted if task.fate.images is None else min(wanted, task.fate.images)
        self._ledger.settle(task.id, task.images)
        task.settle("completed", self._clock())

    def _give_up(self, task: Task, failure: Failed) -> None:
        self._ledger.settle(task.id, 0)
        task.error = failure.error
        task.settle("cancelled" if isinstance(failure, Cancelled) else "failed", self._clock())
