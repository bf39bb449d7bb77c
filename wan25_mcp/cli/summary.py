"""What is shown of many edits: a line for each when it is done, and all of them at the end."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from wan25_mcp.cli.as_json import edit_as_json, error_as_json
from wan25_mcp.cli.console import is_json, linked, show, show_failure, show_json, show_remedy
from wan25_mcp.cli.cost import in_credits
from wan25_mcp.cli.queue import Job
from wan25_mcp.cli.running import FAILED
from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.models import Usage
from wan25_mcp.provider.statuses import is_settled

_NAMED: Final = 3
"""Number of images that are named with a remedy."""

_UNCHARGED: Final = re.compile(r" *Nothing was (sent or )?charged\.")


def how_to_continue(*, force_new: bool) -> str:
    """What to do about the images that are not edited. No image may be paid twice by it."""
    if force_new:
        return (
            "run it again with only the images that are not done: --force-new pays for every "
            "image that is named."
        )
    return "run the same command again: nothing is paid twice."


def show_finished(job: Job) -> None:
    """Show what came of an image."""
    for path in job.edit.saved if job.edit else ():
        show(f"{job.name}: {linked(path)}")
    if job.has_failed:
        message, _ = _why(job)
        show_failure(f"{job.name}: {message}")


def _why(job: Job) -> tuple[str, str]:
    """Why there is no saved result, and what to do."""
    error = job.error or (job.edit.error if job.edit else None)
    if error is not None:
        return at_terminal(error.message), at_terminal(error.fix)
    edit = job.edit
    assert edit is not None  # noqa: S101  without an edit there is an error
    if _is_running(job):
        return (
            "it is still running.",
            f"Later, run `wan25-mcp task {edit.task_id} --wait`: it costs nothing.",
        )
    if edit.expires_at and edit.expires_at < datetime.now(UTC):
        return (
            "it was edited before, but its file is gone and its link has expired.",
            "Add --force-new to pay for it again.",
        )
    links = " ".join(edit.image_urls)
    notes = " ".join(map(at_terminal, edit.notes)) or "the result is not saved."
    return (
        f"{notes} {links}",
        "Run the same command again, without --force-new: it costs nothing, and saves the result.",
    )


def summarize(
    every: Sequence[Job], stopped: Wan25Error | None, again: str, *, is_emulator: bool
) -> int:
    """Show what came of all of them, and what it cost. Returns the exit status.

    Args:
        stopped: Why some were not begun.
        again: How to continue then.
    """
    failed = [job for job in every if job.has_failed]
    if is_json():
        show_json(_as_json(every, stopped, is_emulator=is_emulator))
        return FAILED if failed else 0
    show(f"{_counts(every)}.")
    show(f"Charged: {_cost(every)}.")
    folders = {str(Path(path).parent) for job in every if job.edit for path in job.edit.saved}
    for folder in sorted(folders):
        show(f"Saved in: {linked(folder)}")
    for job in failed:
        if job.edit is not None and job.edit.task_id:
            show(f"Task of {job.name}: {job.edit.task_id}")
    if stopped is not None:
        show_failure(f"Stopped: {at_terminal(stopped.message)}")
        show_remedy(f"{stopped.fix} Then {again}")
    _show_remedies(failed)
    return FAILED if failed else 0


def _show_remedies(failed: Sequence[Job]) -> None:
    """What to do, and about which images. What was charged is said for all of them together."""
    names: dict[str, list[str]] = {}
    for job in failed:
        if job.edit or job.error:
            fix = _UNCHARGED.sub("", _why(job)[1]).strip()
            names.setdefault(fix, []).append(job.name)
    for fix, found in names.items():
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        show_remedy(f"{', '.join(found[:_NAMED])}{more}: {fix}")


def _counts(every: Sequence[Job]) -> str:
    edited = sum(not job.has_failed for job in every)
    earlier = sum(not job.has_failed and job.is_earlier for job in every)
    unknown = sum(_is_unknown(job) for job in every)
    not_begun = sum(job.edit is None and job.error is None for job in every)
    running = sum(_is_running(job) for job in every)
    failed = len(every) - edited - unknown - not_begun - running
    parts = [
        f"{edited} of {len(every)} edited" + (f" ({earlier} of them before)" if earlier else ""),
        f"{failed} failed" if failed else "",
        f"{unknown} of unknown outcome" if unknown else "",
        f"{running} still running" if running else "",
        f"{not_begun} not begun" if not_begun else "",
    ]
    return ", ".join(filter(None, parts))


def _is_unknown(job: Job) -> bool:
    return job.edit is not None and job.edit.charged == "unknown"


def _is_running(job: Job) -> bool:
    edit = job.edit
    if edit is None or edit.error or job.error or _is_unknown(job):
        return False
    return not is_settled(edit.status)


def _cost(every: Sequence[Job]) -> str:
    now = sum(_credits(job.edit) for job in every if job.edit and not job.is_earlier)
    earlier = sum(_credits(job.edit) for job in every if job.edit and job.is_earlier)
    unknown = sum(_is_unknown(job) for job in every)
    parts = [
        in_credits(now),
        f"{in_credits(earlier)} earlier" if earlier else "",
        f"unknown for {unknown}" if unknown else "",
    ]
    return ", ".join(filter(None, parts))


def _credits(edit: Edit) -> float:
    usage = edit.usage or Usage()
    used = usage.credits_reserved if usage.credits_used is None else usage.credits_used
    return used or 0.0 if edit.charged in ("yes", "reserved") else 0.0


def _as_json(
    every: Sequence[Job], stopped: Wan25Error | None, *, is_emulator: bool
) -> dict[str, Any]:
    return {
        "edits": [_job_as_json(job, is_emulator=is_emulator) for job in every],
        "totals": {
            "images": len(every),
            "edited": sum(not job.has_failed for job in every),
            "edited_before": sum(not job.has_failed and job.is_earlier for job in every),
            "unknown": sum(_is_unknown(job) for job in every),
            "credits": sum(_credits(job.edit) for job in every if job.edit and not job.is_earlier),
        },
        "stopped": error_as_json(stopped) if stopped else None,
    }


def _job_as_json(job: Job, *, is_emulator: bool) -> dict[str, Any]:
    if job.edit is not None:
        return {"image": job.name, **edit_as_json(job.edit, is_emulator=is_emulator)}
    return {"image": job.name, "error": error_as_json(job.error) if job.error else None}
