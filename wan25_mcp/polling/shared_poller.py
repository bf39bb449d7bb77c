"""Polls through the client, journals the snapshots, and takes turns with other processes.

Processes that share a journal share snapshots. Before a poll, a process acquires a lease in the
journal, and gets it only if it knows the latest snapshot. So of two processes that would poll at
the same time, one does, and both have the result within a second. If a process dies during a poll,
another one polls 15 seconds after that poll began. If it dies between two polls, the others are not
delayed at all.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.errors import ReadFailed
from wan25_mcp.journal import DegradedJournal, Intent, Snapshot
from wan25_mcp.polling.poller import Poller
from wan25_mcp.polling.schedule import ESTIMATED_TIME, Estimate, estimate
from wan25_mcp.polling.watch import Watch
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task
from wan25_mcp.provider.protocol import Provider

logger: Final = logging.getLogger(__name__)

POLL_LEASE_SECONDS: Final = 15.0
"""If a poll takes longer, another process may poll too: the first may have died."""

REFRESH_SECONDS: Final = 1.0
"""Interval at which a process with waiting calls reads the snapshots of other processes."""
_SKEW: Final = 10.0
"""Seconds by which the clocks of machines that share a journal may differ."""

_RELEASE_SECONDS: Final = 1.0
_PAST_RUNS_FRESH: Final = 60.0
_MIN_RUNS: Final = 3
"""With fewer past runs, no typical duration is reported."""


@dataclass(slots=True)
class _Past:
    """Durations in seconds of past edits of one kind, and the moment at which they were read."""

    runs: tuple[float, ...]
    read_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PollingOptions:
    """How a process polls, for all accounts.

    Args:
        tasks: The task group that polls run in; it outlives every call.
        slots: Limits the concurrent polls of the process.
        clock: Epoch seconds.
        random: Random numbers in [0, 1).
        is_emulator: Whether the provider is an emulator, whose estimate shows how fast it runs.
    """

    tasks: TaskGroup
    slots: anyio.Semaphore
    clock: Callable[[], float]
    random: Callable[[], float]
    is_emulator: bool = False


class SharedPoller:
    """Polls the tasks of one account in this process.

    Args:
        client: The provider's API.
        journal: The journal that every snapshot is written to.
        settled: Called with each task that is observed to be settled.
    """

    def __init__(
        self,
        client: Provider,
        journal: DegradedJournal,
        options: PollingOptions,
        settled: Callable[[Watch], None],
    ) -> None:
        self._client = client
        self._journal = journal
        self._clock = options.clock
        self._poller = Poller(
            self._read, options.tasks, options.slots, random=options.random, settled=settled
        )
        self._is_emulator = options.is_emulator
        self._past: dict[tuple[int | None, str], _Past] = {}
        self._waited_for = anyio.Event()

    async def run(self) -> None:
        """Poll tasks when they are due, and read the polls of other processes, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._poller.run)
            await self._follow_others()

    # --- interest ---------------------------------------------------------------------------

    @asynccontextmanager
    async def watching(self, task_id: str, intent: Intent | None = None) -> AsyncIterator[Watch]:
        """Wait for a task while the block runs. All waiting calls share the same watch."""
        watch = await self._open(task_id, intent)
        self._waited_for.set()
        with self._poller.waiting(watch):
            yield watch

    async def refresh(self, task_id: str, intent: Intent | None = None) -> Snapshot:
        """A snapshot of a task that is at most 2 seconds old.

        Raises:
            Wan25Error: The poll failed.
        """
        async with self.watching(task_id, intent) as watch:
            return await self._poller.refresh(watch)

    async def follow(
        self, task_id: str, intent: Intent | None = None, *, at_once: bool = False
    ) -> None:
        """Poll a task at intervals until it is settled, even if nobody waits.

        Args:
            at_once: Also poll it now, whenever it was polled last.
        """
        self._poller.follow(await self._open(task_id, intent), at_once=at_once)

    def is_followed(self, task_id: str) -> bool:
        """Whether `follow` would change nothing: the task is followed, or settled."""
        watch = self._poller.get(task_id)
        return watch is not None and (watch.is_followed or watch.is_settled)

    async def wake(self, task_id: str, intent: Intent | None = None) -> None:
        """A callback says that a task is settled: poll it."""
        self._poller.wake(await self._open(task_id, intent))

    def hasten(self, watch: Watch) -> None:
        """Poll a task now, if the pause since its last poll allows it."""
        self._poller.hasten(watch)

    async def typical(self, intent: Intent | None) -> float | None:
        """How many seconds such edits typically take, if enough are known."""
        runs = (await self._past_runs(intent)).runs
        return statistics.median(runs) if len(runs) >= _MIN_RUNS else None

    async def _open(self, task_id: str, intent: Intent | None) -> Watch:
        snapshot = await self._journal.last_seen(task_id)
        watch = self._poller.get(task_id)
        if watch is None:
            expected, speed = await self._expected(intent, snapshot), self._speed(snapshot)
            began = anyio.current_time() - self._age(intent, snapshot)
            watch = self._poller.open(task_id, began=began, expected=expected, speed=speed)
        watch.is_called_back = intent is not None and intent.callback is not None
        if snapshot is not None:
            self._update(watch, snapshot)
        return watch

    def _age(self, intent: Intent | None, snapshot: Snapshot | None) -> float:
        """Seconds since the task began, by this machine's clock: the provider's may be off."""
        now = self._clock()
        earliest = intent.created_at if intent else 0.0
        latest = snapshot.seen_at if snapshot else now
        reported = snapshot.task.created if snapshot else None
        began = min(max(reported or latest, earliest), latest)
        return max(now - began, 0.0)

    async def _expected(self, intent: Intent | None, snapshot: Snapshot | None) -> Estimate:
        """The ages of the first polls of such an edit."""
        if self._is_emulator:
            return estimate()
        return estimate((await self._past_runs(intent)).runs, _estimated(snapshot))

    def _speed(self, snapshot: Snapshot | None) -> float:
        estimated = _estimated(snapshot) if self._is_emulator else None
        return ESTIMATED_TIME / estimated if estimated else 1.0

    async def _past_runs(self, intent: Intent | None) -> _Past:
        """Past runs of a model with the same number of images; without an intent, with any."""
        kind = (intent.n, intent.model) if intent else (None, MODEL)
        now = anyio.current_time()
        past = self._past.get(kind)
        if past is not None and now - past.read_at <= _PAST_RUNS_FRESH:
            return past
        if past is not None:
            past.read_at = now  # one call reads them anew; until then the others use the old ones
        n, model = kind
        runs = await self._journal.past_runs(n=n, model=model)
        past = self._past[kind] = _Past(tuple(runs), now)
        return past

    # --- polls ------------------------------------------------------------------------------

    async def _read(self, watch: Watch, is_forced: bool) -> Snapshot | None:
        task_id, seen = watch.task_id, watch.snapshot
        known = None if is_forced or seen is None else seen.seen_at
        is_acquired = await self._journal.acquire_poll(
            task_id, seen_at=known, now=self._clock(), lease=POLL_LEASE_SECONDS
        )
        if not is_acquired:
            latest = await self._journal.last_seen(task_id)
            is_newer = latest is not None and known is not None and latest.seen_at > known
            return latest if is_newer else None
        try:
            task = await self._query(task_id)
        except BaseException:
            with anyio.move_on_after(_RELEASE_SECONDS, shield=True):
                await self._journal.release_poll(task_id)
            raise
        snapshot = await self._journal.record(task, now=self._clock())
        watch.speed = self._speed(snapshot)
        self._set_began(watch, snapshot)
        return snapshot

    async def _query(self, task_id: str) -> Task:
        """Query the provider, for at most as long as the lease lasts."""
        with anyio.move_on_after(POLL_LEASE_SECONDS):
            return await self._client.query(task_id)
        raise ReadFailed(
            f"The provider did not answer within {POLL_LEASE_SECONDS:.0f} seconds.",
            code="read_failed",
        )

    def _set_began(self, watch: Watch, snapshot: Snapshot) -> None:
        """For a task that another process submitted: derive its start from its first snapshot."""
        if watch.snapshot is None:
            watch.began = anyio.current_time() - self._age(None, snapshot)

    # --- polls of other processes -----------------------------------------------------------

    async def _follow_others(self) -> None:
        while True:
            await anyio.sleep(REFRESH_SECONDS)
            watches = {watch.task_id: watch for watch in self._poller.waited_for()}
            if not watches:
                self._waited_for = anyio.Event()
                await self._waited_for.wait()
                continue
            try:
                seen = await self._journal.seen_since(self._clock() - _SKEW)
                newer = [name for name, watch in watches.items() if _is_news(watch, seen.get(name))]
                await self._update_all(newer)
            except Exception:  # the next round may succeed, and this process polls as well
                logger.exception("Reading the snapshots of other processes ended unexpectedly")

    async def _update_all(self, task_ids: Iterable[str]) -> None:
        found = await self._journal.snapshots(list(task_ids))
        for task_id, snapshot in found.items():
            if (watch := self._poller.get(task_id)) is not None:
                self._set_began(watch, snapshot)
                self._update(watch, snapshot)

    def _update(self, watch: Watch, snapshot: Snapshot) -> None:
        self._poller.receive(watch, snapshot, ago=max(self._clock() - snapshot.seen_at, 0.0))


def _estimated(snapshot: Snapshot | None) -> float | None:
    info = snapshot.task.task_info if snapshot else None
    return info.estimated_time if info else None


def _is_news(watch: Watch, seen_at: float | None) -> bool:
    known = watch.snapshot
    return seen_at is not None and (known is None or known.seen_at < seen_at)
