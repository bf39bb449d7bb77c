"""Edit an image through the MCP server, with the MCP SDK's own client over stdio.

    python examples/plain_mcp_client.py

Needs no key: it starts an emulator of the provider. For real edits drop the emulator, and pass
`WAN25_API_KEY` in `env` and a link of your own.
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Any

import anyio
from mcp import StdioServerParameters, stdio_client
from mcp.client import Client
from mcp_types import CallToolResult

from wan25_mcp.emulator import Emulator, EmulatorOptions


def checked(result: CallToolResult) -> dict[str, Any]:
    """Return the structured answer, which says the same as the text."""
    answer: dict[str, Any] | None = result.structured_content
    assert answer is not None
    assert not result.is_error, answer["error"]
    return answer


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        await edit_twice_and_wait(folder)


async def edit_twice_and_wait(folder: str) -> None:
    """Call edit_image twice, then wait. `folder` keeps the example's journal apart from yours."""
    async with Emulator(EmulatorOptions(speed=20)).serving() as emulator:
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "wan25_mcp", "serve"],
            env={**os.environ, "WAN25_EMULATOR": emulator.base_url, "WAN25_DATA_DIR": folder},
        )
        async with Client(stdio_client(server)) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            assert tools == ["edit_image", "get_task", "wait_for_task"]

            edit = {
                "prompt": "Replace the background with a starry sky",
                "image_urls": [emulator.sample_image_url()],
            }
            answer = checked(await client.call_tool("edit_image", edit))
            print(f"{answer['task_id']}: {answer['status']}, charged: {answer['charged']}")

            # A client that lost the first answer calls again, and gets the same task.
            again = checked(await client.call_tool("edit_image", edit))
            assert again["task_id"] == answer["task_id"]
            assert again["duplicate_of_earlier_call"]

            while answer["status"] in ("submitting", "pending", "processing"):
                answer = checked(
                    await client.call_tool("wait_for_task", {"task_id": answer["task_id"]})
                )
                print(f"{answer['task_id']}: {answer['status']}, {answer['progress']} %")

        assert answer["status"] == "completed"
        assert answer["charged"] == "yes"
        assert len(answer["image_urls"]) == 1
        assert emulator.ledger.charges == 1, "two calls, one charge"
        print(*answer["image_urls"])


if __name__ == "__main__":
    anyio.run(main)
