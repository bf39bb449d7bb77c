"""Edit an image with the tools of an agent framework: LangChain's MCP adapters, over stdio.

    python -m venv framework && framework/bin/pip install 'langchain-mcp-adapters>=0.3,<0.4'
    framework/bin/python examples/agent_framework.py .venv/bin/wan25-mcp

The framework brings another version of the MCP SDK, so it is installed in its own environment and
uses only the command of this project. No key and no language model are needed: the script calls the
tools as an agent would. `get_tools` starts a server for each call, so this also shows that an edit
outlives the server that started it, and that the next server recognises a repeated call.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_mcp_adapters.client import MultiServerMCPClient

PICTURE = Path(__file__).resolve().parent.parent / "wan25_mcp" / "assets" / "picture.jpg"


@contextmanager
def emulator(command: str) -> Iterator[str]:
    """Run the emulator of the provider in its own process; yield its base URL."""
    process = subprocess.Popen(
        [command, "emulator", "--port", "0", "--speed", "20"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


def public_link(base_url: str, picture: Path) -> str:
    """Upload the picture to the provider's file service; return its link."""
    request = urllib.request.Request(  # noqa: S310  the emulator's address
        f"{base_url.removesuffix('/apiv1')}/api/v1/files/upload/base64",
        data=json.dumps(
            {
                "base64_data": base64.b64encode(picture.read_bytes()).decode(),
                "file_name": picture.name,
            }
        ).encode(),
        headers={"Authorization": "Bearer any", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310  as above
        return str(json.load(response)["data"]["file_url"])


async def main(command: str) -> None:
    with emulator(command) as base_url, tempfile.TemporaryDirectory() as folder:
        client = MultiServerMCPClient(
            {
                "wan25": {
                    "transport": "stdio",
                    "command": command,
                    "args": ["serve"],
                    "env": {**os.environ, "WAN25_EMULATOR": base_url, "WAN25_DATA_DIR": folder},
                }
            }
        )
        tools = {tool.name: tool for tool in await client.get_tools()}
        assert set(tools) == {"edit_image", "get_task", "wait_for_task"}

        async def call(name: str, arguments: dict[str, Any]) -> tuple[str, dict[str, Any]]:
            """Return the text that a model would read, and the structured content."""
            request = {"type": "tool_call", "id": "1", "name": name, "args": arguments}
            message = await tools[name].ainvoke(request)
            assert message.status == "success", message.content
            return str(message.content), message.artifact["structured_content"]

        edit = {
            "prompt": "Replace the background with a starry sky",
            "image_urls": [await asyncio.to_thread(public_link, base_url, PICTURE)],
        }
        text, answer = await call("edit_image", edit)
        assert answer["task_id"] in text, "the text alone is enough to continue"

        _, again = await call("edit_image", edit)
        assert again["task_id"] == answer["task_id"], "an agent that calls twice pays once"
        assert again["duplicate_of_earlier_call"]

        while answer["status"] in ("submitting", "pending", "processing"):
            text, answer = await call("wait_for_task", {"task_id": answer["task_id"]})
        assert answer["status"] == "completed"
        assert answer["image_urls"][0] in text
        print(text)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "wan25-mcp"))
