"""A task's life and how it reads in JSON. No clock of its own, no money, no HTTP."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from wan25_mcp.emulator.fates import Fate
from wan25_mcp.emulator.refusals import MODEL
from wan25_mcp.emulator.rules import Order

ESTIMATED_SECONDS = 30
"""What every task of the provider is said to take; of a faster one, so much less."""
# The share of a task's run time it spends waiting for its turn.
PENDING_SHARE = 0.06
NEXT: dict[str, frozenset[str]] = {
    "pending": frozenset({"processing", "failed", "cancelled"}),
    "processing": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


@dataclass
class Task:
    """The gateway's record of one accepted submit."""

    id: str
    key: str
    order: Order
    created: int
    run_seconds: float
    fate: Fate
    status: str = "pending"
    started: float | None = None
    settled_at: float | None = None
    duration: int | None = None
    estimated_seconds: int = ESTIMATED_SECONDS
    images: int = 0
    error: dict[str, str] | None = None
    sources: list[bytes] = field(default_factory=list)

    @property
    def is_settled(self) -> bool:
        return not NEXT[self.status]

    def move(self, status: str) -> None:
        if status not in NEXT[self.status]:
            raise ValueError(f"a {self.status} task cannot become {status}")
        self.status = status

    def settle(self, status: str, now: float) -> None:
        self.move(status)
        self.settled_at = now
        self.duration = max(0, int(now) - self.created)


def progress(task: Task, elapsed: float) -> int | None:
    """What a reader is told, `elapsed` seconds of its run time into the task."""
    if task.is_settled:
        return 100 if task.status == "completed" else 0
    if task.fate.progress == "absent":
        return None
    if task.status == "pending" or task.fate.progress == "stuck":
        return 0
    if task.fate.progress == "jumping":
        return random.Random(f"{task.id}{elapsed}").randint(0, 100)
    return _plausible(task, elapsed)


def _plausible(task: Task, elapsed: float) -> int:
    """Quick at first, then slower, never done before it is done."""
    share = min(1.0, max(0.0, elapsed) / task.run_seconds) if task.run_seconds else 1.0
    ceiling = 99 if task.fate.stuck_at is None else min(99, task.fate.stuck_at)
    return int(ceiling * share**0.7)


def reading(
    task: Task, *, shown: int | None, links: list[str], usage: dict[str, Any]
) -> dict[str, Any]:
    """The task as the query answers it. `results` is absent until completion."""
    fields: dict[str, Any] = {
        "created": task.created,
        "duration": task.duration,
        "id": task.id,
        "model": MODEL,
        "object": "image.generation.task",
        "progress": shown,
        "status": task.status,
        "task_info": _task_info(task),
        "type": "image",
        "usage": usage,
        "error": task.error,
    }
    if task.status == "completed":
        fields |= {"results": links, "result_data": [{"url": link} for link in links]}
    return {name: value for name, value in fields.items() if value is not None}


def _task_info(task: Task) -> dict[str, Any]:
    if task.is_settled:
        return {"can_cancel": False}
    return {"can_cancel": True, "estimated_time": task.estimated_seconds}
