"""What the product does: submit an edit once, follow it, wait for it. Usable without MCP.

A submit runs in the editor's own scope, not in the call that asked for it: a cancelled call, a
dropped connection or an expired patience leaves it alone, and its task id is kept. Knows nothing
of MCP, of a terminal, or of where the provider is: `connect` brings that.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import anyio
from anyio.abc import TaskGroup, TaskStatus

from wan25_mcp import journal as journals
from wan25_mcp.client import Client
from wan25_mcp.errors import (
    Charged,
    InvalidRequest,
    OutcomeUnknown,
    TaskFailed,
    Wan25Error,
    task_advice,
)
from wan25_mcp.journal import Intent, Journal, MemoryJournal, Sighting
from wan25_mcp.lifecycle import Status, charged_for, is_settled
from wan25_mcp.models import LINK_LIFE_SECONDS, EditRequest, Task, Usage
from wan25_mcp.money import MOST_RESENDS
from wan25_mcp.waiting import Known, Watch, Watchers, resend_pause

logger = logging.getLogger(__name__)

SUBMIT_PATIENCE: Final = 3.5
"""Seconds `edit` waits for a task id; with what surrounds it, an answer within 4."""

LONGEST_WAIT_FOR_RESEND: Final = 60.0
SHUTDOWN_PATIENCE: Final = 5.0
HANDLE_PREFIX: Final = "edit-"


@dataclass(frozen=True, slots=True)
class Connection:
    """The way to the provider.

    Args:
        client: The provider's API.
        trusted: Origins that links may name although they are not public.
    """

    client: Client
    trusted: frozenset[str] = frozenset()


Connect = Callable[[], AbstractAsyncContextManager[Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is known of one edit at one moment.

    Args:
        task_id: The provider's id; while there is none, our handle, which works in its place.
        progress: Percent.
        expires_at: When the links die at the earliest.
        estimated_seconds: The provider's estimate of the whole run; optimistic.
        joined: Whether the call that asked joined an earlier, equal one.
        error: Why there is no edited image and will be none, or why this look failed.
    """

    task_id: str | None
    status: Status
    charged: Charged
    progress: int | None = None
    image_urls: tuple[str, ...] = ()
    expires_at: datetime | None = None
    saved: tuple[str, ...] = ()
    usage: Usage | None = None
    estimated_seconds: float | None = None
    joined: bool = False
    error: Wan25Error | None = None


OnProgress = Callable[[Edit], Awaitable[None]]


@dataclass(slots=True)
class _Host:
    """What the editor's scope holds once something was asked of it."""

    connection: Connection
    watchers: Watchers


@dataclass(slots=True)
class _State:
    tasks: TaskGroup
    host: _Host | None = None
    submits: dict[str, anyio.Event] = field(default_factory=dict)


