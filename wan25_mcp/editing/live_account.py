"""One account in use in a process: its key, and all that the process knows of its edits.

Only what is in `Shared` is shared with other accounts.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import anyio

from wan25_mcp.editing.account import Account
from wan25_mcp.editing.callbacks import Callbacks
from wan25_mcp.editing.edit import Edit, Price, seen, unknown, unknown_everywhere, unread, unseen
from wan25_mcp.editing.options import Connection
from wan25_mcp.editing.ownership import Ownership
from wan25_mcp.editing.results import Results
from wan25_mcp.editing.shared import Shared
from wan25_mcp.editing.submitter import Submitter
from wan25_mcp.errors import ReadFailed, Wan25Error
from wan25_mcp.journal import DegradedJournal, Intent, JournalUnusable, Snapshot, Spent
from wan25_mcp.journal.stages import ABANDONED
from wan25_mcp.polling.poller import POLL_PATIENCE
from wan25_mcp.polling.shared_poller import PollingOptions, SharedPoller
from wan25_mcp.polling.watch import Watch
from wan25_mcp.provider.catalogue import ModelName
from wan25_mcp.provider.statuses import is_settled

logger: Final = logging.getLogger(__name__)

HANDLE_PREFIX: Final = "edit-"

_ELSEWHERE_PAUSE: Final = 1.0
"""Seconds between two reads of the journal for a submit that another process makes."""

_CALLBACK_SECONDS: Final = 900.0
"""Seconds after a submit of unknown outcome within which a callback may still resolve it."""


class LiveAccount:
    """An account's submits, polls, results and callbacks in this process."""

    def __init__(self, account: Account, connection: Connection, shared: Shared) -> None:
        self.allowance: Final = account.allowance
        self.connection = connection
        self.journal: Final = shared.journal
        self.options: Final = shared.options
        self.holder: Final = shared.holder
        self._tasks = shared.tasks
        self.ownership: Final = Ownership(
            connection, shared.journal, account.name, may_ask=not shared.options.is_emulator
        )
        self.degraded: Final = DegradedJournal(shared.journal, self.ownership.owner)
        self.poller: Final = SharedPoller(
            connection.client, self.degraded, _polling(shared), self._settled
        )
        self.submitter: Final = Submitter(connection.client, self.degraded, shared, self._accepted)
        self.callbacks: Final = Callbacks(
            connection.client, self.degraded, self.poller, self.submitted, shared
        )
        self.results: Final = Results(
            account, connection, self.degraded, self.ownership.owner, shared
        )

    # --- what is known ----------------------------------------------------------------------

    async def find(self, name: str) -> Intent | None:
        """The intent of a handle or task id. A task id is usable without one.

        Raises:
            JournalUnusable: The name is a handle, which only the journal can resolve.
        """
        if name.startswith(HANDLE_PREFIX):
            return await self.degraded.find_or_fail(name, now=self.options.clock())
        return await self.find_if_readable(name)

    async def find_if_readable(self, name: str) -> Intent | None:
        """The intent of a handle or task id; None also while the journal cannot be read."""
        return await self.degraded.find(name, now=self.options.clock())

    async def submitted(self, name: str, *, await_callback: bool = False) -> Intent | None:
        """Wait until the submit behind a name has ended, whichever process makes it.

        Args:
            await_callback: Wait also for a callback that may still resolve an unknown outcome.
        """
        await self.submitter.ended(name)
        while True:
            with suppress(JournalUnusable):  # retried until the caller gives up
                intent = await self.find(name)
                waits = intent is not None and (
                    is_open(intent) or (await_callback and self._may_be_resolved(intent))
                )
                if not waits:
                    return intent
            await anyio.sleep(_ELSEWHERE_PAUSE)

    def _may_be_resolved(self, intent: Intent) -> bool:
        is_unknown = intent.stage == "unknown" and intent.callback is not None
        return is_unknown and self.options.clock() - intent.created_at < _CALLBACK_SECONDS

    async def report(self, name: str) -> Edit:
        """What is known of an edit without polling it."""
        try:
            intent = await self.find(name)
        except JournalUnusable:
            return unread(name)
        task_id = intent.task_id if intent else name
        snapshot = await self.degraded.last_seen(task_id) if task_id else None
        if snapshot:
            return seen(snapshot, intent)
        return unseen(intent) if intent else unknown(name)

    async def poll(self, task_id: str, intent: Intent | None) -> Edit:
        """A task as it is now, or as it was last known with the error of the poll."""
        error: Wan25Error = _too_slow()
        try:
            with anyio.move_on_after(POLL_PATIENCE):
                return seen(await self.poller.refresh(task_id, intent), intent)
        except Wan25Error as reason:
            error = reason
        known = await self.report(task_id)
        if known == unknown(task_id):
            return unknown_everywhere(task_id, error)
        return replace(known, task_id=task_id, error=error)

    async def with_times(self, edit: Edit) -> Edit:
        """Add how long a running edit has been running, and how long such edits take."""
        if edit.task_id is None or is_settled(edit.status) or edit.status == "unknown":
            return edit
        intent = await self.find_if_readable(edit.task_id)
        seen = await self.degraded.last_seen(edit.task_id)
        began = intent.created_at if intent else seen.task.created if seen else None
        return replace(
            edit,
            elapsed=None if began is None else max(self.options.clock() - began, 0.0),
            typical=await self.poller.typical(intent),
        )

    async def price(self, n: int, model: ModelName) -> Price:
        """What an edit of `n` images will probably cost, by the last reported price.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        reported = await self.journal.price(await self.ownership.owner(), model)
        each = reported or self.allowance.credits_per_image
        return Price(each * n, is_known=reported is not None)

    async def spent(self, seconds: float) -> Spent:
        """What the edits of the last `seconds` cost.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        owner = await self.ownership.owner()
        return await self.journal.spent(owner, self.options.clock() - seconds)

    # --- in the background ------------------------------------------------------------------

    def _accepted(self, intent: Intent, snapshot: Snapshot) -> None:
        if self.options.background:
            self.start_soon(partial(self.poller.follow, snapshot.task.id, intent))

    def _settled(self, watch: Watch) -> None:
        """Save the images of a settled task, whether or not a call waits for them."""
        if self.options.background:
            self.start_soon(partial(self.results.save_in_turn, watch.task_id))

    def start_soon(self, job: Callable[[], Awaitable[None]]) -> None:
        """Run a job that outlives the call."""
        self._tasks.start_soon(_logged, job)


