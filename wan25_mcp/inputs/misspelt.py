"""Recognises what callers give in place of a path: another machine's file, a link without its
scheme, base64 alone. Judged by the text only, so nothing about this machine is revealed."""

from __future__ import annotations

import os
import re
from typing import Final

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.errors.codes import CODES

DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")
_SANDBOXES: Final = ("/mnt/data/", "/mnt/user-data/")
"""Where the chat applications of assistants keep uploaded files, on machines of their own."""

_HOST: Final = re.compile(
    r"(www\.[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,24}|[a-z0-9-]+(\.[a-z0-9-]+)*\.[a-z]{2,24}(?=[:/]))"
    r"(:[0-9]{1,5})?(?=/|\?|$)",
    re.IGNORECASE,
)
_BASE64: Final = re.compile(r"[A-Za-z0-9+/=_\-\s]+")
_MEDIA_TYPES: Final = {
    "/9j/": "image/jpeg",
    "iVBORw0KGgo": "image/png",
    "R0lGOD": "image/gif",
    "UklGR": "image/webp",
}
"""The type of an image, by how its base64 begins."""

_SHORT, _LONG = 64, 1000
"""Characters of base64 that are no path, with and without a known beginning."""


def refused(message: str, *, code: str, fix: str = CODES["image_not_found"].fix) -> InvalidRequest:
    """The error for a refused image. It always says that nothing was charged."""
    return InvalidRequest(message, code=code, fix=f"{fix} Nothing was sent or charged.")


def in_sandbox(path: str) -> bool:
    """Whether a path is one of an assistant's own machine, unless this one has that folder too."""
    return path.removeprefix("file://").startswith(_SANDBOXES)


def on_another_machine(why: str = "") -> InvalidRequest:
    """The refusal of a file that cannot be on this machine."""
    row = CODES["image_on_another_machine"]
    return refused(f"{why}{row.sentence}.", code="image_on_another_machine", fix=row.fix)


def as_written(text: str, *, windows: bool = os.name == "nt") -> InvalidRequest | None:
    """The refusal of a text that is certainly no path here; None if it may be one."""
    if text[:8].lower() == "sandbox:":
        return on_another_machine()
    if not windows and (DRIVE.match(text) or text.startswith("\\\\")):
        return on_another_machine(
            "The image is a Windows path, but this server does not run on Windows. "
        )
    if (media_type := _base64_of(text)) is not None:
        return refused(
            "The image is base64 without the beginning of a data: URI.",
            code="image_unreadable",
            fix=f"Write data:{media_type};base64, directly before it, or save it as a file and "
            "give its path.",
        )
    if host := _HOST.match(text):
        return refused(
            "The image is neither a link nor an absolute path.",
            code="image_not_found",
            fix=f"Did you mean https://{host[0][:80]}/…? Give the whole link, with https://.",
        )
    return None


def _base64_of(text: str) -> str | None:
    """The type of an image given as base64 alone; None if the text is something else."""
    media_type = next((kind for start, kind in _MEDIA_TYPES.items() if text.startswith(start)), "")
    beginning = text[:_LONG]
    if len(text) < (_SHORT if media_type else _LONG) or not _BASE64.fullmatch(beginning):
        return None
    if not media_type and text.startswith("/"):
        return None
    return media_type or "image/png"
