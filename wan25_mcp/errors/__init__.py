"""Every way an edit can fail: what happened, what to do about it, and what was charged.

    Wan25Error
    ├── SettingsError      a setting is missing or invalid; nothing was sent
    ├── InvalidRequest     an argument breaks a rule; nothing was sent
    ├── Unreachable        no byte of the request left this machine
    ├── Refused            the provider refused, and its answer could be read
    ├── OutcomeUnknown     a submit may have been accepted; it is never sent again
    ├── ReadFailed         a poll (or a query of the credits) gave no usable answer
    ├── TaskFailed         the provider accepted the edit, then could not make it
    ├── NotPublished       a local image was not uploaded; nothing was sent
    ├── Withheld, JournalUnusable     (journal) nothing was sent, to be safe
    └── NotDownloaded, NotSaved       (outputs) a result is not on disk; its link may still work

`codes` says what each code means. This module has the classes, and maps the provider's
answers to codes. Errors are shown elsewhere: `server` turns them into tool results, `cli` into
lines on a terminal.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from wan25_mcp.errors.codes import ANY_OTHER, CODES
from wan25_mcp.errors.provider_rows import TASK_ROWS
from wan25_mcp.errors.rows import Charged, ErrorCode


class Wan25Error(Exception):
    """Base class of all errors of this package.

    Args:
        message: One sentence: what happened. This and `fix`, `retryable` and `charged` default to
            the code's row.
        code: A stable word for programs, such as `invalid_request`: see docs/errors.md.
        fix: What to do next.
        retryable: Whether the same request can succeed later without a change.
        retry_after_seconds: How long the provider asked us to wait, if it did.
        request_id: The provider's id of the failed exchange, for its support.
        charged: What happened to the credits.
    """

    edit: Any = None
    """The `Edit` that came to nothing, where the Python API raises its error; else None."""

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str,
        fix: str | None = None,
        retryable: bool | None = None,
        retry_after_seconds: float | None = None,
        request_id: str | None = None,
        charged: Charged | None = None,
    ) -> None:
        row = CODES.get(code, ANY_OTHER)
        self.message: str = f"{row.sentence}." if message is None else message
        super().__init__(self.message)
        self.code = code
        self.fix: str = row.fix if fix is None else fix
        self.retryable: bool = row.retryable if retryable is None else retryable
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        self.charged: Charged = row.charged if charged is None else charged

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied and pickled by calling its class, which here needs more than args.
        return _made, (type(self), self.args), self.__dict__


def _made(kind: type[Wan25Error], args: tuple[Any, ...]) -> Wan25Error:
    return kind.__new__(kind, *args)


class SettingsError(Wan25Error):
    """A setting is missing or invalid; nothing was sent."""

    def __init__(
        self, message: str | None = None, *, fix: str | None = None, code: str = "invalid_settings"
    ) -> None:
        super().__init__(message, code=code, fix=fix)


class InvalidRequest(Wan25Error):
    """The request breaks a documented rule, so it was not sent."""

    def __init__(
        self, message: str | None = None, *, fix: str | None = None, code: str = "invalid_request"
    ) -> None:
        super().__init__(message, code=code, fix=fix)


class Unreachable(Wan25Error):
    """No byte of the request was sent: name resolution, connection or TLS failed."""


class Refused(Wan25Error):
    """The provider refused the request and did not act on it."""


class OutcomeUnknown(Wan25Error):
    """A submit may have been accepted and charged; no answer says whether it was."""


class ReadFailed(Wan25Error):
    """A poll failed. The task itself continues."""


class TaskFailed(Wan25Error):
    """The provider accepted the edit and then failed it."""


class NotPublished(Wan25Error):
    """A local image was not uploaded; no edit was submitted."""

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str,
        fix: str | None = None,
        retryable: bool | None = None,
        retry_after_seconds: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            fix=f"{fix or CODES[code].fix} Nothing was charged.",
            retryable=retryable,
            retry_after_seconds=retry_after_seconds,
            request_id=request_id,
        )


# provider-api.md §2: what an HTTP status means. Where the sentence is empty, the code's row has it.
STATUSES: Final[dict[int, tuple[str, str]]] = {
    400: ("invalid_request", "The provider rejected the request as invalid"),
    401: ("authentication", ""),
    402: ("insufficient_credits", ""),
    403: ("permission", ""),
    404: ("not_found", ""),
    413: ("too_large", ""),
    422: ("invalid_request", "The provider could not process the request"),
    429: ("rate_limit", ""),
    500: ("service_error", "The provider failed internally"),
    502: ("service_error", "The provider's own upstream failed"),
    503: ("service_unavailable", ""),
    504: ("service_error", "The provider's own upstream took too long"),
}


def status_advice(status: int) -> ErrorCode:
    """What an HTTP status other than 2xx means.

    An unknown 5xx counts as a failure of the service, any other unknown status as a refusal.
    """
    code, sentence = STATUSES.get(status, ("service_error" if status >= 500 else "refused", ""))
    row = CODES[code]
    return replace(row, sentence=sentence) if sentence else row


def query_advice(status: int) -> ErrorCode:
    """What an HTTP status other than 2xx means in answer to a poll."""
    return _UNKNOWN_TASK if status == 404 else status_advice(status)


_UNKNOWN_TASK: Final = replace(
    CODES["not_found"],
    sentence="The provider does not know this task id",
    fix="Pass the task_id exactly as edit_image returned it (a handle begins with edit-). Only the "
    "account that made an edit can poll it: check that WAN25_API_KEY and WAN25_BASE_URL are the "
    "ones it was made with. `wan25-mcp tasks` lists the recent edits of that account.",
)

_OF_TASKS: Final = {
    row.code: row
    for row in (
        *TASK_ROWS,
        replace(CODES["service_error"], sentence="The provider failed while editing"),
        replace(CODES["service_unavailable"], sentence="The model is temporarily unavailable"),
    )
}


def task_advice(code: str | None) -> ErrorCode:
    """What a failed task's code means; an unknown code is the service's fault."""
    known = _OF_TASKS.get(code or "")
    if known:
        return known
    is_word = code and len(code) <= 80 and code.isprintable() and " " not in code
    return replace(ANY_OTHER, code=code if code and is_word else "unknown_error")
