"""Where images are: on this machine's disk, and at addresses for a while. SQL, synchronous."""

from __future__ import annotations

import json

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from wan25_mcp.journal.records import DAY, Upload
from wan25_mcp.journal.schema import files, intents, tasks, uploads


def note_saved(connection: Connection, task_id: str, number: int, path: str) -> None:
    connection.execute(delete(files).where(files.c.task_id == task_id, files.c.number == number))
    connection.execute(insert(files).values(task_id=task_id, number=number, path=path))


def saved(connection: Connection, task_id: str) -> dict[int, str]:
    rows = connection.execute(
        select(files.c.number, files.c.path)
        .where(files.c.task_id == task_id)
        .order_by(files.c.number)
    )
    return {row.number: row.path for row in rows}


def take_on(connection: Connection, task_id: str, *, now: float, lease: float) -> bool:
    taken = connection.execute(
        update(tasks)
        .where(
            tasks.c.task_id == task_id,
            # A lease from a time yet to come is of a clock that was set back since: it is none.
            or_(tasks.c.followed_until < now, tasks.c.followed_until > now + lease),
        )
        .values(followed_until=now + lease)
    )
    return taken.rowcount == 1


def let_go(connection: Connection, task_id: str) -> None:
    connection.execute(update(tasks).where(tasks.c.task_id == task_id).values(followed_until=0.0))


def unsaved(connection: Connection, owner: str, *, now: float) -> list[str]:
    kept = select(func.count()).where(files.c.task_id == tasks.c.task_id).scalar_subquery()
    rows = connection.execute(
        select(tasks.c.task_id, tasks.c.answer, kept.label("kept"))
        .join(intents, intents.c.task_id == tasks.c.task_id)
        .where(
            intents.c.owner == owner,
            tasks.c.status == "completed",
            tasks.c.settled_at > now - DAY,
            tasks.c.followed_until < now,
        )
        .limit(100)
    )
    return [row.task_id for row in rows if row.kept < len(json.loads(row.answer)["results"])]


def uploaded(connection: Connection, sha256: str, place: str, *, now: float) -> Upload | None:
    row = connection.execute(
        select(uploads).where(
            uploads.c.sha256 == sha256, uploads.c.place == place, uploads.c.expires_at > now
        )
    ).first()
    return Upload(row.url, row.expires_at, tuple(json.loads(row.changes))) if row else None


def note_upload(connection: Connection, sha256: str, place: str, upload: Upload) -> None:
    connection.execute(delete(uploads).where(uploads.c.sha256 == sha256, uploads.c.place == place))
    connection.execute(
        insert(uploads).values(
            sha256=sha256,
            place=place,
            url=upload.url,
            expires_at=upload.expires_at,
            changes=json.dumps(upload.changes),
        )
    )
