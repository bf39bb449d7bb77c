"""What the product does: submit an edit once, follow it, wait for it. Usable without MCP.

A submit runs in the editor's own scope, not in the call that asked for it: a cancelled call, a
dropped connection or an expired patience leaves it alone, and its task id is kept. Knows nothing
of MCP, of a terminal, or of where the provider is: `connect` brings that.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from wan25_mcp.editing.callbacks import Address, Callbacks, new_address
from wan25_mcp.editing.edit import Edit, PastEdit, Progress, seen, unread, unseen
from wan25_mcp.editing.options import Connect, Connection, OpenJournal, Options
from wan25_mcp.editing.ownership import Ownership
from wan25_mcp.editing.results import Results
from wan25_mcp.editing.submitter import LEASE_SECONDS, Submit, Submitter
from wan25_mcp.errors import POLL_AGAIN, InvalidRequest, ReadFailed, TaskFailed, Wan25Error
from wan25_mcp.inputs.prepare import EditInput, ImagePreparer, PreparedRequest
from wan25_mcp.inputs.publisher import publisher_error_when_none
from wan25_mcp.journal import (
    Claim,
    ClaimRequest,
    DegradedJournal,
    Intent,
    Journal,
    JournalUnusable,
    Snapshot,
    fingerprint,
)
from wan25_mcp.journal.records import DAY
from wan25_mcp.polling.poller import LOOK_PATIENCE
from wan25_mcp.polling.shared_poller import SharedPoller
from wan25_mcp.polling.watch import Watch
from wan25_mcp.provider.models import EditRequest

if TYPE_CHECKING:
    from wan25_mcp.inputs.prepare import Local

logger = logging.getLogger(__name__)

SUBMIT_PATIENCE: Final = 3.0
"""Seconds `edit` waits for a task id; with what surrounds it, an answer within 4."""

HANDLE_PREFIX: Final = "edit-"

_ELSEWHERE_PAUSE: Final = 1.0
"""Seconds between two looks into the journal for a submit that another process makes."""

_WAKING_PAUSE: Final = 2.0
"""Seconds after which edits of an earlier process are looked after: answers come first."""

_ROUND_SECONDS: Final = 30.0
_FIRST_ROUND_SECONDS: Final = 2.5
"""How often what others left is taken up, and how often in the first minute: leases of a process
that has just died end then."""
_UNSEEN_FOR: Final = 60.0
"""A task that was not polled for so long is followed from here, whoever submitted it."""
_LEFT_FOR: Final = 3.0
"""One that was not polled for so long, nor since this process began, was left by one that died."""

_PROGRESS_SECONDS: Final = 5.0
"""How often a waiting call is told how it stands, looks or none: some clients else give up."""

_MARGIN: Final = 1.0
_MARGIN_SHARE: Final = 0.1

_CALLBACK_HOPE: Final = 900.0
"""A submit of unknown outcome younger than this may yet be resolved by a callback."""


OnProgress = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Host:
    """What the editor's scope holds once something was asked of it."""

    connection: Connection
    journal: Journal
    """For what may not happen without it."""
    degraded: DegradedJournal
    submitter: Submitter
    poller: SharedPoller
    callbacks: Callbacks
    results: Results
    ownership: Ownership

    def check_address(self, wish: EditInput) -> None:
        """See that local images have somewhere to go, before anything is journaled.

        Raises:
            SettingsError: They have not, and nothing was sent.
        """
        is_local = any(not isinstance(image, str) for image in wish.images)
        if is_local and self.connection.publisher is None:
            raise publisher_error_when_none()


