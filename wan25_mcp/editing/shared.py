"""What the accounts of one process share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.editing.options import Options
from wan25_mcp.journal import Journal
from wan25_mcp.outputs.archiver import IMAGES_AT_ONCE
from wan25_mcp.polling.queue import POLLS_AT_ONCE


@dataclass(frozen=True, slots=True)
class Shared:
    """What the accounts of one process share.

    Args:
        journal: The journal. Each account reads and writes its own rows.
        tasks: The task group that outlives every call.
        polls: Limits the concurrent polls.
        downloads: Limits the concurrent downloads of results, each of which is held in memory.
        holder: Names the process in the journal.
    """

    journal: Journal
    tasks: TaskGroup
    options: Options
    polls: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(POLLS_AT_ONCE))
    downloads: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(IMAGES_AT_ONCE))
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)
