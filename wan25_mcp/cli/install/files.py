"""Writes a configuration whole or not at all, with a backup of the earlier one beside it."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from contextlib import suppress
from pathlib import Path


class ChangedMeanwhile(Exception):
    """Somebody else wrote the file after it was read."""


def read(path: Path) -> bytes | None:
    """The content; None if there is no file.

    Raises:
        OSError: It cannot be read, or is no ordinary file: opening a pipe would wait for ever.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode) and not path.is_dir():
            raise OSError(errno.EINVAL, "not an ordinary file")
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(path: Path, before: bytes | None, after: bytes) -> Path | None:
    """Write a file that was read before. Links and the mode stay. Returns the backup.

    Raises:
        ChangedMeanwhile: It is not as it was read. Nothing was written.
        OSError: It cannot be written, and is as it was.
    """
    place = path.resolve()
    place.parent.mkdir(parents=True, exist_ok=True)
    status = place.stat() if before is not None else None
    backup = None if before is None else _back_up(place, before, status)
    temporary = place.with_name(f".{place.name}-{uuid.uuid4().hex}")
    try:
        _create(temporary, after, status)
        if read(place) != before:
            raise ChangedMeanwhile
        temporary.replace(place)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return backup


def _back_up(place: Path, content: bytes, status: os.stat_result | None) -> Path:
    """Keep a copy under a free name, unless there is the same copy already."""
    number = 0
    while True:
        backup = place.with_name(f"{place.name}.bak{number or ''}")
        try:
            _create(backup, content, status)
            return backup
        except FileExistsError:
            if backup.is_file() and backup.read_bytes() == content:
                return backup
        number += 1


def _create(path: Path, content: bytes, status: os.stat_result | None) -> None:
    """A new file, only for this user until it is complete: clients keep secrets in theirs."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if status is not None:
        path.chmod(stat.S_IMODE(status.st_mode))
        if hasattr(os, "chown"):
            with suppress(OSError):  # only root may, and only root needs to
                os.chown(path, status.st_uid, status.st_gid)
