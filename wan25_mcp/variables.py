"""The names a person may set: what the README, `server.json` and `doctor` say of them.

Knows names, not values: those are read by `settings`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

PREFIX: Final = "WAN25_"
DEFAULT_BASE_URL: Final = "https://ai.odkkk.com/apiv1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A setting as the README, `server.json` and `doctor` describe it."""

    name: str
    meaning: str
    default: str = ""
    secret: bool = False


VARIABLES: Final = (
    Variable(
        name="WAN25_API_KEY",
        meaning="The provider's API key, from its dashboard (/dashboard/keys).",
        secret=True,
    ),
    Variable(
        name="WAN25_API_KEY_FILE", meaning="A file that holds the key, in place of `WAN25_API_KEY`."
    ),
    Variable(
        name="WAN25_BASE_URL",
        meaning="Base URL of the API, path included.",
        default=DEFAULT_BASE_URL,
    ),
    Variable(
        name="WAN25_ACCOUNT",
        meaning="Any name for the account, so that its edits and limits outlive the key. Without "
        "one, a new key that can read the old key's tasks counts as the same account.",
    ),
    Variable(
        name="WAN25_DATA_DIR",
        meaning="Folder of the journal.",
        default="your user data folder",
    ),
    Variable(
        name="WAN25_DATABASE_URL",
        meaning="A PostgreSQL database for the journal, shared by several machines "
        "(extra `postgres`).",
        secret=True,
    ),
    Variable(
        name="WAN25_OUTPUT_DIR",
        meaning="Folder where finished images are saved.",
        default="`wan25` in your pictures folder",
    ),
    Variable(
        name="WAN25_SAVE",
        meaning="`auto`: save finished images. `off`: give links only.",
        default="auto",
    ),
    Variable(
        name="WAN25_INPUT_DIRS",
        meaning="Folders that local images may be read from, separated as in PATH. Over HTTP: none "
        "unless set.",
        default="your pictures, downloads, desktop and documents, and the output folder",
    ),
    Variable(
        name="WAN25_FILES_URL",
        meaning="The provider's file service, which gives local images an address for 72 hours.",
    ),
    Variable(
        name="WAN25_BUCKET_URL",
        meaning="Your own bucket for local images: s3://, gs:// or az:// (extra `buckets`).",
    ),
    Variable(
        name="WAN25_PREVIEW",
        meaning="Small previews in answers: `auto` (clients known to show them), `always`, "
        "`never`.",
        default="auto",
    ),
    Variable(
        name="WAN25_WAIT_SECONDS",
        meaning="Seconds `wait_for_task` waits unless the call says otherwise.",
        default="25",
    ),
    Variable(
        name="WAN25_MAX_WAIT_SECONDS",
        meaning="Longest wait a call may ask for, in seconds.",
        default="50",
    ),
    Variable(
        name="WAN25_DUPLICATE_WINDOW_SECONDS",
        meaning="Seconds within which an identical `edit_image` call returns the earlier task; "
        "0 = never.",
        default="600",
    ),
    Variable(
        name="WAN25_CREDIT_LIMIT",
        meaning="Credits that may be spent in any 24 hours. An edit above the limit is refused "
        "before it is sent.",
        default="no limit",
    ),
    Variable(
        name="WAN25_CREDITS_PER_IMAGE",
        meaning="Price assumed until the provider has reported one.",
        default="1.5",
    ),
    Variable(
        name="WAN25_MAX_IN_FLIGHT",
        meaning="Edits that may run at the same time.",
        default="no limit",
    ),
    Variable(
        name="WAN25_CALLBACK_URL",
        meaning="The public https address, path included, where the provider reaches this "
        "server when an edit is done. With an HTTP transport only.",
    ),
    Variable(
        name="WAN25_SERVER_TOKEN",
        meaning="Bearer token callers must send over HTTP; required beyond loopback.",
        secret=True,
    ),
    Variable(
        name="WAN25_ALLOWED_HOSTS",
        meaning="Host names callers may use over HTTP, comma-separated, beyond loopback.",
    ),
    Variable(name="WAN25_LOG_LEVEL", meaning="What is logged to stderr.", default="WARNING"),
    Variable(
        name="WAN25_EMULATOR",
        meaning="`1`: run against the built-in emulator. A URL: an emulator already running.",
    ),
)
"""Every variable we read, in the order they are documented."""


def unread(names: Iterable[str]) -> tuple[str, ...]:
    """The names that look like ours and are none: misspelt, most likely."""
    known = {variable.name for variable in VARIABLES}
    ours = (name for name in names if name.upper().startswith(PREFIX))
    return tuple(sorted(name for name in ours if name not in known))


def nearest(name: str) -> str | None:
    """The variable that was probably meant by a name nobody reads."""
    from difflib import get_close_matches  # only for those who misspelt one

    # Without the prefix, which would make every two names similar.
    rests = {variable.name.removeprefix(PREFIX): variable.name for variable in VARIABLES}
    found = get_close_matches(name.upper().removeprefix(PREFIX), rests, n=1)
    return rests[found[0]] if found else None
