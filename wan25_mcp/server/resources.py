"""The journal as resources, for an agent that lost its task id."""

from __future__ import annotations

import json
from typing import Any, Final

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from wan25_mcp.editing import arguments
from wan25_mcp.editing.arguments import TaskArguments
from wan25_mcp.editing.edit import PastEdit
from wan25_mcp.editing.editor import Editor
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.provider.models import MAX_IMAGES_OUT
from wan25_mcp.server.answers import answer_of

_IMAGE_NUMBERS: Final = [str(number) for number in range(1, MAX_IMAGES_OUT + 1)]


def add_resources(server: MCPServer[Any], editor: Editor) -> None:
    """Offer `wan25://tasks` and `wan25://tasks/{task_id}`."""

    @server.resource(
        "wan25://tasks",
        name="tasks",
        title="Recent edits",
        description="The latest edits with state, cost and task id, newest first. Free.",
        mime_type="application/json",
    )
    async def tasks() -> str:
        try:
            past = await editor.recent(20)
        except Wan25Error as error:
            raise ResourceError(f"{error.message} {error.fix}") from error
        return json.dumps({"tasks": [_listed(one) for one in past]}, ensure_ascii=False)

    @server.resource(
        "wan25://tasks/{task_id}",
        name="task",
        title="One edit",
        description="One edit as get_task tells it. Free.",
        mime_type="application/json",
    )
    async def task(task_id: str) -> str:
        try:
            name = arguments.read(TaskArguments, {"task_id": task_id}).task_id
            edit = await editor.get(name)
        except Wan25Error as error:
            raise _told(error) from error
        return answer_of(edit).model_dump_json()

    @server.resource(
        "wan25://tasks/{task_id}/images/{number}",
        name="image",
        title="A finished image",
        description="The bytes of one result, for clients on other machines. Free.",
        mime_type="image/png",
    )
    async def image(task_id: str, number: str) -> bytes:
        try:
            name = arguments.read(TaskArguments, {"task_id": task_id}).task_id
            return await editor.image(name, _image_number(number))
        except Wan25Error as error:
            raise _told(error) from error


def _told(error: Wan25Error) -> ResourceError:
    """A client may forget what is not found; what cannot be read now is there."""
    is_absent = isinstance(error, InvalidRequest) or error.code == "not_found"
    kind = ResourceNotFoundError if is_absent else ResourceError
    return kind(f"{error.message} {error.fix}")


def _image_number(text: str) -> int:
    """Not `int`: that fails on thousands of digits, and takes digits of any script."""
    if text in _IMAGE_NUMBERS:
        return int(text)
    raise InvalidRequest(
        f"There is no such image: the number must be 1 to {MAX_IMAGES_OUT}.",
        fix="Use the position of an image in the task's image_urls, from 1.",
    )


def _listed(one: PastEdit) -> dict[str, Any]:
    edit = one.edit
    return {
        "task_id": edit.task_id,
        "status": edit.status,
        "created_at": f"{one.created_at:%Y-%m-%dT%H:%M:%SZ}",
        "prompt": one.prompt,
        "n": one.n,
        "credits": one.credits,
        "charged": edit.charged,
        "image_urls": list(edit.image_urls),
        "saved": list(edit.saved),
        "expires_at": f"{edit.expires_at:%Y-%m-%dT%H:%M:%SZ}" if edit.expires_at else None,
    }
