"""What the emulator remembers of what reached it, and of what it sent. No behaviour."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Submit:
    """One POST to the submit address, however it ended.

    `status` is None while unanswered and when the connection was dropped; `accepted` says whether
    a task was made and its credits reserved, whatever the caller was told.
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
