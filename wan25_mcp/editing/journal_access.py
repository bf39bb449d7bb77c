"""The configured journal: where it is, and how it is opened and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import platformdirs

from wan25_mcp.editing.options import OpenJournal
from wan25_mcp.journal import Journal
from wan25_mcp.settings import Settings

if TYPE_CHECKING:
    from wan25_mcp.journal.sql import SqlJournal


@asynccontextmanager
async def journal_of(settings: Settings) -> AsyncIterator[OpenJournal]:
    """How to open the journal at first use. The end of the block closes it."""
    opened: list[SqlJournal] = []

    async def opening() -> Journal:
        opened.append(await open_journal(settings))
        return opened[-1]

    try:
        yield opening
    finally:
        for journal in opened:
            await close_journal(journal)


async def open_journal(settings: Settings) -> SqlJournal:
    """Open the configured journal. In a thread, because SQLAlchemy is slow to import."""
    return await anyio.to_thread.run_sync(_journal_of, settings)


async def close_journal(journal: SqlJournal) -> None:
    """Close its connections. A database that does not answer is not waited for."""
    with anyio.move_on_after(1.0, shield=True):
        await anyio.to_thread.run_sync(journal.close, abandon_on_cancel=True)


def _journal_of(settings: Settings) -> SqlJournal:
    from wan25_mcp.journal.sql import SqlJournal

    if settings.database_url is not None and not settings.emulator:
        return SqlJournal(settings.database_url.get_secret_value())
    name = "emulator.sqlite3" if settings.emulator else "journal.sqlite3"
    return SqlJournal((settings.data_dir or default_data_dir()) / name)


def default_data_dir() -> Path:
    """The folder of the journal, unless one is configured."""
    return platformdirs.user_data_path("wan25-mcp")
