"""Every way an edit can go wrong: a sentence, what to do about it, and what happened to the money.

    Wan25Error
    ├── SettingsError      what was configured cannot work; nothing was sent
    ├── InvalidRequest     what was asked cannot be sent; nothing was sent
    ├── Unreachable        no byte of the request left this machine
    ├── Refused            the provider said no, and said so readably
    ├── OutcomeUnknown     a submit may have been accepted; it is never sent again
    ├── ReadFailed         a look at a task (or the credits) gave no usable answer
    ├── TaskFailed         the provider accepted the edit, then could not make it
    ├── Withheld, JournalUnusable     (journal) nothing was sent, to be safe
    ├── NotPublished       (images) a local image got no address; nothing was sent
    └── NotDownloaded, NotSaved       (images) a result is not on disk; its link may still live

Knows the provider's codes and what each one asks of the caller. Knows nothing of how an error is
shown: `server` turns these into tool results, `cli` into lines on a terminal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Charged = Literal["no", "reserved", "yes", "unknown"]
"""What happened to the credits: `reserved` until the provider settles the task."""


class Wan25Error(Exception):
    """Base class of all errors of this package.

    Args:
        message: One sentence: what happened.
        code: A stable word for programs, such as `invalid_request` or `rate_limit`.
        fix: One sentence: what to do next.
        retryable: Whether the same request can succeed later without a change.
        retry_after_seconds: How long the provider asked us to wait, if it did.
        request_id: The provider's id of the failed exchange, for its support.
        charged: What happened to the credits.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        fix: str,
        retryable: bool = False,
        retry_after_seconds: float | None = None,
        request_id: str | None = None,
        charged: Charged = "no",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.fix = fix
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
        self.request_id = request_id
        self.charged: Charged = charged


class SettingsError(Wan25Error):
    """A setting is missing or cannot work; nothing was sent."""

    def __init__(self, message: str, *, fix: str, code: str = "invalid_settings") -> None:
        super().__init__(message, code=code, fix=fix)


class InvalidRequest(Wan25Error):
    """The request breaks a documented rule, so it was not sent."""

    def __init__(self, message: str, *, fix: str, code: str = "invalid_request") -> None:
        super().__init__(message, code=code, fix=fix)


class Unreachable(Wan25Error):
    """No byte of the request was sent: name resolution, connection or TLS failed."""


class Refused(Wan25Error):
    """The provider refused the request and did not act on it."""


class OutcomeUnknown(Wan25Error):
    """A submit may have been accepted and charged; nothing we can see tells."""


class ReadFailed(Wan25Error):
    """A look failed. The task itself goes on, whatever this look said."""


class TaskFailed(Wan25Error):
    """The provider accepted the edit and then failed it."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What an upstream code means to the caller."""

    code: str
    sentence: str
    fix: str
    retryable: bool = False


LOOK_FIRST = (
    "It will not be resent automatically. Check recent tasks and credits on the provider's "
    "dashboard; "
    "only if it is not there and the user agrees, edit again with force_new=true (--force-new)."
)
"""What to do about a submit whose outcome nobody knows."""

POLL_AGAIN = "Ask again: polling a task is free and does not change it."
"""What to do about a poll that told nothing."""

_DASHBOARD = "Check the key on the provider's dashboard (/dashboard/keys) and set WAN25_API_KEY."
_LATER = "Try again later; nothing in the request needs to change."

STATUS_ADVICE: dict[int, Advice] = {
    400: Advice(
        "invalid_request",
        "The provider rejected the request as invalid",
        "Correct the argument the provider names, then call again.",
    ),
    401: Advice("authentication", "The provider did not accept the API key", _DASHBOARD),
    402: Advice(
        "insufficient_credits",
        "The account has not enough credits for this edit",
        "Add credits on the provider's dashboard, or ask for fewer images (n).",
    ),
    403: Advice(
        "permission",
        "This API key may not do that",
        "Allow the model for this key on the provider's dashboard, or use another key.",
    ),
    404: Advice(
        "not_found",
        "The provider does not know what was asked for",
        "Check the model name and WAN25_BASE_URL (or WAN25_EMULATOR), path included.",
    ),
    413: Advice("too_large", "The request is too large", "Shorten the prompt or the links."),
    422: Advice(
        "invalid_request",
        "The provider could not work with the request",
        "Correct the argument the provider names, then call again.",
    ),
    429: Advice("rate_limit", "The provider is limiting the rate of requests", _LATER, True),
    500: Advice("service_error", "The provider failed internally", _LATER, True),
    502: Advice("service_error", "The provider's own upstream failed", _LATER, True),
    503: Advice("service_unavailable", "The provider is temporarily unavailable", _LATER, True),
    504: Advice("service_error", "The provider's own upstream took too long", _LATER, True),
}
"""provider-api.md §2: what an HTTP status means, for requests of any kind."""

