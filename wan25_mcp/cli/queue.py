"""Runs many edits, a few at a time: what waits, what is tried again, and what stops all of them.

An edit that may have been accepted is never sent again. One that certainly was not is sent again a
few times, after the pause that the provider asks for, in which no other is sent either.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import anyio
import anyio.to_thread

from wan25_mcp.cli.destination import Destination
from wan25_mcp.cli.edit import PATIENCE
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit, Progress
from wan25_mcp.errors import SettingsError, TaskFailed, Wan25Error
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import KEPT_FOR, Withheld
from wan25_mcp.outputs.save import check_output
from wan25_mcp.provider.statuses import is_settled

STOPS: Final = frozenset({
    "authentication", "credit_limit", "insufficient_credits", "journal_unusable",
    "missing_credentials", "missing_extra",
    "not_found", "permission", "quota_exceeded",
})  # fmt: skip
"""Codes for which no other edit would fare better."""

WAITS: Final = {"too_many_in_flight": 3600.0, "price_unknown": 3600.0, "provider_failing": 600.0}
"""Codes that pass by themselves, and the seconds without any result after which they stop all."""

_SLOT_SECONDS: Final = 2.0
_RETRIES: Final = 3
_RETRY_SECONDS: Final = 15.0


@dataclass(eq=False)
class Job:
    """An image, and what came of its edit.

    Args:
        name: The image, as it is shown.
        source: The image, as the editor takes it.
        wanted: Its edit, once it was read.
        error: Why there is no edit.
    """

    name: str
    source: str
    wanted: EditInput | None = None
    edit: Edit | None = None
    error: Wan25Error | None = None
    state: str = "waiting"
    percent: int | None = None
    since: float = field(default_factory=time.monotonic)
    name_of_edit: str | None = None
    """Its task id, or its handle until it has one."""
    is_earlier: bool = False
    """Whether an identical edit was made before, by this command or another."""

    @property
    def has_failed(self) -> bool:
        """Whether there is no saved result."""
        edit = self.edit
        if edit is None or self.error is not None or edit.error is not None:
            return True
        return not is_settled(edit.status) or len(edit.saved) < len(edit.image_urls)


class Queue:
    """The edits of one command.

    Args:
        destination: Where results go; its folder None: the default one.
    """

    def __init__(
        self,
        editor: AccountEditor,
        jobs: Sequence[Job],
        destination: Destination,
        *,
        force_new: bool,
    ) -> None:
        self.editor = editor
        self._destination = destination
        self.size: int = len(jobs)
        self.under_way: list[Job] = []
        self.finished: list[Job] = []
        self.stopped: Wan25Error | None = None
        """Why the edits that have not begun will not."""
        self._waiting = deque(jobs)
        self._force_new = force_new
        self._stopping = anyio.Event()
        self._pause_until = 0.0
        self._progress_at = 0.0

    async def run(self, at_once: int, on_finished: Callable[[Job], None]) -> None:
        """Make all edits. Returns when there is nothing left that can be done."""
        self._progress_at = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(min(at_once, self.size)):
                tasks.start_soon(self._work, on_finished)

    async def _work(self, on_finished: Callable[[Job], None]) -> None:
        while self._waiting and self.stopped is None:
            job = self._waiting.popleft()
            job.since = time.monotonic()
            self.under_way.append(job)
            await self._make(job)
            self.under_way.remove(job)
            if job.edit is None and job.error is None:
                continue  # it was not begun: everything has stopped
            self.finished.append(job)
            if not job.has_failed:
                self._progress_at = anyio.current_time()
            on_finished(job)

    async def _make(self, job: Job) -> None:
        try:
            edit = await self._start(job)
            if edit is None:
                return
            job.is_earlier, job.name_of_edit = edit.deduplicated, edit.task_id
            job.edit = edit
            job.edit = await self._settled(job, edit)
        except Wan25Error as error:
            job.error = error

    async def _settled(self, job: Job, edit: Edit) -> Edit:
        """The edit once it is settled, with its images saved."""

        async def report(progress: Progress) -> None:
            job.state, job.percent = progress.edit.status, progress.edit.progress

        if edit.task_id and not is_settled(edit.status) and not edit.error:
            job.state = edit.status
            edit = await self.editor.wait(edit, timeout=PATIENCE, on_progress=report)
        if edit.image_urls:
            job.state = "saving"
            edit = await self.editor.save(edit)
            if len(edit.saved) < len(edit.image_urls):
                await self._check_folder()
            try:
                edit = await self._destination.copied(self.editor, edit)
            except Wan25Error as error:
                edit = replace(edit, error=error)
        if isinstance(edit.error, TaskFailed) and edit.error.code in STOPS:
            self._stop(edit.error)
        return edit

    async def _check_folder(self) -> None:
        """Pay for nothing more while no result can be saved: its link expires."""
        try:
            await anyio.to_thread.run_sync(check_output, self._destination.folder, "")
        except SettingsError as error:
            self._stop(error)

    # --- starting ---------------------------------------------------------------------------

    async def _start(self, job: Job) -> Edit | None:
        """Start an edit as soon as that can succeed. None: it is not begun, as all have stopped."""
        for tried in range(_RETRIES + 1):
            try:
                edit = await self._sent(job)
            except Wan25Error as error:
                if not isinstance(error, SettingsError) and error.code not in STOPS:
                    raise
                self._stop(error)
                return None
            if edit is None:
                return None
            if edit.error is None or edit.task_id is not None:
                return edit
            if edit.error.code in STOPS:
                self._stop(edit.error)
                return None
            if edit.error.charged != "no" or not edit.error.retryable or tried == _RETRIES:
                return edit
            job.state = "waiting"
            self._pause(edit.error.retry_after_seconds or _RETRY_SECONDS * tried)
        raise AssertionError

    async def _sent(self, job: Job) -> Edit | None:
        """What came of sending it, or of the identical one that was sent before."""

        async def report(progress: Progress) -> None:
            job.state, job.name_of_edit = "submitting", progress.edit.task_id

        assert job.wanted is not None  # noqa: S101  only such jobs are in the queue
        while True:
            while self.stopped is None and (left := self._pause_until - anyio.current_time()) > 0:
                with anyio.move_on_after(left):
                    await self._stopping.wait()
            if self.stopped is not None:
                return None
            try:
                return await self.editor.edit(
                    job.wanted,
                    force_new=self._force_new,
                    duplicate_window=KEPT_FOR,
                    patience=PATIENCE,
                    source=job.name.rpartition(".")[0] or job.name,
                    on_progress=report,
                )
            except Withheld as error:
                job.state = "waiting"
                self._wait_for_room(error)

    def _wait_for_room(self, error: Withheld) -> None:
        """Pause all, if there will be room; else stop."""
        pause = error.retry_after_seconds or _SLOT_SECONDS
        patience = WAITS.get(error.code, 0.0)
        if anyio.current_time() + pause > self._progress_at + patience:
            self._stop(error)
        self._pause(pause)

    def _stop(self, error: Wan25Error) -> None:
        """Begin no other edit. Those under way are finished."""
        self.stopped = self.stopped or error
        self._stopping.set()

    def _pause(self, seconds: float) -> None:
        self._pause_until = max(self._pause_until, anyio.current_time() + seconds)
