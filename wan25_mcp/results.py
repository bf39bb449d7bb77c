"""The images of completed edits: saved, told of, found again, shown small."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from anyio.abc import TaskGroup

from wan25_mcp.edits import Edit, expiry
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.images import download, make_previews
from wan25_mcp.journal import Journal, JournalUnusable, TolerantJournal
from wan25_mcp.keeping import LEASE_SECONDS, PATIENCE, Keeper
from wan25_mcp.terms import Connection, Rules

_AS_LONG_AS_IT_TAKES: Final = LEASE_SECONDS
"""Seconds; a process that saves for longer is taken for dead, and the next question goes on."""


class Results:
    """The images of one process's edits.

    Args:
        connection: Where they are downloaded from, if they are.
        journal: Where it is written which image is where.
        tolerant: What is known of the tasks.
        tasks: The task group the saving runs in; it outlives every call.
        rules: Whether and where they are saved.
        owner: Whose they are.
    """

    def __init__(
        self,
        connection: Connection,
        journal: Journal,
        tolerant: TolerantJournal,
        tasks: TaskGroup,
        rules: Rules,
        owner: Callable[[], Awaitable[str]],
    ) -> None:
        self._connection = connection
        self._owner = owner
        self._journal = journal
        self._tolerant = tolerant
        self._rules = rules
        self._keeper: Keeper | None = None
        if connection.downloads is not None and rules.save:
            self._keeper = Keeper(
                connection.downloads,
                journal,
                tasks,
                directory=rules.output_dir,
                trusted=connection.trusted,
                clock=rules.clock,
                run=rules.run,
            )

    # --- saved ------------------------------------------------------------------------------

    async def kept(self, edit: Edit, *, patience: float = PATIENCE) -> Edit:
        """An edit whose images were saved, as far as that goes within `patience` seconds."""
        if self._keeper is None or edit.status != "completed" or edit.task_id is None:
            return edit
        await self.save(edit.task_id, patience=min(patience, PATIENCE))
        return await self.with_files(edit)

    async def keep(self, edit: Edit) -> Edit:
        """An edit whose images were saved, however long that takes."""
        if edit.status == "completed" and edit.task_id is not None:
            await self.save(edit.task_id)
        return await self.with_files(edit)

    async def save(self, task_id: str, *, patience: float = _AS_LONG_AS_IT_TAKES) -> None:
        """Save the images of a completed task while its links live; wait a little for it."""
        if self._keeper is None:
            return
        sighting = await self._tolerant.last_seen(task_id)
        if sighting is None or not sighting.task.image_urls:
            return
        if self._rules.clock() < expiry(sighting).timestamp():
            intent = await self._tolerant.find(task_id, now=self._rules.clock())
            prompt = (intent.prompt if intent else None) or ""
            await self._keeper.keep(sighting.task, prompt, patience=patience)

    async def save_unsaved(self) -> None:
        """Save what was completed while nobody asked, or could not be saved before."""
        if self._keeper is None:
            return
        try:
            unsaved = await self._journal.unsaved(await self._owner(), now=self._rules.clock())
        except JournalUnusable:
            return
        for task_id in unsaved:
            await self.save(task_id)

    async def with_files(self, edit: Edit) -> Edit:
        """An edit with the files it was saved in, or why there are none."""
        if self._keeper is None or edit.status != "completed" or edit.task_id is None:
            return edit
        problem = self._keeper.problem(edit.task_id)
        saved = await self._keeper.saved(edit.task_id)
        missing = len(saved) < len(edit.image_urls)
        notes = (f"Not saved yet: {problem}",) if problem and missing else ()
        return replace(edit, saved=saved, notes=tuple(dict.fromkeys((*edit.notes, *notes))))

    # --- read again -------------------------------------------------------------------------

    async def image(self, edit: Edit, number: int) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link gives none.
        """
        if edit.task_id is None or not 1 <= number <= len(edit.image_urls):
            raise InvalidRequest("There is no such image.", fix="Look at the task's image_urls.")
        path = (await self._journal.saved(edit.task_id)).get(number)
        try:
            if path is not None:
                body: bytes = await self._rules.run(Path(path).read_bytes)
                return body
        except OSError:
            pass  # moved or deleted since; the link may still live
        return await self._download(edit.image_urls[number - 1])

    async def previews(self, edit: Edit) -> list[bytes]:
        """A small JPEG of each image of a completed edit that one can be made of.

        Raises:
            NotDownloaded: An image is not on disk, and its link gives none.
        """
        numbers = range(1, len(edit.image_urls) + 1)
        bodies = [await self.image(edit, number) for number in numbers]
        made = await make_previews(bodies, run=self._rules.run)
        return [preview for preview in made if preview is not None]

    async def _download(self, link: str) -> bytes:
        if self._connection.downloads is None:
            raise InvalidRequest("Images are not downloaded here.", fix="Open the link itself.")
        trusted = self._connection.trusted
        return await download(link, http=self._connection.downloads, trusted=trusted)
