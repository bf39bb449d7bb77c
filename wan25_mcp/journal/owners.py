"""Which owner an API key belongs to, as SQL inside one transaction. Synchronous.

An owner is named after the first key of an account, or by the operator. Later keys refer to it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from sqlalchemy import (
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from wan25_mcp.journal.records import KnownKey
from wan25_mcp.journal.schema import files, inputs, intents, keys, tasks, unsaved, uploads

_MAX_OTHERS: Final = 5

_OWNER: Final = select(keys.c.owner).where(keys.c.key == bindparam("key"))
_HAS_EDITS: Final = select(intents.c.handle).where(intents.c.owner == bindparam("key")).limit(1)
_LATEST: Final = (
    select(intents.c.owner, func.max(intents.c.created_at).label("created_at"))
    .where(
        intents.c.owner != bindparam("key"),
        intents.c.task_id.is_not(None),
        or_(intents.c.address == bindparam("address"), intents.c.address.is_(None)),
    )
    .group_by(intents.c.owner)
    .subquery()
)
_OTHERS: Final = (
    select(intents.c.owner, intents.c.task_id)
    .join(
        _LATEST,
        (_LATEST.c.owner == intents.c.owner) & (_LATEST.c.created_at == intents.c.created_at),
    )
    .where(intents.c.task_id.is_not(None))
    .order_by(_LATEST.c.created_at.desc())
    .limit(_MAX_OTHERS)
)


def known_key(connection: Connection, key: str, *, address: str | None) -> KnownKey:
    owner = connection.execute(_OWNER, {"key": key}).scalar()
    if owner is not None:
        return KnownKey(owner)
    if connection.execute(_HAS_EDITS, {"key": key}).first() is not None:
        return KnownKey(key)
    found = connection.execute(_OTHERS, {"key": key, "address": address})
    return KnownKey(None, tuple({row.owner: (row.owner, row.task_id) for row in found}.values()))


def current(connection: Connection, owner: str) -> str:
    """The current name of an owner: another process may have merged it into another owner."""
    return connection.execute(_OWNER, {"key": owner}).scalar() or owner


def join_owners(connection: Connection, owner: str, others: Collection[str]) -> str:
    first = next(iter(others))
    owner = connection.execute(_OWNER, {"key": first}).scalar() or current(connection, owner)
    for key in others:
        if key != owner:
            _transfer(connection, key, owner)
            connection.execute(update(keys).where(keys.c.owner == key).values(owner=owner))
            connection.execute(delete(keys).where(keys.c.key == key))
            connection.execute(insert(keys).values(key=key, owner=owner))
    return owner


def _transfer(connection: Connection, before: str, owner: str) -> None:
    """Move all rows of one owner to another. Where both have a row, one of the two stays."""
    connection.execute(update(intents).where(intents.c.owner == before).values(owner=owner))
    # Of two snapshots of a task, the settled one is better, then the later one.
    for one, other in ((before, owner), (owner, before)):
        better = tasks.alias()
        is_better = or_(
            better.c.settled > tasks.c.settled,
            and_(better.c.settled == tasks.c.settled, better.c.seen_at >= tasks.c.seen_at),
        )
        _drop_where_both(connection, tasks, one, other, better, is_better)
    for table in (files, unsaved, uploads):
        _drop_where_both(connection, table, before, owner, table.alias())
    for table in (tasks, files, unsaved, uploads, inputs):
        connection.execute(update(table).where(table.c.owner == before).values(owner=owner))


def _drop_where_both(
    connection: Connection, table: Table, one: str, other: str, twin: Any, *conditions: Any
) -> None:
    """Delete the rows of one owner that have the same key as a row of the other."""
    same = [twin.c[name] == table.c[name] for name in table.primary_key.columns.keys()[1:]]
    found = exists().where(twin.c.owner == other, *same, *conditions).correlate(table)
    connection.execute(delete(table).where(table.c.owner == one, found))
