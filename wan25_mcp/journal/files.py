"""Saved, unsaved, uploaded and edited images, as SQL inside one transaction. Synchronous.

Which tasks have images to save is queried often, for many tasks, by several processes. So the
database alone decides it, by comparing a task's links with its saved and given up images.
"""

from __future__ import annotations

import json
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    ScalarSelect,
    Table,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from wan25_mcp.journal import schema
from wan25_mcp.journal.records import DAY, JournalUnusable, Unsaved, Upload
from wan25_mcp.journal.schema import MADE_BY, files, inputs, intents, is_at, tasks, uploads
from wan25_mcp.journal.tasks import link_columns, snapshot_of


def _of(table: Table, owner: str, task_id: str) -> tuple[ColumnElement[bool], ...]:
    return table.c.owner == owner, table.c.task_id == task_id


def note_saved(connection: Connection, owner: str, task_id: str, number: int, path: str) -> None:
    connection.execute(delete(files).where(*_of(files, owner, task_id), files.c.number == number))
    connection.execute(insert(files).values(owner=owner, task_id=task_id, number=number, path=path))
    _forget_unsaved(connection, owner, task_id, number)


def saved(connection: Connection, owner: str, task_id: str) -> dict[int, str]:
    rows = connection.execute(
        select(files.c.number, files.c.path)
        .where(*_of(files, owner, task_id))
        .order_by(files.c.number)
    )
    return {row.number: row.path for row in rows}


def acquire_save(
    connection: Connection, owner: str, task_id: str, *, now: float, lease: float
) -> bool:
    acquired = connection.execute(
        update(tasks)
        .where(
            *_of(tasks, owner, task_id),
            # A lease that ends later than a new one was acquired before the clock was set back:
            # ignored.
            or_(tasks.c.followed_until < now, tasks.c.followed_until > now + lease),
        )
        .values(followed_until=now + lease)
    )
    return acquired.rowcount == 1


def release_save(connection: Connection, owner: str, task_id: str) -> None:
    connection.execute(update(tasks).where(*_of(tasks, owner, task_id)).values(followed_until=0.0))


def renew_save(
    connection: Connection, owner: str, task_id: str, *, now: float, lease: float
) -> None:
    acquired = (*_of(tasks, owner, task_id), tasks.c.followed_until > 0)
    connection.execute(update(tasks).where(*acquired).values(followed_until=now + lease))


def unsaved(
    connection: Connection, owner: str, *, now: float, address: str | None, limit: int
) -> list[str]:
    given_up = or_(schema.unsaved.c.retry_at.is_(None), schema.unsaved.c.retry_at > now)
    rows = connection.execute(
        select(tasks.c.task_id)
        .join(intents, MADE_BY)
        .where(
            intents.c.owner == owner,
            is_at(address),
            tasks.c.expires_at > now,
            tasks.c.followed_until < now,
            # At most the requested number of images, even if more were returned.
            case((tasks.c.links < intents.c.n, tasks.c.links), else_=intents.c.n)
            > _count(files) + _count(schema.unsaved, given_up),
        )
        # Tasks without failed attempts first, so that failing ones do not delay them.
        .order_by(case((_count(schema.unsaved) > 0, 1), else_=0), tasks.c.expires_at)
        .limit(limit)
    )
    return list(rows.scalars())


def _count(table: Table, *conditions: Any) -> ScalarSelect[int]:
    """The number of a task's images in the table."""
    of_task = (
        table.c.owner == tasks.c.owner,
        table.c.task_id == tasks.c.task_id,
        table.c.number <= intents.c.n,
    )
    return select(func.count()).select_from(table).where(*of_task, *conditions).scalar_subquery()


def note_unsaved(
    connection: Connection, owner: str, task_id: str, number: int, why: Unsaved
) -> None:
    _forget_unsaved(connection, owner, task_id, number)
    connection.execute(
        insert(schema.unsaved).values(
            owner=owner,
            task_id=task_id,
            number=number,
            problem=why.problem,
            failures=why.failures,
            tried_at=why.tried_at,
            retry_at=why.retry_at,
        )
    )


