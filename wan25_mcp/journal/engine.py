"""Opening SQLite and PostgreSQL, beginning their transactions, and explaining their errors."""

from __future__ import annotations

import sqlite3
import time
from typing import Any, Final, Literal

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from wan25_mcp.errors.rows import installing
from wan25_mcp.journal.database_file import DatabaseFile
from wan25_mcp.journal.records import JournalUnusable
from wan25_mcp.journal.time_limits import limit_times

BUSY_SECONDS: Final = 2.5
"""Max seconds a step waits for other processes. `edit_image` must answer within 4 seconds."""

ADVISORY_LOCK: Final = 0x77616E3235  # "wan25"

Kind = Literal["read", "note", "write"]
"""A `note` is a write that can be lost on power failure, such as the snapshot of an unsettled task
or a poll lease. The next poll writes it again, and there are many, so a note does not wait for the
disk. Other processes read it immediately like any write, and it survives the death of the process.
"""


def open_engine(place: str | DatabaseFile) -> Engine:
    address = _with_driver(place) if isinstance(place, str) else _sqlite_file(place)
    if address.get_backend_name() != "sqlite":
        engine = create_engine(
            address,
            pool_timeout=BUSY_SECONDS,
            # The database may default to a stricter one. A transaction that waited for the lock
            # would then not read what was committed meanwhile, and could make an intent twice.
            isolation_level="READ COMMITTED",
        )
        limit_times(engine)
        return engine
    # No reset: every transaction here ends with its own commit or rollback.
    options: dict[str, Any] = {"pool_reset_on_return": None}
    if isinstance(place, DatabaseFile):
        options["pool_timeout"] = BUSY_SECONDS
    engine = create_engine(address, connect_args={"timeout": BUSY_SECONDS}, **options)
    if isinstance(place, DatabaseFile):
        event.listen(engine, "do_connect", lambda *_: place.require())
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _sqlite_file(file: DatabaseFile) -> URL:
    # Not as text: a folder's name may contain characters that are special in a URL.
    return URL.create("sqlite", database=str(file.path))


def _with_driver(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise JournalUnusable("WAN25_DATABASE_URL is not a database URL") from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() == "postgresql" and "connect_timeout" not in parsed.query:
        # The default is to wait minutes for a machine that does not answer.
        parsed = parsed.update_query_dict({"connect_timeout": str(int(BUSY_SECONDS))})
    return parsed


def _prepare_sqlite(connection: Any, record: Any) -> None:
    connection.isolation_level = None  # transactions begin below, not when the driver decides
    cursor = connection.cursor()
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous=FULL")
    record.info["synchronous"] = "FULL"
    cursor.close()


def _write_ahead(cursor: Any) -> None:
    """Switch the file to WAL, permanently.

    When several processes switch a new file, SQLite fails all but one as locked immediately,
    whatever its timeout. So this retries.
    """
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
    if connection.info["synchronous"] != synchronous:  # a connection serves both kinds
        connection.exec_driver_sql(f"PRAGMA synchronous={synchronous}")
        connection.info["synchronous"] = synchronous
    # A transaction that reads before it locks could find the file changed when it writes.
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def lock_for(connection: Connection, kind: Kind) -> None:
    """Let the writes of all replicas run one at a time on PostgreSQL. SQLite does already."""
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
    ("no module named", f"the driver is not installed. {installing('postgres')}"),
    ("no such table", "a newer wan25-mcp has migrated it; upgrade and restart this one"),
    ("undefinedtable", "a newer wan25-mcp has migrated it; upgrade and restart this one"),
    # Above "connection": a driver reports "connection failed" before the reason.
    ("password", "the database refuses the user"),
    ("authentication", "the database refuses the user"),
    ("does not exist", "the database, or its user, does not exist"),
    ("permission denied", "the database's user may not write there"),
    ("connection", "the database cannot be reached"),
    ("new thread", "this machine has no more threads"),
)


def reason(error: Exception) -> str:
    """In our words: a driver's may contain the database's address and password."""
    if isinstance(error, FileExistsError | NotADirectoryError):
        return "its folder is a file"
    if isinstance(error, OSError):
        return (error.strerror or "the file system failed").lower()
    cause = error.orig if isinstance(error, DBAPIError) else error
    reported = f"{type(cause).__name__}: {cause}".lower()
    known = (words for sign, words in _REASONS if sign in reported)
    return next(known, f"the database failed ({type(error).__name__})")
