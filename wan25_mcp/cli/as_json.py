"""The one object that `--json` prints: an edit has the shape of the tools' answers."""

from __future__ import annotations

from typing import Any, Final

import click

from wan25_mcp.cli.console import show_json
from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.editing.answers import (
    Answer,
    answer_of,
    answer_to_error,
    failure_of,
    noting_emulator,
)
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import InvalidRequest, Wan25Error

_STARTS_EDIT: Final = ("edit", "demo")


def edit_as_json(edit: Edit, *, is_emulator: bool) -> dict[str, Any]:
    """An edit in the shape of the tools' answers, in words for the command line."""
    answer = answer_of(edit)
    return _worded(noting_emulator(answer) if is_emulator else answer)


def error_as_json(error: Wan25Error) -> dict[str, Any]:
    """An error alone: code, message, fix, whether to retry."""
    return _worded_failure(failure_of(error).model_dump(mode="json"))


def show_error_as_json(error: Wan25Error, command: str | None = None) -> None:
    """Print the error that ended a command: as an answer where the command answers with an edit.

    Args:
        command: Its name; None: the one that runs.
    """
    command = command or click.get_current_context().info_name
    if command not in (*_STARTS_EDIT, "task"):
        show_json({"error": error_as_json(error)})
        return
    is_named = not isinstance(error, InvalidRequest)
    starts = command in _STARTS_EDIT
    show_json(_worded(answer_to_error(error, starts_edit=starts, names_a_task=is_named)))


def _worded(answer: Answer) -> dict[str, Any]:
    found = answer.model_dump(mode="json")
    found["next_step"] = at_terminal(found["next_step"])
    if found["error"]:
        found["error"] = _worded_failure(found["error"])
    return found


def _worded_failure(failure: dict[str, Any]) -> dict[str, Any]:
    return {
        **failure,
        "message": at_terminal(failure["message"]),
        "fix": at_terminal(failure["fix"]),
    }
