"""The server in memory, in both protocol eras, on virtual time: ten minutes take no time."""

from __future__ import annotations

import anyio
import pytest
from mcp.client import Client

from tests.stage import PICTURE, open_stage
from wan25_mcp.server import create_server
from wan25_mcp.server.tools import Waits

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_edit_of_ten_minutes_is_waited_for_call_by_call(mode: str) -> None:
    async with open_stage(run_seconds=600.0) as stage:
        server = create_server(stage.editor, waits=Waits(default=25.0, limit=50.0))
        async with Client(server, mode=mode) as client:
            began = anyio.current_time()
            result = await client.call_tool(
                "edit_image", {"prompt": "Make it night", "image_urls": [PICTURE]}
            )
            answers = [result.structured_content or {}]
            while answers[-1]["status"] in ("pending", "processing"):
                result = await client.call_tool(
                    "wait_for_task", {"task_id": answers[0]["task_id"], "timeout_seconds": 1e9}
                )
                assert not result.is_error
                answers.append(result.structured_content or {})
            waited = anyio.current_time() - began
    assert answers[-1]["status"] == "completed"
    assert answers[-1]["charged"] == "yes"
    # No wait is longer than the operator allows, whatever was asked for.
    assert len(answers) - 1 == 12 + 1
    assert 600 <= waited <= 612
    assert len(stage.emulator.submits) == 1


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_call_whose_client_gives_up_leaves_one_task_that_a_repeat_returns(
    mode: str,
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2.0)
        call = {"prompt": "Make it night", "image_urls": [PICTURE]}
        async with Client(create_server(stage.editor), mode=mode) as client:
            with anyio.move_on_after(1.0) as patience:
                await client.call_tool("edit_image", call)
            assert patience.cancelled_caught
            result = await client.call_tool("edit_image", call)
    answer = result.structured_content or {}
    assert answer["duplicate_of_earlier_call"] is True
    assert answer["status"] == "pending"
    assert answer["task_id"] == stage.emulator.submits[0].task_id
    assert len(stage.emulator.submits) == 1


@pytest.mark.parametrize(
    ("window", "words"), [(600.0, "within 10 minutes"), (90.0, "within 90 seconds"), (0.0, "")]
)
async def test_a_tool_says_how_long_an_identical_call_is_the_earlier_edit(
    window: float, words: str
) -> None:
    async with (
        open_stage(window=window) as stage,
        Client(create_server(stage.editor)) as client,
    ):
        [edit, *_] = (await client.list_tools()).tools
        told = edit.input_schema["properties"]["force_new"]["description"]
        assert words in told
        assert ("within" in told) is bool(window)
