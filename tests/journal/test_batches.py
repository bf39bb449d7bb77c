"""Steps that come at once share a transaction: what each gets, and what others do to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest

from wan25_mcp.journal import JournalUnusable
from wan25_mcp.journal.group_commit import MAX_BATCH, GroupCommit

pytestmark = pytest.mark.anyio


@dataclass
class Store:
    """Takes a second for each batch, and fails when told to."""

    batches: list[list[int]] = field(default_factory=list)
    failure: BaseException | None = None
    at_once: int = 0
    most_at_once: int = 0

    async def carry_out(self, steps: Sequence[int]) -> Sequence[Any]:
        self.batches.append(list(steps))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await anyio.sleep(1)
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return [ValueError(step) if step < 0 else step * 10 for step in steps]


@dataclass
class Callers:
    """What came of each step."""

    batches: GroupCommit[int]
    ends: dict[int, Any] = field(default_factory=dict)

    async def do(self, step: int) -> None:
        try:
            self.ends[step] = await self.batches.do(step)
        except Exception as error:  # noqa: BLE001  whatever came of it
            self.ends[step] = error


def callers(store: Store, concurrency: int = 1) -> Callers:
    return Callers(GroupCommit(store.carry_out, concurrency=concurrency))


async def test_steps_that_come_while_one_is_under_way_are_carried_out_together() -> None:
    store = Store()
    calls = callers(store)
    async with anyio.create_task_group() as tasks:
        for step in range(5):
            tasks.start_soon(calls.do, step)
            await anyio.sleep(0.01)
    assert store.batches == [[0], [1, 2, 3, 4]]
    assert calls.ends == {step: step * 10 for step in range(5)}


async def test_no_batch_is_larger_than_others_can_wait_for() -> None:
    store = Store()
    calls = callers(store)
    async with anyio.create_task_group() as tasks:
        for step in range(1 + 2 * MAX_BATCH + 1):
            tasks.start_soon(calls.do, step)
    assert [len(batch) for batch in store.batches] == [1, MAX_BATCH, MAX_BATCH, 1]
    assert calls.ends == {step: step * 10 for step in range(2 * MAX_BATCH + 2)}


async def test_batches_abreast_give_each_its_own_result() -> None:
    store = Store()
    calls = callers(store, concurrency=3)
    async with anyio.create_task_group() as tasks:
        for step in range(500):
            tasks.start_soon(calls.do, step)
    assert store.most_at_once == 3
    assert sorted(step for batch in store.batches for step in batch) == list(range(500))
    assert calls.ends == {step: step * 10 for step in range(500)}


async def test_a_step_that_fails_fails_alone() -> None:
    calls = callers(Store())
    async with anyio.create_task_group() as tasks:
        for step in (0, 1, -2, 3):
            tasks.start_soon(calls.do, step)
    assert isinstance(calls.ends.pop(-2), ValueError)
    assert calls.ends == {0: 0, 1: 10, 3: 30}


async def test_a_storage_that_fails_is_waited_for_once_and_may_be_used_again() -> None:
    store = Store(failure=JournalUnusable("the disk is full"))
    calls = callers(store)
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for step in range(300):
            tasks.start_soon(calls.do, step)
    assert anyio.current_time() - began == pytest.approx(1)
    assert {str(end) for end in calls.ends.values()} == {str(store.failure)}
    store.failure = None
    await calls.do(7)
    assert calls.ends[7] == 70


@pytest.mark.parametrize("cancelled", [0, 1, 2])
@pytest.mark.parametrize("after", [0.5, 1.0, 1.5])
async def test_a_caller_who_leaves_does_not_hold_up_the_others(
    cancelled: int, after: float
) -> None:
    calls = callers(Store())
    leaving = anyio.CancelScope()

    async def leave() -> None:
        with leaving:
            await calls.do(cancelled)

    async with anyio.create_task_group() as tasks:
        for step in range(4):
            tasks.start_soon(*((leave,) if step == cancelled else (calls.do, step)))
        await anyio.sleep(after)
        leaving.cancel()
    others = {step: step * 10 for step in range(4) if step != cancelled}
    assert others.items() <= calls.ends.items()
    with anyio.fail_after(5):
        await calls.do(9)
    assert calls.ends[9] == 90


async def test_a_step_that_has_not_begun_when_its_caller_leaves_is_not_carried_out() -> None:
    store = Store()
    calls = callers(store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.do, 0)
        await anyio.sleep(0.1)
        with anyio.move_on_after(0.1):
            await calls.do(1)
    assert store.batches == [[0]]


async def test_a_step_that_has_begun_is_waited_for_by_a_caller_who_leaves() -> None:
    store = Store()
    calls = callers(store)
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(calls.do, 0)
        await anyio.sleep(0.1)
        with anyio.move_on_after(1.5):
            await calls.do(1)
        assert anyio.current_time() - began == pytest.approx(2)
