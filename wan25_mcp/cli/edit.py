"""The command `edit` for one edit, over the same editor that assistants use."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import click

from wan25_mcp.cli.as_json import edit_as_json
from wan25_mcp.cli.console import (
    ProgressLine,
    is_json,
    is_quiet,
    linked,
    progress_line,
    say,
    show,
    show_error,
    show_json,
    warn,
)
from wan25_mcp.cli.cost import cost_line, may_spend
from wan25_mcp.cli.destination import Destination
from wan25_mcp.editing import arguments
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.arguments import EditArguments
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.edit import Edit, Progress
from wan25_mcp.errors import Wan25Error
from wan25_mcp.inputs.misspelt import in_sandbox
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.provider.statuses import is_settled
from wan25_mcp.settings import Settings

open_editor: Final = partial(open_configured_editor, background=False)

PATIENCE: Final = 3600.0
"""Seconds that a command waits at most. The edit itself continues."""

_KNOWN_SECONDS: Final = 60.0
"""Seconds that an earlier edit counts for longer once nobody was asked because of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An edit, or the same edit of many images, as a person wants it.

    Args:
        images: Absolute paths, links or URIs.
        yes: Do not ask, whatever the price.
        open_it: Open the saved files with the system's viewer.
    """

    images: Sequence[str]
    prompt: str
    n: int = 1
    destination: Destination
    force_new: bool = False
    yes: bool = False
    open_it: bool = False

    @classmethod
    def of(
        cls,
        images: Sequence[str],
        prompt: str,
        output: str | None,
        count: int,
        **chosen: bool,
    ) -> Wish:
        """
        Args:
            output: What `-o` names.

        Raises:
            InvalidRequest: It names a file that cannot be written.
        """
        destination = Destination.of(output)
        return cls(images=images, prompt=prompt, n=count, destination=destination, **chosen)

    def read(self, images: Sequence[str], trusted: frozenset[str]) -> EditArguments:
        """The checked arguments for some of the images.

        Raises:
            InvalidRequest: One of them breaks a rule.
        """
        given = {"prompt": self.prompt, "image_urls": list(images), "n": self.n}
        return arguments.read(EditArguments, given, trusted=trusted)


async def edit_and_save(settings: Settings, wish: Wish) -> int:
    """Say the price, edit, wait, save. Returns the exit status."""
    check = partial(wish.destination.check, settings.output_dir, wish.images, wish.n)
    await anyio.to_thread.run_sync(check)
    chosen = for_a_person(settings, wish.images, wish.destination.folder)
    async with open_editor(chosen) as editor:
        async with progress_line("starting"):
            trusted = (await editor.connection()).trusted
        given = wish.read(wish.images, trusted)
        say_if_emulated(editor)
        read = await editor.read_images(given.image_urls, given.model)
        edit_input = given.with_images(read)
        window = 0.0 if wish.force_new else editor.duplicate_window
        if window and await _is_known(editor, edit_input):
            window += _KNOWN_SECONDS
        else:
            stopped = await may_spend(editor, edit_input, settings, yes=wish.yes)
            if stopped is not None:
                return stopped
        edit = await _start(editor, edit_input, window)
        return await finish(editor, edit, wish.destination, open_it=wish.open_it)


async def _is_known(editor: AccountEditor, edit_input: EditInput) -> bool:
    """Whether an identical edit was made before, so that there is nothing to pay."""
    with suppress(JournalUnusable):  # the edit says what is wrong
        return all(await editor.known([edit_input]))
    return False


def for_a_person(
    settings: Settings, images: Sequence[str] = (), directory: Path | None = None
) -> Settings:
    """The settings for a command: any file may be read, and results are always saved."""
    paths = [image for image in images if Path(image).is_absolute()]
    real = [os.path.realpath(path) for path in paths]  # where a symlink leads, too
    folders = dict.fromkeys(_existing(Path(path).parent) for path in (*paths, *real))
    return replace(
        settings,
        input_dirs=(*(settings.input_dirs or ()), *folders),
        output_dir=directory or settings.output_dir,
        save=True,
    )


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists, so that a path in it is looked for.

    A folder of an assistant's own machine is not looked for elsewhere.
    """
    if in_sandbox(f"{folder}/"):
        return folder
    return next((one for one in (folder, *folder.parents) if one.is_dir()), folder)


