"""The journal as resources, for an agent that lost its task id."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from wan25_mcp.editing import arguments
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.answers import answer_of
from wan25_mcp.editing.arguments import TaskArguments
from wan25_mcp.editing.edit import PastEdit
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.provider.models import MAX_IMAGES_OUT

_IMAGE_NUMBERS: Final = [str(number) for number in range(1, MAX_IMAGES_OUT + 1)]


def add_resources(server: MCPServer[Any], editor: AccountEditor) -> None:
    """Offer the latest edits, one edit, the bytes of one image, and small previews."""
    resources = _Resources(editor)
    in_json = partial(server.resource, mime_type="application/json")
    in_json(
        "wan25://tasks",
        name="tasks",
        title="Recent edits",
        description="The latest edits with state, cost and task id, newest first. Free.",
    )(resources.tasks)
    in_json(
        "wan25://tasks/{task_id}",
        name="task",
        title="One edit",
        description="One edit, as get_task returns it. Free.",
    )(resources.task)
    server.resource(
        "wan25://tasks/{task_id}/images/{number}",
        name="image",
        title="A finished image",
        description="The bytes of one result image, for clients on other machines. Free.",
        mime_type="image/png",
    )(resources.image)
    _add_previews(server, resources)


def _add_previews(server: MCPServer[Any], resources: _Resources) -> None:
    """What the view in the chat reads: few hosts pass on an image of some megabytes."""
    as_preview = partial(server.resource, mime_type="image/jpeg")
    as_preview(
        "wan25://tasks/{task_id}/previews/{number}",
        name="preview",
        title="A small preview of a finished image",
        description="A JPEG of at most 100 kB. Free.",
    )(resources.preview)
    as_preview(
        "wan25://tasks/{task_id}/inputs/{number}",
        name="input",
        title="A small preview of a local image that was edited",
        description="A JPEG of at most 100 kB; of linked images none is kept. Free.",
    )(resources.input)


class _Resources:
    """The resources of one editor."""

    def __init__(self, editor: AccountEditor) -> None:
        self._editor = editor

    async def tasks(self) -> str:
        with _as_resource_error():
            past = await self._editor.recent(20)
        return json.dumps({"tasks": [_listed(each) for each in past]}, ensure_ascii=False)

    async def task(self, task_id: str) -> str:
        with _as_resource_error():
            edit = await self._editor.get(_checked(task_id))
            if edit.error is not None and edit.error.code == "not_found":
                raise edit.error
            return answer_of(edit).model_dump_json()

    async def image(self, task_id: str, number: str) -> bytes:
        with _as_resource_error():
            return await self._editor.image(_checked(task_id), _image_number(number))

    async def preview(self, task_id: str, number: str) -> bytes:
        with _as_resource_error():
            name, which = _checked(task_id), _image_number(number)
            found = await self._editor.previews(await self._editor.get(name), which)
            return _first(found, "No preview can be made of this image.")

    async def input(self, task_id: str, number: str) -> bytes:
        with _as_resource_error():
            name, which = _checked(task_id), _image_number(number)
            kept = await self._editor.original(name, which)
            return _first([kept] if kept else [], "No preview of this input is kept.")


@contextmanager
def _as_resource_error() -> Iterator[None]:
    """Turn an error into "not found" only if the resource does not exist.

    A client may forget a resource that is not found. One that cannot be read now still exists.
    """
    try:
        yield
    except Wan25Error as error:
        is_absent = isinstance(error, InvalidRequest) or error.code == "not_found"
        kind = ResourceNotFoundError if is_absent else ResourceError
        raise kind(f"{error.message} {error.fix}") from error


def _checked(task_id: str) -> str:
    return arguments.read(TaskArguments, {"task_id": task_id}).task_id


def _image_number(text: str) -> int:
    """Not `int`: that fails on thousands of digits, and accepts digits of any script."""
    if text in _IMAGE_NUMBERS:
        return int(text)
    raise InvalidRequest(
        f"There is no such image: the number must be 1 to {MAX_IMAGES_OUT}.",
        fix="Use the position of an image in the task's image_urls, from 1.",
    )


def _first(found: Sequence[bytes], otherwise: str) -> bytes:
    if not found:
        raise InvalidRequest(otherwise, fix="Previews exist of local inputs and finished images.")
    return found[0]


def _listed(past: PastEdit) -> dict[str, Any]:
    edit = past.edit
    return {
        "task_id": edit.task_id,
        "status": edit.status,
        "created_at": f"{past.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "prompt": past.prompt,
        "n": past.n,
        "credits": past.credits,
        "charged": edit.charged,
        "image_urls": list(edit.image_urls),
        "saved": list(edit.saved),
        "expires_at": f"{edit.expires_at:%Y-%m-%dT%H:%M:%SZ}" if edit.expires_at else None,
    }
