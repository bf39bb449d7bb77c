"""The tables, their version, and how those of an older one are taken over.

Every row belongs to an owner, and is found by it. What one account knows of a task, another that
may read the same task finds out for itself.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    column,
    func,
    insert,
    inspect,
    or_,
    select,
    true,
)
from sqlalchemy import table as older_table

from wan25_mcp.journal.records import JournalUnusable

VERSION: Final = 5

NOBODY: Final = ""
"""Owns what older versions saw of tasks that they had not made. No account has this name."""

metadata: Final = MetaData()

versions: Final = Table("wan25_version", metadata, Column("version", Integer, primary_key=True))

intents: Final = Table(
    "wan25_account_intents",
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
    Column("task_id", String(255)),
    Column("error", Text),
    Column("callback", String(64)),
    Column("address", Text),  # of the API; unknown for edits of versions before 4
    UniqueConstraint("owner", "task_id"),
    Index("wan25_account_intents_task", "task_id"),
    Index("wan25_account_intents_equal", "owner", "fingerprint", "created_at"),
    Index("wan25_account_intents_stage", "stage", "lease_until"),
    Index("wan25_account_intents_latest", "owner", "created_at"),
)

# Keys that belong to an owner of another name. A key that is not here is an owner of its own.
keys: Final = Table(
    "wan25_keys",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("owner", String(64), nullable=False),
)

tasks: Final = Table(
    "wan25_account_tasks",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("task_id", String(255), primary_key=True),
    Column("settled", Integer, nullable=False),
    Column("status", String(16), nullable=False),
    Column("answer", Text, nullable=False),
    Column("seen_at", Float(53), nullable=False),
    Column("first_seen_at", Float(53)),  # null in rows of older versions
    Column("unfinished_at", Float(53)),
    Column("settled_at", Float(53)),
    Column("followed_until", Float(53), nullable=False),  # the lease of who saves its images
    # The lease of who polls; versions before 3 had none.
    Column("looking_until", Float(53), nullable=False, server_default="0"),
    # Of a completed task; null until it is one, and in rows of older versions.
    Column("links", Integer),
    Column("expires_at", Float(53)),  # when the links expire at the earliest
    Index("wan25_account_tasks_unsettled", "owner", "settled", "seen_at"),
    Index("wan25_account_tasks_expiring", "owner", "expires_at"),
    Index("wan25_account_tasks_seen", "owner", "seen_at", "task_id"),
)


def is_at(address: Any) -> ColumnElement[bool]:
    """Whether an intent was sent to the API at an address; None: at any.

    Emulators come and go, each with its own address and all with one owner; a task of one means
    nothing to another.
    """
    if address is None:
        return true()
    return or_(intents.c.address == address, intents.c.address.is_(None))


MADE_BY: Final = and_(tasks.c.owner == intents.c.owner, tasks.c.task_id == intents.c.task_id)
"""Which task came of which intent."""

files: Final = Table(
    "wan25_account_files",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("task_id", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the image in its task, from 1
    Column("path", Text, nullable=False),
)

unsaved: Final = Table(
    "wan25_account_unsaved",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("task_id", String(255), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("problem", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("tried_at", Float(53), nullable=False),
    Column("retry_at", Float(53)),  # null: not without being asked
)

uploads: Final = Table(
    "wan25_account_uploads",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("place", String(255), primary_key=True),
    Column("url", Text, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("changes", Text, nullable=False),
)


def migrate(connection: Connection) -> None:
    """Create the tables, or take over those of an older version. Runs in a write transaction.

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
        metadata.create_all(connection)
        _take_over(connection)
        connection.execute(insert(versions).values(version=VERSION))


def _take_over(connection: Connection) -> None:
    """Move what versions before 5 kept into tables that carry the owner.

    Those tables go: an older program that still has the journal open finds none, and so sends
    nothing. What it could keep here, another account could read there.
    """
    there = set(inspect(connection).get_table_names())
    for table in (intents, tasks, files, unsaved, uploads):  # intents first: they tell the owner
        older = table.name.replace("_account_", "_")
        if older not in there:
            continue
        if table is not uploads:  # whose they were is not known; an image is uploaded anew
            _copy(connection, older, table)
        connection.exec_driver_sql(f"DROP TABLE {older}")


def _copy(connection: Connection, older: str, table: Table) -> None:
    """Copy rows. Who may read a task that no intent made is not known: it is nobody's."""
    known = [described["name"] for described in inspect(connection).get_columns(older)]
    source = older_table(older, *(column(name) for name in known))
    kept = [source.c[name] for name in known if name in table.c]
    rows = select(*kept)
    if "owner" not in known:
        made = source.outerjoin(intents, intents.c.task_id == source.c.task_id)
        owner = func.coalesce(intents.c.owner, NOBODY).label("owner")
        rows = select(*kept, owner).select_from(made)
    names = [kept_column.name for kept_column in rows.selected_columns]
    connection.execute(insert(table).from_select(names, rows))


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(versions.name):
        return None
    return connection.execute(select(func.max(versions.c.version))).scalar()
