"""Every error code once: what happened, what to do, whether a retry can help, what was charged.

`errors` fills an error from its row here, the journal restores one by it, and docs/errors.md is
generated from it. The provider may send task-level codes that are not here; see `errors`.
"""

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


_settings = partial(ErrorCode, "settings")
_request = partial(ErrorCode, "request")
_refused = partial(ErrorCode, "refused")
_task_failed = partial(ErrorCode, "task_failed")
_withheld = partial(ErrorCode, "withheld")
_not_published = partial(ErrorCode, "not_published")
_unknown = partial(ErrorCode, "outcome_unknown", charged="unknown")
_unreachable = partial(ErrorCode, "unreachable", retryable=True)
_read_failed = partial(ErrorCode, "read_failed", retryable=True)
_journal = partial(ErrorCode, "journal", retryable=True)
_other = partial(ErrorCode, "other")
_result = partial(ErrorCode, "result", charged="yes")

_RETRY_LATER: Final = "Call edit_image again later. The request needs no change."
_DASHBOARD: Final = "the provider's dashboard"

CHECK_FIRST: Final = (
    f"It will not be resent automatically. Check recent tasks and credits on {_DASHBOARD}. Only if "
    "the edit is not there and the user agrees, call edit_image again with force_new=true."
)
"""What to do about a submit of unknown outcome."""

POLL_AGAIN: Final = "Poll the task again: that is free and does not change it."
"""What to do about a poll that returned nothing."""

HTTP_ROWS: Final = (
    _refused(
        "invalid_request",
        "The request is invalid",
        "Correct the argument that the message names, then call again.",
    ),
    _refused(
        "authentication",
        "The provider did not accept the API key",
        f"Check the key on {_DASHBOARD} (/dashboard/keys) and set WAN25_API_KEY.",
    ),
    _refused(
        "insufficient_credits",
        "The account does not have enough credits for this edit",
        f"Add credits on {_DASHBOARD}, or ask for fewer images (n).",
    ),
    _refused(
        "permission",
        "This API key may not do that",
        f"Allow the model for this key on {_DASHBOARD}, or use another key.",
    ),
    _refused(
        "not_found",
        "The provider did not find what was requested",
        "Check the model name and WAN25_BASE_URL (or WAN25_EMULATOR), path included.",
    ),
    _refused("too_large", "The request is too large", "Shorten the prompt or the links."),
    _refused("rate_limit", "The provider is limiting the rate of requests", _RETRY_LATER, True),
    _refused("service_error", "The provider failed", _RETRY_LATER, True),
    _refused("service_unavailable", "The provider is temporarily unavailable", _RETRY_LATER, True),
    _refused(
        "refused",
        "The provider refused the request",
        "Check the arguments and WAN25_BASE_URL. The message quotes the provider's reason.",
    ),
)
"""What the provider answers to a request: see docs/provider-api.md, section 2."""

TASK_ROWS: Final = (
    _task_failed(
        "content_policy_violation",
        "The provider's content policy does not allow this edit",
        "Change the prompt or the images (real people, logos and removing watermarks are often "
        "refused), then call edit_image again.",
    ),
    _task_failed(
        "invalid_parameters",
        "The model did not accept the parameters",
        "Correct the arguments, then call edit_image again.",
    ),
    _task_failed(
        "image_processing_error",
        "An input image could not be downloaded or read",
        "Use a direct, public link to a JPEG, PNG, BMP or WebP file (not HEIC, AVIF or a web "
        "page), then call edit_image again.",
    ),
    _task_failed(
        "image_dimension_mismatch",
        "An input image has the wrong dimensions or a transparent channel",
        "Give images of 384 to 5000 pixels on each side without transparency, then call "
        "edit_image again.",
    ),
    _task_failed(
        "request_cancelled",
        "The task was cancelled at the provider",
        "Call edit_image again if the edit is still wanted.",
    ),
    _task_failed(
        "generation_failed_no_content",
        "The model made no image",
        "Write the prompt as one clear instruction, then call edit_image again.",
        True,
    ),
    _task_failed("generation_timeout", "The provider took too long", _RETRY_LATER, True),
    _task_failed("resource_exhausted", "The provider has no capacity left", _RETRY_LATER, True),
    _task_failed(
        "quota_exceeded",
        "A quota at the provider is used up",
        f"Check the account's quota on {_DASHBOARD}, then call edit_image again.",
    ),
    _task_failed("resource_not_found", "A resource is missing at the provider", _RETRY_LATER, True),
    _task_failed("unknown_error", "The provider failed and gave no reason", _RETRY_LATER, True),
)
"""Why the provider could not make an edit that it had accepted: section 3. The set is open."""

