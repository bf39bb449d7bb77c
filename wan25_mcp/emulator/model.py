"""How the model behaves: its run times, its results, the progress it reports."""

from __future__ import annotations

import random

from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.tasks import Task


class Model:
    """Runs for 40 to 120 s in nine of ten tasks, and always makes the ordered images."""

    def __init__(self, options: EmulatorOptions) -> None:
        self._options = options
        self._scheduled = 0

    def schedule(self, task_id: str) -> float:  # noqa: ARG002 - for models that distinguish tasks
        """The run time in seconds of the next task, before `speed`."""
        source = random.Random(f"run {self._options.seed} {self._scheduled}")
        self._scheduled += 1
        given = self._options.run_seconds
        if callable(given):
            return given(source)
        return source.lognormvariate(4.25, 0.33) if given is None else given

    async def make(self, task: Task) -> int:
        """The number of images made for a task at the end of its run. Raises: TaskFailed."""
        return task.order.n

    def progress(self, task: Task, elapsed: float) -> int | None:
        """The percentage reported after `elapsed` seconds of the run; None reports none."""
        if task.is_settled:
            return 100 if task.status == "completed" else 0
        return 0 if task.status == "pending" else plausible(task, elapsed)


def plausible(task: Task, elapsed: float, limit: int = 99) -> int:
    """A percentage that rises quickly at first, then slowly, and stays at or below `limit`."""
    share = min(1.0, max(0.0, elapsed) / task.run_seconds) if task.run_seconds else 1.0
    return int(limit * share**0.7)
