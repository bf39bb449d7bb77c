"""Room for so much at a time: in turn, and for nobody who has left."""

from __future__ import annotations

import anyio
import pytest

from wan25_mcp.inputs.weighted_semaphore import WeightedSemaphore

pytestmark = pytest.mark.anyio


async def test_room_is_given_in_turn_and_whoever_leaves_holds_up_nobody() -> None:
    room = WeightedSemaphore(10)
    got: list[int] = []

    async def take(size: int, scope: anyio.CancelScope) -> None:
        with scope:
            await room.take(size)
            got.append(size)

    scopes = {size: anyio.CancelScope() for size in (8, 9, 2, 10)}
    async with anyio.create_task_group() as tasks:
        for size, scope in scopes.items():
            tasks.start_soon(take, size, scope)
            await anyio.wait_all_tasks_blocked()
        assert got == [8]
        scopes[9].cancel()
        await anyio.wait_all_tasks_blocked()
        assert got == [8, 2]
        room.give(8)
        room.give(2)
    assert got == [8, 2, 10]
