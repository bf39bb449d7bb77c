"""The state of an edit at one moment. No I/O.

It is derived from the journal's records: the intent, and the latest snapshot of its task.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from wan25_mcp.errors import InvalidRequest, ReadFailed, TaskFailed, Wan25Error, task_advice
from wan25_mcp.errors.rows import Charged
from wan25_mcp.journal import Intent, Snapshot, expires_at
from wan25_mcp.provider.models import MAX_IMAGES_OUT, Task, Usage
from wan25_mcp.provider.statuses import Status, charged_for, is_settled
from wan25_mcp.redaction import one_line


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is known of one edit at one moment.

    Args:
        task_id: The provider's id. While there is none, a handle that works in its place.
        progress: Percent.
        expires_at: When the links expire at the earliest.
        elapsed: Seconds since a running edit began, if that is known.
        estimated_seconds: The provider's estimate of the whole run; optimistic.
        typical: How many seconds such edits typically take, if enough are known.
        deduplicated: Whether an identical earlier call started it.
        error: Why there will be no edited image, or why this poll failed.
        index: Its place among the requests of `Editor.edit_many`, from 0.
    """

    task_id: str | None
    status: Status
    charged: Charged
    progress: int | None = None
    image_urls: tuple[str, ...] = ()
    expires_at: datetime | None = None
    saved: tuple[str, ...] = ()
    usage: Usage | None = None
    elapsed: float | None = None
    estimated_seconds: float | None = None
    typical: float | None = None
    deduplicated: bool = False
    notes: tuple[str, ...] = ()
    """Sentences about changes to the images, and about what could not be done."""
    error: Wan25Error | None = None
    index: int | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a wait.

    Args:
        elapsed: Seconds since the edit began.
        typical: How many seconds such edits typically take, if enough are known.
        note: Why it takes longer, such as a wait that the provider asks for.
    """

    edit: Edit
    elapsed: float
    typical: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Price:
    """What an edit will probably cost.

    Args:
        is_known: Whether the provider has reported the price before; else it is assumed.
    """

    credits: float
    is_known: bool


@dataclass(frozen=True, slots=True)
class PastEdit:
    """An edit as the journal lists it."""

    edit: Edit
    created_at: datetime
    prompt: str | None
    n: int
    credits: float
    """What it counts against limits: the larger of estimated and reserved; once known, used."""


def name_of(edit: Edit | str) -> str:
    """The task id or handle of an edit.

    Raises:
        Wan25Error: It was refused, so there is none.
    """
    if isinstance(edit, str):
        return edit
    if edit.task_id is None:  # refused: there is no task
        raise edit.error or InvalidRequest("This edit has no task.", fix="Call edit_image again.")
    return edit.task_id


def unseen(intent: Intent) -> Edit:
    """An edit without a snapshot: still being submitted, refused, or unknown."""
    if intent.task_id is not None:  # accepted, but its snapshot cannot be read now
        return unread(intent.task_id)
    if intent.error is None:
        return Edit(task_id=intent.handle, status="submitting", charged="unknown")
    if intent.stage == "unknown":
        return Edit(task_id=intent.handle, status="unknown", charged="unknown", error=intent.error)
    return Edit(task_id=None, status="failed", charged=intent.error.charged, error=intent.error)


def unread(name: str) -> Edit:
    """An edit that only the journal can describe, while the journal cannot be read."""
    reason = ReadFailed(
        "The journal cannot be read now. This edit may exist and may have been charged.",
        code="journal_unusable",
        fix="Call again later. If this repeats, run `wan25-mcp doctor` to see what is wrong.",
        charged="unknown",
    )
    return Edit(task_id=name, status="unknown", charged="unknown", error=reason)


def unknown(task_id: str) -> Edit:
    """An edit of which nothing is known."""
    return Edit(task_id=task_id, status="unknown", charged="unknown")


def unknown_everywhere(task_id: str, error: Wan25Error) -> Edit:
    """An id that the journal does not know, with the reason why the provider did not show it.

    When the provider does not know it either, it names nothing that was charged.
    """
    charged = error.charged if error.code == "not_found" else "unknown"
    return Edit(task_id=task_id, status="unknown", charged=charged, error=error)


def seen(snapshot: Snapshot, intent: Intent | None) -> Edit:
    """An edit with a snapshot of its task. Without an intent, it was made elsewhere."""
    task = snapshot.task
    links = links_of(task, intent)
    settled = is_settled(task.status)
    return Edit(
        task_id=task.id,
        status=task.status,
        charged=_charged(task),
        progress=100 if task.status == "completed" else task.progress,
        image_urls=links,
        expires_at=expiry(snapshot) if links else None,
        usage=task.usage,
        estimated_seconds=task.task_info.estimated_time if task.task_info and not settled else None,
        notes=_surplus(task, links, intent),
        error=_task_error(task),
    )


def links_of(task: Task, intent: Intent | None) -> tuple[str, ...]:
    """The links that are used: no more than were requested, or than are possible."""
    return task.image_urls[: intent.n if intent else MAX_IMAGES_OUT]


def _surplus(task: Task, used: tuple[str, ...], intent: Intent | None) -> tuple[str, ...]:
    if len(task.image_urls) == len(used):
        return ()
    requested = f"n was {intent.n}" if intent else f"n is at most {MAX_IMAGES_OUT}"
    are_used = "the first one is" if len(used) == 1 else f"the first {len(used)} are"
    returned = f"The provider returned {len(task.image_urls)} image links although {requested}"
    return (f"{returned}; only {are_used} used.",)


def _charged(task: Task) -> Charged:
    usage = task.usage or Usage()
    return charged_for(
        task.status, credits_reserved=usage.credits_reserved, credits_used=usage.credits_used
    )


_DEFAULT_CODES: Final = {
    "cancelled": "request_cancelled",
    "completed": "generation_failed_no_content",
}


def _task_error(task: Task) -> TaskFailed | None:
    """Why a settled task has no image."""
    is_empty = task.status == "completed" and not task.image_urls
    if task.status not in ("failed", "cancelled") and not is_empty:
        return None
    code = task.error.code if task.error else None
    reason = one_line(task.error.message if task.error else None, 300).rstrip(".")
    advice = task_advice(code or _DEFAULT_CODES.get(task.status))
    return TaskFailed(
        f"{advice.sentence}: {reason}." if reason else f"{advice.sentence}.",
        code=advice.code,
        fix=advice.fix,
        retryable=advice.retryable,
        charged=_charged(task),
    )


def expiry(snapshot: Snapshot) -> datetime:
    """When the links expire at the earliest."""
    return datetime.fromtimestamp(expires_at(snapshot), UTC)
