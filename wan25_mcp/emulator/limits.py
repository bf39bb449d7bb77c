"""How many submits a minute a key may make. Knows only times it is told."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from email.utils import formatdate
from typing import Literal

from wan25_mcp.emulator.refusals import Refusal


@dataclass(frozen=True)
class RateLimit:
    """`submits` per rolling `seconds`. `retry_after`: how the header is spelt; None sends none."""

    submits: int
    seconds: float = 60.0
    retry_after: Literal["seconds", "date"] | None = None


class Gauge:
    """Counts the submits of every key and refuses those above the limit."""

    def __init__(self, limit: RateLimit | None) -> None:
        self._limit = limit
        self._seen: dict[str, deque[float]] = {}

    def pass_or_refuse(self, key: str, now: float) -> None:
        """Raises: Refusal 429."""
        if self._limit is None:
            return
        seen = self._seen.setdefault(key, deque())
        while seen and seen[0] <= now - self._limit.seconds:
            seen.popleft()
        if len(seen) >= self._limit.submits:
            raise _refusal(self._limit, seen[0] if seen else now, now)
        seen.append(now)


def _refusal(limit: RateLimit, first: float, now: float) -> Refusal:
    wait = math.ceil(first + limit.seconds - now)
    header = {
        "seconds": str(wait),
        "date": formatdate(math.ceil(now) + wait, usegmt=True),
        None: None,
    }[limit.retry_after]
    return Refusal(429, suggestion=f"retry after {wait} seconds", retry_after=header)
