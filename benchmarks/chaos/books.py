"""The journal, read past the program that keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio.to_thread
from sqlalchemy import Engine, select

from wan25_mcp.journal.database_file import DatabaseFile
from wan25_mcp.journal.engine import open_engine
from wan25_mcp.journal.schema import files, intents, tasks

_OPEN: Final = ("intent", "sending")


@dataclass(frozen=True, slots=True)
class Booked:
    """One intent, as it stands in the journal."""

    handle: str
    prompt: str
    stage: str
    created_at: float
    task_id: str | None
    status: str | None
    """What was last seen of its task."""
    saved: Mapping[int, str]

    @property
    def is_open(self) -> bool:
        """Whether it is still said to be on its way to the provider."""
        return self.stage in _OPEN


class Books:
    """The journal of one run, in an SQLite file or a PostgreSQL database."""

    def __init__(self, place: Path | str) -> None:
        self._place = place
        self._engine: Engine | None = None

    async def read(self) -> dict[str, Booked]:
        """Every intent, by its handle."""
        return await anyio.to_thread.run_sync(self._read)

    def _read(self) -> dict[str, Booked]:
        if self._engine is None:
            place = self._place
            self._engine = open_engine(
                DatabaseFile.created(place) if isinstance(place, Path) else place
            )
        with self._engine.begin() as connection:
            paths: dict[str, dict[int, str]] = {}
            for row in connection.execute(select(files)):
                paths.setdefault(row.task_id, {})[row.number] = row.path
            found = connection.execute(
                select(intents, tasks.c.status).outerjoin(
                    tasks, tasks.c.task_id == intents.c.task_id
                )
            )
            return {
                row.handle: Booked(
                    row.handle,
                    row.prompt or "",
                    row.stage,
                    row.created_at,
                    row.task_id,
                    row.status,
                    paths.get(row.task_id or "", {}),
                )
                for row in found
            }

    def close(self) -> None:
        """Give back connections."""
        if self._engine is not None:
            self._engine.dispose()
