"""The API's refusals and their two published shapes. No HTTP.

The "specification" generation is the one that this project was given: integer codes and a
`fallback_suggestion`. The "later" one is from the vendor's newer documentation: string codes and no
suggestion.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from wan25_mcp.emulator.options import Generation

MODEL = "wan2.5-image-to-image"


class Kind(NamedTuple):
    """The texts of one HTTP status. `later_code` is from the vendor's list if that has one."""

    type: str
    message: str
    later_code: str
    suggestion: str | None = None


KINDS: dict[int, Kind] = {
    400: Kind("invalid_request_error", "Invalid request format", "invalid_request"),
    401: Kind("authentication_error", "Invalid authentication credentials", "unauthorized"),
    402: Kind("insufficient_quota_error", "Insufficient credits", "quota_exceeded"),
    403: Kind("permission_error", "Access denied for this model", "permission_denied"),
    404: Kind("not_found_error", "Not found", "not_found"),
    405: Kind("invalid_request_error", "Method not allowed", "method_not_allowed"),
    413: Kind("invalid_request_error", "Request too large", "request_too_large"),
    429: Kind(
        "rate_limit_error",
        "Rate limit exceeded",
        "rate_limit_exceeded",
        "retry after 60 seconds",
    ),
    500: Kind(
        "internal_server_error", "Internal server error", "internal_error", "try again later"
    ),
    502: Kind("upstream_error", "Bad gateway", "bad_gateway", "try again later"),
    503: Kind(
        "service_unavailable_error",
        "Service temporarily unavailable",
        "service_unavailable",
        "retry after 30 seconds",
    ),
}
LATER_TYPES = {402: "insufficient_quota"}


class Refusal(Exception):
    """A request that the API answers with an error.

    `retry_after`: the value of that header, if it is sent.
    """

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        param: str | None = None,
        suggestion: str | None = None,
        later_code: str | None = None,
        retry_after: str | None = None,
    ) -> None:
        self.status = status
        self.kind: Kind = KINDS.get(status) or KINDS[500 if status >= 500 else 400]
        self.message: str = message or self.kind.message
        self.param = param
        self.suggestion: str | None = suggestion or self.kind.suggestion
        self.later_code: str = later_code or self.kind.later_code
        self.retry_after = retry_after
        super().__init__(f"{status} {self.message}")


def envelope(refusal: Refusal, generation: Generation) -> dict[str, Any]:
    """The JSON body of a refusal: `{"error": {code, message, type, param?, …}}`."""
    later = generation == "later"
    error = {
        "code": refusal.later_code if later else refusal.status,
        "message": refusal.message,
        "type": LATER_TYPES.get(refusal.status, refusal.kind.type) if later else refusal.kind.type,
        "param": refusal.param,
        "fallback_suggestion": None if later else refusal.suggestion,
    }
    return {"error": {name: value for name, value in error.items() if value is not None}}


def invalid(param: str, message: str) -> Refusal:
    """A 400 about one field."""
    return Refusal(400, message, param=param)


def unknown_model() -> Refusal:
    return Refusal(
        404,
        "Specified model not found",
        param="model",
        suggestion=MODEL,
        later_code="model_not_found",
    )


def unknown_task() -> Refusal:
    return Refusal(404, "Task not found or expired", later_code="task_not_found")
