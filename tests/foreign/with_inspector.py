"""The MCP Inspector's command line: the TypeScript SDK, either protocol era, a process per call.

It prints the whole answer, so both views are read.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from typing import Any

from answers import Shown
from story import Server, Story

TOOL_ERROR = 5
"""Its exit status for a result with isError."""


@dataclass
class Inspector:
    server: Server
    era: str
    shows = ("text", "structure")

    async def list_tools(self) -> list[str]:
        # --strict: ends with status 6 over a schema that some known client cannot take.
        status, result, errors = await self._run("--method", "tools/list", "--strict")
        if status:
            raise RuntimeError(f"status {status}: {errors}")
        return [tool["name"] for tool in result["tools"]]

    async def call(self, tool: str, arguments: dict[str, Any]) -> Shown:
        given = json.dumps(arguments)
        status, result, errors = await self._run(
            "--method", "tools/call", "--tool-name", tool, "--tool-args-json", given
        )
        is_error = bool(result.get("isError"))
        if status != (TOOL_ERROR if is_error else 0):
            raise RuntimeError(f"status {status}: {errors}")
        (block,) = result["content"]
        views = {"text": block["text"], "structure": result["structuredContent"]}
        return Shown(views, is_error)

    async def _run(self, *options: str) -> tuple[int, dict[str, Any], str]:
        process = await asyncio.create_subprocess_exec(
            *("mcp-inspector", "--cli", "--protocol-era", self.era, *options, "--format", "json"),
            *self._target(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            out, errors = await process.communicate()
        except asyncio.CancelledError:
            os.killpg(process.pid, signal.SIGKILL)  # it started our server; both go
            await process.wait()
            raise
        result = json.loads(out)["result"] if out.strip() else {}
        return process.returncode or 0, result, errors.decode()[-600:]

    def _target(self) -> list[str]:
        if self.server.is_http:
            return [self.server.place]
        variables = [f"{name}={value}" for name, value in self.server.variables.items()]
        given = [word for variable in variables for word in ("-e", variable)]
        return [*given, self.server.place, *self.server.arguments]


async def main(era: str) -> int:
    server = Server.from_environment()
    story = Story(Inspector(server, era), f"MCP Inspector, {era} era, {server.transport}")
    await story.play()
    return story.failed


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1])))
