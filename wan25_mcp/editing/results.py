"""The images of completed edits: saving them, their paths, their bytes, their previews."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio

from wan25_mcp.editing.account import Account
from wan25_mcp.editing.edit import Edit, links_of
from wan25_mcp.editing.options import Connection
from wan25_mcp.editing.shared import Shared
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.journal import DegradedJournal, JournalUnusable, Unsaved, expires_at
from wan25_mcp.outputs.archiver import PATIENCE, Archiver, SaveRequest, Saving
from wan25_mcp.outputs.download import DOWNLOAD_SECONDS, NotDownloaded, download
from wan25_mcp.outputs.previews import make_previews
from wan25_mcp.outputs.retries import may_be_tried
from wan25_mcp.outputs.save import check_output
from wan25_mcp.provider.models import MAX_IMAGES_OUT

_MAX_SECONDS: Final = MAX_IMAGES_OUT * DOWNLOAD_SECONDS

_TASKS_AT_ONCE: Final = 6
"""Limit of tasks whose images are saved at the same time in the background. It is lower than the
limit of images, so that there is room for those that a call waits for."""

_LISTED: Final = 20
"""Number of tasks read from the journal together. The slowest of them delays the next ones."""


class Results:
    """The images of one account's edits.

    Args:
        account: Whether and where they are saved.
        connection: Where they are downloaded from, if they are.
        degraded: The journal with the snapshots of the tasks.
        owner: Returns the account's name in the journal.
        shared: Has the journal for the path of each image, and the task group that saving runs in.
    """

    def __init__(
        self,
        account: Account,
        connection: Connection,
        degraded: DegradedJournal,
        owner: Callable[[], Awaitable[str]],
        shared: Shared,
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._journal = shared.journal
        self._degraded = degraded
        self._options = options = shared.options
        self._turns = anyio.Semaphore(_TASKS_AT_ONCE)
        self._sources: dict[str, str] = {}
        self._directory = account.output_dir
        self._archiver: Archiver | None = None
        if connection.downloads is not None and account.save:
            saving = Saving(account.output_dir, shared.downloads, options.clock, options.run)
            self._archiver = Archiver(self._download, shared.journal, owner, shared.tasks, saving)

    def name_after(self, source: str | None, handle: str) -> None:
        """Name the results of an edit after a picture, where they are saved from now on."""
        if source is not None:
            self._sources[handle] = source

    # --- saved ------------------------------------------------------------------------------

    async def check_folder(self) -> None:
        """Check, before an edit is paid for, that its results can be saved, if they are to be.

        Raises:
            SettingsError: The folder cannot be written to.
        """
        if self._archiver is not None:
            await self._options.run(check_output, self._directory)

    async def saved_soon(self, edit: Edit, *, patience: float = PATIENCE) -> Edit:
        """Save an edit's images, waiting at most `patience` seconds; returns it with the files."""
        if self._archiver is None or edit.status != "completed" or edit.task_id is None:
            return edit
        await self.save(edit.task_id, patience=min(patience, PATIENCE))
        return await self.with_files(edit)

    async def saved(self, edit: Edit) -> Edit:
        """Save an edit's images, however long that takes; returns it with the files."""
        if edit.status == "completed" and edit.task_id is not None:
            await self.save(edit.task_id)
        return await self.with_files(edit)

    async def save(
        self,
        task_id: str,
        *,
        patience: float = _MAX_SECONDS,
        is_asked_for: bool = True,
    ) -> None:
        """Save the images of a completed task if its links are valid; wait `patience` seconds."""
        if self._archiver is None:
            return
        snapshot = await self._degraded.last_seen(task_id)
        if snapshot is None or not snapshot.task.image_urls:
            return
        expiry = expires_at(snapshot)
        if self._options.clock() < expiry:
            intent = await self._degraded.find(task_id, now=self._options.clock())
            prompt = (intent.prompt if intent else None) or ""
            links = links_of(snapshot.task, intent)
            source = self._sources.get(intent.handle) if intent else None
            request = SaveRequest(task_id, links, prompt, expiry, is_asked_for, source)
            await self._archiver.save(request, patience=patience)

    async def save_in_turn(self, task_id: str) -> None:
        """Save the images of a completed task in the background, a few tasks at a time."""
        async with self._turns:
            await self.save(task_id, is_asked_for=False)

    async def save_unsaved(self) -> None:
        """Save the images that are due: not yet tried, or to be retried now.

        Returns when none is due. An image that fails is not due again for a while.
        """
        tried: set[str] = set()
        while due := set(await self._due()) - tried:
            tried |= due  # so that this ends even if the journal cannot record a failure
            async with anyio.create_task_group() as tasks:
                for task_id in due:
                    tasks.start_soon(self.save_in_turn, task_id)

    async def _due(self) -> Sequence[str]:
        if self._archiver is None:
            return ()
        now = self._options.clock()
        try:
            return await self._journal.unsaved(
                await self._owner(), now=now, address=self._connection.address, limit=_LISTED
            )
        except JournalUnusable:
            return ()

    async def with_files(self, edit: Edit) -> Edit:
        """Add the saved files to an edit, or a note why there are none."""
        if self._archiver is None or edit.status != "completed" or edit.task_id is None:
            return edit
        saved = await self._archiver.saved(edit.task_id, len(edit.image_urls))
        notes = edit.notes
        if len(saved) < len(edit.image_urls):
            notes = tuple(dict.fromkeys((*notes, *await self._why_unsaved(self._archiver, edit))))
        return replace(edit, saved=saved, notes=notes)

    async def _why_unsaved(self, archiver: Archiver, edit: Edit) -> tuple[str, ...]:
        found = await archiver.problem(edit.task_id or "")
        if found is None:
            return ()
        problem, is_retried = found
        is_valid = edit.expires_at is None or self._options.clock() < edit.expires_at.timestamp()
        return (
            f"Not saved yet: {problem}" if is_retried and is_valid else f"Not saved: {problem}",
        )

    # --- read -------------------------------------------------------------------------------

    async def image(self, edit: Edit, number: int) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link returns none.
        """
        if edit.task_id is None or not 1 <= number <= len(edit.image_urls):
            raise InvalidRequest(
                "There is no such image.",
                fix="Use the position of an image in the task's image_urls, from 1.",
            )
        try:
            path = (await self._journal.saved(await self._owner(), edit.task_id)).get(number)
            if path is not None:
                body: bytes = await self._options.run(Path(path).read_bytes)
                return body
        except (OSError, JournalUnusable):
            pass  # the file was moved or deleted, or the journal is unavailable: try the link
        return await self._by_link(edit.task_id, number, edit.image_urls[number - 1])

    async def _by_link(self, task_id: str, number: int, link: str) -> bytes:
        """Download an image, unless it failed permanently within the last hour."""
        before, now = await self._failed_before(task_id, number), self._options.clock()
        if before is not None and not may_be_tried(before, now, is_asked_for=True):
            fix = "It was not downloaded again: it is retried at most once an hour."
            raise NotDownloaded(before.problem, is_lasting=True, fix=fix)
        try:
            return await self._download(link)
        except NotDownloaded as error:
            if error.is_lasting:
                failures = before.failures + 1 if before else 1
                why = Unsaved(f"{error.message} {error.fix}", failures, now, None)
                with suppress(JournalUnusable):  # a later try will record it
                    owner = await self._owner()
                    await self._journal.note_unsaved(owner, task_id, number, why)
            raise

    async def _failed_before(self, task_id: str, number: int) -> Unsaved | None:
        try:
            failed = await self._journal.unsaved_images(await self._owner(), task_id)
        except JournalUnusable:
            return None
        return failed.get(number)

    async def previews(self, edit: Edit, number: int | None = None) -> list[bytes]:
        """A small JPEG of each image of a completed edit, or of one, where it can be made.

        Raises:
            NotDownloaded: An image is not on disk, and its link returns none.
        """
        numbers = range(1, len(edit.image_urls) + 1) if number is None else (number,)
        bodies = [await self.image(edit, number) for number in numbers]
        made = await make_previews(bodies, run=self._options.run)
        return [preview for preview in made if preview is not None]

    async def _download(self, link: str, seconds: float = DOWNLOAD_SECONDS) -> bytes:
        if self._connection.downloads is None:
            raise InvalidRequest(
                "This server does not download images.", fix="Open the image link itself."
            )
        http, trusted = self._connection.downloads, self._connection.trusted
        return await download(link, http=http, trusted=trusted, seconds=seconds)
