"""The operator's limits, checked as SQL inside one transaction. Synchronous."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Select, and_, bindparam, case, func, or_, select

from wan25_mcp.journal.records import DAY, Allowance, ClaimRequest, Spent, Withheld
from wan25_mcp.journal.schema import MADE_BY, intents, is_at, is_of_model, tasks

_OVERDUE: Final = 3600.0
"""Seconds after which an unsettled task no longer counts as in flight: some never settle."""


def _running(*columns: Any) -> Select[Any]:
    return (
        select(*columns)
        .select_from(intents)
        .outerjoin(tasks, MADE_BY)
        .where(
            intents.c.owner == bindparam("owner"),
            is_at(bindparam("address")),
            intents.c.created_at > bindparam("since"),
            or_(
                intents.c.stage.in_(("intent", "sending", "unknown")),
                and_(intents.c.stage == "accepted", tasks.c.settled == 0),
            ),
        )
    )


_IN_FLIGHT: Final = _running(func.count())
# First those whose price the provider may still report, then the latest of unknown outcome.
_UNPRICED: Final = (
    _running(intents.c.stage, intents.c.created_at)
    .order_by(intents.c.stage == "unknown", intents.c.created_at.desc())
    .limit(1)
)
_LATEST_PRICE: Final = (
    select(intents.c.price)
    .where(
        intents.c.owner == bindparam("owner"),
        is_of_model(bindparam("model")),
        intents.c.price > 0,
    )
    .order_by(intents.c.created_at.desc())
    .limit(1)
)
_LATEST_CHARGED: Final = _LATEST_PRICE.join(tasks, MADE_BY).where(tasks.c.status == "completed")
_COUNTED: Final = (
    select(intents.c.created_at, intents.c.credits)
    .where(
        intents.c.owner == bindparam("owner"),
        intents.c.created_at > bindparam("since"),
        intents.c.credits > 0,
    )
    .order_by(intents.c.created_at)
)


_SPENT: Final = (
    select(
        func.sum(case((tasks.c.settled == 1, intents.c.credits), else_=0.0)).label("charged"),
        func.sum(intents.c.credits).label("counted"),
    )
    .select_from(intents)
    .outerjoin(tasks, MADE_BY)
    .where(intents.c.owner == bindparam("owner"), intents.c.created_at > bindparam("since"))
)


def spent(connection: Connection, owner: str, since: float) -> Spent:
    """What an owner's edits since then cost."""
    found = connection.execute(_SPENT, {"owner": owner, "since": since}).one()
    charged, counted = found.charged or 0.0, found.counted or 0.0
    return Spent(charged, round(counted - charged, 6))


def reserve(
    connection: Connection, request: ClaimRequest, allowance: Allowance, now: float
) -> float:
    """The credits a new intent counts with.

    Raises:
        Withheld: The allowance has no room for it.
    """
    _check_in_flight(connection, request, allowance, now)
    reported = price(connection, request.owner, request.model)
    needed = (reported or allowance.credits_per_image) * request.n
    _check_credits(connection, request.owner, allowance, needed, now)
    if reported is None:
        _check_price_is_known(connection, request, allowance, now)
    return needed


def _check_in_flight(
    connection: Connection, request: ClaimRequest, allowance: Allowance, now: float
) -> None:
    if allowance.max_in_flight is None:
        return
    counted = {"owner": request.owner, "address": request.address, "since": now - _OVERDUE}
    count = connection.execute(_IN_FLIGHT, counted).scalar_one()
    if count >= allowance.max_in_flight:
        raise Withheld(
            f"{count} edits are running, and WAN25_MAX_IN_FLIGHT allows {allowance.max_in_flight}; "
            "nothing was sent.",
            code="too_many_in_flight",
        )


def price(connection: Connection, owner: str, model: str) -> float | None:
    """Credits per image of the model, as the provider last reported them; None if it never did.

    The provider may reserve less for a running edit than it charges in the end, so this is the
    larger of the latest reported price and the latest charged price.
    """
    known = (
        connection.execute(latest, {"owner": owner, "model": model}).scalar()
        for latest in (_LATEST_PRICE, _LATEST_CHARGED)
    )
    return max(filter(None, known), default=None)


def _check_price_is_known(
    connection: Connection, request: ClaimRequest, allowance: Allowance, now: float
) -> None:
    """Refuse a second edit while the price is unknown: each may cost more than assumed.

    An edit of unknown outcome blocks others only for as long as it can be running. If it blocked
    them for as long as it counts, a gateway error on the first edit would stop everybody for a day.
    """
    if allowance.credit_limit is None:
        return
    values = {"owner": request.owner, "address": request.address, "since": now - _OVERDUE}
    if (found := connection.execute(_UNPRICED, values).first()) is not None:
        if found.stage != "unknown":
            raise Withheld(code="price_unknown")
        ends_in = found.created_at + _OVERDUE - now
        raise Withheld(
            code="price_unknown",
            fix=f"The outcome of that edit is unknown. Call again in {_span(ends_in)}, or start "
            "the first edit without WAN25_CREDIT_LIMIT.",
            retry_after_seconds=round(ends_in, 1),
        )


def _check_credits(
    connection: Connection, owner: str, allowance: Allowance, needed: float, now: float
) -> None:
    limit = allowance.credit_limit
    if limit is None:
        return
    rows = connection.execute(_COUNTED, {"owner": owner, "since": now - DAY}).all()
    counted = [_Counted(row.created_at, row.credits) for row in rows]
    spent = sum(row.credits for row in counted)
    if spent + needed <= limit + 1e-9:
        return
    raise over_limit(spent, needed, limit, _free_in(counted, spent, needed, limit, now))


class _Counted(NamedTuple):
    """One edit of the last 24 hours, and the credits it counts with."""

    created_at: float
    credits: float


def _free_in(
    counted: Sequence[_Counted], spent: float, needed: float, limit: float, now: float
) -> float | None:
    """Seconds until enough spent credits are older than a day; None if never."""
    for row in counted:
        spent -= row.credits
        if spent + needed <= limit + 1e-9:
            return max(row.created_at + DAY - now, 0.0)
    return 0.0 if needed <= limit else None


def over_limit(spent: float, needed: float, limit: float, room_in: float | None) -> Withheld:
    """Why the credit limit refuses an edit."""
    message = (
        f"This edit needs about {needed:g} credits. WAN25_CREDIT_LIMIT allows {limit:g} in 24 "
        f"hours, and {spent:g} are spent or reserved; "
    )
    if room_in is None:
        message += "this edit alone needs more than the limit; nothing was sent."
        return Withheld(message, code="credit_limit")
    return Withheld(
        f"{message}enough are free again in {_span(room_in)}; nothing was sent.",
        code="credit_limit",
        fix=f"Call again in {_span(room_in)}, or raise WAN25_CREDIT_LIMIT.",
        retryable=True,
        retry_after_seconds=round(room_in, 1),
    )


def _span(seconds: float) -> str:
    if seconds < 5400:
        minutes = max(round(seconds / 60), 1)
        return f"{minutes} minute{'' if minutes == 1 else 's'}"
    return f"{round(seconds / 3600, 1):g} hours"
