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

from wan25_mcp.client import Client
from wan25_mcp.edits import Edit, PastEdit, expiry, seen, unseen
from wan25_mcp.errors import (
    InvalidRequest,
    ReadFailed,
    Wan25Error,
)
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
from wan25_mcp.lifecycle import is_settled
from wan25_mcp.models import EditRequest, Task
from wan25_mcp.submitting import LEASE_SECONDS, Submitter
from wan25_mcp.waiting import Known, Watch, Watchers

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

_UNSEEN_FOR: Final = 60.0
"""Tasks nobody has looked at for so long are looked at, though nobody asks."""


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


OnProgress = Callable[[Edit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Host:
    """What the editor's scope holds once something was asked of it."""

    connection: Connection
    journal: Journal
    """For what may not happen without it."""
    tolerant: TolerantJournal
    submitter: Submitter
    watchers: Watchers
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

    async def called_back(self, handle: str, secret: str, hint: str | None) -> bool:  # noqa: ARG002  no submit carries a secret yet
        """Whether a callback is one of ours. Not one is yet: no submit carries a secret."""
        return False

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
            claim = await self._claim(host, wish, force_new=force_new)
            if not claim.joined:
                submit = host.submitter.start(claim.intent, partial(self._prepare, host, wish))
        patience = max(patience - (anyio.current_time() - began), 0.0)
        if claim.joined:
            return await self._join(host, claim.intent.handle, patience)
        with anyio.move_on_after(patience):
            await submit.ended.wait()
        edit = seen(submit.sighting) if submit.sighting else unseen(submit.intent)
        return replace(edit, notes=submit.changes)

    async def _prepare(self, host: _Host, wish: Wish) -> Prepared:
        return await self._intake.prepare(
            wish, host.connection.publisher, host.journal, now=self._rules.clock()
        )

    async def _join(self, host: _Host, handle: str, patience: float) -> Edit:
        """What is known of the edit that an equal call started."""
        with anyio.move_on_after(patience):
            await self._submitted(host, handle)
            await self._refresh(host, handle)
        return replace(await self._kept(host, await self._report(host, handle)), joined=True)

    async def get(self, edit: Edit | str) -> Edit:
        """Look at an edit once, by what `edit` returned, a task id or a handle."""
        name = _name_of(edit)
        host = await self._hosted()
        task_id = await self._task_id(host, name)
        if task_id is None:
            return await self._report(host, name)
        sighting = await host.tolerant.last_seen(task_id)
        if sighting is None or not is_settled(sighting.task.status):
            try:
                await self._look(host, task_id)
            except Wan25Error as error:
                return await self._look_failed(host, task_id, error)
        return await self._kept(host, await self._report(host, task_id))

    async def wait(
        self, edit: Edit | str, *, timeout: float, on_progress: OnProgress | None = None
    ) -> Edit:
        """Wait until an edit is settled, at most `timeout` seconds; with 0, look once.

        Stopping to wait, by the timeout or by cancellation, changes nothing about the edit.

        Args:
            on_progress: Called after each look, with what it showed.
        """
        name = _name_of(edit)
        if timeout <= 0:
            return await self.get(name)
        host = await self._hosted()
        failure: Wan25Error | None = None
        with anyio.move_on_after(timeout):
            await self._submitted(host, name)
            task_id = await self._task_id(host, name)
            if task_id is None:
                return await self._report(host, name)
            known = self._known(await host.tolerant.last_seen(task_id))
            async with host.watchers.watching(task_id, known) as watch:
                while not watch.over:
                    failure = watch.failure
                    await self._tell(host, watch, on_progress)
                    await watch.news()
                failure = watch.failure
        task_id = await self._task_id(host, name)
        if failure is not None and task_id is not None:
            return await self._look_failed(host, task_id, failure)
        return await self._kept(host, await self._report(host, name))

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

    async def _claim(self, host: _Host, wish: Wish, *, force_new: bool) -> Claim:
        return await host.journal.claim(
            Ask(
                handle=HANDLE_PREFIX + uuid.uuid4().hex[:16],
                owner=host.connection.owner,
                fingerprint=fingerprint(wish.content()),
                n=wish.n,
                prompt=wish.prompt,
                holder=self._holder,
            ),
            now=self._rules.clock(),
            window=0.0 if force_new else self._rules.duplicate_window,
            lease=LEASE_SECONDS,
            allowance=self._rules.allowance,
            refusal=host.submitter.refusal(),
        )

    async def _submitted(self, host: _Host, name: str) -> None:
        """Wait until the submit behind a name has ended, whichever process makes it."""
        if host.submitter.is_under_way(name):
            await host.submitter.ended(name)
            return
        while True:
            intent = await self._find(host, name)
            if intent is None or intent.stage not in ("intent", "sending"):
                return
            await anyio.sleep(_ELSEWHERE_PAUSE)  # another process sends it: the journal will tell

    async def _find(self, host: _Host, name: str) -> Intent | None:
        return await host.tolerant.find(name, now=self._rules.clock())

    async def _task_id(self, host: _Host, name: str) -> str | None:
        """The provider's id behind a name, or None while (or because) there is none."""
        intent = await self._find(host, name)
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

    # --- looking ----------------------------------------------------------------------------

    async def _look(self, host: _Host, task_id: str) -> Task:
        task = await host.connection.client.query(task_id)
        return (await host.tolerant.record(task, now=self._rules.clock())).task

    async def _refresh(self, host: _Host, handle: str) -> None:
        """Look at the task that a repeated call joins; if that fails, what was last seen stands."""
        intent = await self._find(host, handle)
        if intent is None or intent.task_id is None:
            return
        sighting = await host.tolerant.last_seen(intent.task_id)
        if sighting is None or not is_settled(sighting.task.status):
            with suppress(Wan25Error):
                await self._look(host, intent.task_id)

    def _known(self, sighting: Sighting | None) -> Known | None:
        if sighting is None:
            return None
        now, began = self._rules.clock(), sighting.task.created or sighting.seen_at
        return Known(sighting.task, max(now - began, 0.0), max(now - sighting.seen_at, 0.0))

    async def _tell(self, host: _Host, watch: Watch, on_progress: OnProgress | None) -> None:
        if on_progress is not None and watch.latest is not None:
            await on_progress(await self._report(host, watch.task_id))

    # --- keeping ----------------------------------------------------------------------------

    async def _kept(self, host: _Host, edit: Edit) -> Edit:
        """An edit whose images were saved, as far as that goes quickly."""
        if host.keeper is None or edit.status != "completed" or edit.task_id is None:
            return edit
        await self._keep(host, edit.task_id, patience=KEEPING_PATIENCE)
        return await self._with_files(host, edit)

    async def _keep(self, host: _Host, task_id: str, *, patience: float) -> None:
        sighting = await host.tolerant.last_seen(task_id)
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

    async def _attend(self, host: _Host) -> None:
        """Look now and then at tasks nobody asks about: after a crash, or when callers are gone."""
        while True:
            unattended = await host.tolerant.unattended(
                now=self._rules.clock(), unseen_for=_UNSEEN_FOR, lease=_UNSEEN_FOR
            )
            for task_id in unattended:
                with suppress(Wan25Error):
                    await self._look(host, task_id)
                    await host.journal.let_go(task_id)
            await self._keep_unsaved(host)
            await anyio.sleep(_UNSEEN_FOR / 2)

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

    async def _look_failed(self, host: _Host, task_id: str, error: Wan25Error) -> Edit:
        """What was known before, with the reason why nothing newer is."""
        known = await self._report(host, task_id)
        return replace(known, task_id=task_id, error=error)

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
            submitter = Submitter(
                connection.client,
                journal,
                tolerant,
                self._tasks,
                clock=self._rules.clock,
                chance=self._rules.chance,
            )

            async def look(task_id: str) -> Task:
                return await self._look(host, task_id)

            keeper = self._keeper(connection, journal)
            host = _Host(
                connection, journal, tolerant, submitter, Watchers(look, self._tasks), keeper
            )
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
