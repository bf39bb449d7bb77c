"""The tables, their version, and the migration of older ones.

Every row belongs to an owner, and all that an account reads is selected by its owner. Two accounts
that may read the same task each have their own snapshot of it.
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
    LargeBinary,
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
from wan25_mcp.provider.catalogue import MODEL

VERSION: Final = 7

NOBODY: Final = ""
"""Owner of tasks without an intent in journals of older versions. No account has this name."""

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
    Column("price", Float(53)),  # credits per image, as reported; used for the next estimate
    Column("task_id", String(255)),
    Column("error", Text),
    Column("callback", String(64)),
    Column("model", String(64)),  # null in rows of versions before 6, which knew one
    Column("address", Text),  # of the API; unknown for edits of versions before 4
    UniqueConstraint("owner", "task_id"),
    Index("wan25_account_intents_task", "task_id"),
    Index("wan25_account_intents_equal", "owner", "fingerprint", "created_at"),
    Index("wan25_account_intents_stage", "stage", "lease_until"),
    Index("wan25_account_intents_latest", "owner", "created_at"),
)

# Keys that belong to an owner of another name. Any other key is the name of its own owner.
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
    Column("followed_until", Float(53), nullable=False),  # lease to save its images
    # Lease to poll it; versions before 3 had none.
    Column("looking_until", Float(53), nullable=False, server_default="0"),
    Column("links", Integer),  # 0 unless completed; null in rows of older versions
    Column("expires_at", Float(53)),  # earliest time at which the links expire; null without links
    Index("wan25_account_tasks_unsettled", "owner", "settled", "seen_at"),
    Index("wan25_account_tasks_expiring", "owner", "expires_at"),
    Index("wan25_account_tasks_seen", "owner", "seen_at", "task_id"),
)


def is_of_model(model: Any) -> ColumnElement[bool]:
    """Whether an intent was sent to a model."""
    found: ColumnElement[bool] = func.coalesce(intents.c.model, MODEL) == model
    return found


def is_at(address: Any) -> ColumnElement[bool]:
    """Condition that an intent was sent to the API at an address; None matches any.

    All emulators share one owner but differ in address, and none knows the tasks of another.
    """
    if address is None:
        return true()
    return or_(intents.c.address == address, intents.c.address.is_(None))


MADE_BY: Final = and_(tasks.c.owner == intents.c.owner, tasks.c.task_id == intents.c.task_id)
"""Joins a task to the intent that made it."""

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
    Column("retry_at", Float(53)),  # null: no automatic retry
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

# Small previews of the local images that were edited: nothing else shows them later.
inputs: Final = Table(
    "wan25_account_inputs",
    metadata,
    Column("owner", String(64), primary_key=True),
    Column("handle", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),  # of the image in its edit, from 1
    Column("preview", LargeBinary, nullable=False),
    Column("kept_at", Float(53), nullable=False),
    Index("wan25_account_inputs_latest", "owner", "kept_at"),
)


def migrate(connection: Connection) -> None:
    """Create the tables, or migrate those of an older version. Runs in a write transaction.

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
        _add_missing_columns(connection)
        _move_older_tables(connection)
        connection.execute(insert(versions).values(version=VERSION))


def _add_missing_columns(connection: Connection) -> None:
    """Columns that a version added. They are nullable: older rows have nothing in them."""
    for table in metadata.sorted_tables:
        known = {described["name"] for described in inspect(connection).get_columns(table.name)}
        for added in (one for one in table.c if one.name not in known):
            kind = added.type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {added.name} {kind}")


def _move_older_tables(connection: Connection) -> None:
    """Move rows of versions before 5 into tables that have the owner, and drop the old tables.

    An older program that still has the journal open then finds no tables, and so sends nothing.
    With its tables it would continue to show one account's tasks to another.
    """
    existing = set(inspect(connection).get_table_names())
    for table in (intents, tasks, files, unsaved, uploads):  # intents first: they have the owner
        older = table.name.replace("_account_", "_")
        if older not in existing:
            continue
        if table is not uploads:  # their owner is unknown; images are uploaded again
            _copy(connection, older, table)
        connection.exec_driver_sql(f"DROP TABLE {older}")


def _copy(connection: Connection, older: str, table: Table) -> None:
    """Copy rows. A task without an intent goes to `NOBODY`, as its owner is unknown."""
    known = [described["name"] for described in inspect(connection).get_columns(older)]
    source = older_table(older, *(column(name) for name in known))
    columns = [source.c[name] for name in known if name in table.c]
    rows = select(*columns)
    if "owner" not in known:
        made = source.outerjoin(intents, intents.c.task_id == source.c.task_id)
        owner = func.coalesce(intents.c.owner, NOBODY).label("owner")
        rows = select(*columns, owner).select_from(made)
    names = [selected.name for selected in rows.selected_columns]
    connection.execute(insert(table).from_select(names, rows))


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(versions.name):
        return None
    return connection.execute(select(func.max(versions.c.version))).scalar()
