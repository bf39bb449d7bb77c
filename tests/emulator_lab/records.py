"""What is recorded of what reached the emulator, and of what it sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Submit:
    """One POST to the submit address, however it ended.

    `status` is None while unanswered and when the connection was dropped; `accepted` says whether
    a task was made and its credits reserved, whatever was answered.
    """

    body: Any
    raw: bytes
    headers: dict[str, str]
    time: float
    accepted: bool = False
    task_id: str | None = None
    status: int | None = None
    replayed: bool = False

    def summary(self) -> dict[str, Any]:
        """Without the raw bytes and without the bearer key: fit to be printed."""
        shown = {name: value for name, value in asdict(self).items() if name != "raw"}
        shown["headers"] = {k: v for k, v in self.headers.items() if k != "authorization"}
        return shown


@dataclass
class Read:
    """One GET of a task."""

    task_id: str
    time: float
    status: str | None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Delivery:
    """One attempt to call back. `error` says why no status came."""

    task_id: str
    url: str
    attempt: int
    time: float
    body: dict[str, Any]
    status: int | None = None
    error: str | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass
class Records:
    """Everything in the order it happened. `clock` gives the times."""

    clock: Callable[[], float]
    submits: list[Submit] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)
    queries: Counter[str] = field(default_factory=Counter)
    deliveries: list[Delivery] = field(default_factory=list)
    leaked_keys: list[str] = field(default_factory=list)

    def delivery(self, url: str, body: dict[str, Any]) -> Delivery:
        """Record one more attempt to call back about a task."""
        attempt = 1 + sum(one.task_id == body["id"] for one in self.deliveries)
        self.deliveries.append(Delivery(body["id"], url, attempt, self.clock(), body))
        return self.deliveries[-1]
