"""The statuses of a task and the transitions between them. No I/O, no time, no texts.

    submitting | pending | processing | unknown
      ─→ pending | processing | unknown | completed | failed | cancelled
    completed | failed | cancelled
      ─→ (final)

`unknown` is a submit of unknown outcome, or a status not known here. A settled task stays settled:
a late or contradictory answer cannot reopen it.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from wan25_mcp.errors.rows import Charged

Status = Literal[
    "submitting", "pending", "processing", "completed", "failed", "cancelled", "unknown"
]

_ANY: Final[frozenset[Status]] = frozenset(get_args(Status)) - {"submitting"}
STATUSES: Final[dict[Status, frozenset[Status]]] = {
    "submitting": _ANY,
    "pending": _ANY,
    "processing": _ANY,  # also `pending` again: the provider documents no order
    "unknown": _ANY,
    "completed": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""The statuses that a later answer may report, by current status."""

SETTLED: Final = frozenset(status for status, following in STATUSES.items() if not following)

SPELLINGS: Final[dict[str, Status]] = {
    "pending": "pending",
    "queued": "pending",
    "processing": "processing",
    "running": "processing",
    "in_progress": "processing",
    "completed": "completed",
    "succeeded": "completed",
    "success": "completed",
    "failed": "failed",
    "error": "failed",
    "cancelled": "cancelled",
    "canceled": "cancelled",
}
"""The statuses of provider-api.md §1 and §3, and other common spellings of the same five.

The provider's enum is open: any other word becomes `unknown`, and the task is polled again.
"""


def read_status(word: object) -> Status:
    """The status for a word of the provider."""
    return SPELLINGS.get(word.strip().lower(), "unknown") if isinstance(word, str) else "unknown"


def is_settled(status: Status) -> bool:
    """Whether a task of this status is final."""
    return status in SETTLED


def charged_for(
    status: Status, *, credits_reserved: float | None, credits_used: float | None
) -> Charged:
    """Whether a task was charged, by its status and usage.

    Failed and cancelled tasks are not charged [V], unless the provider itself reports used credits.
    """
    if credits_used is not None and is_settled(status):
        return "yes" if credits_used > 0 else "no"
    if status == "completed":
        return "yes"
    if is_settled(status):
        return "no"
    if status in ("pending", "processing") or credits_reserved:
        return "reserved"
    return "unknown"
