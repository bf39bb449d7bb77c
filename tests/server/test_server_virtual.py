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
