"""The command `demo`: a whole edit on this machine, with no key and no network.

All parts are real except the provider, which the emulator plays. The server runs in its own
process, and the SDK's client talks to it in MCP over stdio, as an assistant would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mcp import StdioServerParameters, stdio_client
from mcp.client import Client
from mcp_types import CallToolResult, TextContent

from wan25_mcp.cli.console import is_json, progress_line, say, show, show_json
from wan25_mcp.editing.connect import DEMO_SPEED, EMULATOR_KEY
from wan25_mcp.emulator import Emulator, EmulatorOptions
from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal.outcomes import error_from_json
from wan25_mcp.outputs.save import output_directory
from wan25_mcp.provider.statuses import is_settled


class DemoFailed(Wan25Error):
    """The demo failed before an image was saved."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message, code="demo_failed", fix=fix)


async def run_demo(pictures: Sequence[Path], prompt: str, directory: Path | None) -> int:
    """Edit the pictures (or the bundled one) through the MCP server. Returns the exit status."""
    with as_file(files("wan25_mcp") / "assets" / "picture.jpg") as bundled:
        images = [str(path.absolute()) for path in pictures or [bundled]]
        emulator = Emulator(EmulatorOptions(key=EMULATOR_KEY, speed=DEMO_SPEED))
        async with emulator.serving():
            say(f"1. Emulator at {emulator.base_url}")
            async with _assistant(emulator, images, output_directory(directory)) as client:
                result = await _edit(client, images, prompt)
    answer = _checked(result)
    say(f"4. wait_for_task: {answer['status']}, {_cost(answer)} used (not real ones)\n")
    say("The assistant reads:\n")
    show(_text(result))
    if is_json():
        show_json(answer)
    if len(answer["saved"]) < len(answer["image_urls"]):
        raise DemoFailed("The image was not saved.", answer["next_step"])
    return 0


@asynccontextmanager
async def _assistant(
    emulator: Emulator, images: Sequence[str], directory: Path
) -> AsyncIterator[Client]:
    """An MCP client whose server runs as an assistant would start it, but against the emulator."""
    # Without the user's settings: the demo touches neither their limits nor their journal.
    others = {name: value for name, value in os.environ.items() if not name.startswith("WAN25_")}
    with TemporaryDirectory(prefix="wan25-demo-") as folder:
        settings = {
            "WAN25_EMULATOR": emulator.base_url,
            "WAN25_DATA_DIR": folder,
            "WAN25_INPUT_DIRS": os.pathsep.join({str(Path(image).parent) for image in images}),
            "WAN25_OUTPUT_DIR": str(directory),
        }
        server = StdioServerParameters(
            command=sys.executable, args=["-m", "wan25_mcp", "serve"], env=others | settings
        )
        async with _connected(server) as client:
            yield client


@asynccontextmanager
async def _connected(server: StdioServerParameters) -> AsyncIterator[Client]:
    # Not the SDK's default, which is what sys.stderr was when the SDK was imported.
    async with Client(stdio_client(server, errlog=sys.__stderr__ or sys.stderr)) as client:
        tools = ", ".join(tool.name for tool in (await client.list_tools()).tools)
        say(f"2. MCP server over stdio, protocol {client.protocol_version}; tools: {tools}")
        yield client


async def _edit(client: Client, links: Sequence[str], prompt: str) -> CallToolResult:
    """What an assistant does: edit_image once, then wait_for_task until it is done."""
    async with progress_line("submitting") as line:

        async def report(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001  the SDK's names
            state = (message or "").partition(";")[0].partition(",")[0]
            line.report(state, int(progress))

        result = await client.call_tool("edit_image", {"prompt": prompt, "image_urls": list(links)})
        answer = _checked(result)
        line.clear()
        say(f"3. edit_image: picture uploaded, task {answer['task_id']}, {_cost(answer)} reserved")
        while not is_settled(answer["status"]):
            line.report(answer["status"], answer["progress"])
            given = {"task_id": answer["task_id"]}
            result = await client.call_tool("wait_for_task", given, progress_callback=report)
            answer = _checked(result)
    return result


def _checked(result: CallToolResult) -> dict[str, Any]:
    answer: dict[str, Any] | None = result.structured_content
    if answer is None:
        fix = "Please report this with the output above."
        raise DemoFailed(f"The server answered with an error: {_text(result)}", fix)
    if result.is_error:
        raise error_from_json(answer["error"])
    return answer


def _text(result: CallToolResult) -> str:
    return "\n".join(part.text for part in result.content if isinstance(part, TextContent))


def _cost(answer: Mapping[str, Any]) -> str:
    usage = answer.get("usage") or {}
    spent = usage.get("credits_used")
    return f"{usage.get('credits_reserved') if spent is None else spent} credits"
