"""The opened SQLite file, and whether its path still leads to it. Synchronous.

SQLite keeps using a deleted file, while each new connection opens whatever is at the path. Two
servers could then count edits in different files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wan25_mcp.journal.records import JournalUnusable


class Replaced(JournalUnusable):
    """The opened file is no longer the one at its path."""

    def __init__(self) -> None:
        super().__init__("its file was deleted or replaced while this server runs")


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """A file, identified by device and inode rather than by its path."""

    path: Path
    device: int
    inode: int

    @classmethod
    def created(cls, path: Path) -> DatabaseFile:
        """The file at a path, created if missing.

        It contains prompts and links, so only this user may read it.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return cls(path, found.st_dev, found.st_ino)

    def is_in_place(self) -> bool:
        """Whether its path still leads to it."""
        try:
            found = os.stat(self.path)  # noqa: PTH116  as the rest of this module
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode)

    def require(self) -> None:
        """Raise `Replaced` unless it is in place."""
        if not self.is_in_place():
            raise Replaced
