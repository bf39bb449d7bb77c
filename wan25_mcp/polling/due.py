"""The moment at which a watched task is polled next."""

from __future__ import annotations

import math
from typing import Final

import anyio

from wan25_mcp.polling.schedule import (
    CALLBACK_EXPECTED,
    NOBODY_WAITS,
    SOMEBODY_WAITS,
    Pauses,
    next_poll,
)
from wan25_mcp.polling.watch import Watch

_MAX_MISSED_CALLBACKS: Final = 2
"""After this many missing callbacks in a row, tasks are polled as if there were none."""

_FIRST_REFUSED_PAUSE: Final = 60.0
_LONGEST_REFUSED_PAUSE: Final = 900.0
"""Seconds after which a followed task is polled again although the provider refused to show it. The
key may be renewed or a gateway may recover while the image's links are still valid."""
_REFUSED_JITTER: Final = 0.06


def pauses_for(watch: Watch, missed_callbacks: int) -> Pauses:
    """The pauses between polls of a task, after `missed_callbacks` missing callbacks in a row."""
    if not watch.waiters:
        return NOBODY_WAITS
    if watch.is_called_back and missed_callbacks < _MAX_MISSED_CALLBACKS:
        return CALLBACK_EXPECTED
    return SOMEBODY_WAITS


def may_be_polled(watch: Watch, pauses: Pauses) -> bool:
    """Whether the pause since the last poll is over, as if progress had not been reported."""
    if watch.is_polling or not watch.is_of_interest:
        return False
    now = anyio.current_time()
    pause = pauses.within(pauses.share * watch.age * watch.speed) / watch.speed
    return now >= max(watch.updated_at + pause, watch.not_before, watch.limited_until)


def due_at(watch: Watch, pauses: Pauses, random: float) -> float:
    """The moment of the next poll, on the clock of `anyio.current_time`; infinity: none.

    Args:
        random: In [0, 1), a new one for each poll.
    """
    if not watch.is_of_interest:
        return math.inf
    now = anyio.current_time()
    not_before = watch.not_before if watch.failures else -math.inf
    if watch.is_urgent:
        return max(watch.woken_at, not_before)
    if watch.over:
        return max(now, watch.refused_at + _pause_after_refusal(watch.refusals, random), not_before)
    if watch.snapshot is None:
        return max(now, not_before)
    age = next_poll(
        (now - watch.began) * watch.speed,
        watch.expected,
        watch.polled,
        pauses=pauses,
        not_before=(not_before - watch.began) * watch.speed,
        random=random,
    )
    return max(watch.began + age / watch.speed, now)


def _pause_after_refusal(refusals: int, random: float) -> float:
    pause = math.ldexp(_FIRST_REFUSED_PAUSE, min(refusals, 10) - 1)
    return min(pause, _LONGEST_REFUSED_PAUSE) * (1 + _REFUSED_JITTER * random)
