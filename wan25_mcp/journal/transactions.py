"""Steps as transactions of a database, in worker threads. The database is opened on first use.

A step is a function of a connection. It is one of three kinds (`Kind` in `engine`), and steps of
one kind that come together share a transaction (`group_commit`).
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from anyio.lowlevel import RunVar
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError, StatementError

from wan25_mcp.journal import files, intents, schema
from wan25_mcp.journal.database_file import DatabaseFile, Replaced
from wan25_mcp.journal.engine import Kind, lock_for, open_engine, reason
from wan25_mcp.journal.group_commit import GroupCommit
from wan25_mcp.journal.records import JournalUnusable
from wan25_mcp.journal.time_limits import CircuitBreaker

logger: Final = logging.getLogger(__name__)

T = TypeVar("T")

_numbers: Final = itertools.count()

_CONCURRENT_READS: Final = 4
"""Max concurrent batches of reads on a server, which is far away. A file gets one."""


@dataclass(frozen=True, slots=True)
class _Job:
    """A step, and its result where nothing was ever written."""

    step: Callable[[Connection], Any]
    empty: Any = None
    before_sending: bool = False
    """Whether a request is sent because of it, so that other processes must be able to read it."""


class Transactions:
    """Runs steps as transactions.

    Args:
        url: An SQLAlchemy URL, or the path of an SQLite file.
        run: Runs blocking work.
    """

    def __init__(self, url: str | Path, run: Callable[..., Awaitable[Any]]) -> None:
        self._url = url
        self._run = run
        self._engine: Engine | None = None
        self._file: DatabaseFile | None = None
        self._opening = threading.Lock()
        # SQLite makes a thread that finds the file locked sleep and retry; a lock has a queue.
        self._writing = threading.Lock()
        self._breaker = CircuitBreaker()
        # One set for each event loop: an event of one loop cannot be set from another.
        self._lanes: RunVar[dict[Kind, GroupCommit[_Job]]] = RunVar(
            f"lanes of journal {next(_numbers)}"
        )

    def close(self) -> None:
        """Close all connections. The next step opens the database again."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = self._file = None

    # --- kinds of steps -------------------------------------------------------------------------

    async def _write(self, step: Callable[[Connection], T], *, before_sending: bool = False) -> T:
        result: T = await self._lane("write").do(_Job(step, before_sending=before_sending))
        return result

    async def _note(self, step: Callable[[Connection], T]) -> T:
        result: T = await self._lane("note").do(_Job(step))
        return result

    async def _read(self, empty: T, step: Callable[[Connection], T]) -> T:
        """Read; returns `empty` where nothing was ever written, so that no file is created."""
        result: T = await self._lane("read").do(_Job(step, empty))
        return result

    # --- batches --------------------------------------------------------------------------------

    def _lane(self, kind: Kind) -> GroupCommit[_Job]:
        lanes = self._lanes.get(None)
        if lanes is None:
            reads = 1 if isinstance(self._url, Path) else _CONCURRENT_READS
            concurrency: dict[Kind, int] = {"read": reads, "note": 1, "write": 1}
            lanes = {
                kind: GroupCommit(
                    partial(self._run_batch, kind),
                    concurrency=count,
                    may_abandon=kind == "read",
                )
                for kind, count in concurrency.items()
            }
            self._lanes.set(lanes)
        return lanes[kind]

    async def _run_batch(self, kind: Kind, jobs: Sequence[_Job]) -> Sequence[Any]:
        try:
            outcomes: Sequence[Any] = await self._run(
                partial(self._run_jobs, kind, jobs), may_abandon=kind == "read"
            )
        except (RuntimeError, MemoryError) as error:  # such as no more threads
            raise JournalUnusable(reason(error)) from error
        return outcomes

    def _run_jobs(self, kind: Kind, jobs: Sequence[_Job]) -> Sequence[Any]:
        """The result or the error of each job: in one transaction, or one for each if that fails.

        Raises:
            JournalUnusable: The storage failed, so each job alone would fail alike.
        """
        if kind == "read" and self._is_absent():
            return [job.empty for job in jobs]
        before_sending = any(job.before_sending for job in jobs)
        try:
            return self._transact(
                kind, lambda one: [job.step(one) for job in jobs], before_sending=before_sending
            )
        except Exception as error:
            if _is_of_storage(error):
                raise
            if len(jobs) == 1:
                return [error]
        return [self._run_job(kind, job) for job in jobs]

    def _run_job(self, kind: Kind, job: _Job) -> Any:
        try:
            return self._transact(kind, job.step, before_sending=job.before_sending)
        except Exception as error:  # noqa: BLE001  raised to the caller of this job
            return error

    def _is_absent(self) -> bool:
        """Whether there is no file to read yet."""
        if self._engine is not None or not isinstance(self._url, Path):
            return False
        try:
            return not self._url.exists()
        except OSError:  # opening the file reports why
            return False

    # --- one transaction ------------------------------------------------------------------------

    def _transact(self, kind: Kind, step: Callable[[Connection], T], *, before_sending: bool) -> T:
        turn: AbstractContextManager[Any] = nullcontext() if kind == "read" else self._writing
        try:
            with turn, self._breaker.transaction():
                engine = self._opened(before_sending=before_sending)
                result = _commit(engine, kind, step)
                if before_sending and self._file is not None:
                    self._file.require()  # else no other process can read what was just written
                return result
        except (SQLAlchemyError, OSError, ImportError) as error:
            raise JournalUnusable(reason(error)) from error

    def _opened(self, *, before_sending: bool = False) -> Engine:
        with self._opening:  # else several threads could each open an engine
            if self._file is not None and not self._file.is_in_place():
                self._leave_file(before_sending=before_sending)
            if self._engine is None:
                if isinstance(self._url, Path):
                    self._file = DatabaseFile.created(self._url)
                engine = open_engine(self._file or str(self._url))
                try:
                    _prepare(engine)
                except BaseException:
                    engine.dispose()  # each call retries, and would leave another engine open
                    raise
                self._engine = engine
            return self._engine

    def _leave_file(self, *, before_sending: bool) -> None:
        """Switch to the file now at the path, unless the opened file has submits in progress.

        Raises:
            Replaced: A request is to be sent while only the opened file knows of those submits.
        """
        if self._engine is not None and _has_open_submits(self._engine):
            if before_sending:
                raise Replaced
            return
        self.close()
        logger.warning(
            "The journal's file was deleted or replaced while this server runs; going on with the "
            "file that is at its path now. Edits and spent credits that only the earlier file "
            "recorded are not counted any more: %s",
            self._url,
        )


def _commit(engine: Engine, kind: Kind, step: Callable[[Connection], T]) -> T:
    with engine.connect().execution_options(wan25=kind) as connection, connection.begin():
        lock_for(connection, kind)
        return step(connection)


def _has_open_submits(engine: Engine) -> bool:
    try:
        with engine.connect() as connection, connection.begin():
            return intents.has_open(connection, time.time())
    except (SQLAlchemyError, JournalUnusable):
        return False


def _is_of_storage(error: Exception) -> bool:
    """Whether the storage failed, and would fail every step."""
    if not isinstance(error, JournalUnusable) or isinstance(error, Replaced):
        return False
    cause = error.__cause__
    is_of_a_step = isinstance(cause, StatementError) and not isinstance(
        cause, OperationalError | InterfaceError
    )
    return not is_of_a_step


def _prepare(engine: Engine) -> None:
    """Migrate the tables to this version, and delete what is too old.

    Each part commits on its own. A connection to a server is used for a limited time, so a single
    transaction that takes longer would start over at every call.
    """
    _commit(engine, "write", schema.migrate)
    now = time.time()
    for step in (intents.prune, files.count_links):
        while _commit(engine, "write", partial(step, now=now)):
            pass
