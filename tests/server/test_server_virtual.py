"""The server in memory, in both protocol eras, on virtual time: ten minutes take no time."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp_types import Implementation

from tests.stage import PICTURE, Stage, open_stage
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


@asynccontextmanager
async def running_edit(mode: str, **stage: Any) -> AsyncIterator[tuple[Client, Stage, str]]:
    """A client of a server over an emulator, and the id of an edit that runs."""
    async with (
        open_stage(**stage) as world,
        Client(create_server(world.editor), mode=mode) as client,
    ):
        result = await client.call_tool(
            "edit_image", {"prompt": "Make it night", "image_urls": [PICTURE]}
        )
        yield client, world, (result.structured_content or {})["task_id"]


async def waited(client: Client, task_id: str, **given: Any) -> tuple[float, str]:
    """How long a wait took, and what its answer says to do next."""
    began = anyio.current_time()
    result = await client.call_tool("wait_for_task", {"task_id": task_id, **given})
    assert not result.is_error
    return anyio.current_time() - began, (result.structured_content or {})["next_step"]


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_waits_without_a_time_begin_inside_5_s_and_cover_89_s_in_four_calls(
    mode: str,
) -> None:
    async with running_edit(mode, run_seconds=600.0) as (client, _, task_id):
        took = [(await waited(client, task_id))[0] for _ in range(5)]
    assert took == pytest.approx([3.6, 9, 24, 49, 49], abs=0.1)


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_a_client_cut_is_not_waited_again_and_the_answers_name_it(mode: str) -> None:
    async with running_edit(mode, run_seconds=600.0) as (client, _, task_id):
        _, following = await waited(client, task_id)
        assert "timeout_seconds 10" in following
        with anyio.move_on_after(5) as patience:
            await waited(client, task_id, timeout_seconds=10)
        assert patience.cancelled_caught
        names = set()
        for _ in range(10):
            seconds = float(following.split("timeout_seconds ")[1].split(". ")[0])
            took, following = await waited(client, task_id, timeout_seconds=seconds)
            assert 3 < took < 4.6
            names.add(following)
        assert len(names) == 10


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_what_a_client_cut_holds_for_its_later_connections_and_for_no_other(
    mode: str,
) -> None:
    async with running_edit(mode, run_seconds=600.0) as (_, stage, task_id):
        server = create_server(stage.editor)
        took = []
        for name, is_cut in (("hasty", True), ("hasty", False), ("other", False)):
            client_info = Implementation(name=name, version="1")
            async with Client(server, mode=mode, client_info=client_info) as client:
                if is_cut:
                    with anyio.move_on_after(3):
                        await waited(client, task_id)
                took.append((await waited(client, task_id))[0])
    assert took == pytest.approx([2.43, 2.43, 3.6], abs=0.1)


async def test_each_connection_begins_anew() -> None:
    async with running_edit("legacy", run_seconds=600.0) as (client, stage, task_id):
        server = create_server(stage.editor)
        for _ in range(2):
            async with Client(server, mode="legacy") as client:
                took = [(await waited(client, task_id))[0] for _ in range(2)]
                assert took == pytest.approx([3.6, 9], abs=0.1)


async def test_a_call_repeated_on_an_open_one_ends_within_5_s() -> None:
    async with running_edit("legacy", run_seconds=600.0) as (client, _, task_id):
        for _ in range(2):
            await waited(client, task_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(waited, client, task_id)
            await anyio.sleep(12)
            assert (await waited(client, task_id))[0] < 5


async def test_short_waits_end_with_news() -> None:
    async with running_edit("legacy", run_seconds=100.0) as (client, stage, task_id):
        seen: list[int] = []
        while not seen or seen[-1] < 100:
            result = await client.call_tool(
                "wait_for_task", {"task_id": task_id, "timeout_seconds": 4}
            )
            seen.append((result.structured_content or {})["progress"])
        # Not with each: a pause of 8 % of the age is kept between polls.
        assert max(len(list(same)) for _, same in itertools.groupby(seen)) <= 3
        assert len(seen) / 2 <= len(stage.looks) <= len(seen)


async def test_a_client_that_is_known_to_be_patient_begins_with_25_s() -> None:
    async def ignore(progress: float, total: float | None, message: str | None) -> None:
        pass

    async with open_stage(run_seconds=600.0) as stage:
        for name, has_token, first in [
            ("claude-code", True, 24),
            ("claude-code", False, 3.6),  # another program of that name
            ("someone", True, 3.6),
        ]:
            client_info = Implementation(name=name, version="1")
            server = create_server(stage.editor)
            async with Client(server, mode="legacy", client_info=client_info) as client:
                result = await client.call_tool(
                    "edit_image", {"prompt": "Make it night", "image_urls": [PICTURE]}
                )
                task_id = (result.structured_content or {})["task_id"]
                began = anyio.current_time()
                await client.call_tool(
                    "wait_for_task",
                    {"task_id": task_id},
                    progress_callback=ignore if has_token else None,
                )
                assert anyio.current_time() - began == pytest.approx(first, abs=0.1)


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
