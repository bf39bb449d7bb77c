"""When to look again: paces as numbers, and one watcher for each task."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.errors import ReadFailed, Refused
from wan25_mcp.models import Task
from wan25_mcp.waiting import (
    LONGEST_PAUSE,
    LONGEST_PAUSE_AFTER_FAILURE,
    SHORTEST_PAUSE,
    Known,
    Watch,
    Watchers,
    pause_after_failure,
    pause_before_look,
    resend_pause,
)

RUNNING = Task.model_validate({"id": "t", "status": "processing", "progress": 10})
DONE = Task.model_validate({"id": "t", "status": "completed", "progress": 100})


@pytest.mark.parametrize(
    ("age", "progress", "pause"),
    [
        (0, None, 2),
        (0, 0, 2),
        (20, None, 3),
        (60, 0, 9),
        (1000, None, 10),
        (30, 50, 10),
        (30, 75, 6),
        (50, 90, 10 / 3),
        (50, 99, 2),
        (50, 100, 2),
        (5, 1, 10),
    ],
)
def test_the_pause_follows_what_is_likely_left(
    age: float, progress: int | None, pause: float
) -> None:
    assert pause_before_look(age, progress) == pytest.approx(pause)


@given(st.floats(0, 1e9), st.none() | st.integers(0, 100))
def test_a_pause_is_between_its_bounds(age: float, progress: int | None) -> None:
    assert SHORTEST_PAUSE <= pause_before_look(age, progress) <= LONGEST_PAUSE


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e6))
def test_after_failures_the_pause_grows_and_is_never_shorter_than_asked(
    failures: int, asked: float | None
) -> None:
    pause = pause_after_failure(failures, asked)
    assert pause >= (asked or 0)
    assert pause <= max(LONGEST_PAUSE_AFTER_FAILURE, asked or 0)
    assert pause >= pause_after_failure(max(failures - 1, 1), asked)


@given(st.integers(0, 3), st.none() | st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_resend_waits_at_least_what_was_asked(
    attempt: int, asked: float | None, chance: float
) -> None:
    pause = resend_pause(attempt, asked, chance)
    assert (asked or 0) <= pause < (asked or 0) + 8.001


class Looks:
    """What a watcher will see, look by look."""

    def __init__(self, *seen: Task | Exception) -> None:
        self._seen = list(seen)
        self.times: list[float] = []

    async def __call__(self, task_id: str) -> Task:
        self.times.append(anyio.current_time())
        seen = self._seen.pop(0)
        if isinstance(seen, Exception):
            raise seen
        return seen


def failed(after: float | None = None) -> ReadFailed:
    return ReadFailed("No.", code="x", fix="y", retryable=True, retry_after_seconds=after)


async def until_over(watch: Watch) -> None:
    while not watch.over:
        await watch.news()


@pytest.mark.anyio
async def test_without_knowledge_the_first_look_is_at_once() -> None:
    look = Looks(DONE)
    async with anyio.create_task_group() as tasks, Watchers(look, tasks).watching("t") as watch:
        began = anyio.current_time()
        await until_over(watch)
    assert (watch.latest, watch.failure) == (DONE, None)
    assert look.times[0] - began < 0.1


@pytest.mark.anyio
async def test_with_knowledge_the_first_look_waits_its_turn() -> None:
    look = Looks(DONE)
    async with anyio.create_task_group() as tasks:
        began = anyio.current_time()
        known = Known(RUNNING, age=60, seen_ago=4)
        async with Watchers(look, tasks).watching("t", known) as watch:
            assert watch.latest == RUNNING
            await until_over(watch)
    assert look.times[0] - began == pytest.approx(6, abs=0.1)


@pytest.mark.anyio
async def test_a_task_known_to_be_settled_is_not_looked_at() -> None:
    look = Looks()
    async with (
        anyio.create_task_group() as tasks,
        Watchers(look, tasks).watching("t", Known(DONE, 60, 60)) as watch,
    ):
        assert (watch.over, watch.latest) == (True, DONE)
        await anyio.sleep(1000)
    assert look.times == []


@pytest.mark.anyio
async def test_failures_are_told_and_looked_past() -> None:
    look = Looks(failed(), failed(30), failed(), DONE)
    heard: list[bool] = []
    async with anyio.create_task_group() as tasks, Watchers(look, tasks).watching("t") as watch:
        while not watch.over:
            await watch.news()
            heard.append(watch.failure is not None)
    assert heard == [True, True, True, False]
    pauses = [b - a for a, b in zip(look.times, look.times[1:], strict=False)]
    assert pauses == pytest.approx([4, 30, 16], abs=0.1)


@pytest.mark.anyio
async def test_a_refusal_ends_the_watch() -> None:
    refusal = Refused("No.", code="authentication", fix="y")
    async with (
        anyio.create_task_group() as tasks,
        Watchers(Looks(refusal), tasks).watching("t") as watch,
    ):
        await until_over(watch)
    assert (watch.failure, watch.latest) == (refusal, None)


@pytest.mark.anyio
async def test_the_watcher_ends_with_its_last_waiter_and_starts_again() -> None:
    look = Looks(RUNNING, RUNNING, RUNNING, RUNNING, DONE)
    async with anyio.create_task_group() as tasks:
        watchers = Watchers(look, tasks)
        async with watchers.watching("t") as first:
            async with watchers.watching("t") as second:
                assert first is second
                await first.news()
            await first.news()
        count = len(look.times)
        await anyio.sleep(1000)
        assert len(look.times) == count
        async with watchers.watching("t", Known(RUNNING, 10, 1)) as third:
            assert third is not first
            await until_over(third)
