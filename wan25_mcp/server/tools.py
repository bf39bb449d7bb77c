"""The three tools: their names, their texts, and their calls to the editor."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import anyio
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp_types import CallToolResult, ImageContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict

from wan25_mcp.editing import arguments
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.answers import Answer, answer_of, answer_schema, answer_to_error
from wan25_mcp.editing.arguments import EditArguments, TaskArguments, WaitArguments
from wan25_mcp.editing.edit import Edit
from wan25_mcp.editing.waiting import margin
from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.catalogue import DEFAULT
from wan25_mcp.server import local_images
from wan25_mcp.server.previewing import Previews
from wan25_mcp.server.progress import Reporter
from wan25_mcp.server.results import result_of

logger = logging.getLogger(__name__)

_MODEL: Final = DEFAULT
_USUALLY: Final = "{}-{} s".format(*_MODEL.typical_seconds)

EDIT_IMAGE: Final = f"""\
Edit an image, or combine two, with {_MODEL.name}: replace the background, add, remove or \
replace an object, change an outfit or text, restyle. Costs credits for each result image; the \
answer says how many. Returns a task_id within seconds while the edit runs (usually \
{_USUALLY}). Then call wait_for_task. Never call edit_image again to check progress: that can \
start and charge a new task. {{local_images}} Linked images must be \
{_MODEL.image_rules}. Result links expire after {_MODEL.link_life_seconds // 3600} hours."""

GET_TASK: Final = """\
Get an edit's status, progress, image links and cost. Free. To wait, call wait_for_task."""

WAIT_FOR_TASK: Final = """\
Wait until an edit is done, then return its image links and cost. Free. If the time runs out \
first, the answer reports the progress: call wait_for_task again. Timing out or giving up \
neither cancels nor refunds the edit. If your client times out sooner, pass timeout_seconds=4."""


EDIT_PATIENCE: Final = 4.0
"""Seconds within which `edit_image` answers."""

Outcome = tuple[Edit, list[ImageContent]]
"""An edit, and the previews to send with its answer."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that `wait_for_task` waits, by default and at most."""

    default: float
    limit: float


class _Unchecked(ArgModelBase):
    """Arguments as received. The SDK's own validation coerces values, ignores unknown names and
    quotes rejected values. `arguments.read` does none of that."""

    model_config = ConfigDict(extra="allow")

    def model_dump_one_level(self) -> dict[str, Any]:
        return {"given": dict(self.model_extra or {})}


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds % 60 == 0 else f"{seconds:g} seconds"


class Tools:
    """The tools of one editor."""

    def __init__(self, editor: AccountEditor, waits: Waits, previews: Previews) -> None:
        self._editor = editor
        self._waits = waits
        self._previews = previews

    def all(self) -> list[Tool]:
        """The tools in the order in which they are listed."""
        reads = ToolAnnotations(
            read_only_hint=True,
            destructive_hint=False,
            idempotent_hint=True,
            open_world_hint=True,
        )
        # Paid, so not read-only: hosts may run read-only tools without asking the user.
        pays = ToolAnnotations(
            read_only_hint=False,
            destructive_hint=False,
            idempotent_hint=False,
            open_world_hint=True,
        )
        edit_image = EDIT_IMAGE.format(local_images=local_images.in_description(self._editor))
        return [
            self._tool("edit_image", "Edit image", edit_image, EditArguments, pays, self._edit),
            self._tool("get_task", "Get edit status", GET_TASK, TaskArguments, reads, self._get),
            self._tool(
                "wait_for_task", "Wait for edit", WAIT_FOR_TASK, WaitArguments, reads, self._wait
            ),
        ]

    def _tool(
        self,
        name: str,
        title: str,
        description: str,
        model: type[BaseModel],
        annotations: ToolAnnotations,
        call: Callable[[Mapping[str, Any], Context[Any, Any]], Awaitable[Outcome]],
    ) -> Tool:
        async def run(given: dict[str, Any], context: Context[Any, Any]) -> CallToolResult:
            return await self._answered(
                call(given, context),
                starts_edit=not annotations.read_only_hint,
                names_a_task=arguments.may_name_a_task(given),
            )

        return Tool(
            fn=run,
            name=name,
            title=title,
            description=description,
            parameters=self._schema(model),
            fn_metadata=FuncMetadata(
                arg_model=_Unchecked, output_model=Answer, output_schema=answer_schema()
            ),
            is_async=True,
            context_kwarg="context",
            annotations=annotations.model_copy(update={"title": title}),
        )

    def _schema(self, model: type[BaseModel]) -> dict[str, Any]:
        schema = arguments.schema(model)
        if images := schema["properties"].get("image_urls"):
            images["description"] = local_images.in_argument(self._editor, images["description"])
        if "timeout_seconds" in schema["properties"]:
            schema["properties"]["timeout_seconds"] |= {
                "description": f"Seconds to wait, at most {self._waits.limit:g}.",
                "default": self._waits.default,
            }
        window = self._editor.duplicate_window
        if "force_new" in schema["properties"] and window:
            schema["properties"]["force_new"]["description"] = (
                f"Repeating an identical call within {_span(window)} returns the earlier task at "
                "no charge. Set true to start, and pay for, a new one."
            )
        return schema

    async def _answered(
        self, call: Awaitable[Outcome], *, starts_edit: bool, names_a_task: bool
    ) -> CallToolResult:
        """The one gate to the model: an edit or an error becomes an answer."""
        try:
            edit, previews = await call
        except Wan25Error as error:
            answer = answer_to_error(error, starts_edit=starts_edit, names_a_task=names_a_task)
            return result_of(answer, is_emulator=self._editor.is_emulator)
        result = result_of(answer_of(edit), is_emulator=self._editor.is_emulator)
        result.content.extend(previews)
        return result

    async def _edit(self, given: Mapping[str, Any], context: Context[Any, Any]) -> Outcome:
        until = anyio.current_time() + EDIT_PATIENCE
        trusted = (await self._editor.connection()).trusted
        args = arguments.read(EditArguments, given, trusted=trusted)
        images = await self._editor.read_images(args.image_urls, args.model)
        edit = await self._editor.edit(args.with_images(images), force_new=args.force_new)
        return edit, await self._previews.of(edit, context, until=until)

    async def _get(self, given: Mapping[str, Any], context: Context[Any, Any]) -> Outcome:
        edit = await self._editor.get(arguments.read(TaskArguments, given).task_id)
        return edit, await self._previews.of(edit, context)

    async def _wait(self, given: Mapping[str, Any], context: Context[Any, Any]) -> Outcome:
        args = arguments.read(WaitArguments, given)
        patience = self._waits.default if args.timeout_seconds is None else args.timeout_seconds
        patience = min(patience, self._waits.limit)
        until = anyio.current_time() + patience - margin(patience) if patience > 0 else math.inf
        edit = await self._editor.wait(
            args.task_id, timeout=patience, on_progress=Reporter(context).report
        )
        return edit, await self._previews.of(edit, context, until=until)
