"""AutoGen: a team of one agent. An agent alone makes one call and stops."""

from __future__ import annotations

import asyncio
import os

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import TextMentionTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_ext.models.openai import OpenAIChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams


async def main() -> None:
    model = OpenAIChatCompletionClient(model="gpt-4o", base_url=os.environ["MODEL"], api_key="x")
    process = StdioServerParams(
        command=os.environ["PYTHON"], args=["-m", "wan25_mcp"], env=dict(os.environ)
    )
    async with McpWorkbench(process) as workbench:
        agent = AssistantAgent("editor", model_client=model, workbench=workbench)
        team = RoundRobinGroupChat([agent], termination_condition=TextMentionTermination("DONE"))
        await team.run(task="Edit the picture.")


asyncio.run(main())
