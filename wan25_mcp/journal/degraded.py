"""Fail closed before the wire, carry on after it.

Without the journal nothing is sent. But what has been sent must not be lost because the disk is
full now: from there on, what cannot be written is kept in memory, told in every answer of this
process, and written as soon as the journal takes it. Looks at tasks work without it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal.records import Intent, Journal, JournalUnusable, Snapshot, mixed_up, observe
from wan25_mcp.provider.models import Task
from wan25_mcp.provider.statuses import is_settled

logger = logging.getLogger(__name__)

_MAX_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Unwritten:
    intents: dict[str, Intent] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    steps: dict[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)


class DegradedJournal:
    """What the editor does with its journal after a submit has been sent, and for looks."""

    def __init__(self, journal: Journal, owner: Callable[[], Awaitable[str]]) -> None:
        self._journal = journal
        self._owner = owner
        self._unwritten = _Unwritten()
        self._handles: dict[str, str] = {}

    async def accept(self, intent: Intent, task: Task, *, now: float) -> Intent:
        """The provider has the task, unless it is another's: then the outcome is unknown."""
        if self._handles.get(task.id, intent.handle) != intent.handle:
            return await self.mark_unknown(intent, mixed_up(task.id))
        is_its_own = True

        async def step() -> None:
            nonlocal is_its_own
            is_its_own = await self._journal.accept(intent.owner, intent.handle, task, now=now)

        ended = replace(intent, stage="accepted", task_id=task.id)
        if not await self._take(ended, step):
            self._unwritten.snapshots[task.id] = observe(None, task, now)
            logger.error("Not journaled: %s is task %s", intent.handle, task.id)
        if not is_its_own:
            return replace(intent, stage="unknown", error=mixed_up(task.id))
        self._remember(task.id, intent.handle)
        return ended

    def _remember(self, task_id: str, handle: str) -> None:
        """Whose a task is must be known without the journal too, in this process at least."""
        self._handles[task_id] = handle
        if len(self._handles) > _MAX_REMEMBERED:
            del self._handles[next(iter(self._handles))]

    async def refuse(self, intent: Intent, error: Wan25Error) -> Intent:
        async def step() -> None:
            await self._journal.refuse(intent.handle, error)

        ended = replace(intent, stage="refused", error=error)
        await self._take(ended, step)
        return ended

    async def mark_unknown(self, intent: Intent, error: Wan25Error) -> Intent:
        async def step() -> None:
            await self._journal.mark_unknown(intent.handle, error)

        ended = replace(intent, stage="unknown", error=error)
        await self._take(ended, step)
        return ended

    async def _take(self, ended: Intent, step: Callable[[], Awaitable[None]]) -> bool:
        if await _is_written(step):
            return True
        self._unwritten.intents[ended.handle] = ended
        self._unwritten.steps[ended.handle] = step
        return False

    async def _flush(self) -> None:
        """Write what could not be written before, as far as the journal takes it."""
        for handle, step in list(self._unwritten.steps.items()):
            if not await _is_written(step):
                if self._unwritten.steps.pop(handle, None):  # to the end: others get their turn
                    self._unwritten.steps[handle] = step
                return
            self._unwritten.steps.pop(handle, None)  # another call may have been as quick
            self._unwritten.intents.pop(handle, None)
        for task_id, snapshot in list(self._unwritten.snapshots.items()):
            try:
                if is_settled(snapshot.task.status):  # any other is looked at again
                    owner = await self._owner()
                    await self._journal.record(owner, snapshot.task, now=snapshot.seen_at)
            except JournalUnusable as error:
                logger.warning("%s", error.state)
                return
            if self._unwritten.snapshots.get(task_id) is snapshot:
                del self._unwritten.snapshots[task_id]

    async def find(self, name: str, *, now: float) -> Intent | None:
        """The intent of a handle or of a task id; None also when the journal cannot be read."""
        try:
            return await self.find_or_fail(name, now=now)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return None

    async def find_or_fail(self, name: str, *, now: float) -> Intent | None:
        """The intent of a handle or of a task id.

        Raises:
            JournalUnusable: It cannot be read, and this process alone does not know.
        """
        await self._flush()
        kept = self._unwritten.intents.values()
        for intent in kept:  # newer than what the journal says of them
            if name in (intent.handle, intent.task_id):
                return intent
        return await self._journal.find(name, await self._owner(), now=now)

    async def record(self, task: Task, *, now: float) -> Snapshot:
        try:
            seen = await self._journal.record(await self._owner(), task, now=now)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            seen = observe(await self.last_seen(task.id), task, now)
            self._unwritten.snapshots[task.id] = seen
            return seen
        self._unwritten.snapshots.pop(task.id, None)
        return seen

    async def last_seen(self, task_id: str) -> Snapshot | None:
        unwritten = self._unwritten.snapshots.get(task_id)
        try:
            written = await self._journal.last_seen(await self._owner(), task_id)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return unwritten
        if written is None or unwritten is None:
            return written or unwritten
        return max(written, unwritten, key=_newness)

    async def snapshots(self, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        unwritten = self._unwritten.snapshots
        found = {task_id: unwritten[task_id] for task_id in task_ids if task_id in unwritten}
        try:
            written = await self._journal.snapshots(await self._owner(), task_ids)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return found
        both = {
            name: max(written[name], found[name], key=_newness) for name in {*written} & {*found}
        }
        return {**written, **found, **both}

    async def seen_since(self, since: float) -> Mapping[str, float]:
        try:
            return await self._journal.seen_since(await self._owner(), since)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return {}

    async def acquire_poll(
        self, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        try:
            owner = await self._owner()
            return await self._journal.acquire_poll(
                owner, task_id, seen_at=seen_at, now=now, lease=lease
            )
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return True  # two who look cost a look; nobody who looks would cost the result

    async def release_poll(self, task_id: str) -> None:
        try:
            await self._journal.release_poll(await self._owner(), task_id)
        except JournalUnusable as error:
            logger.error("%s", error.state)  # noqa: TRY400  the sentence says it; no trace needed

    async def past_runs(self, *, n: int | None = None, limit: int = 100) -> Sequence[float]:
        try:
            return await self._journal.past_runs(await self._owner(), n=n, limit=limit)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return ()

    async def orphaned(
        self, *, now: float, unseen_for: float, address: str | None = None
    ) -> Sequence[str]:
        await self._flush()  # though nobody asks
        try:
            owner = await self._owner()
            return await self._journal.orphaned(
                owner, now=now, unseen_for=unseen_for, address=address
            )
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return ()


async def _is_written(step: Callable[[], Awaitable[None]]) -> bool:
    try:
        await step()
    except JournalUnusable as error:
        logger.error("%s", error.state)  # noqa: TRY400  the sentence says it; no trace needed
    except Exception:  # such as no thread to be had; what came of a submit must outlive it
        logger.exception("Writing in the journal ended unexpectedly")
    else:
        return True
    return False


def _newness(snapshot: Snapshot) -> tuple[bool, float]:
    return is_settled(snapshot.task.status), snapshot.seen_at