def _polling(shared: Shared) -> PollingOptions:
    return PollingOptions(
        tasks=shared.tasks,
        slots=shared.polls,
        clock=shared.options.clock,
        random=shared.options.random,
        is_emulator=shared.options.is_emulator,
    )


async def _logged(job: Callable[[], Awaitable[None]]) -> None:
    """Run a job that nobody waits for. If it fails, a later round in the background repeats it."""
    try:
        await job()
    except Exception:
        logger.exception("A job in the background ended unexpectedly")


def is_open(intent: Intent) -> bool:
    """Whether its submit has not ended yet."""
    return intent.stage in ABANDONED


def task_id_of(intent: Intent | None, name: str) -> str | None:
    """The provider's id for a name, or None if there is none (yet).

    Raises:
        ReadFailed: It is a handle that the journal does not know.
    """
    if intent is not None:
        return intent.task_id
    if name.startswith(HANDLE_PREFIX):
        raise ReadFailed(
            "The journal does not know this handle.",
            code="not_found",
            charged="unknown",
            fix="Pass the task_id exactly as edit_image returned it. `wan25-mcp tasks` lists "
            "recent edits.",
        )
    return name


def _too_slow() -> ReadFailed:
    return ReadFailed(
        f"The provider did not answer within {POLL_PATIENCE:.0f} seconds.",
        code="read_failed",
    )