def _forget_unsaved(connection: Connection, owner: str, task_id: str, number: int) -> None:
    which = (*_of(schema.unsaved, owner, task_id), schema.unsaved.c.number == number)
    connection.execute(delete(schema.unsaved).where(*which))


def unsaved_images(connection: Connection, owner: str, task_id: str) -> dict[int, Unsaved]:
    rows = connection.execute(
        select(schema.unsaved)
        .where(*_of(schema.unsaved, owner, task_id))
        .order_by(schema.unsaved.c.number)
    )
    return {
        row.number: Unsaved(row.problem, row.failures, row.tried_at, row.retry_at) for row in rows
    }


_MAX_COUNTED: Final = 1000
_SET_LINKS: Final = (
    update(tasks)
    .where(tasks.c.owner == bindparam("whose"), tasks.c.task_id == bindparam("which"))
    .values(links=bindparam("links"), expires_at=bindparam("expires_at"))
)


def count_links(connection: Connection, now: float) -> bool:
    """Fill the columns that `unsaved` needs for some completed tasks of an older version.

    Returns whether there may be more.
    """
    rows = connection.execute(
        select(tasks)
        .where(
            tasks.c.settled == 1,
            tasks.c.seen_at > now - DAY,
            tasks.c.status == "completed",
            tasks.c.links.is_(None),
        )
        .limit(_MAX_COUNTED)
    ).all()
    found = []
    for row in rows:
        try:
            columns = link_columns(snapshot_of(row))
        except JournalUnusable:  # reported when the task is read; other tasks must be saved
            columns = {"links": 0, "expires_at": None}
        found.append({"whose": row.owner, "which": row.task_id, **columns})
    if found:
        connection.execute(_SET_LINKS, found)
    return bool(found)


def _upload(owner: str, sha256: str, place: str) -> tuple[ColumnElement[bool], ...]:
    return uploads.c.owner == owner, uploads.c.sha256 == sha256, uploads.c.place == place


def uploaded(
    connection: Connection, owner: str, sha256: str, place: str, *, now: float
) -> Upload | None:
    row = connection.execute(
        select(uploads).where(*_upload(owner, sha256, place), uploads.c.expires_at > now)
    ).first()
    return Upload(row.url, row.expires_at, tuple(json.loads(row.changes))) if row else None


def note_upload(
    connection: Connection, owner: str, sha256: str, place: str, upload: Upload
) -> None:
    connection.execute(delete(uploads).where(*_upload(owner, sha256, place)))
    connection.execute(
        insert(uploads).values(
            owner=owner,
            sha256=sha256,
            place=place,
            url=upload.url,
            expires_at=upload.expires_at,
            changes=json.dumps(upload.changes),
        )
    )


MAX_INPUTS: Final = 200
"""Number of previews kept for each owner, of at most 100 kB each: the oldest make room."""


def keep_input(
    connection: Connection, owner: str, handle: str, number: int, preview: bytes, *, now: float
) -> None:
    which = (inputs.c.owner == owner, inputs.c.handle == handle, inputs.c.number == number)
    connection.execute(delete(inputs).where(*which))
    connection.execute(
        insert(inputs).values(
            owner=owner, handle=handle, number=number, preview=preview, kept_at=now
        )
    )
    of_owner = select(inputs.c.kept_at).where(inputs.c.owner == owner)
    oldest = of_owner.order_by(inputs.c.kept_at.desc()).offset(MAX_INPUTS - 1).limit(1)
    too_old = inputs.c.kept_at < oldest.scalar_subquery()
    connection.execute(delete(inputs).where(inputs.c.owner == owner, too_old))


def kept_input(connection: Connection, owner: str, name: str, number: int) -> bytes | None:
    found: bytes | None = connection.execute(
        select(inputs.c.preview)
        .join(intents, (intents.c.owner == inputs.c.owner) & (intents.c.handle == inputs.c.handle))
        .where(
            inputs.c.owner == owner,
            inputs.c.number == number,
            or_(intents.c.handle == name, intents.c.task_id == name),
        )
    ).scalar()
    return found
