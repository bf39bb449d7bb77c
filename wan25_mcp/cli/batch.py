"""The command `edit --each`: the same edit of many images.

Before anything is paid for, every image is read and the price of all is said. Then a few edits run
at a time. A failure stops nothing, unless every other edit would fail for the same reason. Whatever
ends the command, run again it continues: an identical edit is the earlier one, for as long as the
journal remembers it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from wan25_mcp.cli.console import (
    MIN_COLUMNS,
    progress_line,
    say,
    screen_columns,
    show_failure,
    warn,
)
from wan25_mcp.cli.cost import may_spend
from wan25_mcp.cli.edit import Wish, for_a_person, open_editor, open_files, say_if_emulated
from wan25_mcp.cli.queue import Job, Queue
from wan25_mcp.cli.summary import how_to_continue, show_finished, summarize
from wan25_mcp.cli.table import Row, Totals, live_table
from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.inputs.read import is_data, is_link
from wan25_mcp.journal import KEPT_FOR, JournalUnusable
from wan25_mcp.outputs.save import check_output, output_directory
from wan25_mcp.settings import Settings

_READ_AT_ONCE: Final = 2


async def edit_each(settings: Settings, wish: Wish, jobs: int) -> int:
    """Edit every image on its own. Returns the exit status."""
    await anyio.to_thread.run_sync(_check_destination, settings, wish)
    chosen = for_a_person(settings, wish.images, wish.destination.folder)
    async with open_editor(chosen) as editor:
        say_if_emulated(editor)
        every = [Job(name, image) for name, image in _names(wish.images)]
        await _read_all(editor, wish, every)
        usable = [job for job in every if job.wanted]
        destination = replace(wish.destination, folder=chosen.output_dir)
        queue = Queue(editor, usable, destination, force_new=wish.force_new)
        stopped = await _ask(editor, settings, wish, every)
        if stopped is not None:
            return stopped
        await _run(queue, jobs, force_new=wish.force_new)
        again = how_to_continue(force_new=wish.force_new)
        status = summarize(every, queue.stopped, again, is_emulator=editor.is_emulator)
    if wish.open_it:
        open_files([path for job in every if job.edit for path in job.edit.saved])
    return status


def _check_destination(settings: Settings, wish: Wish) -> None:
    """
    Raises:
        InvalidRequest, SettingsError: The results cannot go where they should.
    """
    if wish.destination.file is not None:
        raise InvalidRequest(
            "With --each, the results go to a folder.", fix="Give a folder with --output."
        )
    folder = wish.destination.folder or settings.output_dir
    check_output(folder)
    place = os.path.realpath(output_directory(folder))
    for image in wish.images:
        if Path(image).is_absolute() and os.path.realpath(Path(image).parent) == place:
            raise InvalidRequest(
                f"The results would go to {place}, where images to be edited are. Run again, the "
                "command could edit its own results.",
                fix="Choose another folder with --output.",
            )


def _names(images: Sequence[str]) -> list[tuple[str, str]]:
    """A name for each image: the file's own, with its folder where several have it."""
    names = [image if is_link(image) else "data URI" if is_data(image) else Path(image).name
             for image in images]  # fmt: skip
    return [
        (name if names.count(name) == 1 else str(image)[-200:], image)
        for name, image in zip(names, images, strict=True)
    ]


async def _read_all(editor: AccountEditor, wish: Wish, every: Sequence[Job]) -> None:
    """Read and check every image. What cannot be used fails now, and costs nothing."""
    trusted = (await editor.connection()).trusted
    wish.read(["https://example.com/a.png"], trusted)  # the prompt and n are wrong for all, or none
    waiting = iter(every)
    done = 0
    async with progress_line("reading the images") as line:

        async def read() -> None:
            nonlocal done
            for job in waiting:
                try:
                    given = wish.read([job.source], trusted)
                    job.wanted = given.with_images(
                        await editor.read_images(given.image_urls, given.model)
                    )
                except Wan25Error as error:
                    job.error = error
                done += 1
                if screen_columns() >= MIN_COLUMNS:  # elsewhere each would be a line
                    line.report("reading the images", done * 100 // len(every))

        async with anyio.create_task_group() as tasks:
            for _ in range(_READ_AT_ONCE):
                tasks.start_soon(read)
    for job in every:
        if job.error:
            show_failure(f"{job.name}: {at_terminal(job.error.message)}")


async def _ask(
    editor: AccountEditor, settings: Settings, wish: Wish, every: Sequence[Job]
) -> int | None:
    """Say the price of what is not edited yet, and ask. None: go on, or else the exit status."""
    wanted = [job.wanted for job in every if job.wanted]
    if not wanted:
        return None
    known, is_certain = await _count_known(editor, wanted, force_new=wish.force_new)
    unusable = len(every) - len(wanted)
    notes = [
        f"{known} edited or under way" if known else "",
        f"{unusable} cannot be edited" if unusable else "",
        "" if is_certain else "at most",
    ]
    note = ", ".join(filter(None, notes))
    if known == len(wanted):
        say(f"Nothing to pay: {note}.")
        return None
    found = replace(wanted[0], images=())
    edits = len(wanted) - known
    return await may_spend(
        editor, found, settings, yes=wish.yes, edits=edits, note=f" ({note})" if note else ""
    )


async def _count_known(
    editor: AccountEditor, wanted: Sequence[EditInput], *, force_new: bool
) -> tuple[int, bool]:
    """How many were edited before, and whether that is certain."""
    if force_new:
        return 0, True
    with suppress(JournalUnusable):
        return sum(await editor.known(wanted, duplicate_window=KEPT_FOR)), True
    return 0, False


async def _run(queue: Queue, jobs: int, *, force_new: bool) -> None:
    def look() -> tuple[Sequence[Row], Totals]:
        rows = [Row(job.name, job.state, job.percent, job.since) for job in queue.under_way]
        failed = sum(job.has_failed for job in queue.finished)
        more = f", {failed} failed" if failed else ""
        return rows, Totals(len(queue.finished), queue.size, more)

    try:
        async with live_table(look) as table:

            def finished(job: Job) -> None:
                table.clear()
                show_finished(job)
                table.draw()

            await queue.run(jobs, finished)
    except anyio.get_cancelled_exc_class():
        await _say_how_to_continue(queue, force_new=force_new)
        raise


async def _say_how_to_continue(queue: Queue, *, force_new: bool) -> None:
    """After Ctrl-C: what is under way may be paid for, so its ids must not be lost."""
    warn("\nStopping. Waiting up to 5 seconds for task ids")
    with anyio.CancelScope(shield=True):
        await queue.editor.finish()
    for job in queue.under_way:
        if job.name_of_edit:
            warn(f"Under way: {job.name}: {job.name_of_edit}")
    again = how_to_continue(force_new=force_new)
    done = sum(not job.has_failed for job in queue.finished)
    warn(f"{done} of {queue.size} are done. To continue, {again}")
