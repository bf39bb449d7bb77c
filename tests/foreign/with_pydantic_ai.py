"""A pydantic-ai agent: SDK 2.x, the model is shown the structure alone, errors as JSON in text.

The agent's loop is real; its model is a function that makes one call and keeps what it is shown.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

from answers import Shown
from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from story import Server, Story


class OneCall:
    """A model that lists what it may call, makes one call, and reads the answer."""

    def __init__(self, tool: str | None, arguments: dict[str, Any]) -> None:
        self.tools: list[str] = []
        self.returned: ToolReturnPart | None = None
        self._call = ToolCallPart(tool, arguments) if tool else None

    async def respond(self, messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        self.tools = [tool.name for tool in info.function_tools]
        returned = [part for part in messages[-1].parts if isinstance(part, ToolReturnPart)]
        if returned or self._call is None:
            self.returned = returned[0] if returned else None
            return ModelResponse(parts=[TextPart("done")])
        return ModelResponse(parts=[self._call])


class PydanticAI:
    shows = ("structure",)

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def list_tools(self) -> list[str]:
        return (await self._run(None, {})).tools

    async def call(self, tool: str, arguments: dict[str, Any]) -> Shown:
        returned = (await self._run(tool, arguments)).returned
        seen = json.loads(returned.model_response_str())
        is_error = returned.outcome != "success"
        return Shown({"structure": json.loads(seen["error"]) if is_error else seen}, is_error)

    async def _run(self, tool: str | None, arguments: dict[str, Any]) -> OneCall:
        model = OneCall(tool, arguments)
        await self._agent.run("Make the call.", model=FunctionModel(model.respond))
        return model


def _toolset(server: Server) -> MCPToolset:
    if server.is_http:
        return MCPToolset(server.place)
    return MCPToolset(
        StdioTransport(server.place, server.arguments, env=dict(server.variables)),
    )


async def main() -> int:
    server = Server.from_environment()
    async with Agent(toolsets=[_toolset(server)]) as agent:
        story = Story(PydanticAI(agent), f"pydantic-ai agent, {server.transport}")
        await story.stands_on("2", version("pydantic-ai-slim"), version("mcp"))
        await story.play()
    return story.failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
