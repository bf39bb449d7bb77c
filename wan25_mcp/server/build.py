"""Builds the server. Nothing is opened, sent or written here: some hosts start a server twice and
drop one of the two."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from pydantic import ValidationError

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.answers import EMULATOR_NOTE
from wan25_mcp.provider.catalogue import DEFAULT
from wan25_mcp.server import apps, local_images
from wan25_mcp.server.identity import ICONS, WEBSITE
from wan25_mcp.server.previewing import Previews
from wan25_mcp.server.resources import add_resources
from wan25_mcp.server.tools import Tools, Waits
from wan25_mcp.settings import Preview, Settings

INSTRUCTIONS: Final = f"""\
Edits images with {DEFAULT.name}, which is paid and takes \
{DEFAULT.typical_seconds[0]}-{DEFAULT.typical_seconds[1]} s. Call edit_image once \
per edit, then wait_for_task with its task_id until the status is completed, failed or cancelled. \
Never repeat edit_image to check on an edit. Result links expire \
{DEFAULT.link_life_seconds // 3600} hours after the edit is completed."""

DEFAULT_WAITS: Final = Waits(default=None, limit=50.0)
_ONE_HOUR: Final = CacheHint(ttl_ms=3_600_000, scope="public")
_CACHED: Final[dict[CacheableMethod, CacheHint]] = {
    "tools/list": _ONE_HOUR,
    "prompts/list": _ONE_HOUR,
    "resources/list": _ONE_HOUR,
}


def create_server(
    editor: AccountEditor,
    *,
    waits: Waits = DEFAULT_WAITS,
    preview: Preview = "never",
    image_origins: tuple[str, ...] = (),
    log_level: str = "WARNING",
) -> MCPServer[Any]:
    """The MCP server over an editor, for any transport; `image_origins` as in `apps`."""
    server: MCPServer[Any] = MCPServer(
        name="wan25-mcp",
        title="Wan 2.5 image editing",
        description=f"Edits images with {DEFAULT.name}.",
        instructions=_instructions(editor),
        website_url=WEBSITE,
        icons=ICONS,
        version=version("wan25-mcp"),
        tools=Tools(editor, waits, Previews(editor, preview)).all(),
        log_level=log_level,  # type: ignore[arg-type]  # a Literal there, checked by settings here
        cache_hints=_CACHED,
        middleware=[_Waking(editor), _refuse_unknown_prompt],
        extensions=[apps.edit_view(image_origins)],
    )
    add_resources(server, editor)
    return server


def _instructions(editor: AccountEditor) -> str:
    text = INSTRUCTIONS + local_images.in_instructions(editor)
    return f"{text}\n{EMULATOR_NOTE}" if editor.is_emulator else text


def configured_server(editor: AccountEditor, settings: Settings) -> MCPServer[Any]:
    """The MCP server as configured."""
    return create_server(
        editor,
        waits=Waits(settings.wait_seconds, settings.max_wait_seconds),
        preview=settings.preview,
        image_origins=apps.image_origins(settings),
        log_level=settings.log_level,
    )


class _Waking:
    """Wakes the editor, which resumes paid edits of an earlier run, when a client lists the tools.

    Not at start-up: some hosts start a server only to see whether it starts.
    """

    def __init__(self, editor: AccountEditor) -> None:
        self._editor = editor

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], call_next: CallNext
    ) -> HandlerResult:
        answer = await call_next(ctx)
        if ctx.method == "tools/list":
            self._editor.wake()
        return answer


async def _refuse_unknown_prompt(
    ctx: ServerRequestContext[Any, Any], call_next: CallNext
) -> HandlerResult:
    """Answer that there is no such prompt as the specification says. The SDK logs a traceback."""
    try:
        return await call_next(ctx)
    except ValueError as error:
        if ctx.method != "prompts/get" or isinstance(error, ValidationError):
            raise
        raise MCPError(code=INVALID_PARAMS, message="There is no such prompt.") from None
