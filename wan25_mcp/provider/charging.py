"""What the outcome of a submit means for the money, as a table of what was sent and read. No I/O.

A submit is charged when it is accepted, and the provider promises no idempotency. So what may have
been accepted is never sent again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from wan25_mcp.errors.rows import Charged


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a submit that returned no task id.

    Args:
        resend: Whether the same submit may be sent again.
        charged: What is known about the credits.
    """

    resend: bool
    charged: Charged


NEVER_SENT: Final = Verdict(resend=True, charged="no")
ASKED_TO_WAIT: Final = Verdict(resend=True, charged="no")
REFUSED: Final = Verdict(resend=False, charged="no")
UNKNOWN: Final = Verdict(resend=False, charged="unknown")

BY_STATUS: Final[dict[int, Verdict]] = {
    # A 4xx about the exchange, not about the request: the request may have been accepted before
    # the exchange failed.
    408: UNKNOWN,
    409: UNKNOWN,
    499: UNKNOWN,
    # So is a 429 or 503 of a gateway; the API's own has `OWN_WORDS`.
    429: UNKNOWN,
    503: UNKNOWN,
}
MOST_RESENDS: Final = 3


@dataclass(frozen=True, slots=True)
class _Words:
    """How the API words a status: with the status itself as the code, and later with a word."""

    code: str
    kind: str


OWN_WORDS: Final = {
    429: _Words("rate_limit_exceeded", "rate_limit_error"),
    503: _Words("service_unavailable", "service_unavailable_error"),
}
"""The statuses with which the API itself says that it has not accepted (provider-api.md §2)."""

_NAKED: Final = frozenset({"message", "type", "param", "code"})
"""The keys of a real 429 without the envelope [R]."""


def is_own_word(status: int, body: Any) -> bool:
    """Whether a body is the API's own error for `status`, as documented.

    A gateway answers with the same statuses, also when the API crashed over a request that it had
    accepted. So a body that is not exactly the API's counts as a gateway's.

    Args:
        body: The body's JSON; None when it is none.
    """
    words = OWN_WORDS.get(status)
    if words is None or not isinstance(body, dict):
        return False
    if status == 429 and body.keys() >= _NAKED:
        return _says(body, status) and body["type"] in ("", words.kind)
    error = body.get("error")
    if not isinstance(error, dict):
        return False
    if error.get("code") == words.code:
        return isinstance(error.get("message"), str) and error.get("type") in (None, "", words.kind)
    return _says(error, status) and error.get("type") == words.kind


def _says(error: dict[str, Any], status: int) -> bool:
    # By type as well: True and 503.0 equal integers.
    code = error.get("code")
    return type(code) is int and code == status and isinstance(error.get("message"), str)


def verdict(*, sent: bool, status: int | None, own_word: bool = False) -> Verdict:
    """The verdict on a submit that returned no readable task.

    Args:
        sent: Whether a byte of the request may have left this machine.
        status: The HTTP status of the answer, if one was read.
        own_word: Whether the answer `is_own_word` of the API.
    """
    if not sent:
        return NEVER_SENT
    if status is None:
        return UNKNOWN
    if own_word and status in OWN_WORDS:
        return ASKED_TO_WAIT
    if status in BY_STATUS:
        return BY_STATUS[status]
    # A redirect is an answer instead of the submit (it is not followed); so is any other 4xx.
    return REFUSED if 300 <= status < 500 else UNKNOWN
