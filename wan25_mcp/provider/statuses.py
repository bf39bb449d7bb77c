"""The statuses of a task and their law. No I/O, no time, no wording.

    submitting ─→ pending ─→ processing ─→ completed | failed | cancelled
         └──────→ unknown (the submit's outcome, or a status we do not know)

A settled task stays what it is: a late or contradictory reading cannot bring it back.
"""

from __future__ import annotations

from typing import Final, Literal

from wan25_mcp.error_codes import Charged

Status = Literal[
    "submitting", "pending", "processing", "completed", "failed", "cancelled", "unknown"
]

SETTLED: Final[frozenset[Status]] = frozenset({"completed", "failed", "cancelled"})

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
"""The statuses of provider-api.md §1 and §3, and the usual spellings of the same five elsewhere.

The provider's enum is open: a word that is not here reads as `unknown` and is looked at again.
"""


def read_status(word: object) -> Status:
    """The status a word of the provider's stands for."""
    return SPELLINGS.get(word.strip().lower(), "unknown") if isinstance(word, str) else "unknown"


def is_settled(status: Status) -> bool:
    """Whether nothing more will happen to a task of this status."""
    return status in SETTLED


def charged_for(
    status: Status, *, credits_reserved: float | None, credits_used: float | None
) -> Charged:
    """What a task's status and usage say about the money.

    Failed and cancelled tasks are not charged [V], unless the provider itself reports a use.
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
