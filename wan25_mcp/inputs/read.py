"""Reads an image of a call: a local file in an allowed folder, or a `data:` URI. No Pillow.

The real path of a file is checked before and after it is opened. A hard link in an allowed folder
is a file in that folder: its two names cannot be distinguished.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

import platformdirs

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.folders import ANY_FOLDER, AllowedFolders
from wan25_mcp.inputs.misspelt import as_written, in_sandbox, on_another_machine, refused
from wan25_mcp.inputs.nearest import nearest_image
from wan25_mcp.inputs.open_safely import NotAFile, OpenFile, Replaced, open_real
from wan25_mcp.inputs.sources import data_of, display_name, path_of

MAX_FILE_BYTES: Final = 100_000_000
"""Far above the provider's limit, because a large photograph is scaled down, not refused."""

_BEGINNING: Final = 1024
_PIECE: Final = 1 << 20
Found = TypeVar("Found")
Folders = Sequence[Path] | None
"""The folders that local files may be in: none if it is empty, any if it is None, as for a program
that reads its own user's files."""


@dataclass(frozen=True)
class Picture:
    """An image's file. `name` is for messages: no folders, no control characters."""

    content: bytes
    name: str
    sha256: str

    @classmethod
    def of(cls, content: bytes, name: str) -> Picture:
        return cls(content, name, hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class LocalFile:
    """An image file as it was when a call named it. Its bytes are not held in memory."""

    source: str
    name: str
    sha256: str
    pixels: int
    allowed: Folders

    def read(self) -> Picture:
        """Read it again. Blocks: call it in a worker thread.

        Raises:
            InvalidRequest: As `read_source`; `image_unreadable` if it was changed since.
        """
        picture = read_source(self.source, self.allowed)
        if picture.sha256 != self.sha256:
            raise refused(
                f'The image "{self.name}" was changed before it was uploaded.',
                code="image_unreadable",
                fix="Call again when no program is writing to it.",
            )
        return picture


def is_link(source: str) -> bool:
    """Whether it is a link for the provider to download. `url_safety` checks those."""
    return source[:8].lower().startswith(("http://", "https://"))


def is_data(source: str) -> bool:
    """Whether the image is inside the text."""
    return source[:5].lower() == "data:"


def default_input_dirs(output_dir: Path | None) -> tuple[Path, ...]:
    """The usual folders of images: pictures, downloads, desktop, documents, and the output.

    Missing folders are skipped when a file is read, so one that is created later is used.
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
    """Whether the home directory is in it: on Linux it stands for a folder that does not exist."""
    home = Path(os.path.realpath(Path.home()))
    return home.is_relative_to(os.path.realpath(path))


def read_source(source: str, allowed: Folders) -> Picture:
    """Read an image that a caller gave. Blocks: call it in a worker thread.

    Args:
        source: A path, a `file:` URI or a `data:` URI.
        allowed: Where local files may be.

    Raises:
        InvalidRequest: With the code `image_not_found`, `image_not_allowed`, `image_unreadable`
            or `image_unusable`.
    """
    if is_data(source):
        return Picture.of(data_of(source), "data URI")
    path = _path_of(source, allowed)
    return Picture.of(_found(path, allowed, _content), display_name(path))


def find_file(
    source: str, allowed: Folders, check: Callable[[Picture, BinaryIO], int]
) -> LocalFile:
    """Check a local file and its content, reading it in pieces. Blocks, like `read_source`.

    Args:
        check: Gets the beginning of the image and the open file; returns its number of pixels.

    Raises:
        InvalidRequest: As `read_source`, or as `check`.
    """
    path = _path_of(source, allowed)
    name = display_name(path)

    def checked(found: OpenFile, path: str) -> LocalFile:
        beginning = Picture(found.file.read(_BEGINNING), name, _sha256(found, path))
        found.file.seek(0)
        pixels = check(beginning, found.file)
        return LocalFile(source, name, beginning.sha256, pixels, allowed)

    return _found(path, allowed, checked)


def _sha256(found: OpenFile, path: str) -> str:
    digest = hashlib.sha256()
    found.file.seek(0)
    while piece := found.file.read(_PIECE):
        digest.update(piece)
        if found.file.tell() > found.size:
            raise _still_written(path)
    return digest.hexdigest()


def _path_of(source: str, allowed: Folders) -> str:
    if allowed is None or allowed:
        return path_of(source)
    if (refusal := as_written(source)) is not None:
        raise refusal
    if in_sandbox(source):
        raise on_another_machine()
    raise refused(
        "This server does not read local files.",
        code="image_not_allowed",
        fix="Set WAN25_INPUT_DIRS in the server's environment to the folders that it may read, "
        "or give a public https:// link or a data: URI.",
    )


# --- one file -------------------------------------------------------------------------------


def _found(path: str, allowed: Folders, use: Callable[[OpenFile, str], Found]) -> Found:
    """Open the file at a path, if it may be read, and return the result of `use`."""
    folders = ANY_FOLDER if allowed is None else AllowedFolders.at(allowed)
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
        # The reason may be given only for an allowed place: a symlink can lead anywhere.
        folders.check(_would_be(path), path)
        raise _not_read(path, error, folders) from None


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
    return refused(f'The image "{display_name(path)}" {why}.', code=code, fix=fix)


def _too_large(path: str, size: int) -> InvalidRequest:
    # Rounded up, because a file just above the limit must not appear to be at the limit.
    megabytes = math.ceil(size / 100_000) / 10
    return _refused_file(
        path,
        f"is {megabytes:.1f} MB; the limit is {MAX_FILE_BYTES // 1_000_000} MB",
        code="image_unusable",
        fix="Save a smaller copy, such as a JPEG of at most 5000 pixels on each side, which is the "
        "model's limit, and give that.",
    )


def _not_read(path: str, error: Exception, folders: AllowedFolders) -> InvalidRequest:
    if isinstance(error, IsADirectoryError):
        return _refused_file(path, "is a folder", code="image_unusable")
    if isinstance(error, Replaced):
        return _still_written(path)
    if isinstance(error, NotAFile):
        return _refused_file(path, "is not an ordinary file")
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL):
        near = nearest_image(path, folders)
        meant = "" if near is None else f'Did you mean "{near}" in the same folder? '
        return _refused_file(
            path,
            "does not exist",
            code="image_not_found",
            fix=f"{meant}Check the path. It must exist on the computer that this server runs on.",
        )
    reason = os.strerror(number).lower() if number else "for an unknown reason"
    return _refused_file(
        path,
        f"cannot be read ({reason})",
        code="image_unreadable",
        fix="Check that the file is complete and that this server may read it, or give another.",
    )
