"""Whether a submit was charged and may be resent, as a table of what was sent and read. No I/O.

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
    # These are about the exchange, not about the request, which may have been accepted before the
    # exchange failed.
    408: UNKNOWN,
    409: UNKNOWN,
    499: UNKNOWN,
    # The same is true of a gateway's 429 or 503. `OWN_ERRORS` identifies the API's own.
    429: UNKNOWN,
    503: UNKNOWN,
}
MAX_RESENDS: Final = 3


@dataclass(frozen=True, slots=True)
class _OwnError:
    """How the API reports a status: by the status as the code and `kind` as the type, or, in the
    later generation, by `code`."""

    code: str
    kind: str


OWN_ERRORS: Final = {
    429: _OwnError("rate_limit_exceeded", "rate_limit_error"),
    503: _OwnError("service_unavailable", "service_unavailable_error"),
}
"""The statuses by which the API itself says that it did not accept (provider-api.md §2)."""

_WITHOUT_ENVELOPE: Final = frozenset({"message", "type", "param", "code"})
"""The keys of a real 429 without the envelope [R]."""


def is_own_error(status: int, body: Any) -> bool:
    """Whether a body is the API's own error for `status`, as documented.

    A gateway answers with the same statuses, for example when the API accepted a request and then
    crashed. So a body that is not exactly the API's counts as a gateway's.

    Args:
        body: The body's JSON; None if it is not JSON.
    """
    words = OWN_ERRORS.get(status)
    if words is None or not isinstance(body, dict):
        return False
    if status == 429 and body.keys() >= _WITHOUT_ENVELOPE:
        return _says(body, status) and body["type"] in ("", words.kind)
    error = body.get("error")
    if not isinstance(error, dict):
        return False
    if error.get("code") == words.code:
        return isinstance(error.get("message"), str) and error.get("type") in (None, "", words.kind)
    return _says(error, status) and error.get("type") == words.kind


def _says(error: dict[str, Any], status: int) -> bool:
    # The type is checked too, because True and 503.0 equal integers.
    code = error.get("code")
    return type(code) is int and code == status and isinstance(error.get("message"), str)


def verdict(*, sent: bool, status: int | None, own_error: bool = False) -> Verdict:
    """The verdict on a submit that returned no readable task.

    Args:
        sent: Whether a byte of the request may have left this machine.
        status: The HTTP status of the answer, if one was read.
        own_error: Whether the answer `is_own_error` of the API.
    """
    if not sent:
        return NEVER_SENT
    if status is None:
        return UNKNOWN
    if own_error and status in OWN_ERRORS:
        return ASKED_TO_WAIT
    if status in BY_STATUS:
        return BY_STATUS[status]
    # A redirect is not followed, so it refuses the submit, as any other 4xx does.
    return REFUSED if 300 <= status < 500 else UNKNOWN
