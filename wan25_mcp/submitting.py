"""Brings an intent to edit to its end, once, whatever becomes of the call that asked for it.

Every step is in the journal before the next is taken: `sending` before the first byte leaves, what
came of it before anybody is told. What may have been accepted is never sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.breaker import Breaker
from wan25_mcp.client import Client
from wan25_mcp.errors import OutcomeUnknown, Unreachable, Wan25Error
from wan25_mcp.journal import Intent, Journal, JournalUnusable, TolerantJournal, Withheld
from wan25_mcp.models import EditRequest
from wan25_mcp.money import MOST_RESENDS
from wan25_mcp.waiting import resend_pause

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 20.0
"""A process that has not renewed for so long is dead; its submits are then `unknown`."""

LONGEST_WAIT_FOR_RESEND: Final = 60.0
SHUTDOWN_PATIENCE: Final = 5.0
_LAST_WORDS: Final = 2.0

_SERVICE_FAILED: Final = ("service_unavailable", "service_error", "unreachable")


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A submit of this process."""

    on_the_wire: bool = False
    over: bool = False
    """Whether what came of it is journaled, or kept to be."""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Submitter:
    """The submits of one process.

    Args:
        client: The provider's API.
        journal: Where every step is written.
        tolerant: Where what came of a submit is written, whatever the disk says.
        tasks: The task group they run in; it outlives every call.
        clock: Epoch seconds.
        chance: Random numbers in [0, 1).
    """

    def __init__(
        self,
        client: Client,
        journal: Journal,
        tolerant: TolerantJournal,
        tasks: TaskGroup,
        *,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._client = client
        self._journal = journal
        self._tolerant = tolerant
        self._tasks = tasks
        self._clock = clock
        self._chance = chance
        self._breaker = Breaker()
        self._under_way: dict[str, _UnderWay] = {}

    def refusal(self) -> Withheld | None:
        """Why nothing new may be sent now, if so."""
        pause = self._breaker.pause(self._clock())
        if pause is None:
            return None
        return Withheld(
            f"The provider has failed several times in a row, so edits are held back for "
            f"{pause:.0f} s more; nothing was sent.",
            code="provider_failing",
            fix="Call again after that. Looking at tasks works meanwhile.",
            retryable=True,
            retry_after_seconds=round(pause, 1),
        )

    def start(self, intent: Intent, request: EditRequest) -> None:
        """Send the edit of an intent that was just made."""
        self._under_way[intent.handle] = _UnderWay()
        self._tasks.start_soon(self._bring_to_end, intent, request)

    def is_under_way(self, handle: str) -> bool:
        """Whether this process is sending it."""
        return handle in self._under_way

    async def ended(self, handle: str) -> None:
        """Wait until a submit of this process has ended."""
        if (under_way := self._under_way.get(handle)) is not None:
            await under_way.ended.wait()

    async def finish(self) -> None:
        """Before the process ends: let submits on the wire learn their task ids, then give up.

        What is still open after 5 seconds is journaled as unknown.
        """
        with anyio.move_on_after(SHUTDOWN_PATIENCE):
            await self._all_ended()
        for under_way in self._under_way.values():
            under_way.scope.cancel()
        with anyio.move_on_after(_LAST_WORDS):
            await self._all_ended()

    async def _all_ended(self) -> None:
        for under_way in list(self._under_way.values()):
            await under_way.ended.wait()

    async def _bring_to_end(self, intent: Intent, request: EditRequest) -> None:
        under_way = self._under_way[intent.handle]
        try:
            with under_way.scope:
                await self._send_leased(intent, request, under_way)
            if under_way.scope.cancelled_caught:
                await self._given_up(intent, under_way)
        except anyio.get_cancelled_exc_class():
            await self._given_up(intent, under_way)
            raise
        except Exception as error:
            logger.exception("The submit %s ended unexpectedly", intent.handle)
            await self._tolerant.lose(intent, _broke(error))
        finally:
            self._under_way.pop(intent.handle).ended.set()

    async def _given_up(self, intent: Intent, under_way: _UnderWay) -> None:
        if under_way.over:  # the journal may not have it yet: "never sent" would be believed
            return
        with anyio.CancelScope(shield=True):
            if under_way.on_the_wire:
                await self._tolerant.lose(intent, _stopped())
            else:
                await self._tolerant.refuse(intent, _never_sent())

    async def _send_leased(
        self, intent: Intent, request: EditRequest, under_way: _UnderWay
    ) -> None:
        async with anyio.create_task_group() as beside:
            beside.start_soon(self._keep_lease, intent.handle)
            try:
                await self._send(intent, request, under_way)
            except JournalUnusable as error:
                await self._tolerant.refuse(intent, error)
            beside.cancel_scope.cancel()

    async def _keep_lease(self, handle: str) -> None:
        while True:
            await anyio.sleep(LEASE_SECONDS / 4)
            try:
                await self._journal.renew(handle, now=self._clock(), lease=LEASE_SECONDS)
            except JournalUnusable as error:
                logger.warning("%s", error.message)

    async def _send(self, intent: Intent, request: EditRequest, under_way: _UnderWay) -> None:
        """Send until something came of it.

        Raises:
            JournalUnusable: The next step could not be written; nothing is on the wire.
        """
        for attempt in range(MOST_RESENDS + 1):
            if not await self._journal.begin(intent.handle, now=self._clock(), lease=LEASE_SECONDS):
                return  # taken for dead, and said to be; a new call may have taken over
            under_way.on_the_wire = True
            error = await self._send_once(intent, request)
            if error is None:
                under_way.over = True
                return
            under_way.on_the_wire = False
            if not self._may_resend(error, attempt):
                await self._tolerant.refuse(intent, error)
                return
            await self._journal.pause(intent.handle, now=self._clock(), lease=LEASE_SECONDS)
            await anyio.sleep(resend_pause(attempt, error.retry_after_seconds, self._chance()))

    async def _send_once(self, intent: Intent, request: EditRequest) -> Wan25Error | None:
        """Send, and journal what came of it. Returns the error of a submit surely not accepted."""
        try:
            task = await self._client.submit(request, idempotency_key=intent.handle)
        except OutcomeUnknown as error:
            self._breaker.failed(self._clock())
            await self._tolerant.lose(intent, error)
            return None
        except Wan25Error as error:
            self._note(error)
            return error
        self._breaker.succeeded()
        with anyio.CancelScope(shield=True):  # the one moment the id is known here and nowhere else
            await self._tolerant.accept(intent, task, now=self._clock())
        return None

    def _note(self, error: Wan25Error) -> None:
        if error.code in _SERVICE_FAILED:
            self._breaker.failed(self._clock())
        else:
            self._breaker.succeeded()

    def _may_resend(self, error: Wan25Error, attempt: int) -> bool:
        asked = error.retry_after_seconds or 0.0
        return error.retryable and attempt < MOST_RESENDS and asked <= LONGEST_WAIT_FOR_RESEND


_LOOK_FIRST: Final = (
    "Check recent tasks and credits on the provider's dashboard before editing again: a new edit "
    "would be charged anew."
)


def _broke(error: Exception) -> OutcomeUnknown:
    while isinstance(error, ExceptionGroup):  # as the task group wraps whatever passes it
        error = error.exceptions[0]
    return OutcomeUnknown(
        f"Something unexpected happened while the edit was being sent ({type(error).__name__}), "
        "so it may or may not have been accepted.",
        code="outcome_unknown",
        fix=_LOOK_FIRST,
        charged="unknown",
    )


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The server stopped while the edit was being sent, so it may or may not have been "
        "accepted.",
        code="outcome_unknown",
        fix=_LOOK_FIRST,
        charged="unknown",
    )


def _never_sent() -> Unreachable:
    return Unreachable(
        "The server stopped before the edit was sent; nothing was charged.",
        code="never_sent",
        fix="Call edit_image again.",
        retryable=True,
    )
