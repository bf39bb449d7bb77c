"""Each step of an intent as SQL inside one transaction. Synchronous; knows no engine.

A step that moves an intent names the stages it may move from: whoever comes second finds no row.

What a call waits for is built here once: SQLAlchemy takes longer to build a statement than SQLite
to carry it out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Row,
    Update,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)

from wan25_mcp.errors import OutcomeUnknown, Unreachable, Wan25Error
from wan25_mcp.journal import owners, spending
from wan25_mcp.journal.records import (
    DAY,
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    Snapshot,
    Stage,
    Withheld,
    error_from_json,
    error_to_json,
    mixed_up,
)
from wan25_mcp.journal.schema import MADE_BY, NOBODY, files, intents, is_at, tasks, unsaved, uploads
from wan25_mcp.journal.tasks import last_seen, record, settle_credits
from wan25_mcp.provider.models import Task

KEPT_FOR: Final = 30 * DAY
"""How long intents, prompts and links are kept."""

# --- claiming -------------------------------------------------------------------------------

_LIVE: Final = (
    select(intents)
    .outerjoin(tasks, MADE_BY)
    .where(
        intents.c.owner == bindparam("owner"),
        intents.c.fingerprint == bindparam("fingerprint"),
        is_at(bindparam("address")),
        # One whose outcome nobody knows is not forgotten with the window: a repeat could be
        # paid twice, and only the caller can say that it is meant (`force_new`).
        or_(
            intents.c.created_at > bindparam("since"),
            and_(intents.c.stage == "unknown", intents.c.created_at > bindparam("long_since")),
        ),
        intents.c.stage != "refused",
        or_(tasks.c.status.is_(None), tasks.c.status.not_in(("failed", "cancelled"))),
    )
    .order_by(intents.c.created_at.desc())
    .limit(1)
)
_MAKE: Final = insert(intents)


def claim(
    connection: Connection,
    request: ClaimRequest,
    *,
    now: float,
    window: float,
    lease: float,
    allowance: Allowance,
    refusal: Withheld | None,
) -> Claim:
    if overdue(connection, now):
        expire(connection, now)
    request = replace(request, owner=owners.current(connection, request.owner))
    earlier = _live(connection, request, now - window) if window > 0 else None
    if earlier is not None:
        return Claim(earlier, deduplicated=True)
    if refusal is not None:
        raise refusal
    spending.check_in_flight(connection, request, allowance, now)
    reported = spending.price(connection, request.owner)
    price = reported or allowance.credits_per_image
    spending.check_credits(connection, request.owner, allowance, price * request.n, now)
    if reported is None:
        spending.check_price_is_told(connection, request, allowance, now)
    intent = Intent(
        handle=request.handle,
        owner=request.owner,
        created_at=now,
        n=request.n,
        prompt=request.prompt.replace("\0", " "),  # which PostgreSQL cannot store
        credits=price * request.n,
        callback=request.callback,
    )
    connection.execute(
        _MAKE,
        {
            "handle": intent.handle,
            "owner": intent.owner,
            "fingerprint": request.fingerprint,
            "stage": intent.stage,
            "created_at": now,
            "lease_until": now + lease,
            "holder": request.holder,
            "n": intent.n,
            "prompt": intent.prompt,
            "credits": intent.credits,
            "callback": intent.callback,
            "address": request.address,
        },
    )
    return Claim(intent, deduplicated=False)


def _live(connection: Connection, request: ClaimRequest, since: float) -> Intent | None:
    wanted = {
        "owner": request.owner,
        "fingerprint": request.fingerprint,
        "address": request.address,
        "since": since,
        "long_since": since - DAY,
    }
    found = connection.execute(_LIVE, wanted).first()
    return _intent(found) if found else None


# --- moving ---------------------------------------------------------------------------------


def _moving(*origins: Stage) -> Update:
    """Changes the intent `which` if it is at one of these stages."""
    return update(intents).where(
        intents.c.handle == bindparam("which"), intents.c.stage.in_(origins)
    )


_BEGIN: Final = _moving("intent")
_PAUSE: Final = _moving("sending")
_RENEW: Final = _moving("intent", "sending")
_ACCEPT: Final = _moving("sending", "unknown")
_REFUSE: Final = _moving("intent", "sending")
_MARK_UNKNOWN: Final = _moving("sending")


def _move(connection: Connection, moving: Update, handle: str, **facts: Any) -> bool:
    return connection.execute(moving, {"which": handle, **facts}).rowcount == 1


def begin(connection: Connection, handle: str, *, now: float, lease: float) -> bool:
    facts = {"stage": "sending", "sent_at": now, "lease_until": now + lease}
    return _move(connection, _BEGIN, handle, **facts)


def pause(connection: Connection, handle: str, *, now: float, lease: float) -> None:
    _move(connection, _PAUSE, handle, stage="intent", lease_until=now + lease)


def renew(connection: Connection, handle: str, *, now: float, lease: float) -> None:
    _move(connection, _RENEW, handle, lease_until=now + lease)


_THIS: Final = intents.alias()


def _is_at_same_address(other: Any) -> ColumnElement[bool]:
    """Whether an intent is at the address of the one that is accepted, whosever it is.

    Elsewhere another task may have the same id. Edits of versions before 4 may be at any address.
    """
    return or_(
        other.c.owner == _THIS.c.owner,
        other.c.address == _THIS.c.address,
        other.c.address.is_(None),
        _THIS.c.address.is_(None),
    )


_OTHERS: Final = (
    select(intents.c.handle)
    .join(_THIS, _THIS.c.handle == bindparam("handle"))
    .where(
        intents.c.task_id == bindparam("task_id"),
        intents.c.handle != _THIS.c.handle,
        _is_at_same_address(intents),
    )
)
# What was first seen after the submit was sent can be its own: somebody may have heard of the id
# elsewhere, and asked before the submit was answered.
_SEEN_BEFORE: Final = (
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
    _move(connection, _ACCEPT, handle, stage="accepted", task_id=task.id, error=None)
    seen = record(connection, owner, task, now=now)
    # It may have been seen before, of an intent nobody knew.
    settle_credits(connection, owner, seen.task)
    return True


def _belongs_to_another(connection: Connection, handle: str, task_id: str) -> bool:
    names = {"task_id": task_id, "handle": handle}
    return any(connection.execute(known, names).first() for known in (_OTHERS, _SEEN_BEFORE))


def refuse(connection: Connection, handle: str, error: Wan25Error) -> None:
    facts = {"stage": "refused", "error": json.dumps(error_to_json(error)), "credits": 0.0}
    _move(connection, _REFUSE, handle, **facts)


def mark_unknown(connection: Connection, handle: str, error: Wan25Error) -> None:
    _move(
        connection, _MARK_UNKNOWN, handle, stage="unknown", error=json.dumps(error_to_json(error))
    )


# --- of dead processes ----------------------------------------------------------------------

_DIED_SENDING: Final = OutcomeUnknown(
    "The server stopped while the edit was being sent, so it may or may not have been accepted.",
    code="outcome_unknown",
)
_DIED_BEFORE: Final = Unreachable(code="never_sent")

_DEAD: Final = (
    select(intents.c.handle)
    .where(intents.c.stage.in_(("intent", "sending")), intents.c.lease_until < bindparam("now"))
    .limit(1)
)


def overdue(connection: Connection, now: float) -> bool:
    """Whether `expire` has anything to do."""
    return connection.execute(_DEAD, {"now": now}).first() is not None


_OPEN: Final = (
    select(intents.c.handle)
    .where(intents.c.stage.in_(("intent", "sending")), intents.c.lease_until >= bindparam("now"))
    .limit(1)
)


def has_open(connection: Connection, now: float) -> bool:
    """Whether a submit is under way."""
    return connection.execute(_OPEN, {"now": now}).first() is not None


def expire(connection: Connection, now: float) -> None:
    """Say what can be said of intents whose holder has died."""
    for stage, ended, error, facts in (
        ("sending", "unknown", _DIED_SENDING, {}),
        ("intent", "refused", _DIED_BEFORE, {"credits": 0.0}),
    ):
        connection.execute(
            update(intents)
            .where(intents.c.stage == stage, intents.c.lease_until < now)
            .values(stage=ended, error=json.dumps(error_to_json(error)), **facts)
        )


# --- reading --------------------------------------------------------------------------------

_NAMED: Final = select(intents).where(
    intents.c.owner == bindparam("owner"),
    or_(intents.c.handle == bindparam("name"), intents.c.task_id == bindparam("name")),
)


def find(connection: Connection, owner: str, name: str) -> Intent | None:
    found = connection.execute(_NAMED, {"owner": owner, "name": name}).first()
    return _intent(found) if found else None


def _intent(row: Row[Any]) -> Intent:
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
    )


def recent(
    connection: Connection, owner: str, *, limit: int
) -> list[tuple[Intent, Snapshot | None]]:
    rows = connection.execute(
        select(intents)
        .where(intents.c.owner == owner)
        .order_by(intents.c.created_at.desc())
        .limit(limit)
    ).all()
    return [
        (_intent(row), last_seen(connection, owner, row.task_id) if row.task_id else None)
        for row in rows
    ]


_FORGOTTEN_AT_ONCE: Final = 2000


def prune(connection: Connection, now: float) -> bool:
    """Forget some of what is older than `KEPT_FOR`; returns whether there may be more."""
    old = now - KEPT_FOR
    count = _forget(connection, [intents.c.handle], intents.c.created_at < old)
    count += _forget(connection, [tasks.c.owner, tasks.c.task_id], tasks.c.seen_at < old)
    for table in (files, unsaved):
        # Not `NOT IN`: from some size on PostgreSQL reads all tasks anew for each row.
        known = exists().where(tasks.c.owner == table.c.owner, tasks.c.task_id == table.c.task_id)
        count += _forget(connection, [table.c.owner, table.c.task_id], ~known)
    connection.execute(delete(uploads).where(uploads.c.expires_at < now))
    return count > 0


def _forget(
    connection: Connection, key: Sequence[Column[str]], condition: ColumnElement[bool]
) -> int:
    some = select(*key).where(condition).limit(_FORGOTTEN_AT_ONCE)
    found = delete(key[0].table).where(tuple_(*key).in_(some))
    return connection.execute(found).rowcount
