"""Saves images on this machine: under names of ours, whole or not at all, never over a file.

An image is written under a temporary name, forced to the disk, and then given its final name,
which no other file may hold. Whenever the process dies, a final name stands for a whole image; a
temporary file left behind is removed by a later save. Where the system can (not on Windows), the
folder is opened once and everything happens inside what was opened, so that nobody can put a link
in its place on the way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import anyio.to_thread
import httpx2
import platformdirs

from wan25_mcp.errors import Wan25Error
from wan25_mcp.images.downloading import download, ending_of

STALE_SECONDS: Final = 3600.0
"""A write takes seconds: a temporary file this old belongs to a process that died."""

MAX_WORD_BYTES: Final = 60
"""Of the prompt, in UTF-8. With the rest a name stays under the 143 bytes of eCryptfs, the
shortest limit in use, and a path under the 260 characters of Windows."""

MAX_WORDS: Final = 6
_TEMPORARY: Final = re.compile(r"\.wan25-[0-9a-f]{16}\.part")
_TRIES: Final = 1000
_CAN_HOLD_FOLDERS: Final = {
    os.open,
    os.link,
} <= os.supports_dir_fd and os.link in os.supports_follow_symlinks

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
        body: The image, whole, as `download` gives it.
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
    stem, ending = stem_of(prompt, task_id, number, day), ending_of(body)
    # Not abandoned when cancelled: the caller then still learns where the image is.
    return cast("Path", await run(partial(_save, body, directory, stem, ending)))


async def save_images(
    http: httpx2.AsyncClient,
    links: Sequence[str],
    directory: Path,
    *,
    prompt: str,
    task_id: str,
    trusted: Collection[str] = (),
) -> AsyncIterator[Path]:
    """Download and save each link's image, telling each file as soon as it is there.

    Raises:
        NotDownloaded, NotSaved: As `download` and `save_image` do; what was saved stays.
    """
    for number, link in enumerate(links, 1):
        body = await download(link, http=http, trusted=trusted)
        yield await save_image(body, directory, prompt=prompt, task_id=task_id, number=number)


# --- names -----------------------------------------------------------------------------------


def stem_of(prompt: str, task_id: str, number: int, day: date) -> str:
    """A file name without its ending: date, words of the prompt, short id, number.

    It begins with a digit and ends with one, so that it is no device of Windows, no hidden file
    and no option of a command, and has no trailing dot or space.
    """
    short = re.sub(r"[^A-Za-z0-9]", "", task_id)[-6:]
    return "-".join([day.isoformat(), _words(prompt) or "edit", short or "task", str(number)])


def _words(prompt: str) -> str:
    """The first words, in the script they were written in: every file system in use takes them.

    Letters, digits and the marks that belong to them only, in one of the forms that look alike
    (NFKC); nothing that is invisible or turns the direction of writing.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prompt[:400]).lower())
    spaced = "".join(one if _is_of_a_word(one) else " " for one in plain)
    kept = ""
    words = [word for word in spaced.split() if unicodedata.category(word[0])[0] != "M"]
    for word in words[:MAX_WORDS]:
        longer = f"{kept}-{word}" if kept else word
        if len(longer.encode()) > MAX_WORD_BYTES:
            # A script without spaces is cut where there is no more room.
            return kept or word.encode()[:MAX_WORD_BYTES].decode(errors="ignore")
        kept = longer
    return kept


_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Letters and marks that show as nothing, which some file systems skip when they compare names."""


def _is_of_a_word(one: str) -> bool:
    category = unicodedata.category(one)
    plain = category[0] == "L" or category in ("Mn", "Mc", "Nd")
    return plain and not _INVISIBLE.match(one)


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


class _Folder:
    """The folder as it was opened. Names are relative to it, and are never followed if links."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def _place(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    def write(self, name: str, body: bytes) -> None:
        """A new file with the body, on the disk when this returns."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.open(self._place(name), flags, 0o666, dir_fd=self._descriptor)
        with open(file, "wb", buffering=0) as opened:  # noqa: PTH123  a descriptor, not a path
            left = memoryview(body)
            while left:
                left = left[opened.write(left) :]
            os.fsync(file)

    def rename(self, old: str, new: str) -> None:
        """Give a file its final name.

        Raises:
            FileExistsError: Another file, or a link, holds the name.
        """
        if os.name == "nt":
            os.rename(self._place(old), self._place(new))  # noqa: PTH104  refuses to overwrite
            return
        try:
            self._link(old, new)
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._claim(old, new)
        else:
            self.remove(old)

    def _link(self, old: str, new: str) -> None:
        where = self._descriptor
        os.link(
            self._place(old),
            self._place(new),
            src_dir_fd=where,
            dst_dir_fd=where,
            follow_symlinks=where is None,  # where it matters; some systems only know one way
        )

    def _claim(self, old: str, new: str) -> None:
        """For file systems without hard links (exFAT, some network shares): an empty file takes
        the name first. A process killed in between leaves that, never half an image."""
        where = self._descriptor
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        os.close(os.open(self._place(new), flags, 0o666, dir_fd=where))
        try:
            os.replace(self._place(old), self._place(new), src_dir_fd=where, dst_dir_fd=where)
        except OSError:
            self.remove(new)
            raise

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(self._place(name), dir_fd=self._descriptor)

    def settle(self) -> None:
        """Force the names to the disk too, where the file system knows how."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    def is_in_place(self) -> bool:
        """Whether the path still leads to what was opened."""
        if self._descriptor is None:
            return True
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
        return False

    def remove_stale(self) -> None:
        """Remove what processes that died left behind."""
        eldest = time.time() - STALE_SECONDS
        with contextlib.suppress(OSError):
            where = self.path if self._descriptor is None else self._descriptor
            with os.scandir(where) as entries:
                old = [entry.name for entry in entries if _is_stale(entry, eldest)]
            for name in old:
                self.remove(name)


_NO_HARD_LINKS: Final = {
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EINVAL,
}


def _is_stale(entry: os.DirEntry[str], eldest: float) -> bool:
    if not _TEMPORARY.fullmatch(entry.name):
        return False
    with contextlib.suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        return stat.S_ISREG(found.st_mode) and found.st_mtime < eldest
    return False


@contextlib.contextmanager
def _opened(directory: Path) -> Iterator[_Folder]:
    directory.mkdir(parents=True, exist_ok=True)
    if not _CAN_HOLD_FOLDERS:
        if _leads_elsewhere(directory):
            raise OSError(errno.ELOOP, "is a link")
        yield _Folder(directory, None)
        return
    # The folders above may be links (pictures on another disk); our own must be no link, or
    # whoever may write there decides where images go.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield _Folder(directory, descriptor)
    finally:
        os.close(descriptor)


def _leads_elsewhere(directory: Path) -> bool:
    """Whether it is a link or a junction; a folder kept in a cloud is neither."""
    real, expected = os.path.realpath(directory), os.path.realpath(directory.parent)
    return os.path.normcase(real) != os.path.normcase(os.path.join(expected, directory.name))  # noqa: PTH118  of texts


# --- one save --------------------------------------------------------------------------------


def _save(body: bytes, directory: Path, stem: str, ending: str) -> Path:
    check_directory(directory)
    try:
        with _opened(directory) as folder:
            folder.remove_stale()
            return directory / _save_in(folder, body, stem, ending)
    except OSError as error:
        raise _not_written(directory, error) from error


def _save_in(folder: _Folder, body: bytes, stem: str, ending: str) -> str:
    temporary = f".wan25-{secrets.token_hex(8)}.part"
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


def _name(folder: _Folder, temporary: str, stem: str, ending: str) -> str:
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
