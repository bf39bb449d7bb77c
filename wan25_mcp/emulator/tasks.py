"""The statuses of a task, and its JSON. No clock, no credits, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from wan25_mcp.emulator.refusals import MODEL
from wan25_mcp.emulator.rules import Order

ESTIMATED_SECONDS = 30
"""The provider's estimate for every task. `speed` divides it."""

PENDING_SHARE = 0.06
"""The share of its run time for which a task is pending."""

NEXT: dict[str, frozenset[str]] = {
    "pending": frozenset({"processing", "failed", "cancelled"}),
    "processing": frozenset({"completed", "failed", "cancelled"}),
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}


class TaskFailed(Exception):
    """A task ends without images. `status` is its final status."""

    def __init__(self, code: str, message: str, *, status: str = "failed") -> None:
        self.error: dict[str, str] = {"code": code, "message": message, "type": "task_error"}
        self.status = status
        super().__init__(message)


@dataclass
class Task:
    """The record of one accepted submit. `started` is on the event loop's clock."""

    id: str
    key: str
    order: Order
    created: int
    started: float
    run_seconds: float
    estimated_seconds: int = ESTIMATED_SECONDS
    status: str = "pending"
    settled_at: float | None = None
    duration: int | None = None
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


def reading(
    task: Task, *, progress: int | None, links: list[str], usage: dict[str, Any]
) -> dict[str, Any]:
    """The JSON of a task as a query returns it. `results` is absent until completion."""
    info: dict[str, Any] = {"can_cancel": not task.is_settled}
    if not task.is_settled:
        info["estimated_time"] = task.estimated_seconds
    fields: dict[str, Any] = {
        "created": task.created,
        "duration": task.duration,
        "id": task.id,
        "model": MODEL,
        "object": "image.generation.task",
        "progress": progress,
        "status": task.status,
        "task_info": info,
        "type": "image",
        "usage": usage,
        "error": task.error,
    }
    if task.status == "completed":
        fields |= {"results": links, "result_data": [{"url": link} for link in links]}
    return {name: value for name, value in fields.items() if value is not None}
