"""What was seen of tasks, and who looks, as SQL inside one transaction. Synchronous."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
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
from wan25_mcp.journal.schema import MADE_BY, intents, is_at, tasks
from wan25_mcp.provider.models import Task, Usage
from wan25_mcp.provider.statuses import is_settled

_AT_ONCE: Final = 500
"""Task ids in one question: databases limit how many parameters one may have."""

# --- what was seen --------------------------------------------------------------------------

_SEEN: Final = select(tasks).where(
    tasks.c.owner == bindparam("owner"), tasks.c.task_id == bindparam("task_id")
)
_NOTE: Final = insert(tasks)
_WHICH: Final = (tasks.c.owner == bindparam("whose"), tasks.c.task_id == bindparam("which"))
_CHANGE: Final = update(tasks).where(*_WHICH)


def record(connection: Connection, owner: str, task: Task, *, now: float) -> Snapshot:
    before = last_seen(connection, owner, task.id)
    seen = observe(before, task, now)
    if seen is before:
        release_poll(connection, owner, task.id)
        return seen
    values = {
        "settled": int(is_settled(task.status)),
        "status": task.status,
        "answer": json.dumps(_answer(task)),
        "seen_at": seen.seen_at,
        "unfinished_at": seen.unfinished_at,
        "settled_at": seen.settled_at,
        "looking_until": 0.0,
        **to_save(seen),
    }
    if before is None:
        whose = {"owner": owner, "task_id": task.id}
        connection.execute(_NOTE, {**whose, "first_seen_at": now, "followed_until": 0.0, **values})
    else:
        connection.execute(_CHANGE, {"whose": owner, "which": task.id, **values})
    if before is None or before.task.usage != task.usage or seen.settled_at is not None:
        settle_credits(connection, owner, task)
    return seen


def to_save(seen: Snapshot) -> dict[str, float | None]:
    """What is to be known of a task's images without reading its answer."""
    count = len(seen.task.image_urls) if seen.task.status == "completed" else 0
    return {"links": count, "expires_at": expires_at(seen) if count else None}


_COUNT: Final = update(intents).where(
    intents.c.owner == bindparam("whose"), intents.c.task_id == bindparam("which")
)
_REPORTED: Final = bindparam("said", type_=Float)
_HOLD: Final = _COUNT.values(
    credits=case((intents.c.credits < _REPORTED, _REPORTED), else_=intents.c.credits),
    price=_REPORTED / intents.c.n,
)
_LINKS: Final = bindparam("links", type_=Integer)
_USED: Final = _COUNT.values(
    credits=bindparam("used", type_=Float),
    # Of more links than were asked for, each would seem to cost next to nothing.
    price=bindparam("used", type_=Float) / case((intents.c.n < _LINKS, intents.c.n), else_=_LINKS),
)


def settle_credits(connection: Connection, owner: str, task: Task) -> None:
    """Count what the provider says an edit costs, instead of what was assumed.

    Until it is settled, the larger of the two counts: some providers hold nothing, or little, and
    charge at the end. To hold nothing is no price.
    """
    usage = task.usage or Usage()
    made = len(task.image_urls)
    which = {"whose": owner, "which": task.id}
    if not is_settled(task.status):
        said = max(usage.credits_reserved or 0.0, usage.credits_used or 0.0)
        if said > 0:
            connection.execute(_HOLD, {**which, "said": said})
    elif usage.credits_used and made:
        facts = {"used": usage.credits_used, "links": made}
        connection.execute(_USED, {**which, **facts})
    elif usage.credits_used is not None or task.status in ("failed", "cancelled"):
        connection.execute(_COUNT, {**which, "credits": usage.credits_used or 0.0})


def _answer(task: Task) -> dict[str, Any]:
    kept = task.model_dump(mode="json", exclude_none=True)
    kept["results"] = kept.pop("image_urls")  # as the provider writes it, so `Task` reads it back
    return kept


def last_seen(connection: Connection, owner: str, task_id: str) -> Snapshot | None:
    row = connection.execute(_SEEN, {"owner": owner, "task_id": task_id}).first()
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
    for start in range(0, len(wanted), _AT_ONCE):
        some = tasks.c.task_id.in_(wanted[start : start + _AT_ONCE])
        rows = connection.execute(select(tasks).where(tasks.c.owner == owner, some))
        found.update((row.task_id, snapshot_of(row)) for row in rows)
    return found


_RECENT: Final = select(tasks.c.task_id, tasks.c.seen_at).where(
    tasks.c.owner == bindparam("owner"), tasks.c.seen_at >= bindparam("since")
)


def seen_since(connection: Connection, owner: str, since: float) -> dict[str, float]:
    rows = connection.execute(_RECENT, {"owner": owner, "since": since})
    return {row.task_id: row.seen_at for row in rows}


# --- who looks ------------------------------------------------------------------------------

_TAKE: Final = update(tasks).where(
    *_WHICH,
    # A lease from a time that is yet to come is of a clock that was set back since: it is none.
    or_(tasks.c.looking_until < bindparam("now"), tasks.c.looking_until > bindparam("until")),
    tasks.c.seen_at <= bindparam("known"),
)
_END: Final = update(tasks).where(*_WHICH, tasks.c.looking_until != 0)


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
    taken = connection.execute(
        _TAKE,
        {
            "whose": owner,
            "which": task_id,
            "now": now,
            "known": known,
            "until": now + lease,
            "looking_until": now + lease,
        },
    )
    if taken.rowcount == 1:
        return True
    return connection.execute(_SEEN, {"owner": owner, "task_id": task_id}).first() is None


def release_poll(connection: Connection, owner: str, task_id: str) -> None:
    connection.execute(_END, {"whose": owner, "which": task_id, "looking_until": 0.0})


# --- over many ------------------------------------------------------------------------------


def past_runs(connection: Connection, owner: str, *, n: int | None, limit: int) -> list[float]:
    return list(islice(_runs(connection, owner, n, limit), limit))


def _runs(connection: Connection, owner: str, n: int | None, limit: int) -> Iterator[float]:
    mine = [intents.c.owner == owner, intents.c.sent_at.is_not(None)]
    if n is not None:
        mine.append(intents.c.n == n)
    rows = connection.execute(
        select(tasks, intents.c.sent_at)
        .join(intents, MADE_BY)
        .where(*mine, tasks.c.settled_at.is_not(None))
        .order_by(intents.c.created_at.desc())  # as an index has it: no sorting of a month
        .limit(limit * _RUNS_READ)
    )
    for row in rows:
        if (run := run_duration(row.sent_at, snapshot_of(row))) is not None:
            yield run


_RUNS_READ: Final = 3
"""How many settled tasks are read for each run wanted: not of all is it known what they took."""


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
