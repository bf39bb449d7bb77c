"""How a submit ends without a task: unknown outcomes, and errors as the journal stores them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wan25_mcp.errors import (
    InvalidRequest,
    NotPublished,
    OutcomeUnknown,
    Refused,
    SettingsError,
    Unreachable,
    Wan25Error,
)
from wan25_mcp.errors.codes import CODES
from wan25_mcp.journal.records import Withheld


def mixed_up(task_id: str) -> OutcomeUnknown:
    """The outcome of a submit whose answer names the task of another intent."""
    return OutcomeUnknown(
        f"The provider answered the submit with the id of another task ({task_id}), so the edit "
        "may or may not have been accepted.",
        code="outcome_unknown",
    )


def interrupted(cause: str) -> OutcomeUnknown:
    """The outcome of a submit that was cut off after its first byte may have been sent.

    Args:
        cause: What cut it off, such as "The server stopped".
    """
    return OutcomeUnknown(
        f"{cause} while the edit was being sent, so it may or may not have been accepted.",
        code="outcome_unknown",
    )


_CLASSES: Final[Mapping[str, type[Wan25Error]]] = {
    "settings": SettingsError,
    "request": InvalidRequest,
    "unreachable": Unreachable,
    "refused": Refused,
    "outcome_unknown": OutcomeUnknown,
    "withheld": Withheld,
    "not_published": NotPublished,
}
"""The class of each kind of error that a submit ends with. Any other is restored as the base class:
that the journal was unusable then must not look as if it were unusable now."""

_EARLIER_KINDS: Final = {
    "OutcomeUnknown": "outcome_unknown",
    "Refused": "refused",
    "Unreachable": "unreachable",
    "Withheld": "withheld",
}
"""Rows of earlier versions hold the name that the class had then."""


def error_to_json(error: Wan25Error) -> dict[str, Any]:
    """An error as the journal stores it: its code and its texts, not its class."""
    return {
        "code": error.code,
        "message": error.message,
        "fix": error.fix,
        "retryable": error.retryable,
        "retry_after_seconds": error.retry_after_seconds,
        "request_id": error.request_id,
        "charged": error.charged,
    }


def error_from_json(stored: Mapping[str, Any]) -> Wan25Error:
    """A stored error, of the class that its code's row names."""
    fields = dict(stored)
    row = CODES.get(stored["code"])
    kind = _EARLIER_KINDS.get(fields.pop("kind")) if "kind" in fields else row and row.kind
    family = _CLASSES.get(kind or "", Wan25Error)
    error = family.__new__(family)
    # Not the class's own constructor, which would add sentences that the stored texts have already.
    Wan25Error.__init__(error, fields.pop("message"), **fields)
    return error
