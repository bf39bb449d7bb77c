"""The folders that local images may be read from, and whether a path is in one of them.

A path is checked twice. First its text, before the file system is accessed, so that an answer does
not reveal whether a file elsewhere exists. Then its real path, with symlinks resolved.
"""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.misspelt import in_sandbox, on_another_machine, refused
from wan25_mcp.inputs.sources import display_name

_KERNEL: Final = ("/proc/", "/sys/")


@dataclass(frozen=True)
class AllowedFolders:
    """The allowed folders that exist now, by their configured and their real paths."""

    configured: tuple[str, ...]
    real: tuple[str, ...]

    @classmethod
    def at(cls, allowed: Iterable[Path]) -> AllowedFolders:
        pairs = [(os.path.normpath(path), _real_folder(str(path))) for path in allowed]
        found = [(configured, real) for configured, real in pairs if real is not None]
        return cls(tuple(one for one, _ in found), tuple(real for _, real in found))

    def check_text(self, path: str) -> None:
        """Refuse a path whose text is in none of them.

        Raises:
            InvalidRequest: `image_not_allowed`, or `image_on_another_machine`.
        """
        folded = _folded(path)
        if not any(_is_below(_folded(one), folded) for one in (*self.configured, *self.real)):
            raise on_another_machine() if in_sandbox(path) else self.not_allowed(path)

    def check(self, real: str, path: str) -> None:
        """Refuse a real path that is in none of them, or is hidden inside one.

        Raises:
            InvalidRequest: `image_not_allowed`.
        """
        # Files of the kernel are not images, even if every folder is allowed.
        inside = [one for one in self.real if _is_below(_folded(one), _folded(real))]
        if not inside or real.startswith(_KERNEL):
            raise self.not_allowed(path)
        if all(_is_hidden(one, real) for one in inside):
            raise refused(
                f'The image "{display_name(path)}" is hidden or in a hidden folder. Hidden files '
                "are never read.",
                code="image_not_allowed",
            )

    def not_allowed(self, path: str) -> InvalidRequest:
        """The same error whether or not the file exists."""
        places = ", ".join(dict.fromkeys(self.configured)) or "a folder it may read (none exists)"
        return refused(
            f'The image "{display_name(path)}" is not in a folder that this server may read.',
            code="image_not_allowed",
            fix=f"Copy it into one of these: {places}. Or add its folder to WAN25_INPUT_DIRS, or "
            "give a public https:// link.",
        )


class _AnyFolder(AllowedFolders):
    """Every folder, hidden ones too."""

    def check_text(self, path: str) -> None:
        """Refuse nothing."""

    def check(self, real: str, path: str) -> None:
        """Refuse nothing."""


ANY_FOLDER: Final = _AnyFolder((), ())
"""For a program that reads its own user's files."""


def _is_below(folder: str, path: str) -> bool:
    start = folder.rstrip(os.sep) + os.sep
    return path.startswith(start) and path != start


def _folded(path: str) -> str:
    """A path for comparison: macOS and Windows ignore case, macOS also Unicode composition."""
    if sys.platform == "darwin":
        return unicodedata.normalize("NFC", path).casefold()
    return os.path.normcase(path)


def _is_hidden(folder: str, path: str) -> bool:
    """Whether a path has a hidden part below the folder."""
    parts, above = path.split(os.sep), folder.rstrip(os.sep).count(os.sep) + 1  # noqa: PTH206 - texts
    if any(part.startswith(".") for part in parts[above:]):
        return True
    if sys.platform == "linux":
        return False
    steps = (os.sep.join(parts[:depth]) for depth in range(above + 1, len(parts) + 1))  # noqa: PTH118
    return any(_is_marked_hidden(step) for step in steps)


def _real_folder(path: str) -> str | None:
    """The real path of a folder; None if it does not exist."""
    with suppress(OSError, ValueError):
        real = os.path.realpath(path, strict=True)
        return real if os.path.isdir(real) else None  # noqa: PTH112 - text
    return None


def _is_marked_hidden(path: str) -> bool:
    """Whether Windows or macOS hides it by an attribute, like `AppData` or `Library`."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    by_windows = getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN
    by_macos = getattr(status, "st_flags", 0) & stat.UF_HIDDEN
    return bool(by_windows or by_macos)
