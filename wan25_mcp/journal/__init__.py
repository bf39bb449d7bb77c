"""What must be remembered about an intent to edit, from before it is sent until it is settled.

    intent ⇄ sending ─→ accepted | refused | unknown ─→ (accepted, if it turns out so)

The editor writes every step here, durably, before it takes the next. `Journal` is the promise,
`SqlJournal` keeps it on SQLite or PostgreSQL, and `TolerantJournal` says which steps may not be
taken without it.
"""

from wan25_mcp.journal.degraded import TolerantJournal
from wan25_mcp.journal.records import (
    Allowance,
    Ask,
    Claim,
    Intent,
    Journal,
    JournalUnusable,
    KnownKey,
    Sighting,
    Stage,
    Unsaved,
    Upload,
    Withheld,
    expires_at,
    fingerprint,
    sight,
)

__all__ = [
    "Allowance",
    "Ask",
    "Claim",
    "Intent",
    "Journal",
    "JournalUnusable",
    "KnownKey",
    "Sighting",
    "Stage",
    "TolerantJournal",
    "Unsaved",
    "Upload",
    "Withheld",
    "expires_at",
    "fingerprint",
    "sight",
]
