"""The row of an error code, and how rows of each kind are written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

Charged = Literal["no", "reserved", "yes", "unknown"]
"""What happened to the credits: `reserved` until the provider settles the task."""


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What a code means.

    Args:
        kind: Which class the journal restores. Not the class's name, which may change.
        sentence: What happened in general, without a full stop. An error may be more exact.
        fix: What to do next. An error may be more exact.
        retryable: Whether the same request can succeed later without a change.
        charged: What the failed request cost.
    """

    kind: str
    code: str
    sentence: str
    fix: str
    retryable: bool = False
    charged: Charged = "no"


settings: Final = partial(ErrorCode, "settings")
request: Final = partial(ErrorCode, "request")
refused: Final = partial(ErrorCode, "refused")
task_failed: Final = partial(ErrorCode, "task_failed")
withheld: Final = partial(ErrorCode, "withheld")
not_published: Final = partial(ErrorCode, "not_published")
unknown: Final = partial(ErrorCode, "outcome_unknown", charged="unknown")
unreachable: Final = partial(ErrorCode, "unreachable", retryable=True)
read_failed: Final = partial(ErrorCode, "read_failed", retryable=True)
journal: Final = partial(ErrorCode, "journal", retryable=True)
other: Final = partial(ErrorCode, "other")
result: Final = partial(ErrorCode, "result", charged="yes")

RETRY_LATER: Final = "Call edit_image again later. The request needs no change."
DASHBOARD: Final = "the provider's dashboard"

CHECK_FIRST: Final = (
    f"It will not be resent automatically. Check recent tasks and credits on {DASHBOARD}. Only if "
    "the edit is not there and the user agrees, call edit_image again with force_new=true."
)
"""What to do about a submit of unknown outcome."""


def installing(extra: str) -> str:
    """How an extra is installed, in the words of a remedy."""
    package = f"'.[{extra}]'"
    return f"In the checkout, run `uv tool install {package}` (or `pip install {package}`)"


POLL_AGAIN: Final = "Poll the task again: that is free and does not change it."
"""What to do about a poll that returned nothing."""
