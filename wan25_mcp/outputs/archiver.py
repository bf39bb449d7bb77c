"""Saves the images of completed tasks before their links expire, whether or not anybody asks.

Saving runs outside the calls. An answer waits a few seconds for it, and has the files or the reason
why there are none. A lease in the journal ensures that one process at a time saves a task. A failed
image is retried after growing pauses while its link is valid, and when a call asks for it. One that
failed permanently is not downloaded again. All of this is in the journal, so a restart continues
where the last process stopped.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import Journal, JournalUnusable, Unsaved
from wan25_mcp.outputs.download import DOWNLOAD_SECONDS
from wan25_mcp.outputs.filenames import ImageName
from wan25_mcp.outputs.retries import is_lasting, may_be_tried, retry_pause
from wan25_mcp.outputs.save import output_directory, save_image

logger: Final = logging.getLogger(__name__)

PATIENCE: Final = 8.0
"""Seconds that an answer waits for the images to be saved."""

LEASE_SECONDS: Final = 12.0
"""A process that has not renewed its lease for this long counts as dead: another saves the images.
"""

IMAGES_AT_ONCE: Final = 8
"""Limit of concurrent downloads of a process. Each is held in memory, up to 64 MB."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries to acquire a task that another process is saving."""

_FIRST_TRY_SECONDS: Final = 30.0
"""Time limit of the first download in the background, doubled for each later one. A slow server
must not delay the images of other tasks."""

MAX_PROBLEMS: Final = 1000
"""Number of tasks for which this process remembers problems that the journal could not record."""


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """The images of a completed task that are to be saved.

    Args:
        links: Their links, in order.
        expires_at: When the links expire, in epoch seconds.
        is_asked_for: Whether a call asks for them: then they are tried at once.
        source: The name of the picture that was edited, if the results are to be named after it.
    """

    task_id: str
    links: tuple[str, ...]
    prompt: str
    expires_at: float
    is_asked_for: bool
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Saving:
    """How images are saved.

    Args:
        directory: The folder; None for the default folder.
        slots: Limits the concurrent downloads of the process, each of which is held in memory.
        clock: Epoch seconds.
        run: Runs blocking work.
    """

    directory: Path | None
    slots: anyio.Semaphore
    clock: Callable[[], float]
    run: Callable[..., Awaitable[Any]] = anyio.to_thread.run_sync


