"""FastMCP 4's client: SDK 2.x, newest protocol; a program gets the text and the structure."""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any

from answers import Shown
from fastmcp import Client
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from story import Server, Story


class FastMCP:
    shows = ("text", "structure")

    def __init__(self, client: Client[Any]) -> None:
        self.progress: list[float] = []
        self._client = client

    async def list_tools(self) -> list[str]:
        return [tool.name for tool in await self._client.list_tools()]

    async def call(self, tool: str, arguments: dict[str, Any]) -> Shown:
        answer = await self._client.call_tool(
            tool, arguments, raise_on_error=False, progress_handler=self._on_progress
        )
        (block,) = answer.content
        views = {"text": block.text, "structure": answer.structured_content}
        return Shown(views, is_error=answer.is_error)

    async def _on_progress(self, progress: float, *_: Any) -> None:
        self.progress.append(progress)


def _transport(server: Server) -> StdioTransport | StreamableHttpTransport:
    if server.is_http:
        return StreamableHttpTransport(server.place)
    return StdioTransport(server.place, server.arguments, env=dict(server.variables))


async def main() -> int:
    server = Server.from_environment()
    async with Client(_transport(server)) as connected:
        client = FastMCP(connected)
        story = Story(client, f"fastmcp client, {server.transport}")
        await story.stands_on("2", version("fastmcp-slim"), version("mcp"))
        await story.play()
        await story.heard_progress(client.progress)
    return story.failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
