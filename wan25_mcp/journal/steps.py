"""Each step of the journal as SQL inside one transaction. Synchronous; knows no engine.

A step that moves an intent names the stages it may move from: whoever comes second finds no row.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from wan25_mcp.errors import LOOK_FIRST, OutcomeUnknown, Unreachable, Wan25Error
from wan25_mcp.journal.records import (
    DAY,
    Allowance,
    Ask,
    Claim,
    Intent,
    Sighting,
    Stage,
    Upload,
    Withheld,
    error_from_json,
    error_to_json,
)
from wan25_mcp.journal.schema import files, intents, tasks, uploads
from wan25_mcp.journal.sightings import last_seen, record, settle_credits
from wan25_mcp.models import Task

KEPT_FOR: Final = 30 * DAY
"""How long intents, prompts and links are kept."""

_OVERDUE: Final = 3600.0
"""An unsettled task this old no longer counts as in flight: some never settle."""

# --- intents --------------------------------------------------------------------------------


def claim(
    connection: Connection,
    ask: Ask,
    *,
    now: float,
    window: float,
    lease: float,
    allowance: Allowance,
    refusal: Withheld | None,
) -> Claim:
    if overdue(connection, now):
        expire(connection, now)
    earlier = _live(connection, ask, now - window) if window > 0 else None
    if earlier is not None:
        return Claim(earlier, joined=True)
    if refusal is not None:
        raise refusal
    _check_in_flight(connection, ask.owner, allowance, now)
    price = _price(connection, ask.owner) or allowance.credits_per_image
    _check_credits(connection, ask.owner, allowance, price * ask.n, now)
    intent = Intent(
        handle=ask.handle,
        owner=ask.owner,
        created_at=now,
        n=ask.n,
        prompt=ask.prompt.replace("\0", " "),  # which PostgreSQL cannot store
        credits=price * ask.n,
        callback=ask.callback,
    )
    connection.execute(
        insert(intents).values(
            handle=intent.handle,
            owner=intent.owner,
            fingerprint=ask.fingerprint,
            stage=intent.stage,
            created_at=now,
            lease_until=now + lease,
            holder=ask.holder,
            n=intent.n,
            prompt=intent.prompt,
            credits=intent.credits,
            callback=intent.callback,
        )
    )
    return Claim(intent, joined=False)


def _live(connection: Connection, ask: Ask, since: float) -> Intent | None:
    found = connection.execute(
        select(intents)
        .outerjoin(tasks, tasks.c.task_id == intents.c.task_id)
        .where(
            intents.c.owner == ask.owner,
            intents.c.fingerprint == ask.fingerprint,
            # One whose outcome nobody knows is not forgotten with the window: a repeat could be
            # paid twice, and only the caller can say that it is meant (`force_new`).
            or_(
                intents.c.created_at > since,
                and_(intents.c.stage == "unknown", intents.c.created_at > since - DAY),
            ),
            intents.c.stage != "refused",
            or_(tasks.c.status.is_(None), tasks.c.status.not_in(("failed", "cancelled"))),
        )
        .order_by(intents.c.created_at.desc())
        .limit(1)
    ).first()
    return _intent(found) if found else None


def _check_in_flight(connection: Connection, owner: str, allowance: Allowance, now: float) -> None:
    if allowance.max_in_flight is None:
        return
    count = connection.execute(
        select(func.count())
        .select_from(intents)
        .outerjoin(tasks, tasks.c.task_id == intents.c.task_id)
        .where(intents.c.owner == owner, intents.c.created_at > now - _OVERDUE, _in_flight())
    ).scalar_one()
    if count >= allowance.max_in_flight:
        raise Withheld(
            f"{count} edits are under way, and WAN25_MAX_IN_FLIGHT allows "
            f"{allowance.max_in_flight}; nothing was sent.",
            code="too_many_in_flight",
            fix="Wait for one of them (wait_for_task), then call edit_image again.",
            retryable=True,
        )


def _in_flight() -> ColumnElement[bool]:
    accepted = and_(intents.c.stage == "accepted", tasks.c.settled == 0)
    return or_(intents.c.stage.in_(("intent", "sending", "unknown")), accepted)


def _price(connection: Connection, owner: str) -> float | None:
    return connection.execute(
        select(intents.c.price)
        .where(intents.c.owner == owner, intents.c.price.is_not(None))
        .order_by(intents.c.created_at.desc())
        .limit(1)
    ).scalar()


def _check_credits(
    connection: Connection, owner: str, allowance: Allowance, needed: float, now: float
) -> None:
    limit = allowance.credit_limit
    if limit is None:
        return
    rows = connection.execute(
        select(intents.c.created_at, intents.c.credits)
        .where(intents.c.owner == owner, intents.c.created_at > now - DAY, intents.c.credits > 0)
        .order_by(intents.c.created_at)
    ).all()
    counted = [_Counted(row.created_at, row.credits) for row in rows]
    spent = sum(row.credits for row in counted)
    if spent + needed <= limit + 1e-9:
        return
    raise over_limit(spent, needed, limit, _room_in(counted, spent, needed, limit, now))


class _Counted(NamedTuple):
    """One edit of the last 24 hours, and what it is counted with."""

    created_at: float
    credits: float


def _room_in(
    counted: Sequence[_Counted], spent: float, needed: float, limit: float, now: float
) -> float | None:
    """Seconds until enough of what was spent is older than a day; None: never."""
    for row in counted:
        spent -= row.credits
        if spent + needed <= limit + 1e-9:
            return max(row.created_at + DAY - now, 0.0)
    return 0.0 if needed <= limit else None


def over_limit(spent: float, needed: float, limit: float, room_in: float | None) -> Withheld:
    """What is said when the credit limit has no room."""
    state = f"{spent:g} of the {limit:g} credits that WAN25_CREDIT_LIMIT allows in 24 hours"
    message = f"This edit needs about {needed:g} credits, and {state} are spent or reserved; "
    if room_in is None:
        message += "it alone is more than the limit; nothing was sent."
        fix = "Ask for fewer images (n), or raise WAN25_CREDIT_LIMIT."
    else:
        message += f"there is room again in {_span(room_in)}; nothing was sent."
        fix = f"Call again in {_span(room_in)}, or raise WAN25_CREDIT_LIMIT."
    return Withheld(
        message,
        code="credit_limit",
        fix=fix,
        retryable=room_in is not None,
        retry_after_seconds=None if room_in is None else round(room_in, 1),
    )


def _span(seconds: float) -> str:
    return (
        f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{max(seconds / 60, 1):.0f} minutes"
    )


def begin(connection: Connection, handle: str, *, now: float, lease: float) -> bool:
    return _move(connection, handle, ("intent",), "sending", sent_at=now, lease_until=now + lease)


def pause(connection: Connection, handle: str, *, now: float, lease: float) -> None:
    _move(connection, handle, ("sending",), "intent", lease_until=now + lease)


def renew(connection: Connection, handle: str, *, now: float, lease: float) -> None:
    connection.execute(
        update(intents)
        .where(intents.c.handle == handle, intents.c.stage.in_(("intent", "sending")))
        .values(lease_until=now + lease)
    )


def accept(connection: Connection, handle: str, task: Task, *, now: float) -> None:
    others = select(intents.c.handle).where(
        intents.c.task_id == task.id, intents.c.handle != handle
    )
    if connection.execute(others).first() is not None:
        return
    _move(connection, handle, ("sending", "unknown"), "accepted", task_id=task.id, error=None)
    seen = record(connection, task, now=now)
    settle_credits(connection, seen.task)  # which may have been seen, settled, before


def refuse(connection: Connection, handle: str, error: Wan25Error) -> None:
    kept = json.dumps(error_to_json(error))
    _move(connection, handle, ("intent", "sending"), "refused", error=kept, credits=0.0)


def lose(connection: Connection, handle: str, error: Wan25Error) -> None:
    _move(connection, handle, ("sending",), "unknown", error=json.dumps(error_to_json(error)))


def _move(
    connection: Connection, handle: str, origins: tuple[Stage, ...], stage: Stage, **facts: Any
) -> bool:
    moved = connection.execute(
        update(intents)
        .where(intents.c.handle == handle, intents.c.stage.in_(origins))
        .values(stage=stage, **facts)
    )
    return moved.rowcount == 1


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


_DIED_SENDING: Final = OutcomeUnknown(
    "The server stopped while the edit was being sent, so it may or may not have been accepted.",
    code="outcome_unknown",
    fix=LOOK_FIRST,
    charged="unknown",
)
_DIED_BEFORE: Final = Unreachable(
    "The server stopped before the edit was sent; nothing was charged.",
    code="never_sent",
    fix="Call edit_image again.",
    retryable=True,
)


def overdue(connection: Connection, now: float) -> bool:
    """Whether `expire` has anything to do."""
    waiting = intents.c.stage.in_(("intent", "sending"))
    found = select(intents.c.handle).where(waiting, intents.c.lease_until < now).limit(1)
    return connection.execute(found).first() is not None


def find(connection: Connection, name: str, owner: str) -> Intent | None:
    named = or_(intents.c.handle == name, intents.c.task_id == name)
    found = connection.execute(select(intents).where(intents.c.owner == owner, named)).first()
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
    connection: Connection, owner: str, *, most: int
) -> list[tuple[Intent, Sighting | None]]:
    rows = connection.execute(
        select(intents)
        .where(intents.c.owner == owner)
        .order_by(intents.c.created_at.desc())
        .limit(most)
    ).all()
    return [
        (_intent(row), last_seen(connection, row.task_id) if row.task_id else None) for row in rows
    ]


# --- files ----------------------------------------------------------------------------------


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
        .where(tasks.c.task_id == task_id, tasks.c.followed_until < now)
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


def prune(connection: Connection, now: float) -> None:
    """Forget what is older than `KEPT_FOR`."""
    connection.execute(delete(intents).where(intents.c.created_at < now - KEPT_FOR))
    connection.execute(delete(tasks).where(tasks.c.seen_at < now - KEPT_FOR))
    connection.execute(delete(files).where(files.c.task_id.not_in(select(tasks.c.task_id))))
    connection.execute(delete(uploads).where(uploads.c.expires_at < now))
