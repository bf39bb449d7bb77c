"""Saves images on this machine: under names made here, whole or not at all, never over a file.

An image is written under a temporary name, forced to the disk, and then given its final name, which
no other file may have. So even if the process dies, a file with a final name is a complete image. A
later save removes temporary files left behind. `filenames` makes the names; `folder` opens the
folder.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import threading
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final, cast

import anyio.to_thread
import platformdirs

from wan25_mcp.errors import SettingsError, Wan25Error
from wan25_mcp.outputs.download import NotDownloaded, extension_of
from wan25_mcp.outputs.filenames import ImageName
from wan25_mcp.outputs.folder import Folder, opened, temporary_name
from wan25_mcp.outputs.previews import FORMATS, MAX_PIXELS, Run

_MAX_NAMES: Final = 1000
_TRIED_BYTES: Final = 1_000_000
_NOTHING_SENT: Final = "; nothing was sent"


class NotSaved(Wan25Error):
    """An image could not be written."""

    def __init__(self, message: str, *, fix: str | None = None, retryable: bool = False) -> None:
        super().__init__(message, code="not_saved", fix=fix, retryable=retryable)


def default_directory() -> Path:
    """The folder `wan25` in the user's pictures folder."""
    return platformdirs.user_pictures_path() / "wan25"


def output_directory(chosen: Path | None) -> Path:
    """The chosen folder (a relative path starts at the working directory), else the default."""
    return chosen.absolute() if chosen else default_directory()


async def save_image(
    body: bytes, directory: Path, name: ImageName, *, run: Run = anyio.to_thread.run_sync
) -> Path:
    """Save one image into `directory`, which is created if needed. Returns its absolute path.

    Args:
        body: The image, as `download` returns it.
        directory: An absolute path; neither a root directory nor the home directory itself.

    Raises:
        NotSaved: It could not be written; no part of it is left.
        NotDownloaded: It is not a complete image.
    """
    stem, extension = name.stem(), extension_of(body)
    # Not abandoned on cancellation, so that the caller always gets the path of a saved image.
    return cast("Path", await run(partial(_save, body, directory, stem, extension)))


async def copy_image(path: Path, directory: Path) -> Path:
    """Copy a saved image into another folder, once. Returns where it is there. Raises as above."""

    def copy() -> Path:
        if os.path.realpath(path.parent) == os.path.realpath(directory):
            return path
        try:
            body = path.read_bytes()
        except OSError as error:
            reason = (error.strerror or "unknown").lower()
            raise NotSaved(f"The image cannot be read from {path} ({reason}).") from None
        return _save(body, directory, path.stem, path.suffix)

    return await anyio.to_thread.run_sync(copy)


# --- the folder ------------------------------------------------------------------------------


def check_output(chosen: Path | None, note: str = _NOTHING_SENT) -> None:
    """Check, before an edit is paid for, that its results can be saved. Blocks.

    Args:
        note: What is added to the error's sentence.

    Raises:
        SettingsError: The folder (None: the default one) is unsuitable, or cannot be written to.
    """
    folder = output_directory(chosen and chosen.expanduser())
    what = _unsuitable(folder)
    if what is not None:
        raise _no_place(folder, what, note)
    check_writable(folder, note)


