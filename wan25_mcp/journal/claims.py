"""Claiming an intent: reuse the one of an identical call, or make one within the limits.

SQL inside one transaction, synchronous.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, replace
from typing import Final

from sqlalchemy import Connection, and_, bindparam, insert, or_, select

from wan25_mcp.journal import owners, spending
from wan25_mcp.journal.intents import expire, intent_of, overdue
from wan25_mcp.journal.records import DAY, Allowance, Claim, ClaimRequest, Intent, Withheld
from wan25_mcp.journal.schema import MADE_BY, intents, is_at, tasks

_LIVE: Final = (
    select(intents)
    .outerjoin(tasks, MADE_BY)
    .where(
        intents.c.owner == bindparam("owner"),
        intents.c.fingerprint == bindparam("fingerprint"),
        is_at(bindparam("address")),
        # An unknown outcome counts for longer than the window: a repeat could be paid twice, and
        # only the caller can say that this is intended (`force_new`).
        or_(
            intents.c.created_at > bindparam("since"),
            and_(intents.c.stage == "unknown", intents.c.created_at > bindparam("unknown_since")),
        ),
        intents.c.stage != "refused",
        or_(tasks.c.status.is_(None), tasks.c.status.not_in(("failed", "cancelled"))),
    )
    .order_by(intents.c.created_at.desc())
    .limit(1)
)
_INSERT: Final = insert(intents)


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
    reserved = spending.reserve(connection, request, allowance, now)
    return Claim(_make(connection, request, reserved, now=now, lease=lease), deduplicated=False)


def _live(connection: Connection, request: ClaimRequest, since: float) -> Intent | None:
    return _latest(connection, request.owner, request.fingerprint, request.address, since)


def _latest(
    connection: Connection, owner: str, fingerprint: str, address: str | None, since: float
) -> Intent | None:
    wanted = {
        "owner": owner,
        "fingerprint": fingerprint,
        "address": address,
        "since": since,
        "unknown_since": since - DAY,
    }
    row = connection.execute(_LIVE, wanted).first()
    return intent_of(row) if row else None


def live(
    connection: Connection,
    owner: str,
    fingerprints: Collection[str],
    *,
    address: str | None,
    since: float,
) -> frozenset[str]:
    found = {one: _latest(connection, owner, one, address, since) for one in fingerprints}
    return frozenset(one for one, intent in found.items() if intent and intent.stage != "intent")


def _make(
    connection: Connection, request: ClaimRequest, reserved: float, *, now: float, lease: float
) -> Intent:
    intent = Intent(
        handle=request.handle,
        owner=request.owner,
        created_at=now,
        n=request.n,
        prompt=request.prompt.replace("\0", " "),  # which PostgreSQL cannot store
        credits=reserved,
        callback=request.callback,
        model=request.model,
    )
    values = {
        **asdict(intent),
        "fingerprint": request.fingerprint,
        "lease_until": now + lease,
        "holder": request.holder,
        "address": request.address,
    }
    connection.execute(_INSERT, values)
    return intent
