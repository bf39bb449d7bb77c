"""The stages of an intent, and which may follow which. No storage, no time.

    intent
      ─→ sending | refused
    sending
      ─→ intent | unknown | accepted | refused
    unknown
      ─→ accepted
    accepted | refused
      ─→ (final)

An update moves an intent only from a stage `before` the new one. So if two processes try the same
step, the second one changes nothing.
"""

from __future__ import annotations

from typing import Final

from wan25_mcp.journal.records import Stage

STAGES: Final[dict[Stage, frozenset[Stage]]] = {
    "intent": frozenset({"sending", "refused"}),
    # Back to `intent`: certainly not accepted, and to be sent again later.
    "sending": frozenset({"intent", "accepted", "refused", "unknown"}),
    "unknown": frozenset({"accepted"}),
    "accepted": frozenset(),
    "refused": frozenset(),
}
"""The stages that may follow each stage."""

ABANDONED: Final[dict[Stage, Stage]] = {"intent": "refused", "sending": "unknown"}
"""The next stage when the process with the lease dies. Only these stages have a lease."""


def before(stage: Stage) -> tuple[Stage, ...]:
    """The stages from which an intent may move to `stage`."""
    return tuple(one for one, following in STAGES.items() if stage in following)
