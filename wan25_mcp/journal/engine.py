"""How SQLite and PostgreSQL are opened, how their transactions begin, and why they fail."""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from wan25_mcp.journal.database_file import DatabaseFile
from wan25_mcp.journal.records import JournalUnusable
from wan25_mcp.journal.time_limits import limit_times

BUSY_SECONDS: Final = 2.5
"""How long a step waits for other processes; `edit_image` answers within 4 seconds all the same."""

ADVISORY_LOCK: Final = 0x77616E3235  # "wan25"

Kind = Literal["read", "note", "write"]
"""A `note` is a write that a power failure may take back: a look at an unsettled task, and who
looks. The next look says it again, so it is not worth waiting for the disk at each of the many.
Other processes see it at once like any other, and the death of a process takes nothing back."""


def open_engine(place: str | DatabaseFile) -> Engine:
    address = _with_driver(place) if isinstance(place, str) else _sqlite_file(place)
    if address.get_backend_name() != "sqlite":
        engine = create_engine(
            address,
            pool_timeout=BUSY_SECONDS,
            # A database may be set to another: then whoever waited for its turn would still see
            # what was there before, and an intent could be made twice.
            isolation_level="READ COMMITTED",
        )
        limit_times(engine)
        return engine
    # Nothing to reset: every transaction here ends in a commit or a rollback of its own.
    waits: dict[str, Any] = {"pool_reset_on_return": None}
    if isinstance(place, DatabaseFile):
        waits["pool_timeout"] = BUSY_SECONDS
    engine = create_engine(address, connect_args={"timeout": BUSY_SECONDS}, **waits)
    if isinstance(place, DatabaseFile):
        event.listen(engine, "do_connect", lambda *_: place.require())
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _sqlite_file(file: DatabaseFile) -> URL:
    # Not as text: a folder's name may hold what means something in a URL.
    return URL.create("sqlite", database=str(file.path))


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


def take_turn(connection: Connection, kind: Kind) -> None:
    if kind != "read" and connection.dialect.name == "postgresql":
        if kind == "note":
            connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text(f"SET LOCAL lock_timeout = {int(BUSY_SECONDS * 1000)}"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})


_REASONS: Final = (
    ("disk is full", "the disk is full"),
    ("readonly", "it is read-only"),
    ("read-only", "it is read-only"),
    ("unable to open", "its file cannot be opened"),
    ("locked", "another process has locked it"),
    ("lock timeout", "another process has locked it"),
    ("queuepool", "too many calls are waiting for it"),
    ("not a database", "its file is not a journal"),
    ("malformed", "its file is damaged"),
    ("disk i/o", "the disk failed"),
    ("no module named", "the driver is not installed (pip install 'wan25-mcp[postgres]')"),
    ("no such table", "a newer wan25-mcp has migrated it; upgrade and restart this one"),
    ("undefinedtable", "a newer wan25-mcp has migrated it; upgrade and restart this one"),
    # A driver says "connection failed" before it says why.
    ("password", "the database refuses the user"),
    ("authentication", "the database refuses the user"),
    ("does not exist", "the database, or its user, does not exist"),
    ("permission denied", "the database's user may not write there"),
    ("connection", "the database cannot be reached"),
    ("new thread", "this machine has no more threads"),
)


def reason(error: Exception) -> str:
    """Plain words; a driver's own may hold the database's address and password."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "its folder is a file"
    if isinstance(error, OSError):
        return (error.strerror or "the file system failed").lower()
    cause = error.orig if isinstance(error, DBAPIError) else error
    reported = f"{type(cause).__name__}: {cause}".lower()
    known = (words for sign, words in _REASONS if sign in reported)
    return next(known, f"the database failed ({type(error).__name__})")
