"""The commands `task` and `tasks`: edits that were made before."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from wan25_mcp.cli.as_json import edit_as_json
from wan25_mcp.cli.console import is_json, say, show, show_json, wrapped
from wan25_mcp.cli.cost import amount
from wan25_mcp.cli.destination import Destination
from wan25_mcp.cli.edit import finish, for_a_person, open_editor, say_if_emulated, show_edit
from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.editing import arguments
from wan25_mcp.editing.arguments import TaskArguments
from wan25_mcp.editing.edit import Edit, PastEdit
from wan25_mcp.errors import SettingsError
from wan25_mcp.provider.statuses import Status
from wan25_mcp.settings import Settings

WIDE: Final = 110
"""Columns of a terminal in which an edit fits into one line."""

_CHARGED: Final = {
    "yes": "charged",
    "no": "not charged",
    "reserved": "reserved",
    "unknown": "unknown",
}
_DATED: Final = re.compile(r"(?:^|-)\d{4}-\d\d-\d\d-.*")
"""What the name of a saved file has after the name of the picture that was edited."""

_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


async def show_task(
    settings: Settings, name: str, destination: Destination, *, wait: bool, open_it: bool
) -> int:
    """Show an edit; with `wait`, wait for it and save its images. Returns the exit status."""
    chosen = settings
    if wait:
        await anyio.to_thread.run_sync(partial(destination.check, settings.output_dir))
        chosen = for_a_person(settings, directory=destination.folder)
    async with open_editor(chosen) as editor:
        task_id = arguments.read(TaskArguments, {"task_id": name}).task_id
        say_if_emulated(editor)
        edit = await editor.get(task_id)
        if wait:
            return await finish(editor, edit, destination, open_it=open_it)
        return show_edit(edit, is_emulator=editor.is_emulator)


async def list_tasks(
    settings: Settings, limit: int, since: datetime | None, statuses: Sequence[Status]
) -> None:
    """List edits of this account, and what they cost together.

    Raises:
        SettingsError: There is no key, which identifies the account.
    """
    _check_key(settings)
    async with open_editor(settings) as editor:
        say_if_emulated(editor)
        past = await editor.recent(limit, since=since, statuses=statuses)
        is_emulator = editor.is_emulator
    if is_json():
        edits = [_as_json(each, is_emulator=is_emulator) for each in past]
        show_json({"tasks": edits, "totals": _totals(past)})
        return
    if not past:
        say("No such edits." if since or statuses else "No edits yet.")
        return
    for each in past:
        _show(each)
    show(_totals_in_words(past))


def _as_json(past: PastEdit, *, is_emulator: bool) -> dict[str, Any]:
    return {
        "created_at": past.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "prompt": past.prompt,
        "n": past.n,
        "credits": past.credits,
        **edit_as_json(past.edit, is_emulator=is_emulator),
    }


def _show(past: PastEdit) -> None:
    """One line where it fits, or where it goes to a program; else one for the id and the prompt."""
    edit = past.edit
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    head = (
        f"{past.created_at.astimezone():%Y-%m-%d %H:%M}  {edit.status:<10}  "
        f"{past.credits:>6g} credits, {_CHARGED[edit.charged]:<11}"
    )
    task_id = edit.task_id or "-"
    words = [_name(edit), *(past.prompt or "").split()]
    if edit.error is not None and not columns:
        words.insert(0, f"{edit.error.code}:")
    prompt = " ".join(filter(None, words))
    if not columns or columns >= WIDE:
        left = min(columns - len(head) - len(task_id) - 5, 60) if columns else 60
        show(f"{head}  {task_id}  {prompt[: max(left, 0)]}")
    else:
        show(head.rstrip())
        show(f"  {task_id}  {prompt[: max(columns - len(task_id) - 5, 0)]}")
    if edit.error is not None and columns:
        show(wrapped(f"  {at_terminal(edit.error.message)}", sys.stdout, 2))


def _name(edit: Edit) -> str:
    """The picture that was edited, as far as the name of a saved file tells."""
    source = _DATED.sub("", Path(edit.saved[0]).name) if edit.saved else ""
    return f"{source}:" if source else ""


def _totals(past: Sequence[PastEdit]) -> dict[str, float]:
    """What the edits cost. What runs, and what is of unknown outcome, is not charged yet."""
    charged = sum(each.credits for each in past if each.edit.charged == "yes")
    pending = sum(each.credits for each in past if each.edit.charged in ("reserved", "unknown"))
    return {"edits": len(past), "credits_charged": charged, "credits_pending": pending}


def _totals_in_words(past: Sequence[PastEdit]) -> str:
    found = _totals(past)
    more = found["credits_pending"]
    pending = f", {amount(more)} more reserved or unknown" if more else ""
    edits = f"{len(past)} edit{'' if len(past) == 1 else 's'}"
    return f"{edits}, {amount(found['credits_charged'])} credits charged{pending}."


def moment(text: str, now: datetime | None = None) -> datetime:
    """A moment in the past: 30m, 2h, 3d or 2w ago, or a date with or without a time.

    Raises:
        ValueError: It is none of these.
    """
    now = now or datetime.now(UTC)
    if ago := re.fullmatch(r"(\d{1,6}) ?([mhdw])", text.strip().lower()):
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    return datetime.fromisoformat(text.strip()).astimezone()


def _check_key(settings: Settings) -> None:
    """Listing sends nothing but needs the key, because accounts may share a journal.

    Raises:
        SettingsError: There is no key.
    """
    if settings.emulator or settings.key is not None:
        return
    problem = settings.key_problem or "No API key is set."
    raise SettingsError(
        f"{problem} Accounts can share a journal, and the key says whose edits to list.",
        code="missing_api_key",
        fix="Run `wan25-mcp key set`, or set WAN25_API_KEY (and WAN25_BASE_URL, if you changed "
        "it) to what those edits were made with. Listing sends nothing.",
    )