class Editor:
    """Edits images. Make one with `open_editor`.

    Every method raises `SettingsError` when the provider cannot be connected to as configured.
    """

    def __init__(
        self, connect: Connect, open_journal: OpenJournal, tasks: TaskGroup, options: Options
    ) -> None:
        self._connect = connect
        self._open_journal = open_journal
        self._tasks = tasks
        self._options = options
        self._host: _Host | None = None
        self._awake = False
        self._preparer = ImagePreparer(options.input_dirs, run=options.run)
        self._hosting = anyio.Lock()
        self._used = anyio.Event()
        self._holder = uuid.uuid4().hex

    @property
    def is_emulator(self) -> bool:
        """Whether the far side only plays the provider."""
        return self._options.is_emulator

    async def in_use(self) -> None:
        """Return when something was first asked of the editor that needed the provider."""
        await self._used.wait()

    async def connection(self) -> Connection:
        """The way to the provider, opened when first needed."""
        return (await self._hosted()).connection

    async def read_images(self, sources: Sequence[str]) -> tuple[str | Local, ...]:
        """What a caller named as images: links as they are, local images as they were found.

        Raises:
            InvalidRequest: An image cannot be read; nothing was uploaded or sent.
            Wan25Error: Too many images inside calls are held already.
        """
        return await self._preparer.read(sources)

    async def edit(
        self,
        wish: EditInput | EditRequest,
        *,
        force_new: bool = False,
        patience: float = SUBMIT_PATIENCE,
        on_progress: OnProgress | None = None,
    ) -> Edit:
        """Start an edit, or join the one that an equal call started.

        Returns about `patience` seconds after the intent was journaled at the latest. Without a
        task id by then, the status is `submitting` and the submit goes on; `task_id` is a handle
        good for `get` and `wait`, in every process that shares the journal.

        Args:
            force_new: Start, and pay for, another edit even if an equal one exists.
            on_progress: Called every second while the edit is being submitted.

        Raises:
            Withheld: A limit of the operator's has no room; nothing was sent.
            JournalUnusable: The intent could not be written down; nothing was sent.
        """
        host = await self._hosted()
        if isinstance(wish, EditRequest):
            wish = EditInput.of(wish)
        host.check_address(wish)
        began = anyio.current_time()
        owner = await host.ownership.owner()
        # From here on the intent lives on its own: a caller who leaves must not leave it half-made.
        with anyio.CancelScope(shield=True):
            handle = HANDLE_PREFIX + uuid.uuid4().hex[:16]
            address = self._address(host, wish, handle)
            claim = await self._claim(host, wish, owner, handle, address, force_new=force_new)
            if not claim.joined:
                prepare = partial(self._prepare, host, wish, owner, address)
                submit = host.submitter.start(claim.intent, prepare)
        until = began + patience
        if claim.joined:
            return await self._join(host, claim.intent, until)
        with anyio.CancelScope(deadline=until):
            await _ended(submit, on_progress)
        intent = submit.intent
        edit = seen(submit.snapshot, intent) if submit.snapshot else unseen(intent)
        return replace(edit, notes=(*submit.changes, *edit.notes))

    async def get(self, edit: Edit | str) -> Edit:
        """Look at an edit once, by what `edit` returned, a task id or a handle.

        What was seen in the last 2 seconds is not looked at again.
        """
        name = _name_of(edit)
        host = await self._hosted()
        try:
            intent = await self._find(host, name)
        except JournalUnusable:
            return unread(name)
        task_id = _task_id(intent, name)
        if task_id is None:
            return await self._report(host, name)
        return await host.results.kept(await self._look(host, task_id, intent))

    async def wait(
        self, edit: Edit | str, *, timeout: float, on_progress: OnProgress | None = None
    ) -> Edit:
        """Wait until an edit is settled; with a `timeout` of 0, look once.

        Returns within `timeout` seconds, `margin` before they are over. Stopping to wait, by the
        timeout or by cancellation, changes nothing about the edit.

        Args:
            on_progress: Called after each look, and every 5 seconds.
        """
        name = _name_of(edit)
        if timeout <= 0:
            return await self.get(name)
        until = anyio.current_time() + timeout - margin(timeout)
        host = await self._hosted()
        found: Edit | None = None
        intent: Intent | None = None
        with anyio.CancelScope(deadline=until):
            intent = await self._submitted_telling(host, name, on_progress)
            if (task_id := _task_id(intent, name)) is not None:
                async with host.poller.watching(task_id, intent) as watch:
                    try:
                        await self._wait(host, watch, intent, on_progress)
                    finally:
                        found = _seen_by(watch, intent)
        if found is None:
            found = await self._report(host, name)
        return await host.results.kept(found, patience=max(until - anyio.current_time(), 0.0))

    def knows_callback(self, handle: str, secret: str) -> bool:
        """Whether an address is surely of a submit of this process, told without the journal."""
        return self._host is not None and self._host.callbacks.knows(handle, secret)

    async def called_back(self, handle: str, secret: str, hint: str | None) -> bool:
        """Somebody called the address of a submit: if they know its secret, its task is looked at.

        Returns at once whether they did; what they say is never believed.

        Args:
            hint: The task id they named, if any.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        return await (await self._hosted()).callbacks.called(handle, secret, hint)

    async def keep(self, edit: Edit) -> Edit:
        """See to it that a completed edit's images are saved, however long that takes."""
        return await (await self._hosted()).results.keep(edit)

    async def image(self, edit: Edit | str, number: int) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link gives none.
            ReadFailed: Whether there is one cannot be told now.
        """
        known = edit if isinstance(edit, Edit) else await self.get(edit)
        if isinstance(known.error, ReadFailed) and not known.image_urls:
            raise known.error
        return await (await self._hosted()).results.image(known, number)

    async def previews(self, edit: Edit) -> list[bytes]:
        """A small JPEG of each image of a completed edit that one can be made of.

        Raises:
            NotDownloaded: An image is not on disk, and its link gives none.
        """
        return await (await self._hosted()).results.previews(edit)

    async def recent(self, most: int = 20) -> Sequence[PastEdit]:
        """The latest edits of this account, newest first, as last seen. Asks nobody.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        host = await self._hosted()
        owner = await host.ownership.owner()
        kept = await host.journal.recent(owner, now=self._options.clock(), most=most)
        return [
            PastEdit(
                edit=await host.results.with_files(
                    seen(snapshot, intent) if snapshot else unseen(intent)
                ),
                created_at=datetime.fromtimestamp(intent.created_at, UTC),
                prompt=intent.prompt,
                n=intent.n,
                credits=intent.credits,
            )
            for intent, snapshot in kept
        ]

    def wake(self) -> None:
        """Look after edits of an earlier process, if there can be any. Returns at once."""
        if not self._awake and self._options.resumes:
            self._awake = True
            self._tasks.start_soon(self._wake)

    async def _wake(self) -> None:
        await anyio.sleep(_WAKING_PAUSE)
        try:
            await self._hosted()
        except Wan25Error:
            pass  # a call will say why
        except Exception:
            logger.exception("Looking after edits of an earlier process ended unexpectedly")

    async def finish(self) -> None:
        """Let submits on the wire learn their task ids; what cannot is journaled as unknown."""
        if self._host is not None:
            await self._host.submitter.finish()

    # --- submits ----------------------------------------------------------------------------

    def _address(self, host: _Host, wish: EditInput, handle: str) -> Address | None:
        """Where the provider is to call us, unless the caller wants to be called."""
        if self._options.callback_url is None or wish.callback_url is not None:
            return None
        address = new_address(self._options.callback_url, handle)
        host.callbacks.note(handle, address)
        return address

    async def _claim(
        self,
        host: _Host,
        wish: EditInput,
        owner: str,
        handle: str,
        address: Address | None,
        *,
        force_new: bool,
    ) -> Claim:
        return await host.journal.claim(
            ClaimRequest(
                handle=handle,
                owner=owner,
                fingerprint=fingerprint(wish.content()),
                n=wish.n,
                prompt=wish.prompt,
                holder=self._holder,
                callback=address.digest if address else None,
                address=host.connection.address,
            ),
            now=self._options.clock(),
            window=0.0 if force_new else self._options.duplicate_window,
            lease=LEASE_SECONDS,
            allowance=self._options.allowance,
            refusal=host.submitter.refusal(),
        )

    async def _prepare(
        self, host: _Host, wish: EditInput, owner: str, address: Address | None
    ) -> PreparedRequest:
        if address is not None:
            wish = replace(wish, callback_url=address.url)
        return await self._preparer.prepare(
            wish,
            host.connection.publisher,
            host.journal,
            owner=owner,
            now=self._options.clock(),
        )

    async def _join(self, host: _Host, intent: Intent, until: float) -> Edit:
        """What is known of the edit that an equal call started."""
        handle, edit = intent.handle, None
        with anyio.CancelScope(deadline=until):
            find = self._submitted if _is_open(intent) else self._find_if_readable
            intent = await find(host, handle) or intent
            if intent.task_id is not None:
                edit = _as_last_seen(await self._look(host, intent.task_id, intent))
        if edit is None:
            is_told = intent.stage == "unknown"
            edit = unseen(intent) if is_told else await self._report(host, handle)
        patience = max(until - anyio.current_time(), 0.0)
        return replace(await host.results.kept(edit, patience=patience), joined=True)

    async def _submitted(self, host: _Host, name: str, *, in_hope: bool = False) -> Intent | None:
        """Wait until the submit behind a name has ended, whichever process makes it.

        Args:
            in_hope: Wait also for a callback that may still tell what came of it.
        """
        await host.submitter.ended(name)
        while True:
            with suppress(JournalUnusable):  # for as long as the caller has time
                intent = await self._find(host, name)
                if intent is None or not (_is_open(intent) or (in_hope and self._may_tell(intent))):
                    return intent
            await anyio.sleep(_ELSEWHERE_PAUSE)  # the journal will tell

    async def _submitted_telling(
        self, host: _Host, name: str, on_progress: OnProgress | None
    ) -> Intent | None:
        """Wait until a submit has ended or a callback tells, and say meanwhile that we do."""
        began = anyio.current_time()
        while True:
            with anyio.move_on_after(_PROGRESS_SECONDS):
                return await self._submitted(host, name, in_hope=True)
            if on_progress is not None:
                known = await self._report(host, name)
                elapsed = anyio.current_time() - began
                await on_progress(Progress(known, elapsed, note=host.submitter.note(name)))

    def _may_tell(self, intent: Intent) -> bool:
        is_unknown = intent.stage == "unknown" and intent.callback is not None
        return is_unknown and self._options.clock() - intent.created_at < _CALLBACK_HOPE

    async def _find(self, host: _Host, name: str) -> Intent | None:
        """The intent behind a name; a task id is as good without one.

        Raises:
            JournalUnusable: The name is a handle, of which the journal alone can tell.
        """
        if name.startswith(HANDLE_PREFIX):
            return await host.degraded.find_or_fail(name, now=self._options.clock())
        return await self._find_if_readable(host, name)

    async def _find_if_readable(self, host: _Host, name: str) -> Intent | None:
        return await host.degraded.find(name, now=self._options.clock())

    def _accepted(self, intent: Intent, snapshot: Snapshot) -> None:
        if self._host is not None and self._options.attends:
            follow = partial(self._host.poller.follow, snapshot.task.id, intent)
            self._tasks.start_soon(self._in_background, follow)

    # --- looking ----------------------------------------------------------------------------

    async def _look(self, host: _Host, task_id: str, intent: Intent | None) -> Edit:
        """What a task looks like now, or what was last known with the reason why that is all."""
        error: Wan25Error = _too_slow()
        try:
            with anyio.move_on_after(LOOK_PATIENCE):
                return seen(await host.poller.refresh(task_id, intent), intent)
        except Wan25Error as reason:
            error = reason
        known = await self._report(host, task_id)
        if known == _unknown(task_id):
            return _unseen_anywhere(task_id, error)
        return replace(known, task_id=task_id, error=error)

    async def _wait(
        self,
        host: _Host,
        watch: Watch,
        intent: Intent | None,
        on_progress: OnProgress | None,
    ) -> None:
        if on_progress is None:
            while not watch.over:
                await watch.news()
            return
        typical = await host.poller.typical(intent)
        while not watch.over:
            seen_last = watch.snapshot
            known = seen(seen_last, intent) if seen_last else _unknown(watch.task_id)
            await on_progress(Progress(known, watch.age, typical))
            with anyio.move_on_after(_PROGRESS_SECONDS):
                await watch.news()

    # --- what goes on though nobody asks ----------------------------------------------------

    def _settled(self, watch: Watch) -> None:
        """Save the images of a task that this process saw end, whoever waits."""
        if self._host is not None and self._options.attends:
            save = partial(self._host.results.save_in_turn, watch.task_id)
            self._tasks.start_soon(self._in_background, save)

    async def _in_background(self, job: Callable[[], Awaitable[None]]) -> None:
        """Do what nobody waits for; the rounds make up for what goes wrong."""
        try:
            await job()
        except Exception:
            logger.exception("A job in the background ended unexpectedly")

    async def _attend(self, host: _Host) -> None:
        """Take up now and then what others left: after a crash, or when callers are gone."""
        began = self._options.clock()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._in_rounds, partial(self._follow_left, host, began))
            tasks.start_soon(self._in_rounds, host.results.save_unsaved)
            tasks.start_soon(self._in_rounds, partial(self._prune_daily, host.journal))

    async def _in_rounds(self, job: Callable[[], Awaitable[None]]) -> None:
        began = anyio.current_time()
        while True:
            try:
                await job()
            except Exception:
                # The calls must go on, and the next round may succeed.
                logger.exception("A round over what others left ended unexpectedly")
            is_new = anyio.current_time() - began < _UNSEEN_FOR
            await anyio.sleep(_FIRST_ROUND_SECONDS if is_new else _ROUND_SECONDS)

    async def _prune_daily(self, journal: Journal) -> None:
        await anyio.sleep(DAY)  # opening the journal has just pruned it
        try:
            await journal.prune(now=self._options.clock())
        except JournalUnusable as error:
            logger.warning("%s", error.state)

    async def _follow_left(self, host: _Host, began: float) -> None:
        """Follow what nobody has polled for a while, or not since this process began.

        In the second case an earlier process has died, perhaps: its tasks are polled at once, for
        they may have settled, and the provider called back, while nobody was there. Where another
        process follows them, the two share what they see.
        """
        now = self._options.clock()
        unseen_for = min(max(now - began, _LEFT_FOR), _UNSEEN_FOR)
        for task_id in await host.degraded.unattended(now=now, unseen_for=unseen_for):
            if not host.poller.is_followed(task_id):
                intent = await self._find(host, task_id)
                is_left = unseen_for < _UNSEEN_FOR
                await host.poller.follow(task_id, intent, at_once=is_left)

    # --- what is known, as an Edit ----------------------------------------------------------

    async def _report(self, host: _Host, name: str) -> Edit:
        try:
            intent = await self._find(host, name)
        except JournalUnusable:
            return unread(name)
        task_id = intent.task_id if intent else name
        snapshot = await host.degraded.last_seen(task_id) if task_id else None
        if snapshot:
            return seen(snapshot, intent)
        if intent:
            return unseen(intent)
        return _unknown(name)

    # --- what the editor holds --------------------------------------------------------------

    async def _hosted(self) -> _Host:
        async with self._hosting:
            if self._host is None:
                self._host = await self._tasks.start(self._hold)
                self._used.set()
            return self._host

    async def _hold(self, *, task_status: TaskStatus[_Host]) -> None:
        """Keep the connection open in one task from first use to the end."""
        async with self._connect() as connection:
            journal = await self._open_journal()
            ownership = Ownership(connection, journal, may_ask=not self.is_emulator)
            degraded = DegradedJournal(journal, ownership.owner)
            poller = SharedPoller(
                connection.client,
                degraded,
                self._tasks,
                clock=self._options.clock,
                chance=self._options.chance,
                settled=self._settled,
                is_emulator=self.is_emulator,
            )
            submitter = Submitter(
                connection.client,
                journal,
                degraded,
                self._tasks,
                clock=self._options.clock,
                chance=self._options.chance,
                accepted=self._accepted,
            )

            async def submitted(handle: str) -> Intent | None:
                return await self._submitted(host, handle)

            callbacks = Callbacks(
                connection.client,
                degraded,
                poller,
                submitted,
                self._tasks,
                clock=self._options.clock,
            )
            results = Results(
                connection, journal, degraded, self._tasks, self._options, ownership.owner
            )
            host = _Host(
                connection, journal, degraded, submitter, poller, callbacks, results, ownership
            )
            self._tasks.start_soon(poller.run)
            task_status.started(host)
            if self._options.attends:
                await self._attend(host)
            await anyio.sleep_forever()