class Editor:
    """Edits images. Make one with `open_editor`.

    Every method raises `SettingsError` when the provider cannot be connected to as configured.
    """

    def __init__(
        self,
        connect: Connect,
        journal: Journal,
        tasks: TaskGroup,
        *,
        is_emulator: bool,
        duplicate_window: float,
        clock: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self.is_emulator = is_emulator
        self._connect = connect
        self._journal = journal
        self._state = _State(tasks)
        self._connecting = anyio.Lock()
        self._duplicate_window = duplicate_window
        self._clock = clock
        self._chance = chance

    async def connection(self) -> Connection:
        """The way to the provider, opened when first needed."""
        return (await self._host()).connection

    async def edit(
        self, request: EditRequest, *, force_new: bool = False, patience: float = SUBMIT_PATIENCE
    ) -> Edit:
        """Start an edit, or join the one that an equal call started.

        Returns within `patience` seconds. Without a task id by then, the
        status is `submitting` and the submit goes on; `task_id` is a handle good for `get` and
        `wait`.

        Args:
            force_new: Start, and pay for, another edit even if an equal one exists.
        """
        host = await self._host()
        claim = await self._journal.claim(
            journals.fingerprint(request.wire()),
            HANDLE_PREFIX + uuid.uuid4().hex[:16],
            now=self._clock(),
            window=0.0 if force_new else self._duplicate_window,
        )
        if not claim.joined:
            self._state.submits[claim.intent.handle] = anyio.Event()
            self._state.tasks.start_soon(self._submit, host.connection, claim.intent, request)
        with anyio.move_on_after(patience):
            await self._submitted(claim.intent.handle)
            if claim.joined:
                await self._refresh(host.connection.client, claim.intent.handle)
        return await self._report(claim.intent.handle, joined=claim.joined)

    async def get(self, name: str) -> Edit:
        """Look at an edit once, by task id or handle."""
        host = await self._host()
        task_id = await self._task_id(name)
        if task_id is None:
            return await self._report(name)
        sighting = await self._journal.last_seen(task_id)
        if sighting and is_settled(sighting.task.status):
            return self._seen(sighting)
        try:
            await self._look(host.connection.client, task_id)
        except Wan25Error as error:
            return await self._look_failed(task_id, error)
        return await self._report(task_id)

    async def wait(
        self, name: str, *, timeout: float, on_progress: OnProgress | None = None
    ) -> Edit:
        """Wait until an edit is settled, at most `timeout` seconds.

        Stopping to wait, by the timeout or by cancellation, changes nothing about the edit.

        Args:
            on_progress: Called after each look, with what it showed.
        """
        host = await self._host()
        failure: Wan25Error | None = None
        with anyio.move_on_after(timeout):
            await self._submitted(name)
            task_id = await self._task_id(name)
            if task_id is None:
                return await self._report(name)
            known = self._known(await self._journal.last_seen(task_id))
            async with host.watchers.watching(task_id, known) as watch:
                while not watch.over:
                    failure = watch.failure
                    await self._tell(watch, on_progress)
                    await watch.news()
                failure = watch.failure
        task_id = await self._task_id(name)
        if failure is not None and task_id is not None:
            return await self._look_failed(task_id, failure)
        return await self._report(name)

    # --- the submit -------------------------------------------------------------------------

    async def _submit(self, connection: Connection, intent: Intent, request: EditRequest) -> None:
        """Bring an intent to its end, whatever becomes of the call that asked for it."""
        try:
            await self._journal.advance(intent.handle, "sending")
            await self._send(connection.client, intent, request)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._journal.advance(intent.handle, "unknown", error=_stopped())
            raise
        except Exception as error:
            logger.exception("The submit %s ended unexpectedly", intent.handle)
            await self._journal.advance(intent.handle, "unknown", error=_broke(error))
        finally:
            self._state.submits.pop(intent.handle).set()

    async def _send(self, client: Client, intent: Intent, request: EditRequest) -> None:
        for attempt in range(MOST_RESENDS + 1):
            try:
                task = await client.submit(request, idempotency_key=intent.handle)
            except OutcomeUnknown as error:
                await self._journal.advance(intent.handle, "unknown", error=error)
                return
            except Wan25Error as error:
                if not self._may_resend(error, attempt):
                    await self._journal.advance(intent.handle, "refused", error=error)
                    return
                pause = resend_pause(attempt, error.retry_after_seconds, self._chance())
            else:
                await self._journal.record(task, now=self._clock())
                await self._journal.advance(intent.handle, "accepted", task_id=task.id)
                return
            await anyio.sleep(pause)

    def _may_resend(self, error: Wan25Error, attempt: int) -> bool:
        asked = error.retry_after_seconds or 0.0
        return error.retryable and attempt < MOST_RESENDS and asked <= LONGEST_WAIT_FOR_RESEND

    async def _submitted(self, name: str) -> None:
        """Wait until the submit of a handle has ended, if it is under way here."""
        under_way = self._state.submits.get(name)
        if under_way is not None:
            await under_way.wait()

    # --- looking ----------------------------------------------------------------------------

    async def _look(self, client: Client, task_id: str) -> Task:
        sighting = await self._journal.record(await client.query(task_id), now=self._clock())
        return sighting.task

    def _known(self, sighting: Sighting | None) -> Known | None:
        if sighting is None:
            return None
        now, began = self._clock(), sighting.task.created or sighting.seen_at
        return Known(sighting.task, max(now - began, 0.0), max(now - sighting.seen_at, 0.0))

    async def _refresh(self, client: Client, handle: str) -> None:
        """Look at the task that a repeated call joins; if that fails, what was last seen stands."""
        intent = await self._journal.find(handle)
        if intent is None or intent.task_id is None:
            return
        sighting = await self._journal.last_seen(intent.task_id)
        if sighting is None or not is_settled(sighting.task.status):
            with suppress(Wan25Error):
                await self._look(client, intent.task_id)

    async def _tell(self, watch: Watch, on_progress: OnProgress | None) -> None:
        if on_progress is not None and watch.latest is not None:
            await on_progress(await self._report(watch.task_id))

    async def _task_id(self, name: str) -> str | None:
        """The provider's id behind a name, or None while (or because) there is none."""
        intent = await self._journal.find(name)
        if intent is not None:
            return intent.task_id
        if name.startswith(HANDLE_PREFIX):
            raise InvalidRequest(
                f"This server does not know {name}.",
                code="not_found",
                fix="Handles are kept while the server runs; look for the task on the provider's "
                "dashboard before editing again.",
            )
        return name

    # --- what is known, as an Edit ----------------------------------------------------------

    async def _report(self, name: str, *, joined: bool = False) -> Edit:
        intent = await self._journal.find(name)
        task_id = intent.task_id if intent else name
        sighting = await self._journal.last_seen(task_id) if task_id else None
        if sighting:
            return self._seen(sighting, joined=joined)
        if intent and intent.error:
            status: Status = "unknown" if intent.stage == "unknown" else "failed"
            return Edit(
                task_id=intent.handle if status == "unknown" else None,
                status=status,
                charged=intent.error.charged,
                joined=joined,
                error=intent.error,
            )
        status = "submitting" if intent and not intent.task_id else "unknown"
        return Edit(task_id=task_id or name, status=status, charged="unknown", joined=joined)

    def _seen(self, sighting: Sighting, *, joined: bool = False) -> Edit:
        task = sighting.task
        usage = task.usage or Usage()
        settled = is_settled(task.status)
        estimated = None if settled or not task.task_info else task.task_info.estimated_time
        return Edit(
            task_id=task.id,
            status=task.status,
            charged=charged_for(
                task.status,
                credits_reserved=usage.credits_reserved,
                credits_used=usage.credits_used,
            ),
            progress=100 if task.status == "completed" else task.progress,
            image_urls=task.image_urls,
            expires_at=_expiry(sighting) if task.image_urls else None,
            usage=task.usage,
            estimated_seconds=estimated,
            joined=joined,
            error=_task_error(task),
        )

    async def _look_failed(self, task_id: str, error: Wan25Error) -> Edit:
        """What was known before, with the reason why nothing newer is."""
        known = await self._report(task_id)
        return Edit(
            task_id=task_id,
            status=known.status,
            charged=known.charged,
            progress=known.progress,
            usage=known.usage,
            error=error,
        )

    # --- what the editor holds --------------------------------------------------------------

    async def _host(self) -> _Host:
        async with self._connecting:
            if self._state.host is None:
                self._state.host = await self._state.tasks.start(self._hold)
            return self._state.host

    async def _hold(self, *, task_status: TaskStatus[_Host]) -> None:
        """Keep the connection open in one task from first use to the end."""
        async with self._connect() as connection:

            async def look(task_id: str) -> Task:
                return await self._look(connection.client, task_id)

            task_status.started(_Host(connection, Watchers(look, self._state.tasks)))
            await anyio.sleep_forever()

    async def finish_submits(self) -> None:
        """Give submits that are on the wire a last chance to learn their task id."""
        with anyio.move_on_after(SHUTDOWN_PATIENCE):
            for under_way in list(self._state.submits.values()):
                await under_way.wait()


@asynccontextmanager
async def open_editor(
    connect: Connect,
    *,
    journal: Journal | None = None,
    is_emulator: bool = False,
    duplicate_window: float = 600.0,
    clock: Callable[[], float] = time.time,
    chance: Callable[[], float] = random.random,
) -> AsyncIterator[Editor]:
    """An editor for as long as the block runs. Opening it has no side effects.

    Args:
        connect: Opens the way to the provider; called at first use, at most once at a time.
        journal: What is remembered; by default, as long as the editor lives.
        is_emulator: Whether the far side only plays the provider.
        duplicate_window: Seconds in which an equal call joins the earlier edit.
        clock: Epoch seconds.
        chance: Random numbers in [0, 1).
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        editor = Editor(
            connect,
            journal or MemoryJournal(),
            tasks,
            is_emulator=is_emulator,
            duplicate_window=duplicate_window,
            clock=clock,
            chance=chance,
        )
        try:
            yield editor
        except Exception as error:  # noqa: BLE001  raised again below, outside the task group
            failure = error
        finally:
            with anyio.CancelScope(shield=True):
                await editor.finish_submits()
            tasks.cancel_scope.cancel()
    if failure is not None:  # as it was, not in the exception group a task group would make of it
        raise failure


def _broke(error: Exception) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"Something unexpected happened while the edit was being sent ({type(error).__name__}), "
        "so it may or may not have been accepted.",
        code="outcome_unknown",
        fix="Check recent tasks and credits on the provider's dashboard before editing again.",
        charged="unknown",
    )


def _stopped() -> OutcomeUnknown:
    return OutcomeUnknown(
        "The server stopped while the edit was being sent, so it may or may not have been "
        "accepted.",
        code="outcome_unknown",
        fix="Check recent tasks and credits on the provider's dashboard before editing again.",
        charged="unknown",
    )


def _task_error(task: Task) -> TaskFailed | None:
    """Why a settled task brought no image."""
    if task.status not in ("failed", "cancelled") and not _is_empty(task):
        return None
    said = task.error.message if task.error else None
    code = task.error.code if task.error else None
    if code is None:
        code = {"cancelled": "request_cancelled", "completed": "generation_failed_no_content"}.get(
            task.status
        )
    advice = task_advice(code)
    words = " ".join((said or "").split())[:300].rstrip(".")
    usage = task.usage or Usage()
    return TaskFailed(
        f"{advice.sentence}: {words}." if words else f"{advice.sentence}.",
        code=advice.code,
        fix=advice.fix,
        retryable=advice.retryable,
        charged=charged_for(
            task.status, credits_reserved=usage.credits_reserved, credits_used=usage.credits_used
        ),
    )


def _is_empty(task: Task) -> bool:
    return task.status == "completed" and not task.image_urls


def _expiry(sighting: Sighting) -> datetime:
    """When the links die at the earliest: the provider never says when a task was completed."""
    task, latest = sighting.task, sighting.settled_at or sighting.seen_at
    told = task.created + task.duration if task.created and task.duration else None
    completed = max(filter(None, (told, sighting.unfinished_at, task.created)), default=latest)
    return datetime.fromtimestamp(min(completed, latest) + LINK_LIFE_SECONDS, UTC)
