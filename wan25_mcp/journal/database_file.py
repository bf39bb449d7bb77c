"""The SQLite file that was opened, and whether its path still leads to it. Synchronous.

SQLite goes on in a file that was deleted, and opens whatever lies at the path for each further
connection: two servers would then count by different files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wan25_mcp.journal.records import JournalUnusable


class Replaced(JournalUnusable):
    """The file that was opened is not the one at its path any more."""

    def __init__(self) -> None:
        super().__init__("its file was deleted or replaced while this server runs")


@dataclass(frozen=True, slots=True)
class DatabaseFile:
    """A file, told from every other that may come to lie at its path."""

    path: Path
    device: int
    number: int

    @classmethod
    def created(cls, path: Path) -> DatabaseFile:
        """The file at a path, which is made if there is none.

        It holds prompts and links: nobody else on the machine may read it.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            found = os.fstat(descriptor)
        finally:
            os.close(descriptor)
        return cls(path, found.st_dev, found.st_ino)

    def is_in_place(self) -> bool:
        """Whether the path still leads to it."""
        try:
            found = os.stat(self.path)  # noqa: PTH116  as the rest of this module
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.number)

    def require(self) -> None:
        """See that it is in place.

        Raises:
            Replaced: It is not.
        """
        if not self.is_in_place():
            raise Replaced
