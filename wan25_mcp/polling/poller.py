"""One poller for the tasks of an account in this process, however many calls wait for each.

A task is polled while a call waits for it, or while the server itself follows it so that its images
are saved. Its state is kept for a while longer, because agents ask again. This module does not know
how a poll is made.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.errors import ReadFailed, Unreachable, Wan25Error
from wan25_mcp.journal import Snapshot
from wan25_mcp.polling.due import due_at, may_be_polled, pauses_for
from wan25_mcp.polling.queue import DueQueue
from wan25_mcp.polling.schedule import Estimate, pause_after_failure
from wan25_mcp.polling.watch import Watch

logger: Final = logging.getLogger(__name__)

FRESH_SECONDS: Final = 2.0
"""A task with a snapshot this recent is not polled again."""

POLL_PATIENCE: Final = 10.0
"""Seconds that a call waits for a poll. The poll itself continues."""

_ELSEWHERE_PAUSE: Final = 1.0
"""Seconds until the next try while another process is polling."""

_UNEXPECTED_PAUSE: Final = 5.0
"""Seconds until polling continues after an unexpected exception."""

_IDLE_SECONDS: Final = 600.0
"""Seconds for which an idle watch is kept."""

_MAX_REQUESTED_WAIT: Final = 900.0
"""Cap on Retry-After for polls, in seconds: one bad header must not outlast the links."""

_URGENT_TRIES: Final = 6
"""Failed polls in a row after which a callback causes no further urgent poll."""

_NOT_FOUND_TRIES: Final = 3
"""Polls in a row that must say that a known task does not exist before this is accepted."""

_LONGEST_FOLLOWED: Final = 24 * 3600.0
"""Age in seconds from which a task is polled only while a call waits: some tasks never settle."""

ReadTask = Callable[[Watch, bool], Awaitable[Snapshot | None]]
"""Polls a task. The flag forces the poll even if another process has just polled the task. Returns
None while another process is polling it."""


class Poller:
    """Polls tasks while `run` runs.

    Args:
        read: Makes one poll.
        tasks: The task group that polls run in; it outlives every call that waits.
        slots: Limits the concurrent polls of the process.
        random: Random numbers in [0, 1).
        settled: Called with each task that is observed to be settled.
    """

    def __init__(
        self,
        read: ReadTask,
        tasks: TaskGroup,
        slots: anyio.Semaphore,
        *,
        random: Callable[[], float],
        settled: Callable[[Watch], None] = lambda _: None,
    ) -> None:
        self._read = read
        self._tasks = tasks
        self._random = random
        self._settled = settled
        self._queue = DueQueue(slots)
        self._watches: dict[str, Watch] = {}
        self._forget_at = 100
        self._missed_callbacks = 0

    async def run(self) -> None:
        """Poll each task when it is due, until cancelled."""
        while True:
            try:
                watch = await self._queue.next()
            except Exception:  # later tasks must still be polled
                logger.exception("Finding the task to poll next ended unexpectedly")
                await anyio.sleep(_UNEXPECTED_PAUSE)
                continue
            watch.is_polling = True
            self._tasks.start_soon(self._poll, watch)

    # --- interest ---------------------------------------------------------------------------

    def get(self, task_id: str) -> Watch | None:
        """The watch of a task, if there is one."""
        return self._watches.get(task_id)

    def waited_for(self) -> list[Watch]:
        """The tasks that calls wait for."""
        return [watch for watch in self._watches.values() if watch.waiters and not watch.over]

    def open(self, task_id: str, *, began: float, expected: Estimate, speed: float = 1.0) -> Watch:
        """The watch of a task, created if there is none. Does not poll."""
        if task_id not in self._watches:
            self._forget()
            self._watches[task_id] = Watch(task_id, began, expected, speed)
        return self._watches[task_id]

    @contextmanager
    def waiting(self, watch: Watch) -> Iterator[None]:
        """Poll a task for a waiting call while the block runs."""
        is_refused = watch.over and watch.failure is not None
        if is_refused and anyio.current_time() - watch.refused_at >= FRESH_SECONDS:
            watch.over, watch.failure = watch.is_settled, None  # for a new caller, try again
        watch.waiters += 1
        if watch.waiters == 1 or is_refused:
            self._schedule(watch)
        try:
            yield
        finally:
            watch.waiters -= 1
            watch.left_at = anyio.current_time()
            if not watch.waiters:
                self._drop_or_slow(watch)

    def follow(self, watch: Watch, *, at_once: bool = False) -> None:
        """Poll a task at intervals until it is settled, even if nobody waits."""
        if not watch.is_followed and not watch.is_settled and not watch.never_existed:
            watch.is_followed = True
            self._schedule(watch)
            if at_once and not watch.is_polling and not watch.over:
                self._queue.put(watch, max(anyio.current_time(), watch.reserved_at))

    def _drop_or_slow(self, watch: Watch) -> None:
        if watch.is_settled:
            self._watches.pop(watch.task_id, None)
        else:
            self._schedule(watch)

    def _forget(self) -> None:
        if len(self._watches) < self._forget_at:
            return
        long_ago = anyio.current_time() - _IDLE_SECONDS
        for task_id, watch in list(self._watches.items()):
            is_idle = not watch.is_of_interest and not watch.waiters and not watch.is_polling
            if is_idle and max(watch.left_at, watch.updated_at) < long_ago:
                del self._watches[task_id]
        self._forget_at = max(100, 2 * len(self._watches))

    # --- updates ----------------------------------------------------------------------------

    def receive(self, watch: Watch, snapshot: Snapshot, *, ago: float) -> None:
        """Use a snapshot of any process, `ago` seconds old, unless a newer one is known."""
        known = watch.snapshot
        if known is None or (known.seen_at < snapshot.seen_at and not watch.is_settled):
            self._update(watch, snapshot, ago=ago)
            watch.notify()

    async def refresh(self, watch: Watch) -> Snapshot:
        """Poll a task now, unless its snapshot is fresh. Call this within `waiting`.

        Raises:
            Wan25Error: The poll failed, or the provider is limiting requests.
        """
        now = anyio.current_time()
        if watch.over and watch.failure is not None:  # refused just now
            raise watch.failure
        if watch.snapshot and (watch.over or now - watch.updated_at < FRESH_SECONDS):
            return watch.snapshot
        self._check_open(watch, now)
        if not watch.is_polling:
            self._queue.put(watch, max(now, watch.reserved_at))
        while True:
            await watch.changed()
            if watch.failure is not None:
                raise watch.failure
            if watch.snapshot is not None:
                return watch.snapshot

    def hasten(self, watch: Watch) -> None:
        """Poll a task now, if the pause since its last poll allows it: a wait is about to end."""
        if may_be_polled(watch, pauses_for(watch, self._missed_callbacks)):
            self._queue.put(watch, max(anyio.current_time(), watch.reserved_at))

    def _check_open(self, watch: Watch, now: float) -> None:
        until = max(watch.limited_until, self._queue.closed_until)
        if now < until:
            raise ReadFailed(
                "The provider is limiting requests, so it was not polled again.",
                code="rate_limit",
                fix="Poll again after that time. The edit continues.",
                retry_after_seconds=round(until - now, 1),
            )

    def wake(self, watch: Watch) -> None:
        """A callback says that a task is settled: poll it now, or soon after the last callback."""
        self._missed_callbacks = 0
        if not watch.is_settled and not watch.is_urgent:
            watch.wake()
            self._schedule(watch)

    # --- polls ------------------------------------------------------------------------------

    async def _poll(self, watch: Watch) -> None:
        """Poll once. Whatever fails, later polls of this and other tasks are still made."""
        try:
            await self._poll_once(watch)
        except Exception:
            logger.exception("The poll of %s could not be used", watch.task_id)
            if watch.is_of_interest:
                self._queue.put(watch, anyio.current_time() + _UNEXPECTED_PAUSE)
            watch.notify()

    async def _poll_once(self, watch: Watch) -> None:
        is_forced, watch.is_urgent = watch.is_urgent, False
        try:
            snapshot = await self._read(watch, is_forced)
        except (ReadFailed, Unreachable) as error:
            self._failed(watch, error, is_forced=is_forced)
        except Wan25Error as error:
            # One "not found" is not enough to give up a task that was seen before.
            is_retried = watch.snapshot is not None and watch.failures < _NOT_FOUND_TRIES - 1
            if error.code == "not_found" and is_retried:
                self._failed(watch, error, is_forced=is_forced)
            else:
                self._refused(watch, error)
        except Exception:
            logger.exception("Polling %s ended unexpectedly", watch.task_id)
            self._failed(watch, ReadFailed(code="internal_error"), is_forced=is_forced)
        else:
            watch.is_polling = False
            if snapshot is None:  # another process is polling, and will journal its snapshot
                watch.is_urgent = watch.is_urgent or is_forced
                self._queue.put(watch, anyio.current_time() + _ELSEWHERE_PAUSE)
                return
            self._queue.answered()
            self._update(watch, snapshot)
            self._count_callbacks(watch)
        finally:
            watch.is_polling = False
            self._queue.done()
        watch.notify()

    def _update(self, watch: Watch, snapshot: Snapshot, *, ago: float = 0.0) -> None:
        watch.update(snapshot, ago=ago)
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
        # Not for a snapshot of another process, which may have received the callback.
        if watch.over and watch.is_called_back and not watch.wakes:
            self._missed_callbacks += 1

    def _failed(self, watch: Watch, error: Wan25Error, *, is_forced: bool) -> None:
        now = anyio.current_time()
        requested = min(error.retry_after_seconds or 0.0, _MAX_REQUESTED_WAIT)
        watch.failure = error
        watch.failures += 1
        # The urgent poll for a callback is repeated if it fails.
        watch.is_urgent = watch.is_urgent or (is_forced and watch.failures < _URGENT_TRIES)
        watch.not_before = now + pause_after_failure(watch.failures, requested, self._random())
        if requested:
            watch.limited_until = now + requested
        if error.code == "rate_limit":
            self._queue.limited(requested)
        watch.is_polling = False
        self._schedule(watch)

    def _refused(self, watch: Watch, error: Wan25Error) -> None:
        watch.failure, watch.over = error, True
        watch.failures, watch.refused_at = 0, anyio.current_time()
        watch.refusals += 1
        watch.is_urgent = False
        is_young = watch.age < _LONGEST_FOLLOWED
        watch.is_followed = watch.is_followed and is_young and not watch.never_existed
        watch.is_polling = False
        self._schedule(watch)

    # --- when -------------------------------------------------------------------------------

    def _schedule(self, watch: Watch) -> None:
        if not watch.is_polling:  # else it is scheduled after the poll
            when = due_at(watch, pauses_for(watch, self._missed_callbacks), self._random())
            self._queue.put(watch, max(when, watch.reserved_at))