async def _start(editor: AccountEditor, edit_input: EditInput, window: float) -> Edit:
    try:
        async with progress_line("submitting") as line:
            return await editor.edit(
                edit_input,
                duplicate_window=window,
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
        warn(f"\nStopped waiting. To get the edit later: wan25-mcp task {edit.task_id} --wait")


def say_if_emulated(editor: AccountEditor) -> None:
    """Say that no real model is used, if so."""
    if editor.is_emulator:
        say("Emulator: not the real model. Pictures are stand-ins, and no real credits are spent.")


async def finish(
    editor: AccountEditor, edit: Edit, destination: Destination, *, open_it: bool = False
) -> int:
    """Wait for an edit, save it, and show it. Returns the exit status."""
    is_earlier, reported = edit.deduplicated, edit.notes
    if is_earlier:
        made = "edited" if edit.status == "completed" else "sent"
        cost = cost_line(edit, is_earlier=True)
        say(
            f"Nothing to pay: {made} already ({cost[:1].lower()}{cost[1:]}). "
            "--force-new pays for a new edit."
        )
    for note in reported:
        say(note)
    settled = await _settled(editor, edit)
    settled = replace(settled, deduplicated=is_earlier)
    try:
        copied = await destination.copied(editor, settled)
    except Wan25Error as error:
        copied = replace(settled, error=error)
    if _is_running(edit) and edit.task_id and sys.stdout.isatty() and sys.stderr.isatty():
        reported = (*reported, edit.task_id)
    status = show_edit(copied, reported, is_emulator=editor.is_emulator, originals=settled.saved)
    if open_it:
        open_files(copied.saved)
    return status or int(len(copied.saved) < len(copied.image_urls))


def _is_running(edit: Edit) -> bool:
    return edit.task_id is not None and not is_settled(edit.status) and not edit.error


async def _settled(editor: AccountEditor, edit: Edit) -> Edit:
    """The edit once it is settled, with its images saved."""
    is_running = _is_running(edit)
    if not is_running and not edit.image_urls:
        return edit
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
    return edit


def show_edit(
    edit: Edit,
    reported: Sequence[str] = (),
    *,
    is_emulator: bool,
    originals: Sequence[str] | None = None,
) -> int:
    """Show an edit, with what was not reported before. Returns the exit status.

    Args:
        reported: What was written before: notes, and the id.
        originals: The files that the archive has, where others were asked for.
    """
    if is_json():
        show_json(edit_as_json(edit, is_emulator=is_emulator))
        return 1 if edit.error else 0
    has_percent = edit.progress is not None and not edit.error
    show(f"Status: {edit.status}" + (f", {edit.progress} %" if has_percent else ""))
    if edit.error and edit.task_id and (edit.task_id not in reported or is_quiet()):
        show(f"Task id: {edit.task_id}")
    _show_files(edit, originals)
    show(cost_line(edit, is_earlier=edit.deduplicated))
    for note in edit.notes:
        if note not in reported:
            say(note)
    if edit.error:
        show_error(edit.error)
    elif edit.task_id and not is_settled(edit.status):
        show(f"Still running. To wait for it: wan25-mcp task {edit.task_id} --wait")
    return 1 if edit.error else 0


def _show_files(edit: Edit, originals: Sequence[str] | None) -> None:
    for path in edit.saved:
        show(f"Saved: {linked(path)}")
    for path in originals or ():
        if path not in edit.saved:
            show(f"Original: {linked(path)}")
    for number, link in enumerate(edit.image_urls, 1):
        show(f"Image {number}: {link}")
    if edit.expires_at:
        show(f"Links expire: {edit.expires_at:%Y-%m-%d %H:%M} UTC")


def open_files(paths: Sequence[str]) -> None:
    """Open files with the system's viewer."""
    for path in paths:
        if click.launch(path) != 0:
            say(f"No program was found to open {path}.")
