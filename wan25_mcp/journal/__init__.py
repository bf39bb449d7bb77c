"""What must be remembered about an intent to edit, from before it is sent until it is settled.

    intent ─→ sending ─→ accepted | refused | unknown

The editor writes every step here before it takes the next. `Journal` is the promise; how long it
holds is the implementation's: `MemoryJournal` remembers as long as its process lives.
"""

from wan25_mcp.journal.memory import MemoryJournal
from wan25_mcp.journal.records import Claim, Intent, Journal, Sighting, Stage, fingerprint

__all__ = ["Claim", "Intent", "Journal", "MemoryJournal", "Sighting", "Stage", "fingerprint"]
