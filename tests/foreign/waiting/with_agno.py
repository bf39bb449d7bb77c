"""agno with MCPTools."""

from __future__ import annotations

import asyncio
import os

from agno.agent import Agent
from agno.models.openai import OpenAIChat
from agno.tools.mcp import MCPTools


async def main() -> None:
    command = f"{os.environ['PYTHON']} -m wan25_mcp"
    model = OpenAIChat(id="scripted", base_url=os.environ["MODEL"], api_key="x")
    async with MCPTools(command=command, env=dict(os.environ)) as tools:
        await Agent(model=model, tools=[tools]).arun("Edit the picture.")


asyncio.run(main())
