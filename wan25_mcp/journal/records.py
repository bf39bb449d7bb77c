"""The records of the journal, and what a journal promises. No storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from wan25_mcp.errors import Wan25Error
from wan25_mcp.models import Task

Stage = Literal["intent", "sending", "accepted", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Intent:
    """One wish to edit, and how far its submit has come. Times in epoch seconds.

    Args:
        handle: Our own id of the edit, good in place of a task id from the first moment.
        fingerprint: Equal for equal content.
        task_id: The provider's id, once accepted.
        error: Why there is no task, once refused or unknown.
    """

    handle: str
    fingerprint: str
    created_at: float
    stage: Stage = "intent"
    task_id: str | None = None
    error: Wan25Error | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """The intent that stands for a call, and whether an earlier call had made it."""

    intent: Intent
    joined: bool


@dataclass(frozen=True, slots=True)
class Sighting:
    """What was last seen of a task, and the moments its end must lie between.

    Args:
        task: The task as last seen.
        seen_at: When that was.
        unfinished_at: When it was last seen unsettled, if ever.
        settled_at: When it was first seen settled, if it is.
    """

    task: Task
    seen_at: float
    unfinished_at: float | None = None
    settled_at: float | None = None


class Journal(Protocol):
    """Each method is atomic among all who share the journal."""

    async def claim(self, fingerprint: str, handle: str, *, now: float, window: float) -> Claim:
        """Join the live intent of this fingerprint made in the last `window` seconds, or make one.

        A refused intent, and one whose task failed or was cancelled, is not live. A window of 0
        always makes a new one.
        """
        ...

    async def advance(
        self,
        handle: str,
        stage: Stage,
        *,
        task_id: str | None = None,
        error: Wan25Error | None = None,
    ) -> Intent:
        """Take an intent to its next stage."""
        ...

    async def find(self, name: str) -> Intent | None:
        """The intent of a handle or of a task id."""
        ...

    async def record(self, task: Task, *, now: float) -> Sighting:
        """Note a look at a task. A settled task stays what it was."""
        ...

    async def last_seen(self, task_id: str) -> Sighting | None:
        """What was last seen of a task."""
        ...


def fingerprint(content: Mapping[str, Any]) -> str:
    """The same for the same content, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
