"""What the end of a submit means for the money: one table, decided by what was sent and read.

A submit is paid for when it is accepted, and the provider promises no idempotency. So the one
question is whether it may have been accepted: if so it is never sent again, whatever the cost in
convenience. No I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from wan25_mcp.error_codes import Charged


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
    # A 4xx that speaks of the exchange rather than of the request: the request may have been
    # taken before the exchange went wrong.
    408: UNKNOWN,
    409: UNKNOWN,
    499: UNKNOWN,
    # So does a 429 or 503 of a gateway, unless the API itself says it (`OWN_WORDS`).
    429: UNKNOWN,
    503: UNKNOWN,
}
MOST_RESENDS: Final = 3


@dataclass(frozen=True, slots=True)
class _Words:
    """How the API says a status: with the status itself as the code, and later with a word."""

    code: str
    kind: str


OWN_WORDS: Final = {
    429: _Words("rate_limit_exceeded", "rate_limit_error"),
    503: _Words("service_unavailable", "service_unavailable_error"),
}
"""The statuses of which the API's own word is that it has not accepted (provider-api.md §2)."""

_NAKED: Final = frozenset({"message", "type", "param", "code"})
"""What a real 429 without the envelope had."""


def is_own_word(status: int, body: Any) -> bool:
    """Whether a body says `status` as the API documents it.

    A gateway says the same statuses for itself, also when the API died over a request that it had
    accepted; so what is not exactly the API's counts as a gateway's.

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
    """Judge a submit that brought no readable task.

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
