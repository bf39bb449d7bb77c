"""The commands `edit`, `task` and `tasks`, over the same editor that assistants use."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from wan25_mcp.cli.console import ProgressLine, progress_line, say, show, show_error
from wan25_mcp.cli.cost import cost_line, may_spend
from wan25_mcp.editing import arguments
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.arguments import EditArguments, TaskArguments
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.edit import Edit, Progress
from wan25_mcp.errors import SettingsError
from wan25_mcp.inputs.misspelt import as_written
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.inputs.read import is_link
from wan25_mcp.outputs.save import output_directory
from wan25_mcp.provider.statuses import is_settled
from wan25_mcp.settings import Settings

_editor: Final = partial(open_configured_editor, background=False)

PATIENCE: Final = 3600.0
"""Seconds that a command waits at most. The edit itself continues."""


async def edit_and_save(
    settings: Settings,
    wanted: Mapping[str, Any],
    directory: Path | None,
    *,
    force_new: bool,
    yes: bool = False,
) -> int:
    """Say the price, edit, wait, save. Returns the exit status.

    Args:
        yes: Do not ask, whatever the price.
    """
    await anyio.to_thread.run_sync(_check_writable, directory or settings.output_dir)
    images = [_named(image) for image in wanted["image_urls"]]
    async with _editor(_for_a_person(settings, images, directory)) as editor:
        async with progress_line("starting"):
            trusted = (await editor.connection()).trusted
        given = arguments.read(EditArguments, {**wanted, "image_urls": images}, trusted=trusted)
        _say_if_emulated(editor)
        read = await editor.read_images(given.image_urls, given.model)
        edit_input = given.with_images(read)
        stopped = await may_spend(editor, edit_input, settings, yes=yes)
        if stopped is not None:
            return stopped
        return await _finish(editor, await _start(editor, edit_input, force_new=force_new))


def _check_writable(directory: Path | None) -> None:
    """Check, before the edit is paid for, that its result can be saved.

    Raises:
        SettingsError: The folder cannot be written to.
    """
    folder = output_directory(directory and directory.expanduser())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SettingsError(
            f"Images cannot be saved in {folder} ({(error.strerror or 'unknown').lower()}); "
            "nothing was sent.",
            fix="Choose another folder with --output or WAN25_OUTPUT_DIR.",
        ) from None


def _named(image: str) -> str:
    """Make a relative path absolute: the editor accepts only absolute ones."""
    if is_link(image) or image[:5].lower() in ("data:", "file:"):
        return image
    path = str(Path(image).expanduser().absolute())
    # What is no path is refused with its reason, unless a file has that name.
    return image if as_written(image) and not os.path.exists(path) else path  # noqa: PTH110  text


def _for_a_person(
    settings: Settings, images: Sequence[str] = (), directory: Path | None = None
) -> Settings:
    """The settings for a command: any file may be read, and results are always saved."""
    folders = tuple(Path(image).parent for image in images if Path(image).is_absolute())
    return replace(
        settings,
        input_dirs=(*(settings.input_dirs or ()), *folders),
        output_dir=directory.expanduser() if directory else settings.output_dir,
        save=True,
    )


async def _start(editor: AccountEditor, edit_input: EditInput, *, force_new: bool) -> Edit:
    try:
        async with progress_line("submitting") as line:
            return await editor.edit(
                edit_input,
                force_new=force_new,
                patience=PATIENCE,
                on_progress=partial(_report, line),
                on_upload=partial(_say_upload, line),
            )
    except anyio.get_cancelled_exc_class():
        # Ctrl-C before there is a task id: the edit may be charged, so its id must not be lost.
        say("\nStopping. Waiting up to 5 seconds for the task id")
        with anyio.CancelScope(shield=True):
            await editor.finish()
            for past in await editor.recent(1):
                _say_how_to_resume(past.edit)
        raise


def _say_upload(line: ProgressLine, name: str) -> None:
    line.clear()
    say(f"Uploading {name}")


async def _report(line: ProgressLine, progress: Progress) -> None:
    edit = progress.edit
    state = "waiting" if edit.status == "unknown" else edit.status  # unknown before the first poll
    line.report(state, edit.progress, elapsed=progress.elapsed, note=progress.note)


def _say_how_to_resume(edit: Edit) -> None:
    if edit.error is not None:
        show_error(edit.error)
    elif edit.task_id is not None:
        say(f"\nStopped waiting. To get the edit later: wan25-mcp task {edit.task_id} --wait")


async def show_task(settings: Settings, name: str, directory: Path | None, *, wait: bool) -> int:
    """Show an edit; with `wait`, wait for it and save its images. Returns the exit status."""
    chosen = _for_a_person(settings, directory=directory) if wait else settings
    async with _editor(chosen) as editor:
        task_id = arguments.read(TaskArguments, {"task_id": name}).task_id
        _say_if_emulated(editor)
        edit = await editor.get(task_id)
        return await _finish(editor, edit) if wait else _show(edit)


async def list_tasks(settings: Settings, limit: int) -> None:
    """List recent edits of this account.

    Raises:
        SettingsError: There is no key, which identifies the account.
    """
    _check_key(settings)
    async with _editor(settings) as editor:
        _say_if_emulated(editor)
        past = await editor.recent(limit)
    if not past:
        say("No edits yet.")
    for each in past:
        edit = each.edit
        what = " ".join((each.prompt or "").split())
        show(
            f"{each.created_at.astimezone():%Y-%m-%d %H:%M}  {edit.status:<10}  "
            f"{each.credits:>6g} credits ({edit.charged})  {edit.task_id or '-'}  {what[:60]}"
        )


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


def _say_if_emulated(editor: AccountEditor) -> None:
    if editor.is_emulator:
        say("Emulator: not the real model. Pictures are stand-ins, and no real credits are spent.")


async def _finish(editor: AccountEditor, edit: Edit) -> int:
    if edit.deduplicated:
        say("Reusing an identical earlier edit at no charge (--force-new pays for a new one).")
    is_earlier = edit.deduplicated
    reported = edit.notes
    for note in reported:
        say(note)
    is_running = edit.task_id and not is_settled(edit.status) and not edit.error
    if is_running:
        say(f"Task id: {edit.task_id}")
    try:
        async with progress_line(edit.status if is_running else "saving") as line:
            if is_running:
                edit = await editor.wait(edit, timeout=PATIENCE, on_progress=partial(_report, line))
            if edit.image_urls:
                line.report("saving", edit.progress)
                edit = await editor.save(edit)
    except anyio.get_cancelled_exc_class():
        _say_how_to_resume(edit)
        raise
    status = _show(edit, reported, is_earlier=is_earlier)
    return status or int(len(edit.saved) < len(edit.image_urls))


def _show(edit: Edit, reported: Sequence[str] = (), *, is_earlier: bool = False) -> int:
    """Show an edit, with the notes that were not reported before. Returns the exit status.

    Args:
        is_earlier: Whether an identical earlier call paid for it.
    """
    percent = f", {edit.progress} %" if edit.progress is not None else ""
    show(f"Status: {edit.status}{percent}")
    if edit.error and edit.task_id:
        show(f"Task id: {edit.task_id}")
    for path in edit.saved:
        show(f"Saved: {path}")
    for number, link in enumerate(edit.image_urls, 1):
        show(f"Image {number}: {link}")
    if edit.expires_at:
        show(f"Links expire: {edit.expires_at:%Y-%m-%d %H:%M} UTC")
    show(cost_line(edit, is_earlier=is_earlier))
    for note in edit.notes:
        if note not in reported:
            say(note)
    if edit.error:
        show_error(edit.error)
    elif edit.task_id and not is_settled(edit.status):
        show(f"Still running. To wait for it: wan25-mcp task {edit.task_id} --wait")
    return 1 if edit.error else 0
