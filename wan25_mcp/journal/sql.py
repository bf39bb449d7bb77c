"""The journal on SQLite or PostgreSQL.

SQLite: one file in WAL mode, safe with several processes on one machine. PostgreSQL: several
machines; an advisory lock makes all replicas write in turn, as SQLite does anyway. A write is on
the disk before its method returns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread
from sqlalchemy import Connection

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import claims, files, intents, owners, spending, tasks
from wan25_mcp.journal.owners import current
from wan25_mcp.journal.records import (
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    JournalUnusable,
    KnownKey,
    Snapshot,
    Spent,
    Unsaved,
    Upload,
    Withheld,
)
from wan25_mcp.journal.transactions import Transactions
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task
from wan25_mcp.provider.statuses import is_settled

T = TypeVar("T")


async def in_thread(job: Callable[[], T], *, may_abandon: bool = False) -> T:
    """Run a blocking job in a thread. If it may be abandoned, cancelling does not wait for it."""
    return await anyio.to_thread.run_sync(job, abandon_on_cancel=may_abandon)


class SqlJournal(Transactions):
    """A `Journal` in a database.

    Each step resolves the `current` owner in its own transaction: another process may have joined
    the owner to another since this process read its name.

    Args:
        url: An SQLAlchemy URL, or the path of an SQLite file.
        run: Runs blocking work.
    """

    def __init__(self, url: str | Path, *, run: Callable[..., Awaitable[Any]] = in_thread) -> None:
        super().__init__(url, run)

    async def claim(
        self,
        request: ClaimRequest,
        *,
        now: float,
        window: float,
        lease: float,
        allowance: Allowance,
        refusal: Withheld | None = None,
    ) -> Claim:
        return await self._write(
            lambda db: claims.claim(
                db,
                request,
                now=now,
                window=window,
                lease=lease,
                allowance=allowance,
                refusal=refusal,
            ),
            before_sending=True,
        )

    async def live(
        self,
        owner: str,
        fingerprints: Collection[str],
        *,
        address: str | None,
        now: float,
        window: float,
    ) -> frozenset[str]:
        return await self._read_current(
            now,
            frozenset(),
            lambda db: claims.live(
                db, current(db, owner), fingerprints, address=address, since=now - window
            ),
        )

    async def known_key(self, key: str, *, address: str | None) -> KnownKey:
        return await self._read(KnownKey(), lambda db: owners.known_key(db, key, address=address))

    async def join_owners(self, owner: str, keys: Collection[str]) -> str:
        return await self._write(lambda db: owners.join_owners(db, owner, keys))

    async def begin(self, handle: str, *, now: float, lease: float) -> bool:
        return await self._write(
            lambda db: intents.begin(db, handle, now=now, lease=lease), before_sending=True
        )

    async def pause(self, handle: str, *, now: float, lease: float) -> None:
        await self._write(lambda db: intents.pause(db, handle, now=now, lease=lease))

    async def renew(self, handle: str, *, now: float, lease: float) -> None:
        await self._write(lambda db: intents.renew(db, handle, now=now, lease=lease))

    async def accept(self, owner: str, handle: str, task: Task, *, now: float) -> bool:
        return await self._write(
            lambda db: intents.accept(db, current(db, owner), handle, task, now=now)
        )

    async def refuse(self, handle: str, error: Wan25Error) -> None:
        await self._write(lambda db: intents.refuse(db, handle, error))

    async def mark_unknown(self, handle: str, error: Wan25Error) -> None:
        await self._write(lambda db: intents.mark_unknown(db, handle, error))

    async def find(self, name: str, owner: str, *, now: float) -> Intent | None:
        return await self._read_current(
            now, None, lambda db: intents.find(db, current(db, owner), name)
        )

    async def record(self, owner: str, task: Task, *, now: float) -> Snapshot:
        write = self._write if is_settled(task.status) else self._note
        return await write(lambda db: tasks.record(db, current(db, owner), task, now=now))

    async def acquire_poll(
        self, owner: str, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        return await self._note(
            lambda db: tasks.acquire_poll(
                db, current(db, owner), task_id, seen_at=seen_at, now=now, lease=lease
            )
        )

    async def release_poll(self, owner: str, task_id: str) -> None:
        await self._note(lambda db: tasks.release_poll(db, current(db, owner), task_id))

    async def last_seen(self, owner: str, task_id: str) -> Snapshot | None:
        return await self._read(None, lambda db: tasks.last_seen(db, current(db, owner), task_id))

    async def snapshots(self, owner: str, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        return await self._read({}, lambda db: tasks.snapshots(db, current(db, owner), task_ids))

    async def seen_since(self, owner: str, since: float) -> Mapping[str, float]:
        return await self._read({}, lambda db: tasks.seen_since(db, current(db, owner), since))

    async def past_runs(
        self, owner: str, *, n: int | None = None, model: str = MODEL, limit: int = 100
    ) -> Sequence[float]:
        return await self._read(
            [], lambda db: tasks.past_runs(db, current(db, owner), n=n, model=model, limit=limit)
        )

    async def orphaned(
        self, owner: str, *, now: float, unseen_for: float, address: str | None = None
    ) -> Sequence[str]:
        return await self._read_current(
            now,
            [],
            lambda db: tasks.orphaned(
                db, current(db, owner), now=now, unseen_for=unseen_for, address=address
            ),
        )

    async def acquire_save(self, owner: str, task_id: str, *, now: float, lease: float) -> bool:
        return await self._write(
            lambda db: files.acquire_save(db, current(db, owner), task_id, now=now, lease=lease)
        )

    async def release_save(self, owner: str, task_id: str) -> None:
        await self._write(lambda db: files.release_save(db, current(db, owner), task_id))

    async def renew_save(self, owner: str, task_id: str, *, now: float, lease: float) -> None:
        await self._note(
            lambda db: files.renew_save(db, current(db, owner), task_id, now=now, lease=lease)
        )

    async def unsaved(
        self, owner: str, *, now: float, address: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        return await self._read(
            [],
            lambda db: files.unsaved(db, current(db, owner), now=now, address=address, limit=limit),
        )

    async def note_unsaved(self, owner: str, task_id: str, number: int, unsaved: Unsaved) -> None:
        await self._write(
            lambda db: files.note_unsaved(db, current(db, owner), task_id, number, unsaved)
        )

    async def unsaved_images(self, owner: str, task_id: str) -> Mapping[int, Unsaved]:
        return await self._read(
            {}, lambda db: files.unsaved_images(db, current(db, owner), task_id)
        )

    async def note_saved(self, owner: str, task_id: str, number: int, path: str) -> None:
        await self._write(
            lambda db: files.note_saved(db, current(db, owner), task_id, number, path)
        )

    async def saved(self, owner: str, task_id: str) -> Mapping[int, str]:
        return await self._read({}, lambda db: files.saved(db, current(db, owner), task_id))

    async def uploaded(self, owner: str, sha256: str, place: str, *, now: float) -> Upload | None:
        return await self._read(
            None, lambda db: files.uploaded(db, current(db, owner), sha256, place, now=now)
        )

    async def note_upload(self, owner: str, sha256: str, place: str, upload: Upload) -> None:
        await self._write(
            lambda db: files.note_upload(db, current(db, owner), sha256, place, upload)
        )

    async def keep_input(
        self, owner: str, handle: str, number: int, preview: bytes, *, now: float
    ) -> None:
        await self._note(
            lambda db: files.keep_input(db, current(db, owner), handle, number, preview, now=now)
        )

    async def kept_input(self, owner: str, name: str, number: int) -> bytes | None:
        return await self._read(
            None, lambda db: files.kept_input(db, current(db, owner), name, number)
        )

    async def recent(
        self, owner: str, *, now: float, limit: int
    ) -> Sequence[tuple[Intent, Snapshot | None]]:
        return await self._read_current(
            now, [], lambda db: intents.recent(db, current(db, owner), limit=limit)
        )

    async def price(self, owner: str, model: str) -> float | None:
        return await self._read(None, lambda db: spending.price(db, current(db, owner), model))

    async def spent(self, owner: str, since: float) -> Spent:
        return await self._read(
            Spent(0.0, 0.0), lambda db: spending.spent(db, current(db, owner), since)
        )

    async def prune(self, *, now: float) -> None:
        if await self._read(False, lambda _: True):  # else pruning would create a file
            # In parts, as other processes wait for each.
            while await self._write(lambda db: intents.prune(db, now)):
                pass

    async def _read_current(self, now: float, empty: T, step: Callable[[Connection], T]) -> T:
        """Read, after settling the intents of processes that died."""
        is_overdue, found = await self._read(
            (False, empty), lambda db: (intents.overdue(db, now), step(db))
        )
        if is_overdue:
            with suppress(JournalUnusable):  # reading works on a disk that cannot be written
                await self._write(lambda db: intents.expire(db, now))
            found = await self._read(empty, step)
        return found
