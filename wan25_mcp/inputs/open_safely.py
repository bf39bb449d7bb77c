"""Opens a file so that the file that is read is the one that was checked.

The caller resolves and checks the path first. That real path is opened without following a symlink
in its last part, and the opened file is checked again: its kind, and its path now. A device or a
FIFO is recognised before it is opened, because opening it can have side effects.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO, Final

_FLAGS: Final = os.O_RDONLY | sum(
    getattr(os, name, 0)
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY", "O_NOINHERIT")
)


class NotAFile(OSError):
    """A device, a FIFO or a socket."""


class Replaced(OSError):
    """Another file or a symlink took its place in the meantime."""


@dataclass(frozen=True)
class OpenFile:
    """An ordinary file, open for reading."""

    file: BinaryIO
    path: str
    """Its real path, symlinks resolved, determined after it was opened."""
    size: int
    """Its size when it was opened."""


@contextmanager
def open_real(real: str) -> Iterator[OpenFile]:
    """Open an ordinary file by its real path, as `os.path.realpath` returns it.

    Raises:
        IsADirectoryError, NotAFile: It is not an ordinary file.
        Replaced: It was replaced while it was opened.
        OSError: There is no such file, or it cannot be read.
    """
    _check_kind(os.lstat(real))
    with os.fdopen(_open(real), "rb") as file:
        status = os.fstat(file.fileno())
        _check_kind(status)
        if status.st_nlink == 0:  # it no longer has a path that could be checked
            raise FileNotFoundError(errno.ENOENT, "deleted in the meantime")
        yield OpenFile(file, _path_of(file.fileno(), real), status.st_size)


def _open(real: str) -> int:
    try:
        return os.open(real, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # the latter on BSD
            raise Replaced from None
        raise


def _check_kind(status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError
    if stat.S_ISLNK(status.st_mode):
        raise Replaced
    if not stat.S_ISREG(status.st_mode):
        raise NotAFile


def _path_of(descriptor: int, real: str) -> str:
    """The path of an open file. A folder on its path may have been replaced by a symlink."""
    with suppress(OSError):  # Linux only
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - text
        if path.startswith("/"):
            return path
    return _path_again(descriptor, real)


def _path_again(descriptor: int, real: str) -> str:
    """The real path now, if it still leads to the open file."""
    again = os.path.realpath(real, strict=True)
    if not os.path.samestat(os.lstat(again), os.fstat(descriptor)):
        raise Replaced
    return again
