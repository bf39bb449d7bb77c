"""openai-agents' Runner as its documentation begins. With CURE, a call may take 60 s."""

from __future__ import annotations

import asyncio
import os

from agents import (
    Agent,
    Runner,
    set_default_openai_api,
    set_default_openai_client,
    set_tracing_disabled,
)
from agents.mcp import MCPServerStdio
from openai import AsyncOpenAI


async def main() -> None:
    set_tracing_disabled(disabled=True)
    set_default_openai_api("chat_completions")
    set_default_openai_client(AsyncOpenAI(base_url=os.environ["MODEL"], api_key="x"))
    more = {"client_session_timeout_seconds": 60} if "CURE" in os.environ else {}
    process = {
        "command": os.environ["PYTHON"],
        "args": ["-m", "wan25_mcp"],
        "env": dict(os.environ),
    }
    async with MCPServerStdio(params=process, **more) as server:
        await Runner.run(Agent(name="editor", mcp_servers=[server]), "Edit the picture.")


asyncio.run(main())
