"""The script of ends: what becomes of the next tasks. Knows nothing of how tasks run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Progress = Literal["plausible", "absent", "jumping", "stuck"]

# Every task-level code the vendor has published, with words of the kind it uses.
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
class Fate:
    """How one task goes. Without a word said: it completes with all `n` images.

    `fail`: the task-level code it fails with (any string), under `message`. `images`: how many it
    makes instead of `n`. `stuck_at`: it runs for ever, its progress never above this. `cancelled`:
    it ends as cancelled. `progress`: what readers see of it while it runs; `stuck` stays at 0.
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

    def strikes(self, endpoint: str) -> bool:
        """Every task is struck, whatever it is called."""
        return bool(endpoint)

    @property
    def words(self) -> str:
        return self.message or TASK_CODES.get(self.fail or "", "The task failed.")
