"""What a caller named, as bytes: a local file in an allowed folder, or a `data:` URI. No Pillow.

Two checks, and a file must pass both. The text of its path must begin with an allowed folder, so
nothing elsewhere is touched at all and an answer never tells whether it exists. Then the real place
of the file decides, before and after it is opened, whatever symlinks led there. A hard link in an
allowed folder is a file in that folder: nothing can tell its two names apart.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import platformdirs

from wan25_mcp.error_codes import CODES
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.open_safely import (
    NotAFile,
    OpenFile,
    Replaced,
    is_marked_hidden,
    open_real,
    real_folder,
)
from wan25_mcp.inputs.sources import data_of, path_of, refused

MAX_FILE_BYTES: Final = 100_000_000
"""Far more than the provider takes: a large photograph is made smaller, not refused."""

_BEGINNING: Final = 1024
_PIECE: Final = 1 << 20
_KERNEL: Final = ("/proc/", "/sys/")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Picture:
    """An image as it came. `name` is for people: no folders, no control characters."""

    content: bytes
    name: str
    sha256: str

    @classmethod
    def of(cls, content: bytes, name: str) -> Picture:
        return cls(content, name, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class LocalFile:
    """An image file as it was when a call named it.

    Its bytes are read again when it is their turn: a hundred megabytes that wait take no memory.
    """

    source: str
    name: str
    sha256: str
    pixels: int

    def read(self, allowed: Sequence[Path]) -> Picture:
        """Read it again. Blocks: call it in a worker thread.

        Raises:
            InvalidRequest: As `read_source`; with `image_unreadable` when it is another now.
        """
        picture = read_source(self.source, allowed)
        if picture.sha256 != self.sha256:
            raise refused(
                f'The image "{self.name}" was changed before it was uploaded.',
                code="image_unreadable",
                fix="Call again when no program writes to it.",
            )
        return picture


def is_link(source: str) -> bool:
    """Whether it is for the provider to download; `url_safety` judges those."""
    return source[:8].lower().startswith(("http://", "https://"))


def is_data(source: str) -> bool:
    """Whether the image is inside the text."""
    return source[:5].lower() == "data:"


def default_input_dirs(output_dir: Path | None) -> tuple[Path, ...]:
    """Where people keep images: their pictures, downloads, desktop and documents, and our output.

    Folders that do not exist are passed over when a file is read, so one that appears later works.
    """
    candidates = (
        platformdirs.user_pictures_path(),
        platformdirs.user_downloads_path(),
        platformdirs.user_desktop_path(),
        platformdirs.user_documents_path(),
        *((output_dir,) if output_dir else ()),
    )
    return tuple(dict.fromkeys(path for path in candidates if not _holds_home(path)))


def _holds_home(path: Path) -> bool:
    """On Linux a folder the user does not have is configured as the home directory itself."""
    home = Path(os.path.realpath(Path.home()))
    return home.is_relative_to(os.path.realpath(path))


def read_source(source: str, allowed: Sequence[Path]) -> Picture:
    """Read what a caller named. Blocks: call it in a worker thread.

    Args:
        source: A path, a `file:` URI or a `data:` URI.
        allowed: The folders local files may lie in; empty when there are none.

    Raises:
        InvalidRequest: With the code `image_not_found`, `image_not_allowed`, `image_unreadable`
            or `image_unusable`.
    """
    if is_data(source):
        return Picture.of(data_of(source), "data URI")
    path = _path_of(source, allowed)
    return Picture.of(_found(path, allowed, _content), _display_name(path))


def find_file(
    source: str, allowed: Sequence[Path], check: Callable[[Picture, BinaryIO], int]
) -> LocalFile:
    """Judge a local file and what is in it, a piece at a time. Blocks, as `read_source`.

    Args:
        check: Told the beginning of the image and the whole as a file; returns how many pixels.

    Raises:
        InvalidRequest: As `read_source`, or as `check`.
    """
    path = _path_of(source, allowed)
    name = _display_name(path)

    def look(found: OpenFile, path: str) -> LocalFile:
        beginning = Picture(found.file.read(_BEGINNING), name, _sha256(found, path))
        found.file.seek(0)
        return LocalFile(source, name, beginning.sha256, check(beginning, found.file))

    return _found(path, allowed, look)


def _sha256(found: OpenFile, path: str) -> str:
    digest = hashlib.sha256()
    found.file.seek(0)
    while piece := found.file.read(_PIECE):
        digest.update(piece)
        if found.file.tell() > found.size:
            raise _still_written(path)
    return digest.hexdigest()


def _path_of(source: str, allowed: Sequence[Path]) -> str:
    if not allowed:
        raise refused(
            "This server reads no local files.",
            code="image_not_allowed",
            fix="Set WAN25_INPUT_DIRS in the server's environment to the folders it may read, or "
            "give a public https:// link or a data: URI.",
        )
    return path_of(source)


# --- the allowed folders --------------------------------------------------------------------


@dataclass(frozen=True)
class _Folders:
    """The allowed folders that exist now, as configured and as they really are."""

    configured: tuple[str, ...]
    real: tuple[str, ...]

    @classmethod
    def at(cls, allowed: Iterable[Path]) -> _Folders:
        pairs = [(os.path.normpath(path), real_folder(str(path))) for path in allowed]
        found = [(configured, real) for configured, real in pairs if real is not None]
        return cls(tuple(one for one, _ in found), tuple(real for _, real in found))

    def check_text(self, path: str) -> None:
        """Whether a path as it was given begins in one of them."""
        folded = _folded(path)
        if not any(_is_below(_folded(one), folded) for one in (*self.configured, *self.real)):
            raise self.not_allowed(path)

    def check(self, real: str, path: str) -> None:
        """Whether a real place is in one of them, and not hidden below it."""
        # The kernel's own files are no files of anybody, even where everything is allowed.
        inside = [one for one in self.real if _is_below(_folded(one), _folded(real))]
        if not inside or real.startswith(_KERNEL):
            raise self.not_allowed(path)
        if all(_is_hidden(one, real) for one in inside):
            raise _refused_file(path, "is hidden or in a hidden folder, and those are never read")

    def not_allowed(self, path: str) -> InvalidRequest:
        """The same whether or not there is such a file."""
        places = ", ".join(dict.fromkeys(self.configured)) or "a folder it may read (none exists)"
        return refused(
            f'The image "{_display_name(path)}" is not in a folder this server may read.',
            code="image_not_allowed",
            fix=f"Copy it into one of these: {places}. Or add its folder to WAN25_INPUT_DIRS, or "
            "give a public https:// link.",
        )


def _is_below(folder: str, path: str) -> bool:
    start = folder.rstrip(os.sep) + os.sep
    return path.startswith(start) and path != start


def _folded(path: str) -> str:
    """As the file system compares names: macOS and Windows ignore case, macOS composition too."""
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
    return any(is_marked_hidden(step) for step in steps)


# --- one file -------------------------------------------------------------------------------


def _found(path: str, allowed: Sequence[Path], use: Callable[[OpenFile, str], Found]) -> Found:
    """What is made of the file at a path, if it may be read."""
    folders = _Folders.at(allowed)
    folders.check_text(path)
    try:
        real = os.path.realpath(path, strict=True)
        folders.check(real, path)
        with open_real(real) as found:
            folders.check(found.path, path)
            if found.size > MAX_FILE_BYTES:
                raise _too_large(path, found.size)
            return use(found, path)
    except (OSError, ValueError) as error:
        # Where it would be decides what may be said: a symlink may lead to a place that is absent.
        folders.check(_would_be(path), path)
        raise _not_read(path, error) from None


def _would_be(path: str) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError, RecursionError):
        return ""


def _content(found: OpenFile, path: str) -> bytes:
    content = found.file.read(found.size + 1)
    if len(content) > found.size:
        raise _still_written(path)
    return content


def _still_written(path: str) -> InvalidRequest:
    return _refused_file(
        path,
        "is still being written",
        code="image_unreadable",
        fix="Call again when it is complete.",
    )


def _refused_file(
    path: str,
    why: str,
    *,
    code: str = "image_not_allowed",
    fix: str = CODES["image_not_allowed"].fix,
) -> InvalidRequest:
    return refused(f'The image "{_display_name(path)}" {why}.', code=code, fix=fix)


def _too_large(path: str, size: int) -> InvalidRequest:
    # Rounded up, or a file just above the limit would seem to be at it.
    megabytes = math.ceil(size / 100_000) / 10
    return _refused_file(
        path,
        f"is {megabytes:.1f} MB; the limit is {MAX_FILE_BYTES // 1_000_000} MB",
        code="image_unusable",
        fix="Save a smaller copy, such as a JPEG of at most 5000 pixels on each side, which is the "
        "model's limit, and give that.",
    )


def _not_read(path: str, error: Exception) -> InvalidRequest:
    if isinstance(error, IsADirectoryError):
        return _refused_file(path, "is a folder", code="image_unusable")
    if isinstance(error, Replaced):
        return _still_written(path)
    if isinstance(error, NotAFile):
        return _refused_file(path, "is not an ordinary file")
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL):
        return _refused_file(
            path,
            "does not exist",
            code="image_not_found",
            fix="Check the path. It must exist on the computer that this server runs on.",
        )
    reason = os.strerror(number).lower() if number else "for an unknown reason"
    return _refused_file(
        path,
        f"cannot be read ({reason})",
        code="image_unreadable",
        fix="Check that the file is complete and that this server may read it, or give another.",
    )


def _display_name(path: str) -> str:
    """The file's own name, fit to stand in a sentence."""
    plain = path.replace("\\", "/") if os.sep == "\\" else path
    name = plain.rstrip("/").rpartition("/")[2].encode("utf-8", "replace").decode("utf-8")
    printable = "".join(letter if letter.isprintable() else "?" for letter in name) or "(no name)"
    return printable if len(printable) <= 60 else f"{printable[:40]}…{printable[-15:]}"