@asynccontextmanager
async def open_editor(
    connect: Connect, open_journal: OpenJournal, options: Options | None = None
) -> AsyncIterator[Editor]:
    """An editor for as long as the block runs. Opening it has no side effects.

    Args:
        connect: Opens the way to the provider; called at first use.
        open_journal: Opens what is remembered; called at first use.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        editor = Editor(connect, open_journal, tasks, options or Options())
        try:
            yield editor
        except Exception as error:  # noqa: BLE001  raised again below, outside the task group
            failure = error
        finally:
            with anyio.CancelScope(shield=True):
                await editor.finish()
            tasks.cancel_scope.cancel()
    if failure is not None:  # as it was, not in the exception group a task group would make of it
        raise failure


async def _ended(submit: Submit, on_progress: OnProgress | None) -> None:
    """Wait until a submit has ended, and report meanwhile what delays it."""
    began = anyio.current_time()
    while not submit.ended.is_set():
        if on_progress is not None:
            elapsed = anyio.current_time() - began
            await on_progress(Progress(unseen(submit.intent), elapsed, note=submit.note))
        with anyio.move_on_after(1.0 if on_progress else None):
            await submit.ended.wait()


def margin(timeout: float) -> float:
    """Seconds by which a wait ends before its time is up: the answer must arrive by then."""
    return min(_MARGIN, timeout * _MARGIN_SHARE)


def _name_of(edit: Edit | str) -> str:
    if isinstance(edit, str):
        return edit
    if edit.task_id is None:  # refused: there is nothing to look at
        raise edit.error or InvalidRequest("This edit has no task.", fix="Edit again.")
    return edit.task_id


def _task_id(intent: Intent | None, name: str) -> str | None:
    """The provider's id behind a name, or None while (or because) there is none."""
    if intent is not None:
        return intent.task_id
    if name.startswith(HANDLE_PREFIX):
        raise ReadFailed(
            "The journal does not know this handle.",
            code="not_found",
            charged="unknown",
            fix="Pass the task_id exactly as edit_image returned it; `wan25-mcp tasks` lists "
            "recent edits.",
        )
    return name


