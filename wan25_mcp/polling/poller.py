"""One watcher for each task of a process, however many wait for it.

A task is looked at while somebody is interested in it: a call that waits for it, or the server
itself, which follows it so that its images are saved. What was learnt of it is kept a while longer,
since agents come back. Knows nothing of money, of MCP, or of where looks come from.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.errors import POLL_AGAIN, ReadFailed, Unreachable, Wan25Error
from wan25_mcp.journal import Snapshot
from wan25_mcp.polling.queue import DueQueue
from wan25_mcp.polling.schedule import (
    A_CALLBACK_WILL_TELL,
    NOBODY_WAITS,
    SOMEBODY_WAITS,
    Estimate,
    Pauses,
    next_poll,
    pause_after_failure,
)
from wan25_mcp.polling.watch import Watch

logger = logging.getLogger(__name__)

FRESH_SECONDS: Final = 2.0
"""What was seen so lately is not asked for again."""

LOOK_PATIENCE: Final = 10.0
"""Seconds a question waits for a look; the look itself goes on."""

_ELSEWHERE_PAUSE: Final = 1.0
"""Seconds until another try when another process is looking."""

_UNEXPECTED_PAUSE: Final = 5.0
"""Seconds until polling goes on after an exception that nobody foresaw."""

_WAKE_GAP: Final = 2.0
_LONGEST_WAKE_GAP: Final = 60.0
"""Seconds between looks because of callbacks; each one that was not true doubles it."""

_MISSES: Final = 2
"""After so many callbacks in a row that did not come, none is counted on."""

_LINGER_SECONDS: Final = 600.0
"""How long what was learnt of a task is kept after the last interest in it."""

_FIRST_REFUSED_PAUSE: Final = 60.0
_LONGEST_REFUSED_PAUSE: Final = 900.0
"""Seconds after which what is followed is polled again though the provider refused to show it: a
key is renewed, a gateway recovers, and the links of the image then still live."""
_REFUSED_JITTER: Final = 0.06

_LONGEST_ASKED: Final = 900.0
"""A longer wait asked for is cut for looks: an answer of one moment must not outlast the links."""

_URGENT_TRIES: Final = 6
"""Looks in a row that a callback is worth."""

_NOT_FOUND_TRIES: Final = 3
"""So often a task that was seen may be said to be unknown before that is believed."""

_LONGEST_FOLLOWED: Final = 24 * 3600.0
"""A task older than this is looked at for those who wait only: some never settle."""

Look = Callable[[Watch, bool], Awaitable[Snapshot | None]]
"""Looks at a task; the flag: even if another process has just looked. None: one is looking."""


class Poller:
    """The watchers of one process. Looks are made while `run` runs.

    Args:
        look: Reads one task.
        tasks: The task group the looks run in; it outlives every call that waits.
        slots: One for each look of the process under way.
        random: Random numbers in [0, 1).
        settled: Called with each task that is seen to be settled.
    """

    def __init__(
        self,
        look: Look,
        tasks: TaskGroup,
        slots: anyio.Semaphore,
        *,
        random: Callable[[], float],
        settled: Callable[[Watch], None] = lambda _: None,
    ) -> None:
        self._look = look
        self._tasks = tasks
        self._random = random
        self._settled = settled
        self._queue = DueQueue(slots)
        self._watches: dict[str, Watch] = {}
        self._forget_at = 100
        self._missed_callbacks = 0

    async def run(self) -> None:
        """Make each look when its time has come, until cancelled."""
        while True:
            try:
                watch = await self._queue.next()
            except Exception:  # the tasks that come after it are polled all the same
                logger.exception("Finding the task to poll next ended unexpectedly")
                await anyio.sleep(_UNEXPECTED_PAUSE)
                continue
            watch.is_looking = True
            self._tasks.start_soon(self._poll, watch)

    # --- interest ---------------------------------------------------------------------------

    def get(self, task_id: str) -> Watch | None:
        """What this process knows of a task, if anything."""
        return self._watches.get(task_id)

    def waited_for(self) -> list[Watch]:
        """The tasks that calls wait for."""
        return [watch for watch in self._watches.values() if watch.waiters and not watch.over]

    def open(self, task_id: str, *, began: float, expected: Estimate, speed: float = 1.0) -> Watch:
        """What this process knows of a task, from now on. Causes no look."""
        if task_id not in self._watches:
            self._forget()
            self._watches[task_id] = Watch(task_id, began, expected, speed)
        return self._watches[task_id]

    @contextmanager
    def waiting(self, watch: Watch) -> Iterator[None]:
        """Have a task looked at for somebody who waits, while the block runs."""
        is_refused = watch.over and watch.failure is not None
        if is_refused and anyio.current_time() - watch.refused_at >= FRESH_SECONDS:
            watch.over, watch.failure = watch.is_settled, None  # this caller asks anew
        watch.waiters += 1
        if watch.waiters == 1 or is_refused:
            self._schedule(watch)
        try:
            yield
        finally:
            watch.waiters -= 1
            watch.left = anyio.current_time()
            if not watch.waiters:
                self._drop_or_slow(watch)

    def follow(self, watch: Watch, *, at_once: bool = False) -> None:
        """Have a task polled now and then until it is settled, though nobody waits."""
        if not watch.is_followed and not watch.is_settled and not _was_never_there(watch):
            watch.is_followed = True
            self._schedule(watch)
            if at_once and not watch.is_looking and not watch.over:
                self._queue.put(watch, max(anyio.current_time(), watch.place))

    def _drop_or_slow(self, watch: Watch) -> None:
        if watch.is_settled:
            self._watches.pop(watch.task_id, None)
        else:
            self._schedule(watch)

    def _forget(self) -> None:
        if len(self._watches) < self._forget_at:
            return
        long_ago = anyio.current_time() - _LINGER_SECONDS
        for task_id, watch in list(self._watches.items()):
            is_idle = not watch.is_of_interest and not watch.waiters and not watch.is_looking
            if is_idle and max(watch.left, watch.heard) < long_ago:
                del self._watches[task_id]
        self._forget_at = max(100, 2 * len(self._watches))

    # --- news -------------------------------------------------------------------------------

    def hear(self, watch: Watch, snapshot: Snapshot, *, ago: float) -> None:
        """Take in what was seen `ago` seconds ago, by whomever; older news change nothing."""
        known = watch.snapshot
        if known is None or (known.seen_at < snapshot.seen_at and not watch.is_settled):
            self._take_in(watch, snapshot, ago=ago)
            watch.tell()

    async def refresh(self, watch: Watch) -> Snapshot:
        """Have a task looked at now, unless it was seen just now; within `waiting`.

        Raises:
            Wan25Error: The look failed, or the provider wants to be left alone.
        """
        now = anyio.current_time()
        if watch.over and watch.failure is not None:  # refused just now
            raise watch.failure
        if watch.snapshot and (watch.over or now - watch.heard < FRESH_SECONDS):
            return watch.snapshot
        self._check_open(watch, now)
        if not watch.is_looking:
            self._queue.put(watch, max(now, watch.place))
        while True:
            await watch.news()
            if watch.failure is not None:
                raise watch.failure
            if watch.snapshot is not None:
                return watch.snapshot

    def _check_open(self, watch: Watch, now: float) -> None:
        until = max(watch.asked_until, self._queue.closed_until)
        if now < until:
            raise ReadFailed(
                "The provider is limiting requests, so it was not polled again.",
                code="rate_limit",
                fix="Ask again after that. The edit goes on.",
                retryable=True,
                retry_after_seconds=round(until - now, 1),
            )

    def wake(self, watch: Watch) -> None:
        """Somebody says that a task is settled: look at once, unless they said so just now."""
        self._missed_callbacks = 0
        if watch.is_settled or watch.is_urgent:
            return
        now = anyio.current_time()
        gap = min(_WAKE_GAP * math.ldexp(1.0, min(watch.wakes, 10) - 1), _LONGEST_WAKE_GAP)
        watch.woken = max(now, watch.woken + gap)
        watch.wakes += 1
        watch.is_urgent = True
        self._schedule(watch)

    # --- looks ------------------------------------------------------------------------------

    async def _poll(self, watch: Watch) -> None:
        """Poll once; whatever goes wrong, the process and this task's turns go on."""
        try:
            await self._look_once(watch)
        except Exception:
            logger.exception("What was seen of %s could not be used", watch.task_id)
            if watch.is_of_interest:
                self._queue.put(watch, anyio.current_time() + _UNEXPECTED_PAUSE)
            watch.tell()

    async def _look_once(self, watch: Watch) -> None:
        anyway, watch.is_urgent = watch.is_urgent, False
        try:
            snapshot = await self._look(watch, anyway)
        except (ReadFailed, Unreachable) as error:
            self._failed(watch, error, anyway=anyway)
        except Wan25Error as error:
            if error.code == "not_found" and _may_be_found(watch):
                self._failed(watch, error, anyway=anyway)
            else:
                self._refused(watch, error)
        except Exception:
            logger.exception("Looking at %s ended unexpectedly", watch.task_id)
            self._failed(watch, _unexpected(), anyway=anyway)
        else:
            watch.is_looking = False
            if snapshot is None:  # another process is looking, and will have written what it saw
                watch.is_urgent = watch.is_urgent or anyway
                self._queue.put(watch, anyio.current_time() + _ELSEWHERE_PAUSE)
                return
            self._queue.answered()
            self._take_in(watch, snapshot)
            self._count_callbacks(watch)
        finally:
            watch.is_looking = False
            self._queue.done()
        watch.tell()

    def _take_in(self, watch: Watch, snapshot: Snapshot, *, ago: float = 0.0) -> None:
        watch.see(snapshot, ago=ago)
        if not watch.over:
            watch.is_followed = watch.is_followed and watch.age < _LONGEST_FOLLOWED
            self._schedule(watch)
            return
        if watch.is_followed or watch.waiters:
            self._settled(watch)
        watch.is_followed = watch.is_urgent = False
        if not watch.waiters:
            self._drop_or_slow(watch)

    def _count_callbacks(self, watch: Watch) -> None:
        # Not when another process tells: the callback may have come to that one, as it does where
        # one process of several has the port.
        if watch.over and watch.is_called_back and not watch.wakes:
            self._missed_callbacks += 1

    def _failed(self, watch: Watch, error: Wan25Error, *, anyway: bool) -> None:
        now = anyio.current_time()
        asked = min(error.retry_after_seconds or 0.0, _LONGEST_ASKED)
        watch.failure = error
        watch.failures += 1
        # What a callback has said is not forgotten because one look failed.
        watch.is_urgent = watch.is_urgent or (anyway and watch.failures < _URGENT_TRIES)
        watch.not_before = now + pause_after_failure(watch.failures, asked, self._random())
        if asked:
            watch.asked_until = now + asked
        if error.code == "rate_limit":
            self._queue.limited(asked)
        watch.is_looking = False
        self._schedule(watch)

    def _refused(self, watch: Watch, error: Wan25Error) -> None:
        watch.failure, watch.over = error, True
        watch.failures, watch.refused_at = 0, anyio.current_time()
        watch.refusals += 1
        watch.is_urgent = False
        is_young = watch.age < _LONGEST_FOLLOWED
        watch.is_followed = watch.is_followed and is_young and not _was_never_there(watch)
        watch.is_looking = False
        self._schedule(watch)

    # --- when -------------------------------------------------------------------------------

    def _schedule(self, watch: Watch) -> None:
        if watch.is_looking:
            return  # what it sees will decide
        when = self._when(watch) if watch.is_of_interest else math.inf
        self._queue.put(watch, max(when, watch.place))

    def _when(self, watch: Watch) -> float:
        now = anyio.current_time()
        if watch.is_urgent:
            return max(watch.woken, watch.not_before if watch.failures else watch.woken)
        if watch.over:
            again = watch.refused_at + _pause_after_refusal(watch.refusals, self._random())
            return max(now, again, watch.not_before if watch.failures else now)
        if watch.snapshot is None:
            return max(now, watch.not_before) if watch.failures else now
        age = next_poll(
            (now - watch.began) * watch.speed,
            watch.expected,
            watch.polled,
            pauses=self._pauses(watch),
            not_before=(watch.not_before - watch.began) * watch.speed if watch.failures else 0.0,
            random=self._random(),
        )
        return max(watch.began + age / watch.speed, now)

    def _pauses(self, watch: Watch) -> Pauses:
        if not watch.waiters:
            return NOBODY_WAITS
        if watch.is_called_back and self._missed_callbacks < _MISSES:
            return A_CALLBACK_WILL_TELL
        return SOMEBODY_WAITS


def _may_be_found(watch: Watch) -> bool:
    """Whether a task that the provider does not know now is one that it knew."""
    return watch.snapshot is not None and watch.failures < _NOT_FOUND_TRIES - 1


def _was_never_there(watch: Watch) -> bool:
    """Whether the provider does not know it and never did, as far as is known here."""
    is_unknown = watch.failure is not None and watch.failure.code == "not_found"
    return is_unknown and watch.snapshot is None


def _pause_after_refusal(refusals: int, random: float) -> float:
    pause = math.ldexp(_FIRST_REFUSED_PAUSE, min(refusals, 10) - 1)
    return min(pause, _LONGEST_REFUSED_PAUSE) * (1 + _REFUSED_JITTER * random)


def _unexpected() -> ReadFailed:
    return ReadFailed(
        "Something unexpected kept the task from being polled.",
        code="internal_error",
        fix=POLL_AGAIN,
        retryable=True,
    )
