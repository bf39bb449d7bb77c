"""The product for one account: submit an edit once, and wait for it. Usable without MCP.

A submit runs in the engine's task group, not in the call that asked for it. A cancelled call, a
dropped connection or an expired timeout does not affect it, and its task id is recorded. This
module depends neither on MCP, nor on a terminal, nor on where the provider is.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.editing import past
from wan25_mcp.editing.edit import Edit, PastEdit, Price, name_of, unread
from wan25_mcp.editing.live_account import LiveAccount, task_id_of
from wan25_mcp.editing.options import Connection, Options
from wan25_mcp.editing.start import Start
from wan25_mcp.editing.waiting import OnProgress, waited
from wan25_mcp.errors import ReadFailed, Wan25Error
from wan25_mcp.inputs.prepare import EditInput, ImagePreparer
from wan25_mcp.journal import JournalUnusable, Spent
from wan25_mcp.provider.catalogue import MODEL, ModelName
from wan25_mcp.provider.models import EditRequest
from wan25_mcp.provider.statuses import Status

if TYPE_CHECKING:
    from wan25_mcp.inputs.given import InMemory
    from wan25_mcp.inputs.prepare import Local

logger: Final = logging.getLogger(__name__)

SUBMIT_PATIENCE: Final = 3.0
"""Seconds that `edit` waits for a task id, so that the whole answer takes at most 4 seconds."""

_WAKING_PAUSE: Final = 2.0
"""Seconds after which edits of an earlier process are resumed: answering calls comes first."""


class AccountEditor:
    """Edits images for one account. Create it with `open_editor` or `Engine.editor`.

    Every method raises `SettingsError` if the configured provider cannot be connected to.
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

    @property
    def has_image_host(self) -> bool:
        """Whether local images certainly have a place to be uploaded to, as configured."""
        return self._options.has_image_host

    @property
    def reads_files(self) -> bool:
        """Whether there are folders that local images may be read from."""
        return bool(self._options.input_dirs)

    @property
    def duplicate_window(self) -> float:
        """Seconds within which an identical call returns the earlier edit; 0: never."""
        return self._options.duplicate_window

    async def connection(self) -> Connection:
        """The connection to the provider, opened when first needed."""
        return (await self._opened()).connection

    async def read_images(
        self,
        sources: Sequence[str | InMemory],
        model: ModelName = MODEL,
        *,
        anywhere: bool = False,
    ) -> tuple[str | Local, ...]:
        """Read the images that a caller named. Links are returned as they are.

        Args:
            anywhere: Whether files may be in any folder, because the caller is the user's own.

        Raises:
            InvalidRequest: An image cannot be read; nothing was uploaded or sent.
            Wan25Error: The limit of `data:` images in memory is reached.
        """
        return await self._preparer.read(sources, model, anywhere=anywhere)

    async def edit(
        self,
        wanted: EditInput | EditRequest,
        *,
        force_new: bool = False,
        duplicate_window: float | None = None,
        patience: float = SUBMIT_PATIENCE,
        source: str | None = None,
        on_progress: OnProgress | None = None,
        on_upload: Callable[[str], None] | None = None,
    ) -> Edit:
        """Start an edit, or return the one that an identical call started; in `patience` seconds.

        Without a task id by then, the status is `submitting`, and `task_id` is a handle for `get`
        and `wait` in every process that shares the journal.

        Args:
            force_new: Start, and pay for, another edit even if an identical one exists.
            duplicate_window: Seconds that an earlier one counts for; None: as configured.
            source: The picture that saved results are named after.
            on_progress, on_upload: Called each second, and with each image whose upload begins.

        Raises (nothing was sent):
            SettingsError, NotPublished, Refused: There is no known place to upload an image to.
            Withheld, JournalUnusable: A limit of the operator, or the journal, does not allow it.
        """
        asked = EditInput.of(wanted) if isinstance(wanted, EditRequest) else wanted
        start = Start(await self._opened(), self._preparer, asked, on_upload)
        window = 0.0 if force_new else duplicate_window
        return await start.edit(window, patience, on_progress, source)

    async def known(
        self, wanted: Sequence[EditInput], *, duplicate_window: float | None = None
    ) -> Sequence[bool]:
        """Whether `edit` would return an earlier edit, for each. Raises as `recent`."""
        return await past.known(await self._opened(), wanted, duplicate_window)

    async def get(self, edit: Edit | str) -> Edit:
        """Poll an edit once, by an `Edit`, a task id or a handle.

        A task that was polled in the last 2 seconds is not polled again.
        """
        name = name_of(edit)
        account = await self._opened()
        try:
            intent = await account.find(name)
        except JournalUnusable:
            return unread(name)
        task_id = task_id_of(intent, name)
        if task_id is None:
            return await account.with_times(await account.report(name))
        polled = await account.with_times(await account.poll(task_id, intent))
        return await account.results.saved_soon(polled)

    async def wait(
        self, edit: Edit | str, *, timeout: float, on_progress: OnProgress | None = None
    ) -> Edit:
        """Wait until an edit is settled. With a `timeout` of 0, poll once.

        Returns within `timeout` seconds, earlier by the `margin`. Giving up, by timeout or by
        cancellation, changes nothing about the edit.

        Args:
            on_progress: Called after each poll, and every 5 seconds.
        """
        name = name_of(edit)
        if timeout <= 0:
            return await self.get(name)
        return await waited(await self._opened(), name, timeout, on_progress)

    def knows_callback(self, handle: str, secret: str) -> bool:
        """Whether this process is known to have made that callback address, without the journal."""
        return self._account is not None and self._account.callbacks.knows(handle, secret)

    async def called_back(self, handle: str, secret: str, hint: str | None) -> bool:
        """Receive a callback for a submit: if its secret is right, poll the task.

        Returns at once whether the secret is right. What a callback says is never trusted.

        Args:
            hint: The task id that the callback names, if any.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        return await (await self._opened()).callbacks.called(handle, secret, hint)

    async def check_folder(self) -> None:
        """Check, before an edit is paid for, that its results can be saved, if they are to be.

        Raises:
            SettingsError: The folder cannot be written to.
        """
        await (await self._opened()).results.check_folder()

    async def save(self, edit: Edit) -> Edit:
        """Save a completed edit's images, however long that takes; returns it with the files."""
        return await (await self._opened()).results.saved(edit)

    async def image(self, edit: Edit | str, number: int) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link returns none.
            ReadFailed: Whether there is such an image is not known at the moment.
        """
        known = edit if isinstance(edit, Edit) else await self.get(edit)
        if isinstance(known.error, ReadFailed) and not known.image_urls:
            raise known.error
        return await (await self._opened()).results.image(known, number)

    async def previews(self, edit: Edit, number: int | None = None) -> list[bytes]:
        """A small JPEG of each image of a completed edit, or of one, where it can be made.

        Raises:
            NotDownloaded: An image is not on disk, and its link returns none.
        """
        return await (await self._opened()).results.previews(edit, number)

    async def original(self, edit: Edit | str, number: int) -> bytes | None:
        """A small JPEG of a local image that was edited, if one is kept. Raises as `recent`."""
        account = await self._opened()
        owner = await account.ownership.owner()
        return await account.journal.kept_input(owner, name_of(edit), number)

    async def recent(
        self,
        limit: int = 20,
        *,
        since: datetime | None = None,
        statuses: Collection[Status] = (),
    ) -> Sequence[PastEdit]:
        """The latest edits of this account, newest first, as last seen. Polls nothing.

        Args:
            statuses: Only those with one of these; none: all.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        return await past.recent(await self._opened(), limit, since=since, statuses=statuses)

    async def price(self, n: int = 1, model: ModelName = MODEL) -> Price:
        """What an edit of `n` images will probably cost. Raises as `recent`."""
        return await (await self._opened()).price(n, model)

    async def spent(self, seconds: float) -> Spent:
        """What edits of the last `seconds` cost; 30 days are known. Raises as `recent`."""
        return await (await self._opened()).spent(seconds)

    def wake(self) -> None:
        """Resume edits of an earlier process, if there can be any. Returns at once."""
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
            logger.exception("Resuming edits of an earlier process ended unexpectedly")

    async def finish(self) -> None:
        """Wait for the task ids of submits on the wire; the others are journaled as unknown."""
        if self._account is not None:
            await self._account.submitter.finish()

    async def _opened(self) -> LiveAccount:
        if self._account is None:
            self._account = await self._open_account()
        return self._account