_OTHER_REFUSAL = Advice(
    "refused",
    "The provider refused the request",
    "Check the arguments and WAN25_BASE_URL; the provider's own words are in the message.",
)
_OTHER_FAILURE = Advice("service_error", "The provider failed", _LATER, True)


def status_advice(status: int) -> Advice:
    """What an HTTP status other than 2xx asks of the caller.

    Unknown 5xx are the service's; unknown others are a refusal.
    """
    return STATUS_ADVICE.get(status, _OTHER_FAILURE if status >= 500 else _OTHER_REFUSAL)


_UNKNOWN_TASK = Advice(
    "not_found",
    "The provider does not know this task id",
    "Pass the task_id exactly as edit_image returned it (a handle begins with edit-). Only the "
    "account that made an edit can ask about it: check that WAN25_API_KEY and WAN25_BASE_URL are "
    "those it was made with; `wan25-mcp tasks` lists their recent edits.",
)


def query_advice(status: int) -> Advice:
    """What an HTTP status other than 2xx asks of one who asked about a task."""
    return _UNKNOWN_TASK if status == 404 else status_advice(status)


_NEW_EDIT = "Call edit_image again later for a new try."

TASK_ADVICE: dict[str, Advice] = {
    advice.code: advice
    for advice in (
        Advice(
            "content_policy_violation",
            "The provider's content policy does not allow this edit",
            "Change the prompt or the images (real people, logos and watermark removal often "
            "fail), then call edit_image again.",
        ),
        Advice(
            "invalid_parameters",
            "The model could not work with the parameters",
            "Correct the arguments, then call edit_image again.",
        ),
        Advice(
            "image_processing_error",
            "An input image could not be downloaded or read",
            "Use a direct, public link to a JPEG, PNG, BMP or WebP file (not HEIC, AVIF or a web "
            "page), then call edit_image again.",
        ),
        Advice(
            "image_dimension_mismatch",
            "An input image has the wrong dimensions or a transparent channel",
            "Give images of 384 to 5000 pixels on each side without transparency, then call "
            "edit_image again.",
        ),
        Advice(
            "request_cancelled",
            "The task was cancelled at the provider",
            "Call edit_image again if the edit is still wanted.",
        ),
        Advice(
            "generation_failed_no_content",
            "The model made no image",
            "Word the prompt as one clear instruction, then call edit_image again.",
            True,
        ),
        Advice("service_error", "The provider failed while editing", _NEW_EDIT, True),
        Advice("generation_timeout", "The edit took the provider too long", _NEW_EDIT, True),
        Advice("resource_exhausted", "The provider has no capacity left", _NEW_EDIT, True),
        Advice(
            "quota_exceeded",
            "A quota at the provider is used up",
            "Check the account's quota on the provider's dashboard, then call edit_image again.",
        ),
        Advice("service_unavailable", "The model is temporarily unavailable", _NEW_EDIT, True),
        Advice("resource_not_found", "The provider lost something it needed", _NEW_EDIT, True),
        Advice("unknown_error", "The provider failed without saying why", _NEW_EDIT, True),
    )
}
"""provider-api.md §3: the task-level codes [V]. The set is open."""


def task_advice(code: str | None) -> Advice:
    """What a failed task's code asks of the caller; an unknown code is the service's fault."""
    known = TASK_ADVICE.get(code or "")
    if known:
        return known
    plain = code and len(code) <= 80 and code.isprintable() and " " not in code
    word = code if code and plain else "unknown_error"
    return Advice(word, "The provider could not make the edit", _NEW_EDIT, True)
