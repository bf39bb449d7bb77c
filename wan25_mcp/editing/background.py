"""Work in the background: following tasks, saving images, pruning the journal."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import anyio

from wan25_mcp.editing.live_account import LiveAccount
from wan25_mcp.journal import Journal, JournalUnusable
from wan25_mcp.journal.records import DAY

logger: Final = logging.getLogger(__name__)

_ROUND_SECONDS: Final = 30.0
_FIRST_ROUND_SECONDS: Final = 2.5
"""Seconds between two searches for orphaned work. In the first minute they are more frequent,
because the leases of a process that has just died expire then."""
_UNSEEN_FOR: Final = 60.0
"""A task that was not polled for this many seconds is followed here, whoever submitted it."""
_ORPHANED_FOR: Final = 3.0
"""A task that was polled neither for this many seconds nor since this process began belongs to a
process that died."""


async def run_rounds(account: LiveAccount) -> None:
    """Adopt the orphaned tasks and unsaved images of an account, until cancelled."""
    began = account.options.clock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_in_rounds, partial(_follow_orphaned, account, began))
        tasks.start_soon(_in_rounds, account.results.save_unsaved)


async def prune_daily(journal: Journal, clock: Callable[[], float]) -> None:
    """Prune the journal once a day, until cancelled. Opening the journal prunes it too."""
    while True:
        await anyio.sleep(DAY)
        try:
            await journal.prune(now=clock())
        except JournalUnusable as error:
            logger.warning("%s", error.state)
        except Exception:
            logger.exception("Pruning the journal ended unexpectedly")


async def _in_rounds(job: Callable[[], Awaitable[None]]) -> None:
    began = anyio.current_time()
    while True:
        try:
            await job()
        except Exception:
            # Calls must still be served, and the next round may succeed.
            logger.exception("A round in the background ended unexpectedly")
        is_new = anyio.current_time() - began < _UNSEEN_FOR
        await anyio.sleep(_FIRST_ROUND_SECONDS if is_new else _ROUND_SECONDS)


async def _follow_orphaned(account: LiveAccount, began: float) -> None:
    """Follow tasks that nobody has polled for a while, or not since this process began.

    In the second case an earlier process has probably died. Its tasks are polled at once, because
    they may have settled, and a callback may have been missed, while no process was running. If
    another process follows them as well, the two share their snapshots.
    """
    now = account.options.clock()
    unseen_for = min(max(now - began, _ORPHANED_FOR), _UNSEEN_FOR)
    orphaned = await account.degraded.orphaned(
        now=now, unseen_for=unseen_for, address=account.connection.address
    )
    for task_id in orphaned:
        if not account.poller.is_followed(task_id):
            intent = await account.find(task_id)
            at_once = unseen_for < _UNSEEN_FOR
            await account.poller.follow(task_id, intent, at_once=at_once)
