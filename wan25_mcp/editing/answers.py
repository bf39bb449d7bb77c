"""The one shape of all answers, complete as text alone and as structured content alone.

About half of the clients show the model only the text, the other half only the structured content.
Both have the status, the id, the links and their expiry, the cost and the next step, also for an
error. `server.results` makes tool results of them; the command line prints them with `--json`.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, Field

from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import OutcomeUnknown, Wan25Error
from wan25_mcp.errors.rows import Charged
from wan25_mcp.provider.models import Usage
from wan25_mcp.provider.statuses import Status, is_settled

EMULATOR_NOTE: Final = (
    "EMULATOR: not the real model. Pictures are stand-ins, and no real credits are spent."
)


class Failure(BaseModel):
    """Why there is no image, or no newer state."""

    code: str
    message: str
    fix: str
    retryable: bool
    retry_after_seconds: float | None = None
    request_id: str | None = None


def _says(description: str) -> Any:
    return Field(description=description)


class Answer(BaseModel):
    """What every tool returns."""

    task_id: Annotated[str | None, _says("Of the edit")]
    status: Annotated[Status, _says("Final: completed, failed, cancelled")]
    progress: Annotated[int | None, _says("Percent")] = None
    image_urls: Annotated[list[str], _says("Results")] = []
    expires_at: Annotated[str | None, _says("Of image_urls, UTC")] = None
    saved: Annotated[list[str], _says("Server files")] = []
    usage: Usage | None = None
    charged: Annotated[Charged, _says("The money")]
    elapsed_seconds: Annotated[int | None, _says("Since the start")] = None
    estimated_seconds: Annotated[float | None, _says("Whole run")] = None
    duplicate_of_earlier_call: Annotated[bool, _says("So not charged again")] = False
    next_step: Annotated[str, _says("What to do")]
    error: Failure | None = None


def answer_of(edit: Edit, *, next_wait: float | None = None) -> Answer:
    """The answer for an edit.

    Args:
        next_wait: The `timeout_seconds` to name for the next wait, if there is one.
    """
    return Answer(
        task_id=edit.task_id,
        status=edit.status,
        progress=edit.progress,
        image_urls=list(edit.image_urls),
        expires_at=edit.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ") if edit.expires_at else None,
        saved=list(edit.saved),
        usage=edit.usage,
        charged=edit.charged,
        elapsed_seconds=None if edit.elapsed is None else round(edit.elapsed),
        estimated_seconds=_estimate(edit),
        duplicate_of_earlier_call=edit.deduplicated,
        next_step=" ".join([*edit.notes, _next_step(edit, next_wait)]),
        error=failure_of(edit.error) if edit.error else None,
    )


def _estimate(edit: Edit) -> float | None:
    """How long the edit takes in all: by past edits, else by the provider, which is optimistic. An
    estimate that has passed is none."""
    estimate = edit.typical or edit.estimated_seconds
    has_passed = estimate is not None and (edit.elapsed or 0.0) >= estimate
    return None if has_passed else estimate


def answer_to_error(error: Wan25Error, *, starts_edit: bool, names_a_task: bool = True) -> Answer:
    """The answer for a call that has no edit to report.

    A failed poll says nothing about the edit or its cost: "failed" would invite a new, paid edit.
    Only a text that cannot be a task id certainly names nothing that was charged.
    """
    is_charge_known = starts_edit or not names_a_task
    return Answer(
        task_id=None,
        status="failed" if starts_edit else "unknown",
        charged=error.charged if is_charge_known else "unknown",
        next_step=error.fix,
        error=failure_of(error),
    )


def noting_emulator(answer: Answer) -> Answer:
    """An answer that says that no real model made the picture."""
    return answer.model_copy(update={"next_step": f"{answer.next_step} ({EMULATOR_NOTE})"})


def text_of(answer: Answer) -> str:
    """The answer as lines for a model or a person."""
    return "\n".join(line for line in _lines(answer) if line)


def _lines(answer: Answer) -> list[str]:
    return [
        _error_line(answer.error),
        _status_line(answer),
        f"Task id: {answer.task_id}" if answer.task_id else "",
        *(f"Image {number}: {url}" for number, url in enumerate(answer.image_urls, 1)),
        f"Links expire: {answer.expires_at}" if answer.expires_at else "",
        *(f"Saved: {path}" for path in answer.saved),
        _money_line(answer),
        "Same request as an earlier call: this is that task, and nothing new was charged."
        if answer.duplicate_of_earlier_call
        else "",
        f"Next: {answer.next_step}",
    ]


def _error_line(error: Failure | None) -> str:
    if error is None:
        return ""
    again = "can be retried" if error.retryable else "retrying unchanged will not help"
    if error.retry_after_seconds is not None:
        again += f" after {error.retry_after_seconds:.12g} s"
    request = f", request id {error.request_id}" if error.request_id else ""
    return f"Error: {error.message} ({error.code}; {again}{request})"


def _status_line(answer: Answer) -> str:
    percent = f", {answer.progress} %" if answer.progress is not None else ""
    times = [
        f"started {answer.elapsed_seconds} s ago" if answer.elapsed_seconds is not None else "",
        f"about {answer.estimated_seconds:.12g} s in all"
        if answer.estimated_seconds is not None
        else "",
    ]
    shown = "; ".join(filter(None, times))
    return f"Status: {answer.status}{percent}" + (f" ({shown})" if shown else "")


def _money_line(answer: Answer) -> str:
    usage = answer.usage or Usage()
    details = [
        f"{usage.credits_used:.12g} credits used" if usage.credits_used is not None else "",
        f"{usage.credits_reserved:.12g} credits reserved"
        if usage.credits_reserved is not None
        else "",
        f"billed {usage.billing_rule}" if usage.billing_rule else "",
        f"group {usage.user_group}" if usage.user_group else "",
    ]
    shown = ", ".join(filter(None, details))
    return f"Charged: {answer.charged}" + (f" ({shown})" if shown else "")


def failure_of(error: Wan25Error) -> Failure:
    """An error in the shape of an answer."""
    return Failure(
        code=error.code,
        message=error.message,
        fix=error.fix,
        retryable=error.retryable,
        retry_after_seconds=error.retry_after_seconds,
        request_id=error.request_id,
    )


_DO_NOT_REPEAT: Final = "Do not call edit_image again for this edit: that can be charged again."


def _next_step(edit: Edit, next_wait: float | None) -> str:
    if isinstance(edit.error, OutcomeUnknown):
        return edit.error.fix
    if edit.error:
        is_running = edit.task_id is not None and not is_settled(edit.status)
        return f"{edit.error.fix} {_DO_NOT_REPEAT}" if is_running else edit.error.fix
    if edit.status == "completed" and len(edit.saved) >= len(edit.image_urls):
        return "Tell the user where the images are saved; the links expire soon."
    if edit.status == "completed":
        if len(edit.image_urls) == 1:
            return (
                "Give the user the image link and say when it expires; save the image before that."
            )
        return (
            f"Give the user the {len(edit.image_urls)} image links and say when they expire; "
            "save the images before that."
        )
    seconds = "" if next_wait is None else f" and timeout_seconds {next_wait:g}"
    return f'Call wait_for_task with task_id "{edit.task_id}"{seconds}. {_DO_NOT_REPEAT}'
