"""Runs tasks: waits for their run time, reads their images, settles their credits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from wan25_mcp.emulator.inspection import inspect
from wan25_mcp.emulator.ledger import Ledger
from wan25_mcp.emulator.model import Model
from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.tasks import PENDING_SHARE, Task, TaskFailed


class Runner:
    """Runs tasks.

    Args:
        wait: Waits for a number of seconds of the provider's time.
        download: Returns the bytes of a link. Raises: TaskFailed.
        in_thread: Runs blocking work.
    """

    def __init__(
        self,
        options: EmulatorOptions,
        ledger: Ledger,
        model: Model,
        *,
        wait: Callable[[float], Awaitable[None]],
        download: Callable[[str], Awaitable[bytes]],
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._model = model
        self._wait = wait
        self._download = download
        self._in_thread = in_thread

    async def run(self, task: Task) -> None:
        """Run a task from pending to settled, including its credits."""
        try:
            task.images = await self._work(task)
            status = "completed"
        except TaskFailed as failure:
            task.error, status = failure.error, failure.status
        self._ledger.settle(task.id, task.images)
        task.settle(status, self._options.clock())

    async def _work(self, task: Task) -> int:
        await self._wait(task.run_seconds * PENDING_SHARE)
        task.move("processing")
        if self._options.check_images:
            task.sources = [await self._source(link) for link in task.order.image_urls]
        await self._wait(task.run_seconds * (1 - PENDING_SHARE))
        return await self._model.make(task)

    async def _source(self, link: str) -> bytes:
        raw = await self._download(link)
        await self._in_thread(lambda: inspect(raw))
        return raw