class Archiver:
    """Saves the images of one account in one process.

    Args:
        fetch: Downloads the image of a link within a number of seconds.
        journal: Where the path of each image is written.
        owner: Returns the account's name in the journal.
        tasks: The task group that saving runs in.
    """

    def __init__(
        self,
        fetch: Callable[[str, float], Awaitable[bytes]],
        journal: Journal,
        owner: Callable[[], Awaitable[str]],
        tasks: TaskGroup,
        saving: Saving,
    ) -> None:
        self._fetch = fetch
        self._journal = journal
        self._owner = owner
        self._tasks = tasks
        self._directory = saving.directory
        self._slots = saving.slots
        self._clock = saving.clock
        self._run = saving.run
        self._saving: dict[str, anyio.Event] = {}
        self._problems: dict[str, str] = {}
        """Why a task's images are not saved, if the journal could not record it; the latest ones.
        """

    async def saved(self, task_id: str, count: int) -> tuple[str, ...]:
        """The paths of the saved ones among the first `count` images of a task, in order."""
        places = await self._places(task_id)
        return tuple(path for number, path in places.items() if number <= count)

    async def _places(self, task_id: str) -> Mapping[int, str]:
        """The paths of images by number. Files that were moved or deleted are left out."""
        try:
            places: Mapping[int, str] = await self._run(
                _existing, await self._journal.saved(await self._owner(), task_id)
            )
            return places
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return {}

    async def _unsaved(self, task_id: str) -> Mapping[int, Unsaved]:
        try:
            return await self._journal.unsaved_images(await self._owner(), task_id)
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return {}

    async def problem(self, task_id: str) -> tuple[str, bool] | None:
        """Why an image of a task is not saved, and whether this will be retried."""
        if (known := self._problems.get(task_id)) is not None:
            return known, True
        for why in (await self._unsaved(task_id)).values():
            return why.problem, why.retry_at is not None
        saving = "It is being saved now. Call again to get its path."
        return (saving, True) if task_id in self._saving else None

    async def save(self, request: SaveRequest, *, patience: float = PATIENCE) -> None:
        """Save the missing images of a completed task; wait at most `patience` seconds for it."""
        if not await self._missing(request):
            return
        done = self._saving.get(request.task_id)
        if done is None:
            done = self._saving[request.task_id] = anyio.Event()
            self._tasks.start_soon(self._save_task, request, done)
        with anyio.move_on_after(patience):
            await done.wait()

    async def _missing(self, request: SaveRequest) -> dict[int, int]:
        """The numbers of the images to save now, each with its number of failures."""
        places, unsaved = await self._places(request.task_id), await self._unsaved(request.task_id)
        return {
            number: unsaved[number].failures if number in unsaved else 0
            for number in range(1, len(request.links) + 1)
            if number not in places and self._is_due(unsaved.get(number), request.is_asked_for)
        }

    def _is_due(self, unsaved: Unsaved | None, is_asked_for: bool) -> bool:
        return unsaved is None or may_be_tried(unsaved, self._clock(), is_asked_for)

    # --- one task ---------------------------------------------------------------------------

    async def _save_task(self, request: SaveRequest, done: anyio.Event) -> None:
        task_id = request.task_id
        try:
            if await self._acquired(request):
                try:
                    await self._save_leased(request)
                finally:
                    with anyio.CancelScope(shield=True):
                        await self._journal.release_save(await self._owner(), task_id)
        except JournalUnusable as error:
            logger.info("Images of %s are not saved: %s", task_id, error.state)
            self._remember(task_id, f"{error.state} {error.fix}")
        except Exception:
            logger.exception("Saving the images of %s ended unexpectedly", task_id)
            self._remember(task_id, _UNEXPECTED)
        finally:
            del self._saving[task_id]
            done.set()

    async def _acquired(self, request: SaveRequest) -> bool:
        """Acquire the lease of a task. If a call waits, retry while another process holds it."""
        pause, task_id = _FIRST_PAUSE, request.task_id
        owner = await self._owner()
        while not await self._journal.acquire_save(
            owner, task_id, now=self._clock(), lease=LEASE_SECONDS
        ):
            if not request.is_asked_for:
                return False
            self._remember(task_id, "Another process is saving it. Call again in a minute.")
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._problems.pop(task_id, None)
        return True

    async def _save_leased(self, request: SaveRequest) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep_lease, request.task_id)
            for number, failures in (await self._missing(request)).items():
                await self._try(request, number, failures)
            tasks.cancel_scope.cancel()

    async def _keep_lease(self, task_id: str) -> None:
        while True:
            await anyio.sleep(LEASE_SECONDS / 3)
            try:
                owner = await self._owner()
                await self._journal.renew_save(
                    owner, task_id, now=self._clock(), lease=LEASE_SECONDS
                )
            except JournalUnusable as error:
                logger.warning("%s", error.state)

    # --- one image --------------------------------------------------------------------------

    async def _try(self, request: SaveRequest, number: int, failures: int) -> None:
        """Save an image, or record why it could not be saved."""
        try:
            async with self._slots:
                await self._save_one(request, number, failures)
        except Wan25Error as error:
            logger.info("Image %d of %s is not saved: %s", number, request.task_id, _text(error))
            await self._note(request, number, failures + 1, error)
        except Exception:
            logger.exception("Saving image %d of %s ended unexpectedly", number, request.task_id)
            await self._note(request, number, failures + 1, None)

    async def _save_one(self, request: SaveRequest, number: int, failures: int) -> None:
        seconds = min(math.ldexp(_FIRST_TRY_SECONDS, min(failures, 10)), DOWNLOAD_SECONDS)
        if request.is_asked_for:
            seconds = DOWNLOAD_SECONDS
        body = await self._fetch(request.links[number - 1], seconds)
        path = await save_image(
            body,
            output_directory(self._directory),
            ImageName(request.prompt, request.task_id, number, source=request.source),
            run=self._run,
        )
        await self._journal.note_saved(await self._owner(), request.task_id, number, str(path))
        logger.debug("Saved image %d of %s: %s", number, request.task_id, path)

    async def _note(
        self, request: SaveRequest, number: int, failures: int, error: Wan25Error | None
    ) -> None:
        problem = f"{_text(error)} {error.fix}" if error else _UNEXPECTED
        now = self._clock()
        retry_at = (
            None
            if is_lasting(error)
            else now + retry_pause(error, failures, request.expires_at - now)
        )
        try:
            unsaved = Unsaved(problem, failures, now, retry_at)
            await self._journal.note_unsaved(await self._owner(), request.task_id, number, unsaved)
        except JournalUnusable as unusable:
            logger.warning("%s", unusable.state)
            self._remember(request.task_id, problem)

    def _remember(self, task_id: str, problem: str) -> None:
        self._problems[task_id] = problem
        if len(self._problems) > MAX_PROBLEMS:
            del self._problems[next(iter(self._problems))]


def _text(error: Wan25Error) -> str:
    return error.state if isinstance(error, JournalUnusable) else error.message


_UNEXPECTED: Final = "The image was not saved because of an unexpected error."


def _existing(places: Mapping[int, str]) -> dict[int, str]:
    return {number: path for number, path in places.items() if Path(path).is_file()}
