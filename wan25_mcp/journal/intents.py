"""The stages of an intent as SQL inside one transaction. Synchronous.

Each update names the stages it may move an intent from (`before` in `stages`), so of two processes
that try the same step the second finds no row.

Statements that a call waits for are built once, at import: SQLAlchemy needs longer to build a
statement than SQLite to execute it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    bindparam,
    delete,
    exists,
    func,
    or_,
    select,
    tuple_,
    update,
)

from wan25_mcp.errors import Unreachable, Wan25Error
from wan25_mcp.journal.outcomes import error_from_json, error_to_json, interrupted, mixed_up
from wan25_mcp.journal.records import (
    KEPT_FOR,
    Intent,
    Snapshot,
    Stage,
)
from wan25_mcp.journal.schema import (
    MADE_BY,
    NOBODY,
    files,
    inputs,
    intents,
    tasks,
    unsaved,
    uploads,
)
from wan25_mcp.journal.stages import ABANDONED, before
from wan25_mcp.journal.tasks import record, settle_credits, snapshot_of
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task

# --- moving from stage to stage -------------------------------------------------------------

_LEASED: Final = tuple(ABANDONED)
_THIS_HANDLE: Final = intents.c.handle == bindparam("which")
_BEGIN: Final = update(intents).where(_THIS_HANDLE, intents.c.stage.in_(before("sending")))
_PAUSE: Final = update(intents).where(_THIS_HANDLE, intents.c.stage.in_(before("intent")))
_RENEW: Final = update(intents).where(_THIS_HANDLE, intents.c.stage.in_(_LEASED))
_ACCEPT: Final = update(intents).where(_THIS_HANDLE, intents.c.stage.in_(before("accepted")))
_REFUSE: Final = update(intents).where(_THIS_HANDLE, intents.c.stage.in_(before("refused")))
_MARK_UNKNOWN: Final = update(intents).where(_THIS_HANDLE, intents.c.stage.in_(before("unknown")))


def begin(connection: Connection, handle: str, *, now: float, lease: float) -> bool:
    values = {"which": handle, "stage": "sending", "sent_at": now, "lease_until": now + lease}
    return connection.execute(_BEGIN, values).rowcount == 1


def pause(connection: Connection, handle: str, *, now: float, lease: float) -> None:
    values = {"which": handle, "stage": "intent", "lease_until": now + lease}
    connection.execute(_PAUSE, values)


def renew(connection: Connection, handle: str, *, now: float, lease: float) -> None:
    connection.execute(_RENEW, {"which": handle, "lease_until": now + lease})


_THIS: Final = intents.alias()


def _is_at_same_address(other: Any) -> ColumnElement[bool]:
    """Whether an intent, of any owner, is at the address of the one to be accepted.

    At another address, another task may have the same id. Intents written by versions before 4 may
    be at any address.
    """
    return or_(
        other.c.owner == _THIS.c.owner,
        other.c.address == _THIS.c.address,
        other.c.address.is_(None),
        _THIS.c.address.is_(None),
    )


_OTHER_INTENT: Final = (
    select(intents.c.handle)
    .join(_THIS, _THIS.c.handle == bindparam("handle"))
    .where(
        intents.c.task_id == bindparam("task_id"),
        intents.c.handle != _THIS.c.handle,
        _is_at_same_address(intents),
    )
)
# A task first observed after the submit was sent can be its own: somebody may know the id from
# elsewhere, and poll it before the submit is answered.
_OBSERVED_BEFORE: Final = (
    select(tasks.c.task_id)
    .join(_THIS, _THIS.c.handle == bindparam("handle"))
    .where(
        tasks.c.task_id == bindparam("task_id"),
        _THIS.c.task_id.is_(None),
        func.coalesce(tasks.c.first_seen_at, tasks.c.seen_at) < _THIS.c.sent_at,
        or_(
            tasks.c.owner.in_((_THIS.c.owner, NOBODY)),
            exists().where(intents.c.owner == tasks.c.owner, _is_at_same_address(intents)),
        ),
    )
)


def accept(connection: Connection, owner: str, handle: str, task: Task, *, now: float) -> bool:
    if _belongs_to_another(connection, handle, task.id):
        mark_unknown(connection, handle, mixed_up(task.id))
        return False
    values = {"which": handle, "stage": "accepted", "task_id": task.id, "error": None}
    connection.execute(_ACCEPT, values)
    snapshot = record(connection, owner, task, now=now)
    # `record` skips this for a task that had a snapshot before it had an intent.
    settle_credits(connection, owner, snapshot.task)
    return True


def _belongs_to_another(connection: Connection, handle: str, task_id: str) -> bool:
    values = {"task_id": task_id, "handle": handle}
    queries = (_OTHER_INTENT, _OBSERVED_BEFORE)
    return any(connection.execute(query, values).first() for query in queries)


def refuse(connection: Connection, handle: str, error: Wan25Error) -> None:
    values = {"stage": "refused", "error": json.dumps(error_to_json(error)), "credits": 0.0}
    connection.execute(_REFUSE, {"which": handle, **values})


def mark_unknown(connection: Connection, handle: str, error: Wan25Error) -> None:
    values = {"stage": "unknown", "error": json.dumps(error_to_json(error))}
    connection.execute(_MARK_UNKNOWN, {"which": handle, **values})


# --- intents of processes that died ---------------------------------------------------------

_DIED_SENDING: Final = interrupted("The server stopped")
_DIED_BEFORE: Final = Unreachable(code="never_sent")

_EXPIRED: Final = (
    select(intents.c.handle)
    .where(intents.c.stage.in_(_LEASED), intents.c.lease_until < bindparam("now"))
    .limit(1)
)
_OPEN: Final = (
    select(intents.c.handle)
    .where(intents.c.stage.in_(_LEASED), intents.c.lease_until >= bindparam("now"))
    .limit(1)
)


def overdue(connection: Connection, now: float) -> bool:
    """Whether `expire` has anything to do."""
    return connection.execute(_EXPIRED, {"now": now}).first() is not None


def has_open(connection: Connection, now: float) -> bool:
    """Whether a live process has a submit in progress."""
    return connection.execute(_OPEN, {"now": now}).first() is not None


def expire(connection: Connection, now: float) -> None:
    """Settle the intents whose process died, as far as their outcome is known."""
    causes: dict[Stage, Wan25Error] = {"sending": _DIED_SENDING, "intent": _DIED_BEFORE}
    for stage, error in causes.items():
        values: dict[str, Any] = {
            "stage": ABANDONED[stage],
            "error": json.dumps(error_to_json(error)),
        }
        if ABANDONED[stage] == "refused":
            values["credits"] = 0.0
        connection.execute(
            update(intents)
            .where(intents.c.stage == stage, intents.c.lease_until < now)
            .values(values)
        )


# --- reading --------------------------------------------------------------------------------

_NAMED: Final = select(intents).where(
    intents.c.owner == bindparam("owner"),
    or_(intents.c.handle == bindparam("name"), intents.c.task_id == bindparam("name")),
)


def find(connection: Connection, owner: str, name: str) -> Intent | None:
    row = connection.execute(_NAMED, {"owner": owner, "name": name}).first()
    return intent_of(row) if row else None


def intent_of(row: Row[Any]) -> Intent:
    return Intent(
        handle=row.handle,
        owner=row.owner,
        created_at=row.created_at,
        n=row.n,
        prompt=row.prompt,
        stage=row.stage,
        credits=row.credits,
        task_id=row.task_id,
        error=error_from_json(json.loads(row.error)) if row.error else None,
        callback=row.callback,
        model=row.model or MODEL,
    )


def recent(
    connection: Connection, owner: str, *, limit: int
) -> list[tuple[Intent, Snapshot | None]]:
    rows = connection.execute(
        select(intents, tasks.c.answer, tasks.c.seen_at, tasks.c.unfinished_at, tasks.c.settled_at)
        .outerjoin(tasks, MADE_BY)
        .where(intents.c.owner == owner)
        .order_by(intents.c.created_at.desc())
        .limit(limit)
    )
    return [(intent_of(row), snapshot_of(row) if row.answer else None) for row in rows]


# --- deleting -------------------------------------------------------------------------------

_MAX_DELETED: Final = 2000


def prune(connection: Connection, now: float) -> bool:
    """Delete some of what is older than `KEPT_FOR`; returns whether there may be more."""
    old = now - KEPT_FOR
    count = _delete(connection, [intents.c.handle], intents.c.created_at < old)
    count += _delete(connection, [tasks.c.owner, tasks.c.task_id], tasks.c.seen_at < old)
    made = exists().where(intents.c.owner == inputs.c.owner, intents.c.handle == inputs.c.handle)
    count += _delete(connection, [inputs.c.owner, inputs.c.handle], ~made)
    for table in (files, unsaved):
        # Not `NOT IN`: on large tables PostgreSQL would scan all tasks again for each row.
        known = exists().where(tasks.c.owner == table.c.owner, tasks.c.task_id == table.c.task_id)
        count += _delete(connection, [table.c.owner, table.c.task_id], ~known)
    connection.execute(delete(uploads).where(uploads.c.expires_at < now))
    return count > 0


def _delete(
    connection: Connection, key: Sequence[Column[str]], condition: ColumnElement[bool]
) -> int:
    some = select(*key).where(condition).limit(_MAX_DELETED)
    return connection.execute(delete(key[0].table).where(tuple_(*key).in_(some))).rowcount
