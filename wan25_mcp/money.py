"""What the end of a submit means for the money: one table, decided by what was sent and read.

A submit is paid for when it is accepted, and the provider promises no idempotency. So the one
question is whether it may have been accepted: if so it is never sent again, whatever the cost in
convenience. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from wan25_mcp.errors import Charged


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a submit that brought no task id.

    Args:
        resend: Whether the same submit may be sent again.
        charged: What can be said about the credits.
    """

    resend: bool
    charged: Charged


NEVER_SENT: Final = Verdict(resend=True, charged="no")
ASKED_TO_WAIT: Final = Verdict(resend=True, charged="no")
REFUSED: Final = Verdict(resend=False, charged="no")
UNKNOWN: Final = Verdict(resend=False, charged="unknown")

BY_STATUS: Final[dict[int, Verdict]] = {
    429: ASKED_TO_WAIT,
    503: ASKED_TO_WAIT,
    # A 4xx that speaks of the exchange rather than of the request: the request may have been
    # taken before the exchange went wrong.
    408: UNKNOWN,
    409: UNKNOWN,
    499: UNKNOWN,
}
MOST_RESENDS: Final = 3


def verdict(*, sent: bool, status: int | None) -> Verdict:
    """Judge a submit that brought no readable task.

    Args:
        sent: Whether a byte of the request may have left this machine.
        status: The HTTP status of the answer, if one was read.
    """
    if not sent:
        return NEVER_SENT
    if status is None:
        return UNKNOWN
    if status in BY_STATUS:
        return BY_STATUS[status]
    # A redirect is an answer instead of the submit (it is not followed); so is any other 4xx.
    return REFUSED if 300 <= status < 500 else UNKNOWN
