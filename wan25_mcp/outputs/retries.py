"""When saving an image is retried after a failure."""

from __future__ import annotations

import math
from typing import Final

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import Unsaved
from wan25_mcp.outputs.download import NotDownloaded

FIRST_RETRY_SECONDS: Final = 30.0
LONGEST_RETRY_SECONDS: Final = 3600.0
"""The pause after a failed try doubles each time. It stays short enough for three more tries before
the link expires."""

_LASTING_PAUSE: Final = 3600.0
"""Seconds after which an image that failed permanently is tried again if a call asks for it."""


def is_lasting(error: Wan25Error | None) -> bool:
    """Whether no later try can succeed. A folder can be repaired; most links cannot."""
    return isinstance(error, NotDownloaded) and error.is_lasting


def may_be_tried(unsaved: Unsaved, now: float, is_asked_for: bool) -> bool:
    """Whether saving an image may be retried now."""
    if unsaved.retry_at is None:
        return is_asked_for and now - unsaved.tried_at >= _LASTING_PAUSE
    return is_asked_for or unsaved.retry_at <= now


def retry_pause(error: Wan25Error | None, failures: int, left: float) -> float:
    """Seconds until the next try, after `failures` of them and `left` seconds before expiry."""
    doubled = math.ldexp(FIRST_RETRY_SECONDS, min(failures, 20) - 1)
    allowed = min(LONGEST_RETRY_SECONDS, left / 4)
    requested = min((error.retry_after_seconds if error else None) or 0.0, LONGEST_RETRY_SECONDS)
    return max(min(doubled, allowed), requested, FIRST_RETRY_SECONDS)
