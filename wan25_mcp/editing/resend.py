"""Resending a submit that was certainly not accepted: when, and the note about it."""

from __future__ import annotations

import math

from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.charging import MAX_RESENDS


def resend_note(attempt: int, refusal: Wan25Error) -> str:
    """Why a submit takes longer, such as "the provider asks to wait 60 s (attempt 2 of 4)"."""
    requested = refusal.retry_after_seconds
    reason = (
        f"the provider asks to wait {requested:.0f} s"
        if requested
        else f"the provider did not accept it ({refusal.code}); it will be sent again"
    )
    return f"{reason} (attempt {attempt + 2} of {MAX_RESENDS + 1})"


def resend_pause(attempt: int, requested: float | None, random: float) -> float:
    """Seconds before a submit that was certainly not accepted is sent again.

    Args:
        attempt: 0 for the first resend.
        requested: Seconds that the provider asked for; the pause is never shorter.
        random: A random number in [0, 1), for full jitter.
    """
    return (requested or 0.0) + min(math.ldexp(1.0, attempt), 30.0) * random
