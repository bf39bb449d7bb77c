"""The journal on SQLite or PostgreSQL, through SQLAlchemy in worker threads.

Opened on first use. SQLite: one file, WAL, safe with several processes on one machine; every
commit is on the disk before the next step. PostgreSQL: several machines; a lock of the
transaction's makes the steps of all replicas take turns, which they would on SQLite anyway.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Concatenate, Final, Literal, ParamSpec, TypeVar

import anyio.lowlevel
import anyio.to_thread
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import files, schema, sightings, steps
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

BUSY_SECONDS: Final = 2.5
"""How long a step waits for other processes; `edit_image` answers within 4 seconds all the same."""

_ADVISORY_LOCK: Final = 0x77616E3235  # "wan25"

P = ParamSpec("P")
T = TypeVar("T")
Run = Callable[[Callable[[], T]], Awaitable[T]]

Kind = Literal["read", "note", "write"]
"""A `note` is a write that a power failure may take back: a look at an unsettled task, and who
looks. The next look says it again, so it is not worth waiting for the disk at each of the many.
Other processes see it at once like any other, and the death of a process takes nothing back."""


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
                _take_turn(connection, kind)
                return step(connection)
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise JournalUnusable(_reason(error)) from error

    def _opened(self) -> Engine:
        with self._opening:  # several threads may come first at once; each would open its own
            if self._engine is None:
                engine = _engine(self._url)
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
        _take_turn(connection, "write")
        schema.bring_forward(connection)
        steps.prune(connection, time.time())


def _engine(url: str | Path) -> Engine:
    address = _sqlite_file(url) if isinstance(url, Path) else _with_driver(url)
    if address.get_backend_name() != "sqlite":
        return create_engine(
            address,
            pool_pre_ping=True,
            pool_timeout=BUSY_SECONDS,
            # A database may be set to another: then whoever waited for its turn would still see
            # what was there before, and an intent could be made twice.
            isolation_level="READ COMMITTED",
        )
    # Nothing to reset: every transaction here ends in a commit or a rollback of its own.
    waits: dict[str, Any] = {"pool_reset_on_return": None}
    if isinstance(url, Path):
        waits["pool_timeout"] = BUSY_SECONDS
    engine = create_engine(address, connect_args={"timeout": BUSY_SECONDS}, **waits)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _sqlite_file(path: Path) -> URL:
    _create_private(path)
    # Not as text: a folder's name may hold what means something in a URL.
    return URL.create("sqlite", database=str(path))


def _with_driver(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise JournalUnusable("WAN25_DATABASE_URL is not a database URL") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "postgresql" and "connect_timeout" not in parsed.query:
        # A machine that does not answer would otherwise be waited for for minutes.
        parsed = parsed.update_query_dict({"connect_timeout": str(int(BUSY_SECONDS))})
    return parsed


def _exists(path: Path) -> bool:
    """Whether there is something to read; what may not even be looked at, opening will tell."""
    try:
        return path.exists()
    except OSError:
        return True


def _create_private(path: Path) -> None:
    """The file holds prompts and links: nobody else on the machine may read it."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver's guess
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    record.info["synchronous"] = "FULL"
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switch to WAL, which stays. Of several who switch a new file at once, SQLite tells all but
    one at once that it is locked, whatever timeout is set."""
    if cursor.execute("PRAGMA journal_mode").fetchone() == ("wal",):
        return
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    kind: Kind = connection.get_execution_options().get("wan25", "read")
    if kind == "read":
        connection.exec_driver_sql("BEGIN")
        return
    synchronous = "NORMAL" if kind == "note" else "FULL"
    if connection.info["synchronous"] != synchronous:  # connections serve either kind in turn
        connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        connection.info["synchronous"] = synchronous
    # A transaction that reads first and writes later could find the file changed between.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _take_turn(connection: Connection, kind: Kind) -> None:
    if kind != "read" and connection.dialect.name == "postgresql":
        if kind == "note":
            connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text(f"SET LOCAL lock_timeout = {int(BUSY_SECONDS * 1000)}"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})


_REASONS: Final = (
    ("disk is full", "the disk is full"),
    ("readonly", "it is read-only"),
    ("read-only", "it is read-only"),
    ("unable to open", "its file cannot be opened"),
    ("locked", "another process holds it"),
    ("lock timeout", "another process holds it"),
    ("queuepool", "too many calls wait for it"),
    ("not a database", "its file is not a journal"),
    ("malformed", "its file is damaged"),
    ("disk i/o", "the disk fails"),
    ("no module named", "the driver is not installed (pip install 'wan25-mcp[postgres]')"),
    # A driver says "connection failed" before it says why.
    ("password", "the database refuses the user"),
    ("authentication", "the database refuses the user"),
    ("does not exist", "the database, or its user, does not exist"),
    ("permission denied", "the database's user may not write there"),
    ("connection", "the database cannot be reached"),
)


def _reason(error: Exception) -> str:
    """Plain words; a driver's own may hold the database's address and password."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "its folder is a file"
    if isinstance(error, OSError):
        return (error.strerror or "the file system fails").lower()
    told = str(error.orig if isinstance(error, DBAPIError) else error).lower()
    known = (words for sign, words in _REASONS if sign in told)
    return next(known, f"the database fails ({type(error).__name__})")
