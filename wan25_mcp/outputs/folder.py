"""A folder that files are written into: whole or not at all, never over a file or through a link.

Where the system supports it (not on Windows), the folder is opened once and every file operation is
relative to its descriptor. So nobody can replace the folder by a link in the meantime.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

STALE_SECONDS: Final = 3600.0
"""A write takes seconds, so a temporary file this old belongs to a process that died."""

_NO_WAIT: Final = getattr(os, "O_NONBLOCK", 0)
"""Opening a pipe waits for a writer, unless this is given."""

_TEMPORARY: Final = re.compile(r"\.wan25-[0-9a-f]{16}\.part")
_CAN_HOLD_FOLDERS: Final = {
    os.open,
    os.link,
} <= os.supports_dir_fd and os.link in os.supports_follow_symlinks


def temporary_name() -> str:
    """A name for an unfinished file; `Folder.remove_stale` recognises it."""
    return f".wan25-{secrets.token_hex(8)}.part"


class Folder:
    """An open folder. Names are relative to it, and links are never followed."""

    def __init__(self, path: Path, descriptor: int | None) -> None:
        self.path = path
        self._descriptor = descriptor

    def _place(self, name: str) -> str:
        return name if self._descriptor is not None else str(self.path / name)

    def write(self, name: str, body: bytes) -> None:
        """Write a new file. It is on the disk when this returns."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        file = os.open(self._place(name), flags, 0o666, dir_fd=self._descriptor)
        with open(file, "wb", buffering=0) as opened:  # noqa: PTH123  a descriptor, not a path
            left = memoryview(body)
            while left:
                left = left[opened.write(left) :]
            os.fsync(file)

    def holds(self, name: str, body: bytes) -> bool:
        """Whether there is a file of that name with exactly this content; a link is none."""
        with contextlib.suppress(OSError):
            flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            file = os.open(self._place(name), flags | _NO_WAIT, dir_fd=self._descriptor)
            with open(file, "rb") as opened:  # noqa: PTH123  a descriptor, not a path
                found = os.fstat(file)
                is_alike = stat.S_ISREG(found.st_mode) and found.st_size == len(body)
                return is_alike and opened.read() == body
        return False

    def rename(self, old: str, new: str) -> None:
        """Give a file its final name.

        Raises:
            FileExistsError: Another file, or a link, has the name.
        """
        if os.name == "nt":
            os.rename(self._place(old), self._place(new))  # noqa: PTH104  refuses to overwrite
            return
        where = self._descriptor
        try:
            os.link(
                self._place(old),
                self._place(new),
                src_dir_fd=where,
                dst_dir_fd=where,
                follow_symlinks=where is None,  # some systems support only one value
            )
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            self._claim(old, new)
        else:
            self.remove(old)

    def _claim(self, old: str, new: str) -> None:
        """Rename on a file system without hard links (exFAT, some network shares).

        An empty file claims the name first. A process killed in between leaves the empty file,
        never half an image.
        """
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

    def sync(self) -> None:
        """Force the names to the disk too, if the file system supports that."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.fsync(self._descriptor)

    def is_in_place(self) -> bool:
        """Whether the path still leads to the open folder."""
        if self._descriptor is None:
            return True
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(self.path), os.fstat(self._descriptor))
        return False

    def remove_stale(self) -> None:
        """Remove the temporary files of processes that died."""
        oldest = time.time() - STALE_SECONDS
        with contextlib.suppress(OSError):
            where = self.path if self._descriptor is None else self._descriptor
            with os.scandir(where) as entries:
                stale = [entry.name for entry in entries if _is_stale(entry, oldest)]
            for name in stale:
                self.remove(name)


_NO_HARD_LINKS: Final = {
    errno.EPERM,
    errno.EOPNOTSUPP,
    errno.ENOTSUP,
    errno.ENOSYS,
    errno.EMLINK,
    errno.EINVAL,
}


def _is_stale(entry: os.DirEntry[str], oldest: float) -> bool:
    if not _TEMPORARY.fullmatch(entry.name):
        return False
    with contextlib.suppress(OSError):
        found = entry.stat(follow_symlinks=False)
        return stat.S_ISREG(found.st_mode) and found.st_mtime < oldest
    return False


@contextlib.contextmanager
def opened(directory: Path) -> Iterator[Folder]:
    """Open a folder, created if needed, while the block runs.

    Raises:
        OSError: It cannot be created or opened, or is a link.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if not _CAN_HOLD_FOLDERS:
        # A link or a junction resolves to another path; a folder of a cloud drive does not.
        real, expected = os.path.realpath(directory), os.path.realpath(directory.parent)
        if os.path.normcase(real) != os.path.normcase(os.path.join(expected, directory.name)):  # noqa: PTH118  of texts
            raise OSError(errno.ELOOP, "is a link")
        yield Folder(directory, None)
        return
    # The parent folders may be links (pictures on another disk). The folder itself must not be one:
    # whoever can write to its parent could redirect the images.
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        yield Folder(directory, descriptor)
    finally:
        os.close(descriptor)
