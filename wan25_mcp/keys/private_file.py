"""A small file that only this user may read: written whole or not at all, no link followed.

The folder is opened once, checked, and every step goes through what was opened, so that nobody can
swap it between two steps. Windows has no such steps, and its user folders are private already.
"""

from __future__ import annotations

import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 20_000

_SAFE: Final = sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_CLOEXEC", "O_NONBLOCK", "O_BINARY")
)
_BY_FOLDER: Final = os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY")
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class NotPrivate(OSError):
    """The folder or the file belongs to somebody else, others may use it, or it is a link.

    Args:
        problem: Completes "The key cannot be kept: …", with the path.
        fix: What to do.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem: Final = problem
        self.fix: Final = fix


def write(path: Path, content: bytes) -> None:
    """Write the file, mode 0600, in a folder of mode 0700 that is made if there is none.

    Raises:
        NotPrivate: The folder is not private. Nothing was written.
        OSError: It cannot be written. An earlier file is as it was.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _opened(path.parent) as folder:
        temporary = f".{path.name}-{uuid.uuid4().hex}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFE
        descriptor = os.open(_name(path, temporary), flags, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            # Takes the place of a link, instead of following it.
            os.replace(
                _name(path, temporary), _name(path, path.name), src_dir_fd=folder, dst_dir_fd=folder
            )
        except BaseException:
            with suppress(OSError):
                os.unlink(_name(path, temporary), dir_fd=folder)
            raise


def read(path: Path) -> bytes | None:
    """The content of the file; None if there is no such file.

    Raises:
        NotPrivate: The folder or the file is not private.
        OSError: It cannot be read.
    """
    try:
        with _opened(path.parent) as folder:
            descriptor = os.open(_name(path, path.name), os.O_RDONLY | _SAFE, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                _check(path, os.fstat(descriptor), "600")
                return file.read(MAX_BYTES)
    except FileNotFoundError:
        return None


def remove(path: Path) -> None:
    """Delete the file, or a link in its place.

    Raises:
        NotPrivate: The folder is not private.
        OSError: It cannot be deleted, or there is none.
    """
    with _opened(path.parent) as folder:
        os.unlink(_name(path, path.name), dir_fd=folder)


@contextmanager
def _opened(folder: Path) -> Iterator[int | None]:
    """The folder, checked and open; None where files cannot be opened by way of it."""
    if not _BY_FOLDER:
        _check(folder, folder.lstat(), "700")
        yield None
        return
    _check(folder, folder.lstat(), "700")  # says more than the error of opening a link
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _SAFE)
    try:
        _check(folder, os.fstat(descriptor), "700")
        yield descriptor
    finally:
        os.close(descriptor)


def _name(path: Path, name: str) -> str:
    return name if _BY_FOLDER else str(path.parent / name)


def _check(path: Path, status: os.stat_result, wanted: str) -> None:
    kind = stat.S_ISDIR if wanted == "700" else stat.S_ISREG
    if not kind(status.st_mode):
        what = "folder" if wanted == "700" else "file"
        problem = f"{path} is not a {what} itself, but a link or something else"
        raise NotPrivate(problem, f"Remove {path}.")
    if not _BY_FOLDER:  # Windows, where modes say nothing
        return
    if status.st_uid != os.geteuid():
        raise NotPrivate(f"{path} belongs to another user", f"Remove {path}, or become its owner.")
    if status.st_mode & _OTHERS:
        raise NotPrivate(f"other users may use {path}", f"Run `chmod {wanted} '{path}'`.")
