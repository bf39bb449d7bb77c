"""The journal on SQLite or PostgreSQL, through SQLAlchemy in worker threads.

Opened on first use. SQLite: one file, WAL, safe with several processes on one machine; every
commit that a step builds on is on the disk before it. PostgreSQL: several machines; a lock of the
transaction's makes the steps of all replicas take turns, which they would on SQLite anyway.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import anyio.lowlevel
import anyio.to_thread
from anyio.lowlevel import RunVar
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError, StatementError

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import files, intents, owners, schema, tasks
from wan25_mcp.journal.database_file import DatabaseFile, Replaced
from wan25_mcp.journal.engine import Kind, open_engine, reason, take_turn
from wan25_mcp.journal.group_commit import GroupCommit
from wan25_mcp.journal.records import (
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    JournalUnusable,
    KnownKey,
    Snapshot,
    Unsaved,
    Upload,
    Withheld,
)
from wan25_mcp.journal.time_limits import Gate
from wan25_mcp.provider.models import Task
from wan25_mcp.provider.statuses import is_settled

logger = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Job:
    """A step, and what it comes to where nothing was ever written."""

    step: Callable[[Connection], Any]
    empty: Any = None
    comes_before_the_wire: bool = False
    """Whether something is sent because of it, so that others must be able to read it."""


Lanes = dict[Kind, GroupCommit[_Job]]

_numbers: Final = itertools.count()

_CONCURRENT_READS: Final = 4
"""Batches of reads at one time on a server, which is far away; a file is not."""


async def in_thread(job: Callable[[], T], *, may_abandon: bool = False) -> T:
    """Run a blocking job beside the event loop; one that may be abandoned ends unheard."""
    return await anyio.to_thread.run_sync(job, abandon_on_cancel=may_abandon)


async def inline(job: Callable[[], T], *, may_abandon: bool = False) -> T:  # noqa: ARG001  as above
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
        self._file: DatabaseFile | None = None
        self._opening = threading.Lock()
        self._changing = threading.Lock()
        self._gate = Gate()
        # For each event loop its own: what one thread waits for, another cannot set.
        self._lanes: RunVar[Lanes] = RunVar(f"lanes of journal {next(_numbers)}")

    def close(self) -> None:
        """Give back connections; the journal may be used again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = self._file = None

    # --- the promise ------------------------------------------------------------------------

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
        return await self._write_before_the_wire(
            intents.claim,
            request,
            now=now,
            window=window,
            lease=lease,
            allowance=allowance,
            refusal=refusal,
        )

    async def known_key(self, key: str, *, address: str | None) -> KnownKey:
        return await self._read(KnownKey(), owners.known_key, key, address=address)

    async def join_owners(self, owner: str, keys: Collection[str]) -> str:
        return await self._write(owners.join_owners, owner, keys)

    async def begin(self, handle: str, *, now: float, lease: float) -> bool:
        return await self._write_before_the_wire(intents.begin, handle, now=now, lease=lease)

    async def pause(self, handle: str, *, now: float, lease: float) -> None:
        await self._write(intents.pause, handle, now=now, lease=lease)

    async def renew(self, handle: str, *, now: float, lease: float) -> None:
        await self._write(intents.renew, handle, now=now, lease=lease)

    async def accept(self, owner: str, handle: str, task: Task, *, now: float) -> bool:
        return await self._write(_owned(intents.accept), owner, handle, task, now=now)

    async def refuse(self, handle: str, error: Wan25Error) -> None:
        await self._write(intents.refuse, handle, error)

    async def mark_unknown(self, handle: str, error: Wan25Error) -> None:
        await self._write(intents.mark_unknown, handle, error)

    async def find(self, name: str, owner: str, *, now: float) -> Intent | None:
        return await self._read_current(now, None, _owned(intents.find), owner, name)

    async def record(self, owner: str, task: Task, *, now: float) -> Snapshot:
        write = self._write if is_settled(task.status) else self._note
        return await write(_owned(tasks.record), owner, task, now=now)

    async def acquire_poll(
        self, owner: str, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        return await self._note(
            _owned(tasks.acquire_poll), owner, task_id, seen_at=seen_at, now=now, lease=lease
        )

    async def release_poll(self, owner: str, task_id: str) -> None:
        await self._note(_owned(tasks.release_poll), owner, task_id)

    async def last_seen(self, owner: str, task_id: str) -> Snapshot | None:
        return await self._read(None, _owned(tasks.last_seen), owner, task_id)

    async def snapshots(self, owner: str, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        return await self._read({}, _owned(tasks.snapshots), owner, task_ids)

    async def seen_since(self, owner: str, since: float) -> Mapping[str, float]:
        return await self._read({}, _owned(tasks.seen_since), owner, since)

    async def past_runs(
        self, owner: str, *, n: int | None = None, limit: int = 100
    ) -> Sequence[float]:
        return await self._read([], _owned(tasks.past_runs), owner, n=n, limit=limit)

    async def orphaned(
        self, owner: str, *, now: float, unseen_for: float, address: str | None = None
    ) -> Sequence[str]:
        step = _owned(partial(tasks.orphaned, now=now, address=address))
        return await self._read_current(now, [], step, owner, unseen_for=unseen_for)

    async def acquire_save(self, owner: str, task_id: str, *, now: float, lease: float) -> bool:
        return await self._write(_owned(files.acquire_save), owner, task_id, now=now, lease=lease)

    async def release_save(self, owner: str, task_id: str) -> None:
        await self._write(_owned(files.release_save), owner, task_id)

    async def renew_save(self, owner: str, task_id: str, *, now: float, lease: float) -> None:
        await self._note(_owned(files.renew_save), owner, task_id, now=now, lease=lease)

    async def unsaved(
        self, owner: str, *, now: float, address: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        step = _owned(files.unsaved)
        return await self._read([], step, owner, now=now, address=address, limit=limit)

    async def note_unsaved(self, owner: str, task_id: str, number: int, unsaved: Unsaved) -> None:
        await self._write(_owned(files.note_unsaved), owner, task_id, number, unsaved)

    async def unsaved_images(self, owner: str, task_id: str) -> Mapping[int, Unsaved]:
        return await self._read({}, _owned(files.unsaved_images), owner, task_id)

    async def note_saved(self, owner: str, task_id: str, number: int, path: str) -> None:
        await self._write(_owned(files.note_saved), owner, task_id, number, path)

    async def saved(self, owner: str, task_id: str) -> Mapping[int, str]:
        return await self._read({}, _owned(files.saved), owner, task_id)

    async def uploaded(self, owner: str, sha256: str, place: str, *, now: float) -> Upload | None:
        return await self._read(None, _owned(files.uploaded), owner, sha256, place, now=now)

    async def note_upload(self, owner: str, sha256: str, place: str, upload: Upload) -> None:
        await self._write(_owned(files.note_upload), owner, sha256, place, upload)

    async def recent(
        self, owner: str, *, now: float, limit: int
    ) -> Sequence[tuple[Intent, Snapshot | None]]:
        return await self._read_current(now, [], _owned(intents.recent), owner, limit=limit)

    async def prune(self, *, now: float) -> None:
        if await self._read(False, lambda _: True):  # or a file would be made for nothing
            while await self._write(intents.prune, now):  # in pieces, as others wait for each
                pass

    # --- transactions -----------------------------------------------------------------------

    async def _write(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        job = _Job(lambda connection: step(connection, *args, **kwargs))
        result: T = await self._lane("write").do(job)
        return result

    async def _write_before_the_wire(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        job = _Job(lambda connection: step(connection, *args, **kwargs), comes_before_the_wire=True)
        result: T = await self._lane("write").do(job)
        return result

    async def _note(
        self, step: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        job = _Job(lambda connection: step(connection, *args, **kwargs))
        result: T = await self._lane("note").do(job)
        return result

    async def _read(
        self,
        empty: T,
        step: Callable[Concatenate[Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Read; `empty` where nothing was ever written, so that reading creates no file."""
        job = _Job(lambda connection: step(connection, *args, **kwargs), empty)
        result: T = await self._lane("read").do(job)
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

        def read(connection: Connection) -> tuple[bool, T]:
            return intents.overdue(connection, now), step(connection, *args, **kwargs)

        is_overdue, found = await self._read((False, empty), read)
        if is_overdue:  # not insisted on: reading must work on a disk that takes nothing
            with suppress(JournalUnusable):
                await self._write(intents.expire, now)
            found = await self._read(empty, step, *args, **kwargs)
        return found

    def _lane(self, kind: Kind) -> GroupCommit[_Job]:
        lanes = self._lanes.get(None)
        if lanes is None:
            lanes = {
                kind: GroupCommit(
                    partial(self._carry_out, kind),
                    concurrency=concurrency,
                    may_abandon=kind == "read",
                )
                for kind, concurrency in _concurrency(self._url).items()
            }
            self._lanes.set(lanes)
        return lanes[kind]

    async def _carry_out(self, kind: Kind, jobs: Sequence[_Job]) -> Sequence[Any]:
        carry_out = partial(self._carry_out_all, kind, jobs)
        try:
            ends: Sequence[Any] = await self._run(carry_out, may_abandon=kind == "read")
        except (RuntimeError, MemoryError) as error:  # such as no thread to be had
            raise JournalUnusable(reason(error)) from error
        return ends

    def _carry_out_all(self, kind: Kind, jobs: Sequence[_Job]) -> Sequence[Any]:
        if kind == "read" and self._is_absent():
            return [job.empty for job in jobs]
        to_send = any(job.comes_before_the_wire for job in jobs)
        try:
            return self._transact(
                kind, lambda link: [job.step(link) for job in jobs], to_send=to_send
            )
        except Exception as error:
            if _is_of_all(error):
                raise
            if len(jobs) == 1:
                return [error]
        return [self._carry_out_one(kind, job) for job in jobs]  # one must not fail the others

    def _carry_out_one(self, kind: Kind, job: _Job) -> Any:
        try:
            return self._transact(kind, job.step, to_send=job.comes_before_the_wire)
        except Exception as error:  # noqa: BLE001  raised to whoever asked for it
            return error

    def _is_absent(self) -> bool:
        return self._engine is None and isinstance(self._url, Path) and not _exists(self._url)

    def _transact(self, kind: Kind, step: Callable[[Connection], T], *, to_send: bool = False) -> T:
        try:
            with self._in_turn(kind), self._gate.transaction():
                engine = self._opened(to_send=to_send)
                with (
                    engine.connect().execution_options(wan25=kind) as connection,
                    connection.begin(),
                ):
                    take_turn(connection, kind)
                    result = step(connection)
                if to_send and self._file is not None:
                    self._file.require()  # or what was just written is nobody's
                return result
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise JournalUnusable(reason(error)) from error

    def _in_turn(self, kind: Kind) -> AbstractContextManager[Any]:
        """SQLite has whoever finds the file locked sleep and try again; our own threads queue."""
        return nullcontext() if kind == "read" else self._changing

    def _opened(self, *, to_send: bool = False) -> Engine:
        with self._opening:  # several threads may come first at once; each would open its own
            if self._file is not None and not self._file.is_in_place():
                self._leave_file(to_send=to_send)
            if self._engine is None:
                if isinstance(self._url, Path):
                    self._file = DatabaseFile.created(self._url)
                engine = open_engine(self._file or str(self._url))
                try:
                    _prepare(engine)
                except BaseException:
                    engine.dispose()  # it is tried again at each call, and must not pile up
                    raise
                self._engine = engine
            return self._engine

    def _leave_file(self, *, to_send: bool) -> None:
        """Go on with the file that is at the path now, unless this one still has work to do.

        Raises:
            Replaced: Something is to be sent, and a submit is under way that only the file that
                was opened knows of.
        """
        if self._engine is not None and self._knows_open_submits(self._engine):
            if to_send:
                raise Replaced
            return
        self.close()
        logger.warning(
            "The journal's file was deleted or replaced while this server runs; going on with the "
            "file that is at its path now. Edits and spent credits that only the earlier file "
            "recorded are not counted any more: %s",
            self._url,
        )

    def _knows_open_submits(self, engine: Engine) -> bool:
        try:
            with engine.connect() as connection, connection.begin():
                return intents.has_open(connection, time.time())
        except (SQLAlchemyError, JournalUnusable):
            return False


def _owned(
    step: Callable[Concatenate[Connection, str, P], T],
) -> Callable[Concatenate[Connection, str, P], T]:
    """The step, for an owner by the name it has now.

    Another process may have joined it to one of another name since this one learnt it.
    """

    def carried_out(connection: Connection, owner: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return step(connection, owners.current(connection, owner), *args, **kwargs)

    return carried_out


def _concurrency(url: str | Path) -> dict[Kind, int]:
    """How many transactions of a kind are under way at one time."""
    return {"read": 1 if isinstance(url, Path) else _CONCURRENT_READS, "note": 1, "write": 1}


def _is_of_all(error: Exception) -> bool:
    """Whether it is the storage that failed, and would fail any step; it has been waited for."""
    if not isinstance(error, JournalUnusable) or isinstance(error, Replaced):
        return False
    cause = error.__cause__
    is_of_a_step = isinstance(cause, StatementError) and not isinstance(
        cause, OperationalError | InterfaceError
    )
    return not is_of_a_step


def _prepare(engine: Engine) -> None:
    """Bring the tables to this version, and forget what is old.

    In pieces, each kept when it is done: a connection to a server is used for a limited time, and
    what took longer would begin anew at each call, for ever.
    """

    def write(step: Callable[[Connection], T]) -> T:
        with engine.connect().execution_options(wan25="write") as connection, connection.begin():
            take_turn(connection, "write")
            return step(connection)

    write(schema.migrate)
    now = time.time()
    for some in (intents.prune, files.count_links):
        while write(partial(some, now=now)):
            pass


def _exists(path: Path) -> bool:
    """Whether there is something to read; what may not even be looked at, opening will tell."""
    try:
        return path.exists()
    except OSError:
        return True
