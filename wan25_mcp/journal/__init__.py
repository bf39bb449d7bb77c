"""What must be remembered about an intent to edit, from before it is sent until it is settled.

    intent ⇄ sending ─→ accepted | refused | unknown ─→ (accepted, if it turns out so)

The editor writes every step here, durably, before it takes the next. `Journal` is the promise,
`SqlJournal` keeps it on SQLite or PostgreSQL, and `DegradedJournal` says which steps may not be
taken without it.
"""

from wan25_mcp.journal.degraded import DegradedJournal
from wan25_mcp.journal.records import (
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    Journal,
    JournalUnusable,
    KnownKey,
    Snapshot,
    Stage,
    Unsaved,
    Upload,
    Withheld,
    expires_at,
    fingerprint,
    observe,
)

__all__ = [
    "Allowance",
    "Claim",
    "ClaimRequest",
    "DegradedJournal",
    "Intent",
    "Journal",
    "JournalUnusable",
    "KnownKey",
    "Snapshot",
    "Stage",
    "Unsaved",
    "Upload",
    "Withheld",
    "expires_at",
    "fingerprint",
    "observe",
]
