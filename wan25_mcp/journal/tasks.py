"""Snapshots of tasks and poll leases, as SQL inside one transaction. Synchronous."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, Float, Integer, Row, bindparam, case, insert, or_, select, update

from wan25_mcp.journal.records import (
    DAY,
    JournalUnusable,
    Snapshot,
    expires_at,
    observe,
    run_duration,
)
from wan25_mcp.journal.schema import MADE_BY, intents, is_at, is_of_model, tasks
from wan25_mcp.provider.models import Task, Usage
from wan25_mcp.provider.statuses import is_settled

_MAX_IDS: Final = 500
"""Max task ids in one query: databases limit the number of parameters."""

# --- snapshots ------------------------------------------------------------------------------

_SNAPSHOT: Final = select(tasks).where(
    tasks.c.owner == bindparam("owner"), tasks.c.task_id == bindparam("task_id")
)
_INSERT: Final = insert(tasks)
_THIS_TASK: Final = (tasks.c.owner == bindparam("whose"), tasks.c.task_id == bindparam("which"))
_UPDATE: Final = update(tasks).where(*_THIS_TASK)


def record(connection: Connection, owner: str, task: Task, *, now: float) -> Snapshot:
    before = last_seen(connection, owner, task.id)
    snapshot = observe(before, task, now)
    if snapshot is before:
        release_poll(connection, owner, task.id)
        return snapshot
    values = {
        "settled": int(is_settled(task.status)),
        "status": task.status,
        "answer": json.dumps(_answer(task)),
        "seen_at": snapshot.seen_at,
        "unfinished_at": snapshot.unfinished_at,
        "settled_at": snapshot.settled_at,
        "looking_until": 0.0,
        **link_columns(snapshot),
    }
    if before is None:
        key = {"owner": owner, "task_id": task.id}
        connection.execute(_INSERT, {**key, "first_seen_at": now, "followed_until": 0.0, **values})
    else:
        connection.execute(_UPDATE, {"whose": owner, "which": task.id, **values})
    if before is None or before.task.usage != task.usage or snapshot.settled_at is not None:
        settle_credits(connection, owner, task)
    return snapshot


def link_columns(snapshot: Snapshot) -> dict[str, float | None]:
    """What `files.unsaved` needs to know about a task's images without reading its answer."""
    task = snapshot.task
    count = len(task.image_urls) if task.status == "completed" else 0
    return {"links": count, "expires_at": expires_at(snapshot) if count else None}


_INTENT: Final = update(intents).where(
    intents.c.owner == bindparam("whose"), intents.c.task_id == bindparam("which")
)
_REPORTED: Final = bindparam("reported", type_=Float)
_RESERVE: Final = _INTENT.values(
    credits=case((intents.c.credits < _REPORTED, _REPORTED), else_=intents.c.credits),
    price=_REPORTED / intents.c.n,
)
_LINKS: Final = bindparam("links", type_=Integer)
_CHARGE: Final = _INTENT.values(
    credits=bindparam("used", type_=Float),
    # At most the requested number of images: more links would make each look almost free.
    price=bindparam("used", type_=Float) / case((intents.c.n < _LINKS, intents.c.n), else_=_LINKS),
)


def settle_credits(connection: Connection, owner: str, task: Task) -> None:
    """Replace the assumed cost of an edit by the cost that the provider reports.

    Until the task settles, the larger of the two counts: some providers reserve little or nothing
    and charge at the end. A reservation of 0 is not a price.
    """
    usage = task.usage or Usage()
    made = len(task.image_urls)
    which = {"whose": owner, "which": task.id}
    if not is_settled(task.status):
        reported = max(usage.credits_reserved or 0.0, usage.credits_used or 0.0)
        if reported > 0:
            connection.execute(_RESERVE, {**which, "reported": reported})
    elif usage.credits_used and made:
        connection.execute(_CHARGE, {**which, "used": usage.credits_used, "links": made})
    elif usage.credits_used is not None or task.status in ("failed", "cancelled"):
        connection.execute(_INTENT, {**which, "credits": usage.credits_used or 0.0})


def _answer(task: Task) -> dict[str, Any]:
    answer = task.model_dump(mode="json", exclude_none=True)
    answer["results"] = answer.pop("image_urls")  # the provider's name, which `Task` reads
    return answer