def check_writable(folder: Path, note: str = _NOTHING_SENT) -> None:
    """Check that a folder can be written to. It is not made yet: the edit may be declined.

    Raises:
        SettingsError: It cannot be made, or not be written to.
    """
    try:
        with tempfile.TemporaryFile(dir=_existing(folder)) as file:
            file.write(bytes(_TRIED_BYTES))  # an empty file has room on a full disk
            file.flush()
    except OSError as error:
        raise _no_place(folder, (error.strerror or "unknown").lower(), note) from None


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists.

    Raises:
        OSError: The folder cannot be made in it, because of its name or of a file.
    """
    for one in (folder, *folder.parents):
        with contextlib.suppress(FileNotFoundError):
            one.lstat()
            for name in folder.relative_to(one).parts:
                with contextlib.suppress(FileNotFoundError):
                    (one / name).lstat()  # too long, or of wrong characters
            return one
    return folder


def _no_place(folder: Path, reason: str, note: str) -> SettingsError:
    return SettingsError(
        f"Images cannot be saved in {folder} ({reason}){note}.",
        fix="Choose another folder with --output or WAN25_OUTPUT_DIR.",
    )


def check_directory(directory: Path) -> None:
    """Refuse an unsuitable folder: a relative path, a root directory, the home directory itself.

    Raises:
        NotSaved: With what to do.
    """
    what = _unsuitable(directory)
    if what is not None:
        raise NotSaved(
            f"The image was not saved: {directory} is {what}.",
            fix="Set WAN25_OUTPUT_DIR or --output to the absolute path of a folder for images.",
        )


def _unsuitable(directory: Path) -> str | None:
    real = Path(os.path.realpath(directory))
    home = None
    with contextlib.suppress(RuntimeError):  # a user without a home directory
        home = Path(os.path.realpath(Path.home()))
    if not directory.is_absolute():
        return "not an absolute path"
    if real == real.parent:
        return "the root directory"
    return "the home directory itself" if real == home else None


# --- one save --------------------------------------------------------------------------------

_DECODING: Final = threading.Lock()
"""Held while an image is decoded, so that only one at a time is in memory."""


def check_complete(body: bytes) -> None:
    """Check that an image can be decoded to its last pixel. An intact end is not proof enough.

    Raises:
        NotDownloaded: It cannot be decoded. Another download may return it complete.
    """
    from PIL import Image

    try:
        with _DECODING, Image.open(BytesIO(body), formats=FORMATS) as image:
            is_complete = image.width * image.height <= MAX_PIXELS  # before anything is decoded
            if is_complete:
                image.load()
    except Exception:  # noqa: BLE001  for broken bytes a decoder may raise anything
        is_complete = False
    if not is_complete:
        raise NotDownloaded("The image arrived damaged: it cannot be decoded.", retryable=True)


def _save(body: bytes, directory: Path, stem: str, extension: str) -> Path:
    check_directory(directory)
    check_complete(body)
    try:
        with opened(directory) as folder:
            folder.remove_stale()
            return directory / _save_in(folder, body, stem, extension)
    except OSError as error:
        system = (error.strerror or "unknown").lower()
        reason, retryable = _FAULTS.get(error.errno or 0, (system, True))
        message = f"The image could not be written to {directory}: {reason}."
        raise NotSaved(message, retryable=retryable) from error


def _save_in(folder: Folder, body: bytes, stem: str, extension: str) -> str:
    temporary = temporary_name()
    try:
        folder.write(temporary, body)
        name = _rename(folder, temporary, stem, extension, body)
    except BaseException:
        folder.remove(temporary)
        raise
    folder.sync()
    if not folder.is_in_place():
        # The image is in the folder that was opened, but the path of that folder is now unknown.
        folder.remove(name)
        raise OSError(errno.ESTALE, "was replaced")
    return name


def _rename(folder: Folder, temporary: str, stem: str, extension: str, body: bytes) -> str:
    """The name that the file has now; that of an identical one, if there is one already.

    It is there when a process was killed before it could record in the journal what it had saved.
    """
    for count in range(1, _MAX_NAMES):
        name = f"{stem}{extension}" if count == 1 else f"{stem}-{count}{extension}"
        try:
            folder.rename(temporary, name)
        except FileExistsError:
            if not folder.holds(name, body):
                continue
            folder.remove(temporary)
        return name
    raise FileExistsError(errno.EEXIST, "too many files of that name")


_FAULTS: Final[dict[int, tuple[str, bool]]] = {
    errno.ENOSPC: ("the disk is full", True),
    errno.EDQUOT: ("your disk quota is used up", True),
    errno.EFBIG: ("files of that size are not allowed there", False),
    errno.EROFS: ("the disk is read-only", False),
    errno.EACCES: ("you may not write there", False),
    errno.EPERM: ("you may not write there", False),
    errno.ENOTDIR: ("it is not a folder, or is a link to one", False),
    errno.EEXIST: ("a file of that name exists", False),
    errno.ELOOP: ("it is a link; give the folder that it leads to", False),
    errno.ENAMETOOLONG: ("the path is too long", False),
    errno.ENOENT: ("the folder disappeared", True),
    errno.ESTALE: ("the folder was replaced at the same time", True),
    errno.EIO: ("the disk failed", True),
}
"""Why a write failed, and whether the same write can succeed later."""
