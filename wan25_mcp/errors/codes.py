"""Every error code once: what happened, what to do, whether a retry can help, what was charged.

An error is filled from its row, the journal restores one by it, and docs/errors.md is generated
from the rows. The provider may send task-level codes that are not here.
"""

from __future__ import annotations

from typing import Final

from wan25_mcp.errors.provider_rows import HTTP_ROWS, TASK_ROWS
from wan25_mcp.errors.rows import (
    CHECK_FIRST,
    DASHBOARD,
    POLL_AGAIN,
    RETRY_LATER,
    installing,
    journal,
    not_published,
    other,
    read_failed,
    request,
    result,
    settings,
    task_failed,
    unknown,
    unreachable,
    withheld,
)

OWN_ROWS: Final = (
    unknown(
        "outcome_unknown",
        "The edit was sent, and no answer says whether it was accepted",
        CHECK_FIRST,
    ),
    unknown(
        "unreadable_answer",
        "The provider's answer cannot be read, so a submit may have been accepted",
        CHECK_FIRST,
    ),
    unreachable(
        "unreachable",
        "The provider could not be reached, and nothing was sent",
        "Check the network and WAN25_BASE_URL, then call again.",
    ),
    unreachable(
        "never_sent",
        "The server stopped before the edit was sent; nothing was charged",
        "Call edit_image again.",
    ),
    read_failed("read_failed", "Polling gave no usable answer", POLL_AGAIN),
    read_failed(
        "internal_error",
        "An unexpected error in this server stopped the poll",
        POLL_AGAIN,
    ),
    settings(
        "missing_api_key",
        "No API key is set, so nothing can be sent to the provider",
        f"Get a key from {DASHBOARD} and run `wan25-mcp key set` in a terminal (or set "
        "WAN25_API_KEY), then restart this server. To try it without a key: `wan25-mcp serve "
        "--emulator`.",
    ),
    settings(
        "invalid_settings",
        "A setting is invalid",
        "Correct the setting that the message names, then restart the server.",
    ),
    settings(
        "no_image_host",
        "Local images have no place to be uploaded to: this API has no file service, and no other "
        "place is configured; nothing was sent or charged",
        "Give a public https:// link: the provider can only download from the internet. Or set "
        "WAN25_BUCKET_URL (your own bucket: s3://, gs:// or az://bucket/prefix) or WAN25_FILES_URL "
        "(a file service of the provider at another address) and restart the server.",
    ),
    withheld(
        "provider_failing",
        "The provider has failed several times in a row, so submitting is paused",
        "Call edit_image again after the pause. Polling tasks still works.",
        True,
    ),
    withheld(
        "too_many_in_flight",
        "As many edits are running as WAN25_MAX_IN_FLIGHT allows",
        "Wait for one of the running edits (wait_for_task), then call edit_image again.",
        True,
    ),
    withheld(
        "price_unknown",
        "Until the provider reports a price, WAN25_CREDIT_LIMIT allows one edit at a time",
        "Wait for the running edit (wait_for_task), then call edit_image again.",
        True,
    ),
    withheld(
        "credit_limit",
        "This edit would exceed WAN25_CREDIT_LIMIT",
        "Ask for fewer images (n), or raise WAN25_CREDIT_LIMIT.",
    ),
    journal(
        "journal_unusable",
        "The journal, which prevents paying twice, is unavailable",
        "Free disk space, correct the permissions, or set WAN25_DATA_DIR (or WAN25_DATABASE_URL) "
        "to a writable location; then call again.",
    ),
    other(
        "busy",
        "Too many images given as data: URIs are waiting to be uploaded; nothing was sent",
        "Call again later, or give a public https:// link or the path of a local image.",
        True,
    ),
    request(
        "image_not_found",
        "A local image does not exist",
        "Give an absolute path, a file:// URI, a data: URI or a public https:// link to the image.",
    ),
    request(
        "image_on_another_machine",
        "That file is on another machine and cannot be read from this one",
        "Ask the user where the image is saved on this server's machine, or for a public https:// "
        "link.",
    ),
    request(
        "image_not_allowed",
        "This server may not read a local image",
        "Copy the image itself into a folder that the server may read, and give that path.",
    ),
    request(
        "image_unreadable",
        "A local image is damaged or cannot be read",
        "Open it in an image program, save it again as JPEG or PNG, and give that file.",
    ),
    request(
        "image_unusable",
        "A local image cannot be converted to what the model accepts",
        "Export or convert it to JPEG or PNG and give that file.",
    ),
    not_published(
        "missing_credentials",
        "Links to the bucket cannot be signed: its credentials are missing or incomplete",
        "Check WAN25_BUCKET_URL and the cloud's credentials in the environment of this server "
        "(such as AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL).",
    ),
    not_published(
        "missing_extra",
        "WAN25_BUCKET_URL is set, but the `buckets` extra is not installed",
        f"{installing('buckets')}, then restart this server.",
    ),
    not_published(
        "image_host_unknown",
        "The provider could not be asked whether it takes local images",
        "Check the network, then call again, or give a public https:// link. If this repeats, set "
        "WAN25_BUCKET_URL or WAN25_FILES_URL and restart the server.",
        True,
    ),
    not_published(
        "upload_failed",
        "A local image could not be uploaded",
        "Call again later, or give a public https:// link.",
        True,
    ),
    not_published(
        "upload_refused",
        "The file service or the bucket refused a local image",
        "Check WAN25_FILES_URL or WAN25_BUCKET_URL, or give a public https:// link.",
    ),
    not_published(
        "upload_unreadable",
        "The file service's answer contains no usable link",
        "Check WAN25_FILES_URL, or give a public https:// link.",
    ),
    result(
        "not_downloaded",
        "A result image could not be downloaded",
        "Open the link in a browser: it works until it expires.",
    ),
    result(
        "link_gone",
        "A result link has expired. Links expire after 24 hours",
        "Call get_task once more. If the links are the same, the image is gone.",
    ),
    result(
        "not_saved",
        "A result image could not be saved",
        "Set WAN25_OUTPUT_DIR or --output to a folder with free space that you may write to.",
    ),
    other(
        "demo_failed",
        "The demo failed before an image was saved",
        "Read the log above; `wan25-mcp doctor` checks the settings.",
    ),
)
"""What this server decides itself."""

CODES: Final = {row.code: row for row in (*HTTP_ROWS, *TASK_ROWS, *OWN_ROWS)}

ANY_OTHER: Final = task_failed("", "The provider could not make the edit", RETRY_LATER, True)
"""The row for a code that is not listed: the provider's own, and a failure of its service."""
