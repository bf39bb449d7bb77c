"""The script of outcomes: how the next tasks run and end."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import anyio

from tests.emulator_lab.faults import Script
from wan25_mcp.emulator import EmulatorOptions
from wan25_mcp.emulator.model import Model, plausible
from wan25_mcp.emulator.tasks import Task, TaskFailed

Progress = Literal["plausible", "absent", "jumping", "stuck"]

# Every task-level code the vendor has published, with messages of the kind it uses.
TASK_CODES: dict[str, str] = {
    "content_policy_violation": "The request was refused by the content policy.",
    "invalid_parameters": "The request parameters are invalid.",
    "image_processing_error": "The input image could not be downloaded or read.",
    "image_dimension_mismatch": "The input image's width and height must be 384 to 5000 pixels.",
    "request_cancelled": "The request was cancelled.",
    "generation_failed_no_content": "The model produced no content.",
    "service_error": "The service failed to process the request.",
    "generation_timeout": "The generation took too long.",
    "resource_exhausted": "Resources are exhausted, please try again later.",
    "quota_exceeded": "The upstream quota is exceeded.",
    "service_unavailable": "The service is temporarily unavailable.",
    "resource_not_found": "A resource was not found.",
    "unknown_error": "An unknown error occurred.",
}


@dataclass(frozen=True)
class Outcome:
    """How one task runs and ends. Without arguments it completes with all `n` images.

    `fail`: the task-level code it fails with (any string), under `message`. `images`: how many it
    makes instead of `n`. `stuck_at`: it never ends, and its progress stays below or at this.
    `cancelled`: it ends as cancelled. `progress`: what is shown while it runs; `stuck` stays at 0.
    `run_seconds`: how long it takes, before `speed`. `times` 0 means every task from now on.
    """

    fail: str | None = None
    message: str | None = None
    images: int | None = None
    stuck_at: int | None = None
    cancelled: bool = False
    progress: Progress = "plausible"
    run_seconds: float | None = None
    times: int = 1
    skip: int = 0

    def applies_to(self, endpoint: str) -> bool:
        """To every task."""
        return bool(endpoint)


class ScriptedModel(Model):
    """A model whose next tasks run and end as `outcomes` say."""

    def __init__(self, options: EmulatorOptions) -> None:
        super().__init__(options)
        self.outcomes: Script[Outcome] = Script()
        self._by_task: dict[str, Outcome] = {}

    def schedule(self, task_id: str) -> float:
        seconds = super().schedule(task_id)
        outcome = self._by_task[task_id] = self.outcomes.take("task") or Outcome()
        return seconds if outcome.run_seconds is None else outcome.run_seconds

    async def make(self, task: Task) -> int:
        outcome = self._by_task[task.id]
        if outcome.stuck_at is not None:
            await anyio.sleep_forever()
        if outcome.cancelled:
            raise TaskFailed("request_cancelled", "The task was cancelled.", status="cancelled")
        if outcome.fail:
            message = outcome.message or TASK_CODES.get(outcome.fail, "The task failed.")
            raise TaskFailed(outcome.fail, message)
        made = await super().make(task)
        return made if outcome.images is None else min(made, outcome.images)

    def progress(self, task: Task, elapsed: float) -> int | None:
        outcome = self._by_task[task.id]
        if not task.is_settled and outcome.progress == "absent":
            return None
        if task.status != "processing":
            return super().progress(task, elapsed)
        if outcome.progress == "stuck":
            return 0
        if outcome.progress == "jumping":
            return random.Random(f"{task.id}{elapsed}").randint(0, 100)
        return plausible(
            task, elapsed, 99 if outcome.stuck_at is None else min(99, outcome.stuck_at)
        )
