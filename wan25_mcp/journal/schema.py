"""The tables, their version, and how an older one is brought forward."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    Column,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    insert,
    inspect,
    select,
)
from sqlalchemy.schema import CreateColumn

from wan25_mcp.journal.records import JournalUnusable

VERSION: Final = 4

metadata: Final = MetaData()

versions: Final = Table("wan25_version", metadata, Column("version", Integer, primary_key=True))

intents: Final = Table(
    "wan25_intents",
    metadata,
    Column("handle", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("sent_at", Float(53)),
    Column("lease_until", Float(53), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("n", Integer, nullable=False),
    Column("prompt", Text),
    Column("credits", Float(53), nullable=False),
    Column("price", Float(53)),  # credits an image, as the provider said; teaches the next estimate
    Column("task_id", String(255), unique=True),
    Column("error", Text),
    Column("callback", String(64)),
    Column("address", Text),  # of the API; unknown for edits of versions before 4
    Index("wan25_intents_equal", "owner", "fingerprint", "created_at"),
    Index("wan25_intents_stage", "stage", "lease_until"),
    Index("wan25_intents_latest", "owner", "created_at"),
)

# Keys that belong to an owner of another name. A key that is not here is an owner of its own.
keys: Final = Table(
    "wan25_keys",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
)

tasks: Final = Table(
    "wan25_tasks",
    metadata,
    Column("task_id", String(255), primary_key=True),
    Column("settled", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("answer", Text, nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Column("first_seen_at", Float(53)),  # null in rows of an older wan25-mcp
    Column("unfinished_at", Float(53)),
    Column("settled_at", Float(53)),
    Column("followed_until", Float(53), nullable=False),  # the lease of who saves its images
    # The lease of who looks. With a default in the table, for rows that an older wan25-mcp adds
    # which had the journal open before it was brought forward.
    Column("looking_until", Float(53), nullable=False, server_default="0"),
    # Of a completed task; null until it is one, and in rows that an older wan25-mcp writes.
    Column("links", Integer),
    Column("expires_at", Float(53)),  # when the links expire at the earliest
    Index("wan25_tasks_unsettled", "settled", "seen_at"),
    Index("wan25_tasks_expiring", "expires_at"),
    Index("wan25_tasks_seen", "seen_at", "task_id"),
)

files: Final = Table(
    "wan25_files",
    metadata,
    Column("task_id", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the image in its task, from 1
    Column("path", Text, nullable=False),
)

unsaved: Final = Table(
    "wan25_unsaved",
    metadata,
    Column("task_id", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("problem", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("tried_at", Float(53), nullable=False),
    Column("retry_at", Float(53)),  # null: not without being asked
)

uploads: Final = Table(
    "wan25_uploads",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("place", String(255), primary_key=True),
    Column("url", Text, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("changes", Text, nullable=False),
)


def bring_forward(connection: Connection) -> None:
    """Create the tables, or bring older ones to this version. Runs in a write transaction.

    Raises:
        JournalUnusable: The tables are of a newer version than this program knows.
    """
    found = _version(connection)
    if found is not None and found > VERSION:
        raise JournalUnusable(
            f"it was written by a newer wan25-mcp (journal version {found}; this program knows "
            f"{VERSION}), so upgrade this one"
        )
    if found != VERSION:
        # What a version adds is tables, columns and indexes; what is there is left alone.
        metadata.create_all(connection)
        _add_missing(connection)
        connection.execute(insert(versions).values(version=VERSION))


def _add_missing(connection: Connection) -> None:
    """Give tables of an older version the columns and indexes that they lack."""
    inspector = inspect(connection)
    for table in metadata.sorted_tables:
        there = {column["name"] for column in inspector.get_columns(table.name)}
        for column in table.columns:
            if column.name not in there:
                added = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {added}")
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(versions.name):
        return None
    return connection.execute(select(func.max(versions.c.version))).scalar()
