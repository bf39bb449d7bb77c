"""Waiting for an edit: until its submit has ended, then until its task is settled."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import anyio

from wan25_mcp.editing.edit import Edit, Progress, seen, unknown, unknown_everywhere, unseen
from wan25_mcp.editing.live_account import LiveAccount, task_id_of
from wan25_mcp.editing.submitter import Submit
from wan25_mcp.journal import Intent
from wan25_mcp.polling.watch import Watch

_PROGRESS_SECONDS: Final = 5.0
"""Seconds between two progress reports to a waiting call, whether or not there was a poll: some
clients time out without them."""

_MARGIN: Final = 1.0
_MARGIN_SHARE: Final = 0.1

_LAST_POLL: Final = 1.0
_LAST_POLL_SHARE: Final = 0.15

OnProgress = Callable[[Progress], Awaitable[None]]


def margin(timeout: float) -> float:
    """Safety margin in seconds, so that the answer arrives before the client's timeout."""
    return min(_MARGIN, timeout * _MARGIN_SHARE)


def _spare(timeout: float) -> float:
    """Seconds before the end of a wait at which it polls, if it has not seen a poll by then: so
    that an answer has news, however short the wait was."""
    return min(_LAST_POLL, timeout * _LAST_POLL_SHARE)


async def waited(
    account: LiveAccount, name: str, timeout: float, on_progress: OnProgress | None
) -> Edit:
    """An edit when it is settled, or as it is within `timeout` seconds."""
    until = anyio.current_time() + timeout - margin(timeout)
    found: Edit | None = None
    with anyio.CancelScope(deadline=until):
        intent = await until_submitted(account, name, on_progress)
        if (task_id := task_id_of(intent, name)) is not None:
            last_poll = until - _spare(timeout)
            async with account.poller.watching(task_id, intent) as watch:
                try:
                    await until_settled(account, watch, intent, on_progress, last_poll=last_poll)
                finally:
                    found = seen_by(watch, intent)
    found = await account.with_times(found or await account.report(name))
    left = max(until - anyio.current_time(), 0.0)
    return await account.results.saved_soon(found, patience=left)


async def until_ended(submit: Submit, on_progress: OnProgress | None) -> None:
    """Wait until a submit of this process has ended; report every second, and what delays it."""
    began = anyio.current_time()
    while not submit.ended.is_set():
        if on_progress is not None:
            elapsed = anyio.current_time() - began
            await on_progress(Progress(unseen(submit.intent), elapsed, note=submit.note))
        with anyio.move_on_after(1.0 if on_progress else None):
            await submit.ended.wait()


async def until_submitted(
    account: LiveAccount, name: str, on_progress: OnProgress | None
) -> Intent | None:
    """Wait until a submit has ended, or a callback resolves it. Reports progress."""
    began = anyio.current_time()
    while True:
        with anyio.move_on_after(_PROGRESS_SECONDS):
            return await account.submitted(name, await_callback=True)
        if on_progress is not None:
            known = await account.report(name)
            elapsed = anyio.current_time() - began
            await on_progress(Progress(known, elapsed, note=account.submitter.note(name)))


async def until_settled(
    account: LiveAccount,
    watch: Watch,
    intent: Intent | None,
    on_progress: OnProgress | None,
    *,
    last_poll: float,
) -> None:
    """Wait until a task is settled. Reports progress.

    Args:
        last_poll: The moment at which the task is polled if it was not since the wait began.
    """
    began = anyio.current_time()
    typical = await account.poller.typical(intent) if on_progress else None
    while not watch.over:
        if on_progress is not None:
            known = seen(watch.snapshot, intent) if watch.snapshot else unknown(watch.task_id)
            await on_progress(Progress(known, watch.age, typical))
        if anyio.current_time() >= last_poll:
            last_poll = math.inf
            if watch.updated_at < began:
                account.poller.hasten(watch)
        pause = _PROGRESS_SECONDS if on_progress else math.inf
        with anyio.move_on_after(min(pause, last_poll - anyio.current_time())):
            await watch.changed()


def seen_by(watch: Watch, intent: Intent | None) -> Edit | None:
    """The edit as a wait last saw it, with the reason if nothing newer is known."""
    known = seen(watch.snapshot, intent) if watch.snapshot else None
    if watch.failure is None:
        return known
    if known is None and intent is None:
        return unknown_everywhere(watch.task_id, watch.failure)
    return replace(known or unknown(watch.task_id), error=watch.failure)
