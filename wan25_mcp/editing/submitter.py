"""Sends each edit once, even if the call that asked for it is cancelled.

Every step is in the journal before the next one is taken: `sending` before the first byte is sent,
the outcome before it is reported. A request that may have been accepted is never sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio

from wan25_mcp.editing.circuit_breaker import CircuitBreaker
from wan25_mcp.editing.resend import resend_note, resend_pause
from wan25_mcp.editing.shared import Shared
from wan25_mcp.errors import OutcomeUnknown, Unreachable, Wan25Error
from wan25_mcp.inputs.prepare import PreparedRequest
from wan25_mcp.journal import (
    DegradedJournal,
    Intent,
    JournalUnusable,
    Snapshot,
    Withheld,
    observe,
)
from wan25_mcp.journal.outcomes import interrupted
from wan25_mcp.provider.charging import MAX_RESENDS
from wan25_mcp.provider.models import EditRequest
from wan25_mcp.provider.protocol import Provider

logger: Final = logging.getLogger(__name__)

Prepare = Callable[[], Awaitable[PreparedRequest]]
"""Prepares the request. May take a while; costs nothing."""

LEASE_SECONDS: Final = 12.0
"""A process that has not renewed its lease for this long counts as dead; its open submits are then
marked."""

MAX_WAIT_FOR_RESEND: Final = 60.0
SHUTDOWN_SECONDS: Final = 5.0
"""Seconds that a stopping process waits for the task ids of submits on the wire."""
_JOURNAL_SECONDS: Final = 2.0
"""Seconds that it then waits for the outcomes of the others to be journaled."""

_SERVICE_FAILED: Final = ("service_unavailable", "service_error", "unreachable")


@dataclass(slots=True, eq=False)
class Submit:
    """A submit of this process.

    Args:
        intent: The intent that is sent; at the end with its outcome.
        snapshot: The task as the provider accepted it.
        changes: Sentences about changes to its images.
        refusal: Why it was not accepted when it was last sent.
        has_outcome: Whether its outcome is journaled, or held in memory until it can be.
        ended: Set when the submit has ended.
    """

    intent: Intent
    snapshot: Snapshot | None = None
    changes: tuple[str, ...] = ()
    refusal: Wan25Error | None = None
    note: str | None = None
    """Why it takes longer, while it waits to be sent again."""
    on_the_wire: bool = False
    has_outcome: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Submitter:
    """The submits of one account in this process.

    Args:
        client: The provider's API.
        degraded: The journal for outcomes, which works even while the disk is full.
        shared: Has the journal for all other steps, and the task group that submits run in.
        accepted: Called with each submit that became a task.
    """

    def __init__(
        self,
        client: Provider,
        degraded: DegradedJournal,
        shared: Shared,
        accepted: Callable[[Intent, Snapshot], None],
    ) -> None:
        self._client = client
        self._journal = shared.journal
        self._degraded = degraded
        self._tasks = shared.tasks
        self._clock = shared.options.clock
        self._random = shared.options.random
        self._accepted = accepted
        self._breaker = CircuitBreaker()
        self._under_way: dict[str, Submit] = {}

    def refusal(self) -> Withheld | None:
        """The reason why nothing new may be sent now, or None."""
        pause = self._breaker.pause(self._clock())
        if pause is None:
            return None
        return Withheld(
            f"The provider has failed several times in a row, so submitting is paused "
            f"for another {pause:.0f} s; nothing was sent.",
            code="provider_failing",
            retry_after_seconds=round(pause, 1),
        )

    def start(self, intent: Intent, prepare: Prepare) -> Submit:
        """Prepare and send the edit of an intent that was just made."""
        self._breaker.started(self._clock())
        submit = self._under_way[intent.handle] = Submit(intent)
        self._tasks.start_soon(self._run, submit, prepare)
        return submit

    def note(self, handle: str) -> str | None:
        """Why a submit of this process takes longer, if it does."""
        submit = self._under_way.get(handle)
        return submit.note if submit else None

    async def ended(self, handle: str) -> None:
        """Wait until a submit of this process has ended."""
        if (submit := self._under_way.get(handle)) is not None:
            await submit.ended.wait()

    async def finish(self) -> None:
        """Wait for the task ids of submits on the wire, before the process ends.

        Those still open after 5 seconds are journaled as unknown.
        """
        with anyio.move_on_after(SHUTDOWN_SECONDS):
            await self._all_ended()
        for submit in self._under_way.values():
            submit.scope.cancel()
        with anyio.move_on_after(_JOURNAL_SECONDS):
            await self._all_ended()

    async def _all_ended(self) -> None:
        for submit in list(self._under_way.values()):
            await submit.ended.wait()

    async def _run(self, submit: Submit, prepare: Prepare) -> None:
        handle = submit.intent.handle
        try:
            with submit.scope:
                await self._send_leased(submit, prepare)
            if submit.scope.cancelled_caught:
                await self._give_up(submit)
        except anyio.get_cancelled_exc_class():
            await self._give_up(submit)
            raise
        except Exception as error:
            logger.exception("The submit %s ended unexpectedly", handle)
            if submit.on_the_wire or submit.has_outcome:
                while isinstance(error, ExceptionGroup):  # task groups wrap the error
                    error = error.exceptions[0]
                reason = interrupted(f"An unexpected error occurred ({type(error).__name__})")
                submit.intent = await self._degraded.mark_unknown(submit.intent, reason)
            else:
                submit.intent = await self._degraded.refuse(
                    submit.intent, Unreachable(code="never_sent")
                )
        finally:
            del self._under_way[handle]
            submit.ended.set()

    async def _give_up(self, submit: Submit) -> None:
        if submit.has_outcome:  # it may not be journaled yet, and must not be overwritten
            return
        with anyio.CancelScope(shield=True):
            if submit.on_the_wire:
                submit.intent = await self._degraded.mark_unknown(
                    submit.intent, interrupted("The server stopped")
                )
            else:
                submit.intent = await self._degraded.refuse(
                    submit.intent, Unreachable(code="never_sent")
                )

    async def _send_leased(self, submit: Submit, prepare: Prepare) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_lease, submit.intent.handle)
            request = await self._prepared(submit, prepare)
            try:
                if request is not None:
                    await self._send(submit, request)
            except JournalUnusable as error:
                # After a resend, "nothing was sent" would be wrong.
                reason = submit.refusal or error
                submit.intent = await self._degraded.refuse(submit.intent, reason)
            tasks.cancel_scope.cancel()

    async def _prepared(self, submit: Submit, prepare: Prepare) -> EditRequest | None:
        """The request to send; None if an image could not be prepared: then nothing is sent."""
        try:
            prepared = await prepare()
        except Wan25Error as error:
            # The error stays with the intent, and its traceback would hold the images in memory.
            error.__traceback__ = error.__context__ = None
            submit.intent = await self._degraded.refuse(submit.intent, error)
            return None
        submit.changes = prepared.changes
        return prepared.request

    async def _keep_lease(self, handle: str) -> None:
        while True:
            await anyio.sleep(LEASE_SECONDS / 4)
            try:
                await self._journal.renew(handle, now=self._clock(), lease=LEASE_SECONDS)
            except JournalUnusable as error:
                logger.warning("%s", error.state)
            except Exception:  # it must not stop the submit
                logger.exception("Renewing the lease of %s ended unexpectedly", handle)

    async def _send(self, submit: Submit, request: EditRequest) -> None:
        """Send until there is an outcome.

        Raises:
            JournalUnusable: The next step could not be written; nothing is on the wire.
        """
        handle = submit.intent.handle
        for attempt in range(MAX_RESENDS + 1):
            if not await self._journal.begin(handle, now=self._clock(), lease=LEASE_SECONDS):
                # This process counted as dead, so a new call may have taken over.
                found = await self._degraded.find_or_fail(handle, now=self._clock())
                submit.intent = found or submit.intent
                return
            submit.on_the_wire = True
            error = await self._send_once(submit, request)
            if error is None:
                submit.has_outcome = True
                return
            submit.on_the_wire, submit.refusal = False, error
            if not self._may_resend(error, attempt):
                submit.intent = await self._degraded.refuse(submit.intent, error)
                return
            await self._journal.pause(handle, now=self._clock(), lease=LEASE_SECONDS)
            submit.note = resend_note(attempt, error)
            await anyio.sleep(resend_pause(attempt, error.retry_after_seconds, self._random()))
            submit.note = None

    async def _send_once(self, submit: Submit, request: EditRequest) -> Wan25Error | None:
        """Send, and journal the outcome. Returns the error of a submit that was not accepted."""
        try:
            task = await self._client.submit(request, idempotency_key=submit.intent.handle)
        except OutcomeUnknown as error:
            self._breaker.failed(self._clock())
            submit.intent = await self._degraded.mark_unknown(submit.intent, error)
            return None
        except Wan25Error as error:
            self._count(error)
            return error
        with anyio.CancelScope(shield=True):  # until it is journaled, only this code has the id
            now = self._clock()
            submit.intent = await self._degraded.accept(submit.intent, task, now=now)
            if submit.intent.task_id is None:
                self._breaker.failed(now)
                return None
            submit.snapshot = snapshot = observe(None, task, now)
        self._breaker.succeeded()
        self._accepted(submit.intent, snapshot)
        return None

    def _count(self, error: Wan25Error) -> None:
        if error.code in _SERVICE_FAILED:
            self._breaker.failed(self._clock())
        else:
            self._breaker.succeeded()

    def _may_resend(self, error: Wan25Error, attempt: int) -> bool:
        requested = error.retry_after_seconds or 0.0
        return error.retryable and attempt < MAX_RESENDS and requested <= MAX_WAIT_FOR_RESEND