def _is_open(intent: Intent) -> bool:
    return intent.stage in ("intent", "sending")


def _seen_by(watch: Watch, intent: Intent | None) -> Edit | None:
    """What a wait has come to, with the reason why nothing newer is known, if so."""
    known = seen(watch.snapshot, intent) if watch.snapshot else None
    if watch.failure is None:
        return known
    if known is None and intent is None:
        return _unseen_anywhere(watch.task_id, watch.failure)
    return replace(known or _unknown(watch.task_id), error=watch.failure)


def _unseen_anywhere(task_id: str, error: Wan25Error) -> Edit:
    """What a failed poll says of an id that the journal does not know.

    When the provider does not know it either, it names nothing that was charged.
    """
    charged = error.charged if error.code == "not_found" else "unknown"
    return Edit(task_id=task_id, status="unknown", charged=charged, error=error)


def _as_last_seen(edit: Edit) -> Edit:
    """What was last seen stands, if nothing newer can be; where nothing was, the reason does."""
    if edit.status == "unknown" or isinstance(edit.error, TaskFailed):
        return edit
    return replace(edit, error=None)


def _unknown(task_id: str) -> Edit:
    return Edit(task_id=task_id, status="unknown", charged="unknown")


def _too_slow() -> ReadFailed:
    return ReadFailed(
        f"The provider has not answered within {LOOK_PATIENCE:.0f} seconds.",
        code="read_failed",
        fix=POLL_AGAIN,
        retryable=True,
    )