OWN_ROWS: Final = (
    _unknown(
        "outcome_unknown",
        "The edit was sent, and no answer says whether it was accepted",
        CHECK_FIRST,
    ),
    _unknown(
        "unreadable_answer",
        "The provider's answer cannot be read, so a submit may have been accepted",
        CHECK_FIRST,
    ),
    _unreachable(
        "unreachable",
        "The provider could not be reached, and nothing was sent",
        "Check the network and WAN25_BASE_URL, then call again.",
    ),
    _unreachable(
        "never_sent",
        "The server stopped before the edit was sent; nothing was charged",
        "Call edit_image again.",
    ),
    _read_failed("read_failed", "Polling gave no usable answer", POLL_AGAIN),
    _read_failed(
        "internal_error",
        "An unexpected error in this server stopped the poll",
        POLL_AGAIN,
    ),
    _settings(
        "missing_api_key",
        "No API key is set, so nothing can be sent to the provider",
        f"Set WAN25_API_KEY in this server's environment (keys: {_DASHBOARD}, /dashboard/keys) and "
        "restart it, or try the emulator without a key: `wan25-mcp serve --emulator`.",
    ),
    _settings(
        "invalid_settings",
        "A setting is invalid",
        "Correct the setting that the message names, then restart the server.",
    ),
    _settings(
        "no_image_host",
        "No place to upload local images to is configured; nothing was sent or charged",
        "Give a public https:// link: the provider can only download from the internet. Or set "
        "WAN25_FILES_URL (the provider's file service) or WAN25_BUCKET_URL (s3://, gs:// or "
        "az://bucket/prefix) and restart the server.",
    ),
    _withheld(
        "provider_failing",
        "The provider has failed several times in a row, so submitting is paused",
        "Call edit_image again after the pause. Polling tasks still works.",
        True,
    ),
    _withheld(
        "too_many_in_flight",
        "As many edits are running as WAN25_MAX_IN_FLIGHT allows",
        "Wait for one of the running edits (wait_for_task), then call edit_image again.",
        True,
    ),
    _withheld(
        "price_unknown",
        "Until the provider reports a price, WAN25_CREDIT_LIMIT allows one edit at a time",
        "Wait for the running edit (wait_for_task), then call edit_image again.",
        True,
    ),
    _withheld(
        "credit_limit",
        "This edit would exceed WAN25_CREDIT_LIMIT",
        "Ask for fewer images (n), or raise WAN25_CREDIT_LIMIT.",
    ),
    _journal(
        "journal_unusable",
        "The journal, which prevents paying twice, is unavailable",
        "Free disk space, correct the permissions, or set WAN25_DATA_DIR (or WAN25_DATABASE_URL) "
        "to a writable location; then call again.",
    ),
    _other(
        "busy",
        "Too many images given as data: URIs are waiting to be uploaded; nothing was sent",
        "Call again later, or give a public https:// link or the path of a local image.",
        True,
    ),
    _request(
        "image_not_found",
        "A local image does not exist",
        "Give an absolute path, a file:// URI, a data: URI or a public https:// link to the image.",
    ),
    _request(
        "image_not_allowed",
        "This server may not read a local image",
        "Copy the image itself into a folder that the server may read, and give that path.",
    ),
    _request(
        "image_unreadable",
        "A local image is damaged or cannot be read",
        "Open it in an image program, save it again as JPEG or PNG, and give that file.",
    ),
    _request(
        "image_unusable",
        "A local image cannot be converted to what the model accepts",
        "Export or convert it to JPEG or PNG and give that file.",
    ),
    _not_published(
        "missing_credentials",
        "Links to the bucket cannot be signed: its credentials are missing or incomplete",
        "Check WAN25_BUCKET_URL and the cloud's credentials in the environment of this server "
        "(such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL).",
    ),
    _not_published(
        "missing_extra",
        "WAN25_BUCKET_URL is set, but the `buckets` extra is not installed",
        "Install wan25-mcp[buckets] instead of wan25-mcp and restart the server.",
    ),
    _not_published(
        "upload_failed",
        "A local image could not be uploaded",
        "Call again later, or give a public https:// link.",
        True,
    ),
    _not_published(
        "upload_refused",
        "The file service or the bucket refused a local image",
        "Check WAN25_FILES_URL or WAN25_BUCKET_URL, or give a public https:// link.",
    ),
    _not_published(
        "upload_unreadable",
        "The file service's answer contains no usable link",
        "Check WAN25_FILES_URL, or give a public https:// link.",
    ),
    _result(
        "not_downloaded",
        "A result image could not be downloaded",
        "Open the link in a browser: it works until it expires.",
    ),
    _result(
        "link_gone",
        "A result link has expired. Links expire after 24 hours",
        "Call get_task once more. If the links are the same, the image is gone.",
    ),
    _result(
        "not_saved",
        "A result image could not be saved",
        "Set WAN25_OUTPUT_DIR or --output to a folder with free space that you may write to.",
    ),
    _other(
        "demo_failed",
        "The demo failed before an image was saved",
        "Read the log above; `wan25-mcp doctor` checks the settings.",
    ),
)
"""What this server decides itself."""

CODES: Final = {row.code: row for row in (*HTTP_ROWS, *TASK_ROWS, *OWN_ROWS)}

ANY_OTHER: Final = _task_failed("", "The provider could not make the edit", _RETRY_LATER, True)
"""The row for a code that is not listed: the provider's own, and a failure of its service."""
