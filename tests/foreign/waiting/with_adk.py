"""Google's ADK with an agent of one toolset."""

from __future__ import annotations

import asyncio
import os

from google.adk.agents import LlmAgent
from google.adk.models.lite_llm import LiteLlm
from google.adk.runners import InMemoryRunner
from google.adk.tools.mcp_tool import McpToolset
from google.adk.tools.mcp_tool.mcp_session_manager import StdioConnectionParams
from google.genai import types
from mcp import StdioServerParameters


async def main() -> None:
    process = StdioServerParameters(
        command=os.environ["PYTHON"], args=["-m", "wan25_mcp"], env=dict(os.environ)
    )
    tools = McpToolset(connection_params=StdioConnectionParams(server_params=process))
    model = LiteLlm(model="openai/scripted", api_base=os.environ["MODEL"], api_key="x")
    agent = LlmAgent(name="editor", model=model, instruction="Edit.", tools=[tools])
    runner = InMemoryRunner(agent=agent, app_name="waiting")
    session = await runner.session_service.create_session(app_name="waiting", user_id="me")
    asked = types.Content(role="user", parts=[types.Part(text="Edit the picture.")])
    async for _ in runner.run_async(user_id="me", session_id=session.id, new_message=asked):
        pass
    await tools.close()


asyncio.run(main())
