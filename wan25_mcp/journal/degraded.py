"""Fail closed before a submit is sent, carry on after it.

Without the journal nothing is sent. But a full disk must not lose what was already sent. From then
on, what cannot be written is kept in memory, appears in every answer of this process, and is
written once the journal is available again. Polling works without the journal.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal.outcomes import mixed_up
from wan25_mcp.journal.protocol import Journal
from wan25_mcp.journal.records import Intent, JournalUnusable, Snapshot, observe
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task
from wan25_mcp.provider.statuses import is_settled

logger: Final = logging.getLogger(__name__)

T = TypeVar("T")
Step = Callable[[], Awaitable[None]]

_MAX_REMEMBERED: Final = 10_000


class DegradedJournal:
    """The methods of a journal that the editor uses after a submit was sent, and for polling.

    They mean the same as in `Journal`, for one owner. Except for `find_or_fail`, they do not raise
    when the storage fails.

    Args:
        owner: Returns the current owner.
    """

    def __init__(self, journal: Journal, owner: Callable[[], Awaitable[str]]) -> None:
        self._journal = journal
        self._owner = owner
        self._steps: dict[str, tuple[Intent, Step]] = {}
        """Not written yet: the intent as it is now and the step that writes it, by handle."""
        self._snapshots: dict[str, Snapshot] = {}
        """Not written yet, by task id."""
        self._handles: dict[str, str] = {}

    async def accept(self, intent: Intent, task: Task, *, now: float) -> Intent:
        """Record that the provider has the task, or an unknown outcome if it is another's."""
        if self._handles.get(task.id, intent.handle) != intent.handle:
            return await self.mark_unknown(intent, mixed_up(task.id))
        is_its_own = True

        async def step() -> None:
            nonlocal is_its_own
            is_its_own = await self._journal.accept(intent.owner, intent.handle, task, now=now)

        accepted = replace(intent, stage="accepted", task_id=task.id)
        if not await self._write_or_keep(accepted, step):
            self._snapshots[task.id] = observe(None, task, now)
            logger.error("Not journaled: %s is task %s", intent.handle, task.id)
        if not is_its_own:
            return replace(intent, stage="unknown", error=mixed_up(task.id))
        # Without the journal too, this process must know which intent a task belongs to.
        self._handles[task.id] = intent.handle
        if len(self._handles) > _MAX_REMEMBERED:
            del self._handles[next(iter(self._handles))]
        return accepted

    async def refuse(self, intent: Intent, error: Wan25Error) -> Intent:
        async def step() -> None:
            await self._journal.refuse(intent.handle, error)

        refused = replace(intent, stage="refused", error=error)
        await self._write_or_keep(refused, step)
        return refused

    async def mark_unknown(self, intent: Intent, error: Wan25Error) -> Intent:
        async def step() -> None:
            await self._journal.mark_unknown(intent.handle, error)

        unknown = replace(intent, stage="unknown", error=error)
        await self._write_or_keep(unknown, step)
        return unknown

    async def _write_or_keep(self, intent: Intent, step: Step) -> bool:
        if await _is_written(step):
            return True
        self._steps[intent.handle] = intent, step
        return False

    async def _flush(self) -> None:
        """Write what could not be written before, until the journal fails again."""
        for handle, unwritten in list(self._steps.items()):
            is_written = await _is_written(unwritten[1])
            # A concurrent call may have written it, or have left a later step.
            if self._steps.get(handle) is unwritten:
                del self._steps[handle]
                if not is_written:
                    self._steps[handle] = unwritten  # at the end: others are tried first
            if not is_written:
                return
        for task_id, snapshot in list(self._snapshots.items()):
            try:
                if is_settled(snapshot.task.status):  # unsettled tasks are polled again
                    owner = await self._owner()
                    await self._journal.record(owner, snapshot.task, now=snapshot.seen_at)
            except JournalUnusable as error:
                logger.warning("%s", error.state)
                return
            if self._snapshots.get(task_id) is snapshot:
                del self._snapshots[task_id]

    async def _ask(self, default: T, question: Callable[[str], Awaitable[T]]) -> T:
        """The journal's answer for the current owner; `default` when it is unavailable."""
        try:
            return await question(await self._owner())
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return default

    async def find(self, name: str, *, now: float) -> Intent | None:
        """The intent with this handle or task id; None also when the journal cannot be read."""
        try:
            return await self.find_or_fail(name, now=now)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return None

    async def find_or_fail(self, name: str, *, now: float) -> Intent | None:
        """The intent with this handle or task id.

        Raises:
            JournalUnusable: It cannot be read, and is not in this process's memory.
        """
        await self._flush()
        for intent, _ in self._steps.values():  # newer than the journal's
            if name in (intent.handle, intent.task_id):
                return intent
        return await self._journal.find(name, await self._owner(), now=now)

    async def record(self, task: Task, *, now: float) -> Snapshot:
        try:
            snapshot = await self._journal.record(await self._owner(), task, now=now)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            snapshot = observe(await self.last_seen(task.id), task, now)
            self._snapshots[task.id] = snapshot
            return snapshot
        self._snapshots.pop(task.id, None)
        return snapshot

    async def last_seen(self, task_id: str) -> Snapshot | None:
        unwritten = self._snapshots.get(task_id)
        written = await self._ask(None, lambda owner: self._journal.last_seen(owner, task_id))
        if written is None or unwritten is None:
            return written or unwritten
        return max(written, unwritten, key=_newness)

    async def snapshots(self, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        # Copied before the query: one that is flushed meanwhile could be in neither.
        unwritten = {name: self._snapshots[name] for name in task_ids if name in self._snapshots}
        nothing: Mapping[str, Snapshot] = {}
        written = await self._ask(nothing, lambda owner: self._journal.snapshots(owner, task_ids))
        newest = {
            task_id: max(written.get(task_id, snapshot), snapshot, key=_newness)
            for task_id, snapshot in unwritten.items()
        }
        return {**written, **newest}

    async def seen_since(self, since: float) -> Mapping[str, float]:
        return await self._ask({}, lambda owner: self._journal.seen_since(owner, since))

    async def acquire_poll(
        self, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        return await self._ask(
            True,  # polling twice costs one poll; not polling could cost the result
            lambda owner: self._journal.acquire_poll(
                owner, task_id, seen_at=seen_at, now=now, lease=lease
            ),
        )

    async def release_poll(self, task_id: str) -> None:
        try:
            await self._journal.release_poll(await self._owner(), task_id)
        except JournalUnusable as error:
            logger.error("%s", error.state)  # noqa: TRY400  the sentence is enough

    async def past_runs(
        self, *, n: int | None = None, model: str = MODEL, limit: int = 100
    ) -> Sequence[float]:
        return await self._ask(
            (), lambda owner: self._journal.past_runs(owner, n=n, model=model, limit=limit)
        )

    async def orphaned(
        self, *, now: float, unseen_for: float, address: str | None = None
    ) -> Sequence[str]:
        await self._flush()  # this is called regularly, even when no call is waiting
        return await self._ask(
            (),
            lambda owner: self._journal.orphaned(
                owner, now=now, unseen_for=unseen_for, address=address
            ),
        )


async def _is_written(step: Step) -> bool:
    try:
        await step()
    except JournalUnusable as error:
        logger.error("%s", error.state)  # noqa: TRY400  the sentence is enough
    except Exception:  # such as no more threads; the outcome of a submit must not be lost
        logger.exception("Writing in the journal ended unexpectedly")
    else:
        return True
    return False


def _newness(snapshot: Snapshot) -> tuple[bool, float]:
    return is_settled(snapshot.task.status), snapshot.seen_at
