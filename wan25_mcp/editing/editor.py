"""What the product does for one account: submit an edit once, wait for it. Usable without MCP.

A submit runs in the engine's scope, not in the call that asked for it: a cancelled call, a dropped
connection or an expired timeout leaves it alone, and its task id is kept. Knows nothing of MCP, of
a terminal, or of where the provider is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.editing.edit import Edit, PastEdit, Price, seen, unread, unseen
from wan25_mcp.editing.live_account import (
    HANDLE_PREFIX,
    LiveAccount,
)
from wan25_mcp.editing.options import Connection, Options
from wan25_mcp.editing.start import Start
from wan25_mcp.editing.waiting import OnProgress, margin, seen_by, until_settled, until_submitted
from wan25_mcp.errors import InvalidRequest, ReadFailed, Wan25Error
from wan25_mcp.inputs.prepare import EditInput, ImagePreparer
from wan25_mcp.journal import Intent, JournalUnusable, Spent
from wan25_mcp.provider.catalogue import MODEL, ModelName
from wan25_mcp.provider.models import EditRequest

if TYPE_CHECKING:
    from wan25_mcp.inputs.prepare import Local

logger = logging.getLogger(__name__)

SUBMIT_PATIENCE: Final = 3.0
"""Seconds `edit` waits for a task id; with what surrounds it, an answer within 4."""

_WAKING_PAUSE: Final = 2.0
"""Seconds after which edits of an earlier process are looked for: answers come first."""


class Editor:
    """Edits images for one account. An engine makes it (`open_editor`, `Engine.editor`).

    Every method raises `SettingsError` when the provider cannot be connected to as configured.
    """

    def __init__(
        self,
        open_account: Callable[[], Awaitable[LiveAccount]],
        preparer: ImagePreparer,
        tasks: TaskGroup,
        options: Options,
    ) -> None:
        self._open_account = open_account
        self._preparer = preparer
        self._tasks = tasks
        self._options = options
        self._account: LiveAccount | None = None
        self._awake = False

    @property
    def is_emulator(self) -> bool:
        """Whether the provider is an emulator."""
        return self._options.is_emulator

    async def connection(self) -> Connection:
        """The way to the provider, opened when first needed."""
        return (await self._opened()).connection

    async def read_images(
        self, sources: Sequence[str], model: ModelName = MODEL
    ) -> tuple[str | Local, ...]:
        """What a caller named as images: links as they are, local images as they were found.

        Raises:
            InvalidRequest: An image cannot be read; nothing was uploaded or sent.
            Wan25Error: Too many images inside calls are held already.
        """
        return await self._preparer.read(sources, model)

    async def edit(
        self,
        wanted: EditInput | EditRequest,
        *,
        force_new: bool = False,
        patience: float = SUBMIT_PATIENCE,
        on_progress: OnProgress | None = None,
    ) -> Edit:
        """Start an edit, or return the one that an identical call started.

        Returns at most about `patience` seconds after the intent was journaled. Without a task id
        by then, the status is `submitting` and the submit goes on; `task_id` is a handle that
        `get` and `wait` accept, in every process that shares the journal.

        Args:
            force_new: Start, and pay for, another edit even if an identical one exists.
            on_progress: Called every second while the edit is being submitted.

        Raises:
            Withheld: A limit set by the operator has no room; nothing was sent.
            JournalUnusable: The intent could not be written; nothing was sent.
        """
        if isinstance(wanted, EditRequest):
            wanted = EditInput.of(wanted)
        start = Start(await self._opened(), self._preparer, wanted)
        return await start.edit(force_new=force_new, patience=patience, on_progress=on_progress)

    async def get(self, edit: Edit | str) -> Edit:
        """Poll an edit once, by what `edit` returned, a task id or a handle.

        What was seen in the last 2 seconds is not polled again.
        """
        name = _name_of(edit)
        account = await self._opened()
        try:
            intent = await account.find(name)
        except JournalUnusable:
            return unread(name)
        task_id = _task_id(intent, name)
        if task_id is None:
            return await account.report(name)
        return await account.results.saved_soon(await account.poll(task_id, intent))

    async def wait(
        self, edit: Edit | str, *, timeout: float, on_progress: OnProgress | None = None
    ) -> Edit:
        """Wait until an edit is settled; with a `timeout` of 0, poll once.

        Returns within `timeout` seconds, `margin` before they are over. Giving up, by the timeout
        or by cancellation, changes nothing about the edit.

        Args:
            on_progress: Called after each poll, and every 5 seconds.
        """
        name = _name_of(edit)
        if timeout <= 0:
            return await self.get(name)
        until = anyio.current_time() + timeout - margin(timeout)
        account = await self._opened()
        found: Edit | None = None
        with anyio.CancelScope(deadline=until):
            intent = await until_submitted(account, name, on_progress)
            if (task_id := _task_id(intent, name)) is not None:
                async with account.poller.watching(task_id, intent) as watch:
                    try:
                        await until_settled(account, watch, intent, on_progress)
                    finally:
                        found = seen_by(watch, intent)
        found = found or await account.report(name)
        left = max(until - anyio.current_time(), 0.0)
        return await account.results.saved_soon(found, patience=left)

    def knows_callback(self, handle: str, secret: str) -> bool:
        """Whether this process made that callback address, as far as known without the journal."""
        return self._account is not None and self._account.callbacks.knows(handle, secret)

    async def called_back(self, handle: str, secret: str, hint: str | None) -> bool:
        """Somebody called the callback address of a submit: if they know its secret, poll its task.

        Returns at once whether they did; what they say is never believed.

        Args:
            hint: The task id they named, if any.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        return await (await self._opened()).callbacks.called(handle, secret, hint)

    async def save(self, edit: Edit) -> Edit:
        """Save a completed edit's images, however long that takes; returns it with the files."""
        return await (await self._opened()).results.saved(edit)

    async def image(self, edit: Edit | str, number: int) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link gives none.
            ReadFailed: Whether there is one is not known at the moment.
        """
        known = edit if isinstance(edit, Edit) else await self.get(edit)
        if isinstance(known.error, ReadFailed) and not known.image_urls:
            raise known.error
        return await (await self._opened()).results.image(known, number)

    async def previews(self, edit: Edit) -> list[bytes]:
        """A small JPEG of each image of a completed edit that one can be made of.

        Raises:
            NotDownloaded: An image is not on disk, and its link gives none.
        """
        return await (await self._opened()).results.previews(edit)

    async def recent(self, limit: int = 20) -> Sequence[PastEdit]:
        """The latest edits of this account, newest first, as last seen. Polls nothing.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        account = await self._opened()
        owner = await account.ownership.owner()
        kept = await account.journal.recent(owner, now=self._options.clock(), limit=limit)
        return [
            PastEdit(
                edit=await account.results.with_files(
                    seen(snapshot, intent) if snapshot else unseen(intent)
                ),
                created_at=datetime.fromtimestamp(intent.created_at, UTC),
                prompt=intent.prompt,
                n=intent.n,
                credits=intent.credits,
            )
            for intent, snapshot in kept
        ]

    async def price(self, n: int = 1, model: ModelName = MODEL) -> Price:
        """What an edit of `n` images will probably cost, by the last reported price.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        account = await self._opened()
        reported = await account.journal.price(await account.ownership.owner(), model)
        each = reported or account.allowance.credits_per_image
        return Price(each * n, is_known=reported is not None)

    async def spent(self, seconds: float) -> Spent:
        """What the edits of this account in the last `seconds` cost; at most 30 days are known.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        account = await self._opened()
        owner = await account.ownership.owner()
        return await account.journal.spent(owner, self._options.clock() - seconds)

    def wake(self) -> None:
        """Take up edits of an earlier process, if there can be any. Returns at once."""
        if not self._awake and self._options.resumes:
            self._awake = True
            self._tasks.start_soon(self._wake)

    async def _wake(self) -> None:
        await anyio.sleep(_WAKING_PAUSE)
        try:
            await self._opened()
        except Wan25Error:
            pass  # a call will say why
        except Exception:
            logger.exception("Taking up edits of an earlier process ended unexpectedly")

    async def finish(self) -> None:
        """Let submits on the wire get their task ids; the others are journaled as unknown."""
        if self._account is not None:
            await self._account.submitter.finish()

    async def _opened(self) -> LiveAccount:
        if self._account is None:
            self._account = await self._open_account()
        return self._account


def _name_of(edit: Edit | str) -> str:
    if isinstance(edit, str):
        return edit
    if edit.task_id is None:  # refused: there is no task
        raise edit.error or InvalidRequest("This edit has no task.", fix="Call edit_image again.")
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
            fix="Pass the task_id exactly as edit_image returned it. `wan25-mcp tasks` lists "
            "recent edits.",
        )
    return name
