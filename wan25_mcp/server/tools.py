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
from wan25_mcp.editing.answers import Answer, answer_of, answer_to_error
from wan25_mcp.editing.arguments import EditArguments, TaskArguments, WaitArguments
from wan25_mcp.editing.edit import Edit
from wan25_mcp.editing.waiting import margin
from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.catalogue import DEFAULT
from wan25_mcp.provider.statuses import is_settled
from wan25_mcp.server import apps, local_images
from wan25_mcp.server.callers import caller_of
from wan25_mcp.server.patience import Caller, Patience
from wan25_mcp.server.previewing import Previews
from wan25_mcp.server.progress import Reporter
from wan25_mcp.server.results import result_of
from wan25_mcp.server.schemas import describe, input_schema, output_schema

logger: Final = logging.getLogger(__name__)

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
Wait until an edit is done, then return its image links and cost. Free. If it is still running, \
the answer says so: call wait_for_task again. Timing out or giving up neither cancels nor refunds \
the edit."""

FORCE_NEW: Final = """\
True starts, and charges, another edit even if an identical call was made within {span}; default \
false: return that one."""

_META: Final = {"edit_image": {"anthropic/searchHint": "edit photo, picture", **apps.TOOL_META}}
"""What Claude Code's search for tools matches, besides a tool's name and description, and the view
of an edit."""

EDIT_PATIENCE: Final = 4.0
"""Seconds within which `edit_image` answers."""

Outcome = tuple[Edit, list[ImageContent]]
"""An edit, and the previews to send with its answer."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that `wait_for_task` waits: by default (None: little at first, then more), and at
    most."""

    default: float | None
    limit: float


class _Unchecked(ArgModelBase):
    """Arguments as received. The SDK's own validation coerces values, ignores unknown names and
    quotes rejected values. `arguments.read` does none of that."""

    model_config = ConfigDict(extra="allow")

    def model_dump_one_level(self) -> dict[str, Any]:
        return {"given": dict(self.model_extra or {})}


def _metadata() -> FuncMetadata:
    """One schema of answers for all tools, and no validation by the SDK."""
    schema = output_schema(Answer)
    return FuncMetadata(arg_model=_Unchecked, output_model=Answer, output_schema=schema)


def _span(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds % 60 == 0 else f"{seconds:g} seconds"


class Tools:
    """The tools of one editor."""

    def __init__(self, editor: AccountEditor, waits: Waits, previews: Previews) -> None:
        self._editor = editor
        self._waits = waits
        self._patience = Patience(
            longest=waits.limit, fixed=waits.default, clock=anyio.current_time
        )
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
                caller_of(context),
                starts_edit=not annotations.read_only_hint,
                names_a_task=arguments.may_name_a_task(given),
            )

        return Tool(
            fn=run,
            name=name,
            title=title,
            description=description,
            parameters=self._schema(model),
            fn_metadata=_metadata(),
            is_async=True,
            context_kwarg="context",
            annotations=annotations.model_copy(update={"title": title}),
            meta=_META.get(name),
        )

    def _schema(self, model: type[BaseModel]) -> dict[str, Any]:
        schema = input_schema(model)
        if images := schema["properties"].get("image_urls"):
            text = local_images.in_argument(self._editor, images["description"])
            describe(schema, "image_urls", text)
        if "timeout_seconds" in schema["properties"]:
            describe(schema, "timeout_seconds", self._wait_described())
        window = self._editor.duplicate_window
        if "force_new" in schema["properties"] and window:
            describe(schema, "force_new", FORCE_NEW.format(span=_span(window)))
        return schema

    def _wait_described(self) -> str:
        fixed = self._waits.default
        usual = "short at first, then longer" if fixed is None else f"{fixed:g}"
        return f"Seconds, 0-{self._waits.limit:g}; default: {usual}."

    async def _answered(
        self, call: Awaitable[Outcome], caller: Caller, *, starts_edit: bool, names_a_task: bool
    ) -> CallToolResult:
        """The one gate to the model: an edit or an error becomes an answer."""
        try:
            edit, previews = await call
        except Wan25Error as error:
            answer = answer_to_error(error, starts_edit=starts_edit, names_a_task=names_a_task)
            return result_of(answer, is_emulator=self._editor.is_emulator)
        answer = answer_of(edit, next_wait=self._next_wait(edit, caller))
        result = result_of(answer, is_emulator=self._editor.is_emulator)
        result.content.extend(previews)
        return result

    def _next_wait(self, edit: Edit, caller: Caller) -> float | None:
        if edit.task_id is None or is_settled(edit.status):
            return None
        return self._patience.name_next(caller, edit.task_id)

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
        caller = caller_of(context)
        with self._patience.waiting(caller, args.task_id, args.timeout_seconds) as seconds:
            until = anyio.current_time() + seconds - margin(seconds) if seconds > 0 else math.inf
            edit = await self._editor.wait(
                args.task_id, timeout=seconds, on_progress=Reporter(context).report
            )
            outcome = edit, await self._previews.of(edit, context, until=until)
        self._patience.rename(caller, args.task_id, edit.task_id or args.task_id)
        return outcome
