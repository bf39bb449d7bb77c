"""A journal that lives as long as its process. Single-threaded: no method awaits midway."""

from __future__ import annotations

from dataclasses import replace

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal.records import Claim, Intent, Sighting, Stage
from wan25_mcp.lifecycle import is_settled
from wan25_mcp.models import Task


class MemoryJournal:
    """Keeps every intent and the last sighting of every task."""

    def __init__(self) -> None:
        self._intents: dict[str, Intent] = {}
        self._handles: dict[str, str] = {}
        self._latest: dict[str, str] = {}
        self._sightings: dict[str, Sighting] = {}

    async def claim(self, fingerprint: str, handle: str, *, now: float, window: float) -> Claim:
        earlier = self._intents.get(self._latest.get(fingerprint, ""))
        if earlier and now - earlier.created_at < window and self._is_live(earlier):
            return Claim(earlier, joined=True)
        intent = Intent(handle, fingerprint, now)
        self._intents[handle] = intent
        self._latest[fingerprint] = handle
        return Claim(intent, joined=False)

    def _is_live(self, intent: Intent) -> bool:
        sighting = self._sightings.get(intent.task_id or "")
        ended = sighting is not None and sighting.task.status in ("failed", "cancelled")
        return intent.stage != "refused" and not ended

    async def advance(
        self,
        handle: str,
        stage: Stage,
        *,
        task_id: str | None = None,
        error: Wan25Error | None = None,
    ) -> Intent:
        intent = replace(self._intents[handle], stage=stage, task_id=task_id, error=error)
        self._intents[handle] = intent
        if task_id:
            self._handles[task_id] = handle
        return intent

    async def find(self, name: str) -> Intent | None:
        return self._intents.get(self._handles.get(name, name))

    async def record(self, task: Task, *, now: float) -> Sighting:
        before = self._sightings.get(task.id)
        if before and is_settled(before.task.status):
            return before
        settled = is_settled(task.status)
        sighting = Sighting(
            task,
            seen_at=now,
            unfinished_at=(before.unfinished_at if before else None) if settled else now,
            settled_at=now if settled else None,
        )
        self._sightings[task.id] = sighting
        return sighting

    async def last_seen(self, task_id: str) -> Sighting | None:
        return self._sightings.get(task_id)
