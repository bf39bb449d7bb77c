"""What a program's calls do with an `AccountEditor`: start an edit, and stay with it to the end."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import PurePath
from typing import Any, Final

import anyio
import anyio.to_thread

from wan25_mcp.editing import arguments
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.arguments import ProgramArguments, TaskArguments
from wan25_mcp.editing.edit import Edit, Progress, name_of
from wan25_mcp.editing.handing_over import HandOver
from wan25_mcp.editing.python_words import spoken, spoken_edit
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.inputs.given import sources_of
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.inputs.read import LocalFile
from wan25_mcp.journal import Withheld
from wan25_mcp.provider.catalogue import MODELS
from wan25_mcp.provider.models import MAX_IMAGES_OUT
from wan25_mcp.provider.statuses import Status

_RUNNING: Final = ("submitting", "pending", "processing")
_PASSING: Final = ("too_many_in_flight", "price_unknown")
"""Refusals that end when an edit under way is settled."""

_TURN_SECONDS: Final = 900.0
_TURN_PAUSE: Final = 0.5
"""How long one of many edits waits for its turn, and the seconds between two tries."""


async def started(
    editor: AccountEditor,
    images: object,
    options: Mapping[str, object],
    *,
    patience: float = 0.0,
) -> Edit:
    """Start an edit and, unless `wait` is False, stay with it until it is settled and saved.

    Args:
        patience: Of one of many: seconds to wait for its turn under the operator's limits.

    Raises:
        Wan25Error: Nothing comes of it.
    """
    began = anyio.current_time()
    given, wanted = await _read(editor, images, options)
    until = began + (math.inf if given.timeout is None else given.timeout)

    submit = partial(
        editor.edit,
        wanted,
        force_new=given.force_new,
        duplicate_window=given.duplicate_window,
        source=_file_of(wanted) if patience else None,
    )
    edit = await _in_turn(submit, until, min(until, began + patience))
    if given.wait and edit.error is None:
        edit = await settled(editor, edit, until)
    return outcome(edit)


async def settled(editor: AccountEditor, edit: Edit | str, until: float) -> Edit:
    """An edit when it is settled and saved, or when the time is up."""
    found = await editor.wait(edit, timeout=_left(until))
    with anyio.CancelScope(deadline=until):  # saving continues
        found = await editor.save(found)
    return _continued(edit, found)


async def completed(editor: AccountEditor, edit: Edit | str) -> Edit:
    """An edit, polled unless it is known to be completed."""
    found = known(edit)
    if isinstance(found, Edit) and found.status == "completed":
        return found
    return await editor.get(found)


async def followed(editor: AccountEditor, edit: Edit | str, hand_over: HandOver[Progress]) -> None:
    """Hand over the progress of an edit until it is settled and saved."""
    elapsed = [0.0]

    async def report(progress: Progress) -> None:
        elapsed[0] = progress.elapsed
        await hand_over(replace(progress, edit=spoken_edit(progress.edit)))

    found = await editor.wait(edit, timeout=math.inf, on_progress=report)
    found = _continued(edit, await editor.save(found))
    await hand_over(Progress(spoken_edit(found), elapsed[0]))


async def attempted(
    call: Callable[[], AbstractContextManager[AccountEditor]], index: int, request: object
) -> Edit:
    """The edit of one request of many, in its place. An error is not raised, but is the edit's."""
    try:
        if not isinstance(request, Mapping):
            kind = type(request).__name__
            raise InvalidRequest(
                f"Request {index} is of type {kind}, not a mapping.",
                fix='Pass mappings such as {"images": "house.jpg", "prompt": "Make it night"}.',
            )
        with call() as editor:
            options = {name: request[name] for name in request if name != "images"}
            edit = await started(editor, request.get("images"), options, patience=_TURN_SECONDS)
    except Wan25Error as error:
        told = error if error.edit is not None else spoken(error)
        status: Status = "unknown" if told.charged == "unknown" else "failed"
        edit = told.edit or Edit(task_id=None, status=status, charged=told.charged, error=told)
    return replace(edit, index=index)


