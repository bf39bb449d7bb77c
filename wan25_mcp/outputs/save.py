"""Saves images on this machine: under names of ours, whole or not at all, never over a file.

An image is written under a temporary name, forced to the disk, and then given its final name,
which no other file may hold. Whenever the process dies, a final name stands for a whole image; a
temporary file left behind is removed by a later save. The names are `filenames`'; how a
folder is held is `folder`'s.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final, cast

import anyio.to_thread
import platformdirs

from wan25_mcp.errors import Wan25Error
from wan25_mcp.outputs.download import NotDownloaded, extension_of
from wan25_mcp.outputs.filenames import stem_of
from wan25_mcp.outputs.folder import Folder, opened, temporary_name
from wan25_mcp.outputs.previews import MAX_PIXELS

_TRIES: Final = 1000

Run = Callable[..., Awaitable[Any]]
"""Where blocking work runs; `anyio.to_thread.run_sync` unless a test's clock is virtual."""


class NotSaved(Wan25Error):
    """An image could not be written. `retryable`: whether trying again can help as it is."""

    def __init__(self, message: str, *, fix: str, retryable: bool) -> None:
        super().__init__(message, code="not_saved", fix=fix, retryable=retryable, charged="yes")


def default_directory() -> Path:
    """A folder of ours in the user's pictures folder; never the working directory."""
    return platformdirs.user_pictures_path() / "wan25"


def output_directory(chosen: Path | None) -> Path:
    """The folder a person chose (a relative path is one of their terminal's), else ours."""
    return chosen.absolute() if chosen else default_directory()


async def save_image(
    body: bytes,
    directory: Path,
    *,
    prompt: str,
    task_id: str,
    number: int,
    day: date | None = None,
    run: Run = anyio.to_thread.run_sync,
) -> Path:
    """Save one image into `directory`, which is made if need be. Returns its absolute path.

    Args:
        body: The image, as `download` gives it.
        directory: An absolute path; neither a root nor the bare home.
        prompt: Its first words become part of the name.
        task_id: Its end becomes part of the name.
        number: Which of the task's images it is, from 1.
        day: The date in the name; today when not given.
        run: Where the blocking work runs.

    Raises:
        NotSaved: It could not be written; no trace of it is left.
        NotDownloaded: It is not a whole image.
    """
    day = day or datetime.now(UTC).astimezone().date()
    stem, ending = stem_of(prompt, task_id, number, day), extension_of(body)
    # Not abandoned when cancelled: the caller then still learns where the image is.
    return cast("Path", await run(partial(_save, body, directory, stem, ending)))


# --- the folder ------------------------------------------------------------------------------


def check_directory(directory: Path) -> None:
    """Refuse what is no folder for images: a relative path, a root, the bare home.

    Raises:
        NotSaved: With what to do.
    """
    if not directory.is_absolute():
        raise _unfit(f"{directory} is not an absolute path")
    real = Path(os.path.realpath(directory))
    if real == real.parent:
        raise _unfit(f"{directory} is the root directory")
    with contextlib.suppress(RuntimeError):  # nobody's home
        if real == Path(os.path.realpath(Path.home())):
            raise _unfit(f"{directory} is the bare home directory")


_ELSEWHERE: Final = "Set WAN25_OUTPUT_DIR or --output to a folder with room that you may write to."


def _unfit(why: str) -> NotSaved:
    return NotSaved(
        f"The image was not saved: {why}.",
        fix="Set WAN25_OUTPUT_DIR or --output to the absolute path of a folder for images.",
        retryable=False,
    )


# --- one save --------------------------------------------------------------------------------

_DECODING: Final = threading.Lock()
"""No more than one image is held unpacked."""


def check_whole(body: bytes) -> None:
    """See that an image can be shown to its last pixel: its end alone can lie.

    Raises:
        NotDownloaded: It cannot; another download may bring it whole.
    """
    from PIL import Image

    try:
        with _DECODING, Image.open(BytesIO(body), formats=("PNG", "JPEG", "WEBP", "BMP")) as image:
            is_whole = image.width * image.height <= MAX_PIXELS  # before anything is unpacked
            if is_whole:
                image.load()
    except Exception:  # noqa: BLE001  decoders raise anything at broken bytes
        is_whole = False
    if not is_whole:
        raise NotDownloaded("The image arrived damaged: it cannot be shown.", retryable=True)


def _save(body: bytes, directory: Path, stem: str, ending: str) -> Path:
    check_directory(directory)
    check_whole(body)
    try:
        with opened(directory) as folder:
            folder.remove_stale()
            return directory / _save_in(folder, body, stem, ending)
    except OSError as error:
        raise _not_written(directory, error) from error


def _save_in(folder: Folder, body: bytes, stem: str, ending: str) -> str:
    temporary = temporary_name()
    try:
        folder.write(temporary, body)
        name = _name(folder, temporary, stem, ending)
    except BaseException:
        folder.remove(temporary)
        raise
    folder.settle()
    if not folder.is_in_place():
        # The image is in what was opened, wherever that is now: a path to it would be a guess.
        folder.remove(name)
        raise OSError(errno.ESTALE, "was replaced")
    return name


def _name(folder: Folder, temporary: str, stem: str, ending: str) -> str:
    for attempt in range(1, _TRIES):
        final = f"{stem}{ending}" if attempt == 1 else f"{stem}-{attempt}{ending}"
        with contextlib.suppress(FileExistsError):
            folder.rename(temporary, final)
            return final
    raise FileExistsError(errno.EEXIST, "too many files of that name")


_FAULTS: Final[dict[int, tuple[str, bool]]] = {
    errno.ENOSPC: ("the disk is full", True),
    errno.EDQUOT: ("your quota of the disk is used up", True),
    errno.EFBIG: ("files of that size are not allowed there", False),
    errno.EROFS: ("the disk is read-only", False),
    errno.EACCES: ("you may not write there", False),
    errno.EPERM: ("you may not write there", False),
    errno.ENOTDIR: ("it is not a folder, or is a link to one", False),
    errno.EEXIST: ("a file is in the way", False),
    errno.ELOOP: ("it is a link; name the folder it leads to", False),
    errno.ENAMETOOLONG: ("the path is too long", False),
    errno.ENOENT: ("the folder disappeared", True),
    errno.ESTALE: ("the folder was replaced meanwhile", True),
    errno.EIO: ("the disk failed", True),
}
"""What stopped a write, and whether the same can succeed later."""


def _not_written(directory: Path, error: OSError) -> NotSaved:
    plain = (error.strerror or "unknown").lower()
    reason, retryable = _FAULTS.get(error.errno or 0, (plain, True))
    return NotSaved(
        f"The image could not be written to {directory}: {reason}.",
        fix=_ELSEWHERE,
        retryable=retryable,
    )
