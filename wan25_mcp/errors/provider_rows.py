"""The provider's error codes: what it answers to a request, and why a task fails."""

from __future__ import annotations

from typing import Final

from wan25_mcp.errors.rows import DASHBOARD, RETRY_LATER, refused, task_failed

HTTP_ROWS: Final = (
    refused(
        "invalid_request",
        "The request is invalid",
        "Correct the argument that the message names, then call again.",
    ),
    refused(
        "authentication",
        "The provider did not accept the API key",
        f"Check the key on {DASHBOARD}, then set it: `wan25-mcp key set`, or WAN25_API_KEY.",
    ),
    refused(
        "insufficient_credits",
        "The account does not have enough credits for this edit",
        f"Add credits on {DASHBOARD}, or ask for fewer images (n).",
    ),
    refused(
        "permission",
        "This API key may not do that",
        f"Allow the model for this key on {DASHBOARD}, or use another key.",
    ),
    refused(
        "not_found",
        "The provider did not find what was requested",
        "Check the model name and WAN25_BASE_URL (or WAN25_EMULATOR), path included.",
    ),
    refused("too_large", "The request is too large", "Shorten the prompt or the links."),
    refused("rate_limit", "The provider is limiting the rate of requests", RETRY_LATER, True),
    refused("service_error", "The provider failed", RETRY_LATER, True),
    refused("service_unavailable", "The provider is temporarily unavailable", RETRY_LATER, True),
    refused(
        "refused",
        "The provider refused the request",
        "Check the arguments and WAN25_BASE_URL. The message quotes the provider's reason.",
    ),
)
"""What the provider answers to a request: see docs/provider-api.md, section 2."""

TASK_ROWS: Final = (
    task_failed(
        "content_policy_violation",
        "The provider's content policy does not allow this edit",
        "Change the prompt or the images (real people, logos and removing watermarks are often "
        "refused), then call edit_image again.",
    ),
    task_failed(
        "invalid_parameters",
        "The model did not accept the parameters",
        "Correct the arguments, then call edit_image again.",
    ),
    task_failed(
        "image_processing_error",
        "An input image could not be downloaded or read",
        "Use a direct, public link to a JPEG, PNG, BMP or WebP file (not HEIC, AVIF or a web "
        "page), then call edit_image again.",
    ),
    task_failed(
        "image_dimension_mismatch",
        "An input image has the wrong dimensions or a transparent channel",
        "Give images of 384 to 5000 pixels on each side without transparency, then call "
        "edit_image again.",
    ),
    task_failed(
        "request_cancelled",
        "The task was cancelled at the provider",
        "Call edit_image again if the edit is still wanted.",
    ),
    task_failed(
        "generation_failed_no_content",
        "The model made no image",
        "Write the prompt as one clear instruction, then call edit_image again.",
        True,
    ),
    task_failed("generation_timeout", "The provider took too long", RETRY_LATER, True),
    task_failed("resource_exhausted", "The provider has no capacity left", RETRY_LATER, True),
    task_failed(
        "quota_exceeded",
        "A quota at the provider is used up",
        f"Check the account's quota on {DASHBOARD}, then call edit_image again.",
    ),
    task_failed("resource_not_found", "A resource is missing at the provider", RETRY_LATER, True),
    task_failed("unknown_error", "The provider failed and gave no reason", RETRY_LATER, True),
)
"""Why the provider could not make an edit that it had accepted: section 3. The set is open."""
