"""Opens a file so that what was checked is what is read.

The caller resolves and checks the path first. That real path is opened without following a symlink
in its last part, and the opened file is checked again: its kind, and where it is now. A device or a
FIFO is recognised before it is opened, so no driver and no writer notices.
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
    """Another file, or a symlink, took its place meanwhile."""


@dataclass(frozen=True)
class OpenFile:
    """An ordinary file, open for reading."""

    file: BinaryIO
    path: str
    """Where it really is, symlinks resolved, as seen after it was opened."""
    size: int
    """When it was opened."""


@contextmanager
def open_real(real: str) -> Iterator[OpenFile]:
    """Open an ordinary file by its real path, as `os.path.realpath` gives it.

    Raises:
        IsADirectoryError, NotAFile: It is something else.
        Replaced: It changed while it was opened.
        OSError: There is no such file, or it cannot be read.
    """
    _check_kind(os.lstat(real))
    with os.fdopen(_open(real), "rb") as file:
        status = os.fstat(file.fileno())
        _check_kind(status)
        if status.st_nlink == 0:  # its path would only be where it used to be
            raise FileNotFoundError(errno.ENOENT, "deleted meanwhile")
        yield OpenFile(file, _path_of(file.fileno(), real), status.st_size)


def _open(real: str) -> int:
    try:
        return os.open(real, _FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):  # BSD says the latter
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
    """Where an open file is: a folder on the way may have been swapped for a symlink."""
    with suppress(OSError):  # Linux only
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - text
        if path.startswith("/"):
            return path
    return _path_again(descriptor, real)


def _path_again(descriptor: int, real: str) -> str:
    """Where its path leads now, if that is the open file."""
    again = os.path.realpath(real, strict=True)
    if not os.path.samestat(os.lstat(again), os.fstat(descriptor)):
        raise Replaced
    return again
