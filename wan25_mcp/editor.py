"""What the product does: submit an edit once, follow it, wait for it. Usable without MCP.

A submit runs in the editor's own scope, not in the call that asked for it: a cancelled call, a
dropped connection or an expired patience leaves it alone, and its task id is kept. Knows nothing
of MCP, of a terminal, or of where the provider is: `connect` brings that.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from wan25_mcp.callbacks import Address, Callbacks, new_address
from wan25_mcp.client import Client
from wan25_mcp.edits import Edit, PastEdit, Progress, expiry, seen, unseen
from wan25_mcp.errors import InvalidRequest, ReadFailed, Wan25Error
from wan25_mcp.images import download, make_previews
from wan25_mcp.intake import Intake, Prepared, Wish
from wan25_mcp.journal import (
    Allowance,
    Ask,
    Claim,
    Intent,
    Journal,
    JournalUnusable,
    Sighting,
    TolerantJournal,
    fingerprint,
)
from wan25_mcp.keeping import LEASE_SECONDS as LEASE_OF_A_SAVE
from wan25_mcp.keeping import PATIENCE as KEEPING_PATIENCE
from wan25_mcp.keeping import Keeper
from wan25_mcp.models import EditRequest
from wan25_mcp.submitting import LEASE_SECONDS, Submitter
from wan25_mcp.waiting import LOOK_PATIENCE, Following, Watch

if TYPE_CHECKING:
    import httpx2

    from wan25_mcp.images.addressing import Publisher
    from wan25_mcp.images.reading import Picture

SUBMIT_PATIENCE: Final = 3.0
"""Seconds `edit` waits for a task id; with what surrounds it, an answer within 4."""

HANDLE_PREFIX: Final = "edit-"

_ELSEWHERE_PAUSE: Final = 1.0
"""Seconds between two looks into the journal for a submit that another process makes."""

_WAKING_PAUSE: Final = 2.0
"""Seconds after which edits of an earlier process are looked after: answers come first."""

_ROUND_SECONDS: Final = 30.0
_UNSEEN_FOR: Final = 60.0
"""A task that was not looked at for so long is followed from here, whoever submitted it."""

_PROGRESS_SECONDS: Final = 5.0
"""How often a waiting call is told how it stands, looks or none: some clients else give up."""

_MARGIN: Final = 1.0
_MARGIN_SHARE: Final = 0.1
"""A wait ends so much before its time is up: the answer must arrive by then."""

_CALLBACK_HOPE: Final = 900.0
"""A submit of unknown outcome younger than this may yet be resolved by a callback."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The way to the provider.

    Args:
        client: The provider's API.
        owner: Stands for the account at this provider; tells its edits from others in a journal.
        trusted: Origins that links may name although they are not public.
        publisher: Gives local images an address; None when nothing is configured for it.
        downloads: The client results are downloaded with, if they are.
    """

    client: Client
    owner: str
    trusted: frozenset[str] = frozenset()
    publisher: Publisher | None = None
    downloads: httpx2.AsyncClient | None = None


Connect = Callable[[], AbstractAsyncContextManager[Connection]]
OpenJournal = Callable[[], Awaitable[Journal]]


OnProgress = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Host:
    """What the editor's scope holds once something was asked of it."""

    connection: Connection
    journal: Journal
    """For what may not happen without it."""
    tolerant: TolerantJournal
    submitter: Submitter
    following: Following
    callbacks: Callbacks
    keeper: Keeper | None

    async def download(self, link: str) -> bytes:
        """The image of a link, when downloads are possible."""
        if self.connection.downloads is None:
            raise InvalidRequest("Images are not downloaded here.", fix="Open the link itself.")
        return await download(link, http=self.connection.downloads, trusted=self.connection.trusted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How the editor behaves. Times in seconds.

    Args:
        is_emulator: Whether the far side only plays the provider.
        duplicate_window: How long an equal call joins the earlier edit.
        allowance: What the operator allows to be spent.
        input_dirs: The folders local images may be read from.
        output_dir: Where results are saved; None for the default folder.
        save: Whether completed edits are saved.
        attends: Whether tasks nobody asks about are looked at, and their images saved.
        callback_url: The public address under which `called_back` is reached; None: it is not.
        run: Where blocking work on images runs.
        clock: Epoch seconds.
        chance: Random numbers in [0, 1).
    """

    is_emulator: bool = False
    duplicate_window: float = 600.0
    allowance: Allowance = field(default_factory=Allowance)
    input_dirs: tuple[Path, ...] = ()
    output_dir: Path | None = None
    save: bool = True
    attends: bool = True
    callback_url: str | None = None
    run: Callable[..., Awaitable[Any]] = anyio.to_thread.run_sync
    clock: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random


class Editor:
    """Edits images. Make one with `open_editor`.

    Every method raises `SettingsError` when the provider cannot be connected to as configured.
    """

    def __init__(
        self, connect: Connect, open_journal: OpenJournal, tasks: TaskGroup, rules: Rules
    ) -> None:
        self._connect = connect
        self._open_journal = open_journal
        self._tasks = tasks
        self._rules = rules
        self._host: _Host | None = None
        self._awake = False
        self._intake = Intake(rules.input_dirs, run=rules.run)
        self._hosting = anyio.Lock()
        self._used = anyio.Event()
        self._holder = uuid.uuid4().hex

    @property
    def is_emulator(self) -> bool:
        """Whether the far side only plays the provider."""
        return self._rules.is_emulator

    async def in_use(self) -> None:
        """Return when something was first asked of the editor that needed the provider."""
        await self._used.wait()

    async def connection(self) -> Connection:
        """The way to the provider, opened when first needed."""
        return (await self._hosted()).connection

    async def read_images(self, sources: Sequence[str]) -> tuple[str | Picture, ...]:
        """What a caller named as images: links as they are, local images as bytes.

        Raises:
            InvalidRequest: An image cannot be read; nothing was uploaded or sent.
        """
        return await self._intake.read(sources)

    async def edit(
        self,
        wish: Wish | EditRequest,
        *,
        force_new: bool = False,
        patience: float = SUBMIT_PATIENCE,
    ) -> Edit:
        """Start an edit, or join the one that an equal call started.

        Returns about `patience` seconds after the intent was journaled at the latest. Without a
        task id by then, the status is `submitting` and the submit goes on; `task_id` is a handle
        good for `get` and `wait`, in every process that shares the journal.

        Args:
            force_new: Start, and pay for, another edit even if an equal one exists.

        Raises:
            Withheld: A limit of the operator's has no room; nothing was sent.
            JournalUnusable: The intent could not be written down; nothing was sent.
        """
        host = await self._hosted()
        if isinstance(wish, EditRequest):
            wish = Wish.of(wish)
        # From here on the intent lives on its own: a caller who leaves must not leave it half-made.
        began = anyio.current_time()
        with anyio.CancelScope(shield=True):
            handle = HANDLE_PREFIX + uuid.uuid4().hex[:16]
            address = self._address(wish, handle)
            claim = await self._claim(host, wish, handle, address, force_new=force_new)
            if not claim.joined:
                prepare = partial(self._prepare, host, wish, address)
                submit = host.submitter.start(claim.intent, prepare)
        patience = max(patience - (anyio.current_time() - began), 0.0)
        if claim.joined:
            return await self._join(host, claim.intent.handle, patience)
        with anyio.move_on_after(patience):
            await submit.ended.wait()
        edit = seen(submit.sighting) if submit.sighting else unseen(submit.intent)
        return replace(edit, notes=submit.changes)

    async def get(self, edit: Edit | str) -> Edit:
        """Look at an edit once, by what `edit` returned, a task id or a handle.

        What was seen in the last 2 seconds is not looked at again.
        """
        name = _name_of(edit)
        host = await self._hosted()
        intent = await self._find(host, name)
        task_id = _task_id(intent, name)
        if task_id is None:
            return await self._report(host, name)
        return await self._kept(host, await self._look(host, task_id, intent))

    async def wait(
        self, edit: Edit | str, *, timeout: float, on_progress: OnProgress | None = None
    ) -> Edit:
        """Wait until an edit is settled; with a `timeout` of 0, look once.

        Returns within `timeout` seconds, a little before they are over. Stopping to wait, by the
        timeout or by cancellation, changes nothing about the edit.

        Args:
            on_progress: Called after each look, and every 5 seconds.
        """
        name = _name_of(edit)
        if timeout <= 0:
            return await self.get(name)
        until = anyio.current_time() + timeout
        host = await self._hosted()
        found: Edit | None = None
        with anyio.move_on_at(until - min(_MARGIN, timeout * _MARGIN_SHARE)):
            intent = await self._submitted(host, name, in_hope=True)
            if (task_id := _task_id(intent, name)) is not None:
                async with host.following.watching(task_id, intent) as watch:
                    try:
                        await self._wait(host, watch, intent, on_progress)
                    finally:
                        found = _seen_by(watch)
        if found is None:
            found = await self._report(host, name)
        return await self._kept(host, found, patience=max(until - anyio.current_time(), 0.0))

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
        host = await self._hosted()
        if edit.status == "completed" and edit.task_id is not None:
            await self._keep(host, edit.task_id, patience=LEASE_OF_A_SAVE)
        return await self._with_files(host, edit)

    async def image(self, edit: Edit | str, number: int) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link gives none.
        """
        host = await self._hosted()
        known = edit if isinstance(edit, Edit) else await self.get(edit)
        if known.task_id is None or not 1 <= number <= len(known.image_urls):
            raise InvalidRequest("There is no such image.", fix="Look at the task's image_urls.")
        path = (await host.journal.saved(known.task_id)).get(number)
        try:
            if path is not None:
                body: bytes = await self._rules.run(Path(path).read_bytes)
                return body
        except OSError:
            pass  # moved or deleted since; the link may still live
        return await host.download(known.image_urls[number - 1])

    async def previews(self, edit: Edit) -> list[bytes]:
        """A small JPEG of each image of a completed edit that one can be made of.

        Raises:
            NotDownloaded: An image is not on disk, and its link gives none.
        """
        numbers = range(1, len(edit.image_urls) + 1)
        bodies = [await self.image(edit, number) for number in numbers]
        made = await make_previews(bodies, run=self._rules.run)
        return [preview for preview in made if preview is not None]

    async def recent(self, most: int = 20) -> Sequence[PastEdit]:
        """The latest edits of this account, newest first, as last seen. Asks nobody.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        host = await self._hosted()
        owner = host.connection.owner
        kept = await host.journal.recent(owner, now=self._rules.clock(), most=most)
        return [
            PastEdit(
                edit=await self._with_files(host, seen(sighting) if sighting else unseen(intent)),
                created_at=datetime.fromtimestamp(intent.created_at, UTC),
                prompt=intent.prompt,
                n=intent.n,
                credits=intent.credits,
            )
            for intent, sighting in kept
        ]

    def wake(self) -> None:
        """Look after edits of an earlier process, if there can be any. Returns at once."""
        if not self._awake and not self.is_emulator:
            self._awake = True
            self._tasks.start_soon(self._wake)

    async def _wake(self) -> None:
        await anyio.sleep(_WAKING_PAUSE)
        with suppress(Wan25Error):  # a call will say why
            await self._hosted()

    async def finish(self) -> None:
        """Let submits on the wire learn their task ids; what cannot is journaled as unknown."""
        if self._host is not None:
            await self._host.submitter.finish()

    # --- submits ----------------------------------------------------------------------------

    def _address(self, wish: Wish, handle: str) -> Address | None:
        """Where the provider is to call us, unless the caller wants to be called."""
        if self._rules.callback_url is None or wish.callback_url is not None:
            return None
        return new_address(self._rules.callback_url, handle)

    async def _claim(
        self, host: _Host, wish: Wish, handle: str, address: Address | None, *, force_new: bool
    ) -> Claim:
        return await host.journal.claim(
            Ask(
                handle=handle,
                owner=host.connection.owner,
                fingerprint=fingerprint(wish.content()),
                n=wish.n,
                prompt=wish.prompt,
                holder=self._holder,
                callback=address.digest if address else None,
            ),
            now=self._rules.clock(),
            window=0.0 if force_new else self._rules.duplicate_window,
            lease=LEASE_SECONDS,
            allowance=self._rules.allowance,
            refusal=host.submitter.refusal(),
        )

    async def _prepare(self, host: _Host, wish: Wish, address: Address | None) -> Prepared:
        if address is not None:
            wish = replace(wish, callback_url=address.url)
        return await self._intake.prepare(
            wish, host.connection.publisher, host.journal, now=self._rules.clock()
        )

    async def _join(self, host: _Host, handle: str, patience: float) -> Edit:
        """What is known of the edit that an equal call started."""
        edit: Edit | None = None
        with anyio.move_on_after(patience):
            intent = await self._submitted(host, handle)
            if (task_id := intent.task_id if intent else None) is not None:
                # What was last seen stands, if nothing newer can be.
                edit = replace(await self._look(host, task_id, intent), error=None)
        edit = edit or await self._report(host, handle)
        return replace(await self._kept(host, edit), joined=True)

    async def _submitted(self, host: _Host, name: str, *, in_hope: bool = False) -> Intent | None:
        """Wait until the submit behind a name has ended, whichever process makes it.

        Args:
            in_hope: Wait also for a callback that may still tell what came of it.
        """
        await host.submitter.ended(name)
        while True:
            intent = await self._find(host, name)
            if intent is None or not (_is_open(intent) or (in_hope and self._may_tell(intent))):
                return intent
            await anyio.sleep(_ELSEWHERE_PAUSE)  # the journal will tell

    def _may_tell(self, intent: Intent) -> bool:
        is_unknown = intent.stage == "unknown" and intent.callback is not None
        return is_unknown and self._rules.clock() - intent.created_at < _CALLBACK_HOPE

    async def _find(self, host: _Host, name: str) -> Intent | None:
        return await host.tolerant.find(name, now=self._rules.clock())

    def _accepted(self, intent: Intent, sighting: Sighting) -> None:
        if self._host is not None and self._rules.attends:
            self._tasks.start_soon(self._host.following.follow, sighting.task.id, intent)

    # --- looking ----------------------------------------------------------------------------

    async def _look(self, host: _Host, task_id: str, intent: Intent | None) -> Edit:
        """What a task looks like now, or what was last known with the reason why that is all."""
        error: Wan25Error = _too_slow()
        try:
            with anyio.move_on_after(LOOK_PATIENCE):
                return seen(await host.following.refresh(task_id, intent))
        except Wan25Error as reason:
            error = reason
        return replace(await self._report(host, task_id), task_id=task_id, error=error)

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
        typical = await host.following.typical(intent)
        while not watch.over:
            if watch.sighting is not None:
                await on_progress(Progress(seen(watch.sighting), watch.age, typical))
            with anyio.move_on_after(_PROGRESS_SECONDS):
                await watch.news()

    # --- keeping ----------------------------------------------------------------------------

    async def _kept(self, host: _Host, edit: Edit, *, patience: float = KEEPING_PATIENCE) -> Edit:
        """An edit whose images were saved, as far as that goes quickly."""
        if host.keeper is None or edit.status != "completed" or edit.task_id is None:
            return edit
        await self._keep(host, edit.task_id, patience=min(patience, KEEPING_PATIENCE))
        return await self._with_files(host, edit)

    async def _keep(self, host: _Host, task_id: str, *, patience: float) -> None:
        sighting = await host.tolerant.last_seen(task_id) if host.keeper else None
        if host.keeper is None or sighting is None:
            return
        if self._rules.clock() < expiry(sighting).timestamp():
            intent = await self._find(host, task_id)
            prompt = (intent.prompt if intent else None) or ""
            await host.keeper.keep(sighting.task, prompt, patience=patience)

    async def _with_files(self, host: _Host, edit: Edit) -> Edit:
        if host.keeper is None or edit.status != "completed" or edit.task_id is None:
            return edit
        problem = host.keeper.problem(edit.task_id)
        saved = await host.keeper.saved(edit.task_id)
        missing = len(saved) < len(edit.image_urls)
        notes = (f"Not saved yet: {problem}",) if problem and missing else ()
        return replace(edit, saved=saved, notes=tuple(dict.fromkeys((*edit.notes, *notes))))

    def _settled(self, watch: Watch) -> None:
        """Save the images of a task that this process saw end, whoever waits."""
        if self._host is not None and self._rules.attends:
            task_id, patience = watch.task_id, LEASE_OF_A_SAVE
            self._tasks.start_soon(partial(self._keep, self._host, task_id, patience=patience))

    async def _attend(self, host: _Host) -> None:
        """Take up now and then what others left: after a crash, or when callers are gone."""
        while True:
            now = self._rules.clock()
            for task_id in await host.tolerant.unattended(now=now, unseen_for=_UNSEEN_FOR):
                if not host.following.is_followed(task_id):
                    await host.following.follow(task_id, await self._find(host, task_id))
            await self._keep_unsaved(host)
            await anyio.sleep(_ROUND_SECONDS)

    async def _keep_unsaved(self, host: _Host) -> None:
        """Save what was completed while nobody asked, or could not be saved before."""
        if host.keeper is None:
            return
        try:
            unsaved = await host.journal.unsaved(host.connection.owner, now=self._rules.clock())
        except JournalUnusable:
            return
        for task_id in unsaved:
            await self._keep(host, task_id, patience=LEASE_OF_A_SAVE)

    # --- what is known, as an Edit ----------------------------------------------------------

    async def _report(self, host: _Host, name: str) -> Edit:
        intent = await self._find(host, name)
        task_id = intent.task_id if intent else name
        sighting = await host.tolerant.last_seen(task_id) if task_id else None
        if sighting:
            return seen(sighting)
        if intent:
            return unseen(intent)
        return Edit(task_id=name, status="unknown", charged="unknown")

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
            tolerant = TolerantJournal(journal, connection.owner)
            following = Following(
                connection.client,
                tolerant,
                self._tasks,
                clock=self._rules.clock,
                chance=self._rules.chance,
                settled=self._settled,
                is_emulator=self.is_emulator,
            )
            submitter = Submitter(
                connection.client,
                journal,
                tolerant,
                self._tasks,
                clock=self._rules.clock,
                chance=self._rules.chance,
                accepted=self._accepted,
            )

            async def submitted(handle: str) -> Intent | None:
                return await self._submitted(host, handle)

            callbacks = Callbacks(
                connection.client,
                tolerant,
                following,
                submitted,
                self._tasks,
                clock=self._rules.clock,
            )
            keeper = self._keeper(connection, journal)
            host = _Host(connection, journal, tolerant, submitter, following, callbacks, keeper)
            self._tasks.start_soon(following.run)
            task_status.started(host)
            if self._rules.attends:
                await self._attend(host)
            await anyio.sleep_forever()

    def _keeper(self, connection: Connection, journal: Journal) -> Keeper | None:
        if connection.downloads is None or not self._rules.save:
            return None
        return Keeper(
            connection.downloads,
            journal,
            self._tasks,
            directory=self._rules.output_dir,
            trusted=connection.trusted,
            clock=self._rules.clock,
            run=self._rules.run,
        )


@asynccontextmanager
async def open_editor(
    connect: Connect, open_journal: OpenJournal, rules: Rules | None = None
) -> AsyncIterator[Editor]:
    """An editor for as long as the block runs. Opening it has no side effects.

    Args:
        connect: Opens the way to the provider; called at first use.
        open_journal: Opens what is remembered; called at first use.
    """
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        editor = Editor(connect, open_journal, tasks, rules or Rules())
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


def _seen_by(watch: Watch) -> Edit | None:
    """What a wait has come to, with the reason why nothing newer is known, if so."""
    known = seen(watch.sighting) if watch.sighting else None
    if watch.failure is None:
        return known
    unknown = Edit(task_id=watch.task_id, status="unknown", charged="unknown")
    return replace(known or unknown, error=watch.failure)


def _too_slow() -> ReadFailed:
    return ReadFailed(
        f"The provider has not answered within {LOOK_PATIENCE:.0f} seconds.",
        code="read_failed",
        fix="Ask again; looking at a task costs nothing and does not change it.",
        retryable=True,
    )
