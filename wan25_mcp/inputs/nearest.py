"""Finds the image that was probably meant by a path with a typo.

Only its own folder is searched, and only files that may be read are named.
"""

from __future__ import annotations

import os
import unicodedata
from contextlib import suppress
from difflib import get_close_matches
from itertools import islice
from typing import Final

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.folders import AllowedFolders

_MAX_NAMES: Final = 5000
"""Names of a folder that are compared: enough for a camera's, and quick."""

IMAGES: Final = (
    ".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif",
)  # fmt: skip


def nearest_image(path: str, folders: AllowedFolders) -> str | None:
    """The name of an image in the folder of `path` that is spelt almost like it. Blocks."""
    folder, name = os.path.split(path)
    names: list[str] = []
    with suppress(OSError, ValueError, InvalidRequest):
        real = os.path.realpath(folder, strict=True)
        # Before it is listed: the folder may be a symlink to one that may not be read.
        folders.check(os.path.join(real, "name"), path)  # noqa: PTH118  text
        with os.scandir(real) as entries:
            names = [entry.name for entry in islice(entries, _MAX_NAMES) if _may_name(entry.name)]
    spelt = {_folded(one): one for one in names}
    for close in get_close_matches(_folded(name), spelt, n=3, cutoff=0.6):
        if _may_be_read(os.path.join(folder, spelt[close]), folders):  # noqa: PTH118  text
            return spelt[close]
    return None


def _may_name(name: str) -> bool:
    """Whether a name is an image's and can stand in a sentence, with any kind of space in it."""
    is_text = all(one.isprintable() or unicodedata.category(one) == "Zs" for one in name)
    return is_text and not name.startswith(".") and name.lower().endswith(IMAGES)


def _may_be_read(path: str, folders: AllowedFolders) -> bool:
    try:
        real = os.path.realpath(path, strict=True)
        folders.check(real, path)
    except (OSError, ValueError, InvalidRequest):
        return False
    return os.path.isfile(real)  # noqa: PTH113  text


def _folded(name: str) -> str:
    return unicodedata.normalize("NFKC", name).casefold()