async def _read(
    editor: AccountEditor, images: object, options: Mapping[str, object]
) -> tuple[ProgramArguments, EditInput]:
    """The arguments of a call, checked, and its images, read, if its results can be saved."""
    if "n" in options:  # a tool would take "2" as well
        whole_number("n", options["n"], 1, MAX_IMAGES_OUT)
    sources = await anyio.to_thread.run_sync(sources_of, images)  # it looks for files
    links = [one if isinstance(one, str) else "in memory" for one in sources]
    trusted = (await editor.connection()).trusted
    given = arguments.read(ProgramArguments, {**options, "image_urls": links}, trusted=trusted)
    named = zip(given.image_urls, sources, strict=True)
    chosen = [link if isinstance(one, str) else one for link, one in named]
    read = await editor.read_images(chosen, given.model, anywhere=True)
    await editor.check_folder()
    return given, given.with_images(read)


def _file_of(wanted: EditInput) -> str | None:
    """The name of the local image that an edit is of, without its suffix."""
    names = [image.name for image in wanted.images if isinstance(image, LocalFile)]
    return PurePath(names[0]).stem if names else None


async def _in_turn(submit: Callable[..., Awaitable[Edit]], until: float, turn: float) -> Edit:
    """Submit as soon as the limits on what runs at the same time have room for it."""
    while True:
        try:
            return await submit(patience=_left(until))
        except Withheld as held:
            if held.code not in _PASSING or anyio.current_time() > turn:
                raise
        await anyio.sleep(_TURN_PAUSE)


def outcome(edit: Edit) -> Edit:
    """The edit, if it has or may still have a result.

    Raises:
        Wan25Error: Nothing comes of it. The error has the edit.
    """
    error = edit.error
    # The last poll failed, and the time was up before the next one.
    is_running = error is not None and error.retryable and edit.status in _RUNNING
    if error is None or is_running:
        return spoken_edit(edit)
    raise spoken(error, edit)


def _left(until: float) -> float:
    return max(until - anyio.current_time(), 0.0)


def _continued(before: Edit | str, edit: Edit) -> Edit:
    """An edit with what only the call that started it knows."""
    if isinstance(before, str):
        return edit
    changes = [note for note in before.notes if not note.startswith("Not saved")]
    return replace(
        edit,
        deduplicated=before.deduplicated,
        notes=tuple(dict.fromkeys((*changes, *edit.notes))),
        index=before.index,
    )


# --- arguments ------------------------------------------------------------------------------


def known(edit: object) -> Edit | str:
    """An edit, or the name of one.

    Raises:
        InvalidRequest: It is neither.
        Wan25Error: The edit was refused, so there is none.
    """
    if isinstance(edit, Edit):
        name_of(edit)
        return edit
    if isinstance(edit, str):
        return arguments.read(TaskArguments, {"task_id": edit}).task_id
    raise _wrong("edit", "an Edit or a task id")


def whole_number(name: str, value: Any, low: int, high: float = math.inf) -> int:
    """
    Raises:
        InvalidRequest: It is no whole number, or not in this range.
    """
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    limits = f"{low} or more" if high == math.inf else f"from {low} to {high:g}"
    raise _wrong(name, f"a whole number, {limits}")


def seconds(name: str, value: Any) -> float:
    """
    Raises:
        InvalidRequest: It is no number of seconds.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return float(value)
    raise _wrong(name, "a number of seconds, 0 or more")


def model_name(value: Any) -> Any:
    """
    Raises:
        InvalidRequest: It is no model's.
    """
    if isinstance(value, str) and value in MODELS:
        return value
    raise _wrong("model", " or ".join(MODELS))


def _wrong(name: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{name} must be {wanted}.", fix=f"Pass {wanted} as {name}.")
