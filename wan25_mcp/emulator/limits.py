"""The rate limit of submits per key. The caller passes the time."""

from __future__ import annotations

import math
from collections import deque
from email.utils import formatdate

from wan25_mcp.emulator.options import RateLimit
from wan25_mcp.emulator.refusals import Refusal


class Limiter:
    """Counts the submits of each key and refuses those above the limit."""

    def __init__(self, limit: RateLimit | int | None) -> None:
        self._limit = RateLimit(limit) if isinstance(limit, int) else limit
        self._times: dict[str, deque[float]] = {}

    def count(self, key: str, now: float) -> None:
        """Count one submit. Raises: Refusal 429."""
        if self._limit is None:
            return
        times = self._times.setdefault(key, deque())
        while times and times[0] <= now - self._limit.seconds:
            times.popleft()
        if len(times) >= self._limit.submits:
            raise _refusal(self._limit, times[0] if times else now, now)
        times.append(now)


def _refusal(limit: RateLimit, first: float, now: float) -> Refusal:
    wait = math.ceil(first + limit.seconds - now)
    header = {
        "seconds": str(wait),
        "date": formatdate(math.ceil(now) + wait, usegmt=True),
        None: None,
    }[limit.retry_after]
    return Refusal(429, suggestion=f"retry after {wait} seconds", retry_after=header)
