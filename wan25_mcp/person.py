"""The commands `edit` and `task`: the same editor that assistants use, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import anyio

from wan25_mcp import arguments
from wan25_mcp.arguments import EditArguments, TaskArguments
from wan25_mcp.connecting import open_configured_editor
from wan25_mcp.editor import Editor
from wan25_mcp.edits import Edit
from wan25_mcp.images import NotDownloaded, NotSaved, open_downloads, output_directory, save_images
from wan25_mcp.lifecycle import is_settled
from wan25_mcp.models import EditRequest
from wan25_mcp.settings import Settings
from wan25_mcp.terminal import Progress, complain, say, show

PATIENCE: Final = 3600.0
"""Seconds a person's command waits at the most; the edit itself is not bound by it."""


async def edit_and_save(
    settings: Settings, asked: Mapping[str, Any], directory: Path | None
) -> int:
    """Edit, wait, save. Returns the exit status."""
    async with open_configured_editor(settings) as editor:
        trusted = (await editor.connection()).trusted
        request = arguments.read(EditArguments, asked, trusted=trusted).request()
        _say_if_emulated(editor)
        edit = await _start(editor, request)
        return await _finish(editor, edit, directory, request.prompt)


async def _start(editor: Editor, request: EditRequest) -> Edit:
    try:
        return await editor.edit(request, patience=PATIENCE)
    except anyio.get_cancelled_exc_class():
        # Ctrl-C before there is a task id: the edit may be paid for, so its id is not lost.
        with anyio.CancelScope(shield=True):
            await editor.finish()
            for past in await editor.recent(1):
                _say_it_goes_on(past.edit)
        raise


def _say_it_goes_on(edit: Edit) -> None:
    if edit.task_id is not None:
        say(f"\nStopped waiting; the edit goes on. Later: wan25-mcp task {edit.task_id} --wait")


async def show_task(settings: Settings, name: str, directory: Path | None, *, wait: bool) -> int:
    """Show an edit; with `wait`, wait for it and save its images. Returns the exit status."""
    async with open_configured_editor(settings) as editor:
        task_id = arguments.read(TaskArguments, {"task_id": name}).task_id
        _say_if_emulated(editor)
        edit = await editor.get(task_id)
        return await _finish(editor, edit, directory, "") if wait else _tell(edit)


async def list_tasks(settings: Settings, most: int) -> None:
    """List recent edits of this account."""
    async with open_configured_editor(settings) as editor:
        _say_if_emulated(editor)
        past = await editor.recent(most)
    if not past:
        say("No edits yet in this journal.")
    for one in past:
        edit = one.edit
        what = " ".join((one.prompt or "").split())
        show(
            f"{one.created_at.astimezone():%Y-%m-%d %H:%M}  {edit.status:<10}  "
            f"{one.credits:>6g} credits ({edit.charged})  {edit.task_id or '-'}  {what[:60]}"
        )


def _say_if_emulated(editor: Editor) -> None:
    if editor.is_emulator:
        say("Emulator: not the real model; pictures are stand-ins and credits are play money.")


async def _finish(editor: Editor, edit: Edit, directory: Path | None, prompt: str) -> int:
    if edit.task_id and not is_settled(edit.status) and not edit.error:
        say(f"Task id: {edit.task_id}")
        edit = await _wait(editor, edit)
    if edit.image_urls:
        try:
            await _save(editor, edit, output_directory(directory), prompt)
        except (NotDownloaded, NotSaved) as error:
            _tell(edit)  # the links are paid for, and good until they expire
            complain(error)
            return 1
    return _tell(edit)


async def _wait(editor: Editor, started: Edit) -> Edit:
    with Progress() as progress:

        async def tell(edit: Edit) -> None:
            progress.tell(edit.status, edit.progress)

        try:
            edit = await editor.wait(started.task_id or "", timeout=PATIENCE, on_progress=tell)
        except anyio.get_cancelled_exc_class():
            _say_it_goes_on(started)
            raise
        progress.tell(edit.status, edit.progress)
        return edit


async def _save(editor: Editor, edit: Edit, directory: Path, prompt: str) -> None:
    trusted = (await editor.connection()).trusted
    async with open_downloads() as http:
        async for path in save_images(
            http,
            edit.image_urls,
            directory,
            prompt=prompt,
            task_id=edit.task_id or "",
            trusted=trusted,
        ):
            show(f"Saved: {path}")


def _tell(edit: Edit) -> int:
    percent = f", {edit.progress} %" if edit.progress is not None else ""
    show(f"Status: {edit.status}{percent}")
    for number, link in enumerate(edit.image_urls, 1):
        show(f"Image {number}: {link}")
    if edit.expires_at:
        show(f"Links expire: {edit.expires_at:%Y-%m-%d %H:%M} UTC")
    show(f"Charged: {edit.charged}{_credits(edit)}")
    if edit.error:
        complain(edit.error)
    elif edit.task_id and not is_settled(edit.status):
        show(f"It goes on; to wait for it: wan25-mcp task {edit.task_id} --wait")
    return 1 if edit.error else 0


def _credits(edit: Edit) -> str:
    if edit.usage and edit.usage.credits_used is not None:
        return f" ({edit.usage.credits_used:g} credits)"
    if edit.usage and edit.usage.credits_reserved is not None:
        return f" ({edit.usage.credits_reserved:g} credits)"
    return ""
