"""The stages of an intent and their law. No storage, no time.

    intent
      ─→ sending | refused
    sending
      ─→ intent | unknown | accepted | refused
    unknown
      ─→ accepted
    accepted | refused
      ─→ (final)

A step that moves an intent moves it only from a stage `before` its own, so of two processes that
try the same step the second finds nothing to move.
"""

from __future__ import annotations

from typing import Final

from wan25_mcp.journal.records import Stage

STAGES: Final[dict[Stage, frozenset[Stage]]] = {
    "intent": frozenset({"sending", "refused"}),
    # Back to `intent`: nothing left this machine, and the submit is tried again after a pause.
    "sending": frozenset({"intent", "accepted", "refused", "unknown"}),
    "unknown": frozenset({"accepted"}),
    "accepted": frozenset(),
    "refused": frozenset(),
}
"""From each stage to those that may follow it."""

ABANDONED: Final[dict[Stage, Stage]] = {"intent": "refused", "sending": "unknown"}
"""What a stage becomes when the process that holds its lease has died. Only these are leased."""


def before(stage: Stage) -> tuple[Stage, ...]:
    """The stages that an intent may be moved from to `stage`."""
    return tuple(one for one, following in STAGES.items() if stage in following)
