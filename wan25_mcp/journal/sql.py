"""The journal on SQLite or PostgreSQL, through SQLAlchemy in worker threads.

Opened on first use. SQLite: one file, WAL, safe with several processes on one machine; every
commit that a step builds on is on the disk before it. PostgreSQL: several machines; a lock of the
transaction's makes the steps of all replicas take turns, which they would on SQLite anyway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import anyio.lowlevel
import anyio.to_thread
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import files, schema, sightings, steps
from wan25_mcp.journal.engine import Kind, open_engine, reason, take_turn
from wan25_mcp.journal.records import (
    Allowance,
    Ask,
    Claim,
    Intent,
    JournalUnusable,
    Sighting,
    Upload,
    Withheld,
)
from wan25_mcp.lifecycle import is_settled
from wan25_mcp.models import Task

P = ParamSpec("P")
T = TypeVar("T")
Run = Callable[[Callable[[], T]], Awaitable[T]]


async def in_thread(job: Callable[[], T]) -> T:
    """Run a blocking job beside the event loop."""
    return await anyio.to_thread.run_sync(job)


async def inline(job: Callable[[], T]) -> T:
    """Run a blocking job on the event loop: a virtual clock does not wait for threads."""
    await anyio.lowlevel.checkpoint()
    return job()


class SqlJournal:
    """A journal in a database.

    Args:
        url: An SQLAlchemy URL, or the path of an SQLite file.
        run: Where blocking work runs.
    """

    def __init__(self, url: str | Path, *, run: Callable[..., Awaitable[Any]] = in_thread) -> None:
        self._url = url
        self._run = run
        self._engine: Engine | None = None
        self._opening = threading.Lock()

    def close(self) -> None:
        """Give back connections; the journal may be used again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    # --- the promise ------------------------------------------------------------------------

    async def claim(
        self,
        ask: Ask,
        *,
        now: float,
        window: float,
        lease: float,
        allowance: Allowance,
        refusal: Withheld | None = None,
    ) -> Claim:
        return await self._write(
            steps.claim,
            ask,
            now=now,
            window=window,
            lease=lease,
            allowance=allowance,
            refusal=refusal,
        )

    async def begin(self, handle: str, *, now: float, lease: float) -> bool:
        return await self._write(steps.begin, handle, now=now, lease=lease)

    async def pause(self, handle: str, *, now: float, lease: float) -> None:
        await self._write(steps.pause, handle, now=now, lease=lease)

    async def renew(self, handle: str, *, now: float, lease: float) -> None:
        await self._write(steps.renew, handle, now=now, lease=lease)

    async def accept(self, handle: str, task: Task, *, now: float) -> None:
        await self._write(steps.accept, handle, task, now=now)

    async def refuse(self, handle: str, error: Wan25Error) -> None:
        await self._write(steps.refuse, handle, error)

    async def lose(self, handle: str, error: Wan25Error) -> None:
        await self._write(steps.lose, handle, error)

    async def find(self, name: str, owner: str, *, now: float) -> Intent | None:
        return await self._read_current(now, None, steps.find, name, owner)

    async def record(self, task: Task, *, now: float) -> Sighting:
        write = self._write if is_settled(task.status) else self._note
        return await write(sightings.record, task, now=now)

    async def take_look(
        self, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        return await self._note(sightings.take_look, task_id, seen_at=seen_at, now=now, lease=lease)

    async def end_look(self, task_id: str) -> None:
        await self._note(sightings.end_look, task_id)

    async def last_seen(self, task_id: str) -> Sighting | None:
        return await self._read(None, sightings.last_seen, task_id)

    async def sightings(self, task_ids: Collection[str]) -> Mapping[str, Sighting]:
        return await self._read({}, sightings.sightings, task_ids)

    async def seen_since(self, since: float) -> Mapping[str, float]:
        return await self._read({}, sightings.seen_since, since)

    async def past_runs(
        self, owner: str, *, n: int | None = None, most: int = 100
    ) -> Sequence[float]:
        return await self._read([], sightings.past_runs, owner, n=n, most=most)

    async def unattended(self, owner: str, *, now: float, unseen_for: float) -> Sequence[str]:
        return await self._read([], sightings.unattended, owner, now=now, unseen_for=unseen_for)

    async def take_on(self, task_id: str, *, now: float, lease: float) -> bool:
        return await self._write(files.take_on, task_id, now=now, lease=lease)

    async def let_go(self, task_id: str) -> None:
        await self._write(files.let_go, task_id)

    async def unsaved(self, owner: str, *, now: float) -> Sequence[str]:
        return await self._read([], files.unsaved, owner, now=now)

    async def note_saved(self, task_id: str, number: int, path: str) -> None:
        await self._write(files.note_saved, task_id, number, path)

    async def saved(self, task_id: str) -> Mapping[int, str]:
        return await self._read({}, files.saved, task_id)

    async def uploaded(self, sha256: str, place: str, *, now: float) -> Upload | None:
        return await self._read(None, files.uploaded, sha256, place, now=now)

    async def note_upload(self, sha256: str, place: str, upload: Upload) -> None:
        await self._write(files.note_upload, sha256, place, upload)

    async def recent(
        self, owner: str, *, now: float, most: int
    ) -> Sequence[tuple[Intent, Sighting | None]]:
        return await self._read_current(now, [], steps.recent, owner, most=most)

    # --- transactions -----------------------------------------------------------------------

    async def _write(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._change("write", step, *args, **kwargs)

    async def _note(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._change("note", step, *args, **kwargs)

    async def _change(
        self,
        kind: Kind,
        step: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        def job() -> T:
            return self._transact(kind, lambda connection: step(connection, *args, **kwargs))

        result: T = await self._run(job)
        return result

    async def _read(
        self,
        empty: T,
        step: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read; `empty` where nothing was ever written, so that reading creates no file."""

        def job() -> T:
            if self._is_absent():
                return empty
            return self._transact("read", lambda connection: step(connection, *args, **kwargs))

        result: T = await self._run(job)
        return result

    async def _read_current(
        self,
        now: float,
        empty: T,
        step: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read, once intents whose holder has died are said to be what they are."""

        def job() -> T:
            if self._is_absent():
                return empty
            # Asked first, and not insisted on: reading must work on a disk that takes nothing.
            if self._transact("read", lambda connection: steps.overdue(connection, now)):
                with suppress(JournalUnusable):
                    self._transact("write", lambda connection: steps.expire(connection, now))
            return self._transact("read", lambda connection: step(connection, *args, **kwargs))

        result: T = await self._run(job)
        return result

    def _is_absent(self) -> bool:
        return self._engine is None and isinstance(self._url, Path) and not _exists(self._url)

    def _transact(self, kind: Kind, step: Callable[[Connection], T]) -> T:
        try:
            engine = self._opened()
            with engine.connect().execution_options(wan25=kind) as connection, connection.begin():
                take_turn(connection, kind)
                return step(connection)
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise JournalUnusable(reason(error)) from error

    def _opened(self) -> Engine:
        with self._opening:  # several threads may come first at once; each would open its own
            if self._engine is None:
                engine = open_engine(self._url)
                try:
                    _prepare(engine)
                except BaseException:
                    engine.dispose()  # it is tried again at each call, and must not pile up
                    raise
                self._engine = engine
            return self._engine


def _prepare(engine: Engine) -> None:
    """Bring the tables to this version, and forget what is old."""
    with engine.connect().execution_options(wan25="write") as connection, connection.begin():
        take_turn(connection, "write")
        schema.bring_forward(connection)
        steps.prune(connection, time.time())


def _exists(path: Path) -> bool:
    """Whether there is something to read; what may not even be looked at, opening will tell."""
    try:
        return path.exists()
    except OSError:
        return True
