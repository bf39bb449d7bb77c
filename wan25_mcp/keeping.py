"""Saves the images of completed tasks before their links die, whether anybody asks or not.

Runs beside the calls: an answer waits a little for it, and tells the files or why there are none.
One process at a time saves a task, by a lease in the journal; a failed image is tried again, with
the next question or by the editor's own rounds, while its link lives.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import httpx2
from anyio.abc import TaskGroup

from wan25_mcp.errors import Wan25Error
from wan25_mcp.images import download, output_directory, save_image
from wan25_mcp.journal import Journal, JournalUnusable
from wan25_mcp.models import Task

logger = logging.getLogger(__name__)

PATIENCE: Final = 8.0
"""Seconds an answer waits for the images to be saved."""

LEASE_SECONDS: Final = 60.0
"""How long the process that saves a task is left alone; a dead one is given up after that."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
"""Seconds between two tries to take a task on that another process saves, as a rule in no time."""


class Keeper:
    """Saves images of one process.

    Args:
        http: A client as `open_downloads` makes it.
        journal: Where it is written which image is where.
        tasks: The task group the saving runs in.
        directory: Where to save; None for the default folder.
        trusted: Origins whose links need not be public.
        run: Where blocking work runs.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        journal: Journal,
        tasks: TaskGroup,
        *,
        directory: Path | None,
        trusted: Collection[str],
        clock: Callable[[], float],
        run: Callable[..., Awaitable[Any]] = anyio.to_thread.run_sync,
    ) -> None:
        self._http = http
        self._journal = journal
        self._tasks = tasks
        self._directory = directory
        self._trusted = trusted
        self._clock = clock
        self._run = run
        self._saving: dict[str, anyio.Event] = {}
        self._problems: dict[str, str] = {}

    async def saved(self, task_id: str) -> tuple[str, ...]:
        """Where the images of a task are, in their order, as far as they are saved."""
        return tuple((await self._places(task_id)).values())

    async def _places(self, task_id: str) -> Mapping[int, str]:
        """Where images were saved and still are: people move and delete files."""
        try:
            places: Mapping[int, str] = await self._run(
                _existing, await self._journal.saved(task_id)
            )
            return places
        except JournalUnusable as error:
            logger.warning("%s", error.state)
            return {}

    def problem(self, task_id: str) -> str | None:
        """Why an image of a task is not saved yet."""
        is_under_way = "It is being saved at this moment. Ask again to learn where."
        return self._problems.get(task_id, is_under_way if task_id in self._saving else None)

    async def keep(self, task: Task, prompt: str, *, patience: float = PATIENCE) -> None:
        """See to it that a completed task's images are saved; wait a little for it."""
        if len(await self._places(task.id)) >= len(task.image_urls):
            return
        done = self._saving.get(task.id)
        if done is None:
            done = self._saving[task.id] = anyio.Event()
            self._tasks.start_soon(self._save, task, prompt, done)
        with anyio.move_on_after(patience):
            await done.wait()

    async def _save(self, task: Task, prompt: str, done: anyio.Event) -> None:
        try:
            pause = _FIRST_PAUSE
            while not await self._take_on(task.id):
                # Another process looks at it or saves it, or died while it did: the lease ends.
                self._problems[task.id] = "Another process is saving it. Ask again in a minute."
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                await self._save_missing(task, prompt)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._journal.let_go(task.id)
        except Wan25Error as error:
            why = error.state if isinstance(error, JournalUnusable) else error.message
            logger.info("Images of %s are not saved: %s", task.id, why)
            self._problems[task.id] = f"{why} {error.fix}"
        except Exception:
            logger.exception("Saving the images of %s ended unexpectedly", task.id)
            self._problems[task.id] = "Something unexpected kept the images from being saved."
        finally:
            del self._saving[task.id]
            done.set()

    async def _take_on(self, task_id: str) -> bool:
        return await self._journal.take_on(task_id, now=self._clock(), lease=LEASE_SECONDS)

    async def _save_missing(self, task: Task, prompt: str) -> None:
        """Save what is not saved; the first problem is told when every image was tried."""
        places = await self._places(task.id)
        problem: Wan25Error | None = None
        for number, link in enumerate(task.image_urls, 1):
            if number in places:
                continue
            try:
                await self._save_one(task.id, number, link, prompt)
            except Wan25Error as error:
                problem = problem or error
        if problem is not None:
            raise problem
        self._problems.pop(task.id, None)

    async def _save_one(self, task_id: str, number: int, link: str, prompt: str) -> None:
        body = await download(link, http=self._http, trusted=self._trusted)
        path = await save_image(
            body,
            output_directory(self._directory),
            prompt=prompt,
            task_id=task_id,
            number=number,
            run=self._run,
        )
        await self._journal.note_saved(task_id, number, str(path))


def _existing(places: Mapping[int, str]) -> dict[int, str]:
    return {number: path for number, path in places.items() if Path(path).is_file()}
