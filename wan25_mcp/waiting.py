"""When to look again, and one watcher for each task however many wait for it.

Every look at an unfinished task makes the provider ask its own upstream, so looks are paced, and
shared: all who wait for a task hear of the same look at once. A watcher lives while somebody is
interested; it holds no result back and knows nothing of money or of MCP.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.errors import ReadFailed, Unreachable, Wan25Error
from wan25_mcp.lifecycle import is_settled
from wan25_mcp.models import Task

SHORTEST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 10.0
"""Seconds between two looks. The model's owner advises 10; the vendor's samples use 3 to 5."""

LONGEST_PAUSE_AFTER_FAILURE: Final = 60.0


def pause_before_look(age: float, progress: int | None) -> float:
    """Seconds until the next look at an unfinished task.

    A share of what is likely to remain when progress tells, else a share of the task's age: a run
    is 40 to 120 s long, and lateness matters in proportion to it.

    Args:
        age: Seconds since the task was first known.
        progress: Percent, if the provider reports any.
    """
    if progress:
        likely_left = age * (100 - progress) / progress
        return _bounded(likely_left * 0.6)
    return _bounded(age * 0.15)


def pause_after_failure(failures: int, asked: float | None) -> float:
    """Seconds until the next look after `failures` in a row; never less than the provider asked."""
    backoff = min(SHORTEST_PAUSE * 2.0 ** min(failures, 10), LONGEST_PAUSE_AFTER_FAILURE)
    return max(backoff, asked or 0.0)


def _bounded(pause: float) -> float:
    return min(max(pause, SHORTEST_PAUSE), LONGEST_PAUSE)


@dataclass(slots=True, eq=False)
class Watch:
    """What the waiters of one task share."""

    task_id: str
    since: float
    """When the task began, on the clock of `anyio.current_time`."""
    next_look: float
    latest: Task | None = None
    failure: Wan25Error | None = None
    """Why the last look failed, if it did."""
    over: bool = False
    """Whether no further look will be made: the task is settled, or cannot be looked at."""
    waiters: int = 0
    cancel_scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    _news: anyio.Event = field(default_factory=anyio.Event)

    async def news(self) -> None:
        """Wait for the next look."""
        await self._news.wait()

    def tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a task before its watcher starts; times in seconds.

    Args:
        age: How long ago the task began.
        seen_ago: How long ago it was last looked at.
    """

    task: Task
    age: float
    seen_ago: float


class Watchers:
    """The watchers of one process.

    Args:
        look: Reads one task from the provider.
        tasks: The task group the watchers run in; it outlives every call that waits.
    """

    def __init__(self, look: Callable[[str], Awaitable[Task]], tasks: TaskGroup) -> None:
        self._look = look
        self._tasks = tasks
        self._watches: dict[str, Watch] = {}
        self._not_before: dict[str, float] = {}

    @asynccontextmanager
    async def watching(self, task_id: str, known: Known | None = None) -> AsyncIterator[Watch]:
        """Share the watcher of a task while the block runs.

        Args:
            known: What is known of the task already; without it the first look is made at once.
        """
        watch = self._watches.get(task_id) or self._start(task_id, known)
        watch.waiters += 1
        try:
            yield watch
        finally:
            watch.waiters -= 1
            if watch.waiters == 0:
                watch.cancel_scope.cancel()
                if self._watches.get(task_id) is watch:
                    del self._watches[task_id]
                if watch.failure and not watch.over:  # the wait asked for outlives who waited
                    self._not_before[task_id] = watch.next_look

    def _start(self, task_id: str, known: Known | None) -> Watch:
        now = anyio.current_time()
        if known is None:
            watch = Watch(task_id, since=now, next_look=now)
        else:
            pause = pause_before_look(known.age, known.task.progress)
            watch = Watch(
                task_id,
                since=now - known.age,
                next_look=now + pause - known.seen_ago,
                latest=known.task,
                over=is_settled(known.task.status),
            )
        watch.next_look = max(watch.next_look, self._not_before.get(task_id, now))
        self._watches[task_id] = watch
        if not watch.over:
            self._tasks.start_soon(self._watch, watch)
        return watch

    async def _watch(self, watch: Watch) -> None:
        failures = 0
        with watch.cancel_scope:
            while not watch.over:
                await anyio.sleep_until(watch.next_look)
                failures = 0 if await self._look_once(watch) else failures + 1
                watch.next_look = anyio.current_time() + self._pause(watch, failures)
                watch.tell()

    async def _look_once(self, watch: Watch) -> bool:
        try:
            watch.latest, watch.failure = await self._look(watch.task_id), None
        except (ReadFailed, Unreachable) as error:
            watch.failure = error
            return False
        except Wan25Error as error:
            watch.failure, watch.over = error, True
            return False
        watch.over = is_settled(watch.latest.status)
        return True

    def _pause(self, watch: Watch, failures: int) -> float:
        if failures:
            asked = watch.failure.retry_after_seconds if watch.failure else None
            return pause_after_failure(failures, asked)
        age = anyio.current_time() - watch.since
        return pause_before_look(age, watch.latest.progress if watch.latest else None)


def resend_pause(attempt: int, asked: float | None, chance: float) -> float:
    """Seconds before a submit that was surely not accepted is sent again.

    Args:
        attempt: 0 for the first resend.
        asked: What the provider asked for; never undercut.
        chance: A random number in [0, 1), for full jitter.
    """
    backoff = min(math.ldexp(1.0, attempt), 30.0) * chance
    return (asked or 0.0) + backoff