def last_seen(connection: Connection, owner: str, task_id: str) -> Snapshot | None:
    row = connection.execute(_SNAPSHOT, {"owner": owner, "task_id": task_id}).first()
    return snapshot_of(row) if row else None


def snapshot_of(row: Row[Any]) -> Snapshot:
    try:
        task = Task.model_validate(json.loads(row.answer))
    except ValueError:
        raise JournalUnusable("its record of a task cannot be read") from None
    return Snapshot(task, row.seen_at, row.unfinished_at, row.settled_at)


def snapshots(connection: Connection, owner: str, task_ids: Collection[str]) -> dict[str, Snapshot]:
    wanted = list(dict.fromkeys(task_ids))
    found: dict[str, Snapshot] = {}
    for start in range(0, len(wanted), _MAX_IDS):
        some = tasks.c.task_id.in_(wanted[start : start + _MAX_IDS])
        rows = connection.execute(select(tasks).where(tasks.c.owner == owner, some))
        found.update((row.task_id, snapshot_of(row)) for row in rows)
    return found


_SEEN_SINCE: Final = select(tasks.c.task_id, tasks.c.seen_at).where(
    tasks.c.owner == bindparam("owner"), tasks.c.seen_at >= bindparam("since")
)


def seen_since(connection: Connection, owner: str, since: float) -> dict[str, float]:
    rows = connection.execute(_SEEN_SINCE, {"owner": owner, "since": since})
    return {row.task_id: row.seen_at for row in rows}


# --- poll leases ----------------------------------------------------------------------------

_ACQUIRE: Final = update(tasks).where(
    *_THIS_TASK,
    # A lease that ends later than a new one was acquired before the clock was set back: ignored.
    or_(tasks.c.looking_until < bindparam("now"), tasks.c.looking_until > bindparam("until")),
    tasks.c.seen_at <= bindparam("known"),
)
_RELEASE: Final = update(tasks).where(*_THIS_TASK, tasks.c.looking_until != 0)


def acquire_poll(
    connection: Connection,
    owner: str,
    task_id: str,
    *,
    seen_at: float | None,
    now: float,
    lease: float,
) -> bool:
    known = math.inf if seen_at is None else seen_at
    acquired = connection.execute(
        _ACQUIRE,
        {
            "whose": owner,
            "which": task_id,
            "now": now,
            "known": known,
            "until": now + lease,
            "looking_until": now + lease,
        },
    )
    if acquired.rowcount == 1:
        return True
    return connection.execute(_SNAPSHOT, {"owner": owner, "task_id": task_id}).first() is None


def release_poll(connection: Connection, owner: str, task_id: str) -> None:
    connection.execute(_RELEASE, {"whose": owner, "which": task_id, "looking_until": 0.0})


# --- many tasks -----------------------------------------------------------------------------


_RUNS_READ: Final = 3
"""Settled tasks read for each run wanted: the duration of some is unknown."""


def past_runs(
    connection: Connection, owner: str, *, n: int | None, model: str, limit: int
) -> list[float]:
    mine = [intents.c.owner == owner, intents.c.sent_at.is_not(None), is_of_model(model)]
    if n is not None:
        mine.append(intents.c.n == n)
    rows = connection.execute(
        select(tasks, intents.c.sent_at)
        .join(intents, MADE_BY)
        .where(*mine, tasks.c.settled_at.is_not(None))
        .order_by(intents.c.created_at.desc())  # as in an index: nothing to sort
        .limit(limit * _RUNS_READ)
    )
    runs = (run_duration(row.sent_at, snapshot_of(row)) for row in rows)
    return list(islice((run for run in runs if run is not None), limit))


def orphaned(
    connection: Connection, owner: str, *, now: float, unseen_for: float, address: str | None
) -> list[str]:
    found = (
        select(tasks.c.task_id)
        .join(intents, MADE_BY)
        .where(
            intents.c.owner == owner,
            is_at(address),
            intents.c.created_at > now - DAY,
            tasks.c.settled == 0,
            tasks.c.seen_at < now - unseen_for,
        )
        .order_by(tasks.c.seen_at)
    )
    return list(connection.execute(found).scalars())
