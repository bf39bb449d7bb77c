"""LangChain's MCP adapters: SDK 1.x, the model is shown the text alone.

Without a session of one's own, which is how its documentation starts, every call opens a
connection: over stdio, every call is a process.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version
from typing import Any

from answers import Shown
from langchain_mcp_adapters.callbacks import Callbacks
from langchain_mcp_adapters.client import MultiServerMCPClient
from story import Server, Story


class LangChain:
    shows = ("text",)

    def __init__(self, server: Server) -> None:
        self.progress: list[float] = []
        self._client = MultiServerMCPClient(
            {"wan25": _connection(server)}, callbacks=Callbacks(on_progress=self._on_progress)
        )
        self._tools: dict[str, Any] = {}

    async def list_tools(self) -> list[str]:
        self._tools = {tool.name: tool for tool in await self._client.get_tools()}
        return [*self._tools]

    async def call(self, tool: str, arguments: dict[str, Any]) -> Shown:
        asked = {"type": "tool_call", "id": "1", "name": tool, "args": arguments}
        message = await self._tools[tool].ainvoke(asked)
        return Shown({"text": message.text}, is_error=message.status == "error")

    async def _on_progress(self, progress: float, *_: Any) -> None:
        self.progress.append(progress)


def _connection(server: Server) -> dict[str, Any]:
    if server.is_http:
        return {"transport": "streamable_http", "url": server.place}
    return {
        "transport": "stdio",
        "command": server.place,
        "args": server.arguments,
        "env": dict(server.variables),
    }


async def main() -> int:
    server = Server.from_environment()
    client = LangChain(server)
    story = Story(client, f"langchain-mcp-adapters, {server.transport}")
    await story.stands_on("1", version("langchain-mcp-adapters"), version("mcp"))
    await story.play()
    if server.is_http:  # over stdio, starting the process outlasts the edit
        await story.heard_progress(client.progress)
    return story.failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
