"""What must be remembered about an edit, from before its submit until it is settled.

    intent  ─→ sending | refused
    sending ─→ accepted | intent | refused | unknown
    unknown ─→ accepted

The editor writes each step durably before it takes the next. `Journal` is the interface,
`SqlJournal` implements it on SQLite or PostgreSQL, and `DegradedJournal` decides what continues
while the journal is unavailable.
"""

from wan25_mcp.journal.degraded import DegradedJournal
from wan25_mcp.journal.protocol import Journal
from wan25_mcp.journal.records import (
    KEPT_FOR,
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    JournalUnusable,
    KnownKey,
    Snapshot,
    Spent,
    Stage,
    Unsaved,
    Upload,
    Withheld,
    expires_at,
    fingerprint,
    observe,
)

__all__ = [
    "KEPT_FOR",
    "Allowance",
    "Claim",
    "ClaimRequest",
    "DegradedJournal",
    "Intent",
    "Journal",
    "JournalUnusable",
    "KnownKey",
    "Snapshot",
    "Spent",
    "Stage",
    "Unsaved",
    "Upload",
    "Withheld",
    "expires_at",
    "fingerprint",
    "observe",
]
