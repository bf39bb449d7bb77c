"""One watcher for each task of a process: who is told what, when it looks, and what slows it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.editing.resend import resend_pause
from wan25_mcp.errors import ReadFailed, Refused, Wan25Error
from wan25_mcp.journal import Snapshot
from wan25_mcp.polling.poller import FRESH_SECONDS, Poller
from wan25_mcp.polling.queue import POLLS_AT_ONCE
from wan25_mcp.polling.schedule import estimate
from wan25_mcp.polling.watch import Watch
from wan25_mcp.provider.models import Task

SEVENTY = estimate([70.0] * 100)
"""After a hundred runs of 70 seconds."""


def seen(status: str, at: float = 0.0, **fields: Any) -> Snapshot:
    task = Task.model_validate({"id": "t", "status": status, **fields})
    return Snapshot(task, seen_at=at)


@dataclass
class World:
    """What there is to look at: tasks that run for a time, and answers that fail."""

    run: float = 70.0
    failures: list[Wan25Error | None] = field(default_factory=list)
    takes: float = 0.0
    began: float = 0.0
    looks: list[tuple[float, str]] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    async def look(self, watch: Watch, anyway: bool) -> Snapshot | None:
        now = anyio.current_time()
        self.looks.append((round(now - self.began, 3), watch.task_id))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        await anyio.sleep(self.takes)
        self._at_once -= 1
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        is_done = now - watch.began >= self.run
        return seen("completed" if is_done else "processing", at=now)

    @property
    def times(self) -> list[float]:
        return [time for time, _ in self.looks]


@asynccontextmanager
async def watchers(
    world: World, chance: Callable[[], float] = lambda: 0.5
) -> AsyncIterator[Poller]:
    world.began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        watchers = Poller(
            world.look,
            tasks,
            anyio.Semaphore(POLLS_AT_ONCE),
            random=chance,
            settled=lambda watch: world.settled.append(watch.task_id),
        )
        tasks.start_soon(watchers.run)
        yield watchers
        tasks.cancel_scope.cancel()


def begun(watchers: Poller, task_id: str = "t", *, ago: float = 0.0) -> Watch:
    """A task that was submitted so long ago."""
    watch = watchers.open(task_id, began=anyio.current_time() - ago, expected=SEVENTY)
    watchers.receive(watch, seen("pending"), ago=ago)
    return watch


async def until_over(watchers: Poller, watch: Watch) -> None:
    with watchers.waiting(watch):
        while not watch.over:
            await watch.changed()


def limited(asked: float | None = None) -> ReadFailed:
    return ReadFailed("No.", code="rate_limit", fix="y", retryable=True, retry_after_seconds=asked)


def failed(asked: float | None = None) -> ReadFailed:
    return ReadFailed("No.", code="x", fix="y", retryable=True, retry_after_seconds=asked)


@given(st.integers(0, 3), st.none() | st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_a_resend_waits_at_least_what_was_asked(
    attempt: int, asked: float | None, chance: float
) -> None:
    pause = resend_pause(attempt, asked, chance)
    assert (asked or 0) <= pause < (asked or 0) + 8.001


# --- one watcher -----------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_task_never_seen_is_polled_at_once() -> None:
    world = World(run=0.0)
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        await until_over(ours, watch)
        assert watch.snapshot is not None
        assert (watch.snapshot.task.status, watch.failure) == ("completed", None)
    assert world.times == [0.0]


@pytest.mark.anyio
async def test_a_known_task_is_polled_when_such_edits_end() -> None:
    world = World()
    async with watchers(world) as ours:
        await until_over(ours, begun(ours))
    assert len(world.times) <= 4
    assert world.times[-1] == pytest.approx(70, abs=3)


@pytest.mark.anyio
async def test_fifty_who_wait_are_told_by_the_polls_of_one() -> None:
    alone, many = World(), World()
    async with watchers(alone) as ours:
        await until_over(ours, begun(ours))
    async with watchers(many) as ours, anyio.create_task_group() as tasks:
        watch = begun(ours)
        for _ in range(50):
            tasks.start_soon(until_over, ours, watch)
    assert many.times == alone.times


@pytest.mark.anyio
async def test_a_task_known_to_be_settled_is_not_polled() -> None:
    world = World()
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        ours.receive(watch, seen("completed"), ago=60)
        with ours.waiting(watch):
            assert watch.over
            await anyio.sleep(1000)
    assert world.times == []


@pytest.mark.anyio
async def test_when_the_last_waiter_leaves_no_more_polls_are_made_and_what_was_seen_is_kept() -> (
    None
):
    world = World(run=500)
    async with watchers(world) as ours:
        watch = begun(ours)
        with anyio.move_on_after(80):
            await until_over(ours, watch)
        made = len(world.times)
        await anyio.sleep(370)
        assert len(world.times) == made
        assert ours.get("t") is watch
        assert 70 <= watch.polled.age <= 80
        await until_over(ours, watch)
    assert world.times[made] == pytest.approx(450, abs=1)
    assert world.times[-1] >= 500


@pytest.mark.anyio
async def test_what_nobody_asks_about_any_more_is_forgotten() -> None:
    world = World(run=1e6)
    async with watchers(world) as ours:
        for number in range(150):
            with anyio.move_on_after(1):
                await until_over(ours, begun(ours, f"t{number}"))
        await anyio.sleep(700)
        for number in range(60):
            begun(ours, f"late{number}")
        assert ours.get("t0") is None
        assert ours.get("late0") is not None


@pytest.mark.anyio
async def test_a_followed_task_is_polled_seldom_until_it_is_settled() -> None:
    world = World(run=300)
    async with watchers(world) as ours:
        ours.follow(begun(ours))
        await anyio.sleep(5000)
    assert 1 <= len(world.times) <= 5
    assert min(b - a for a, b in pairwise([0.0, *world.times])) >= 60
    assert world.times[-1] <= 1300
    assert world.settled == ["t"]


@pytest.mark.anyio
async def test_a_settled_task_is_kept_for_those_who_wait_and_not_a_moment_longer() -> None:
    world = World(run=0.0)
    async with watchers(world) as ours:
        followed, waited_for = begun(ours, "followed"), begun(ours, "waited for")
        ours.follow(followed)
        with ours.waiting(waited_for):
            await anyio.sleep(1000)
            assert (followed.over, waited_for.over) == (True, True)
            assert ours.get("followed") is None
            assert ours.get("waited for") is waited_for
            assert ours.waited_for() == []
        assert ours.get("waited for") is None
    assert sorted(world.settled) == ["followed", "waited for"]


@pytest.mark.anyio
async def test_only_what_calls_wait_for_is_told_to_be_waited_for() -> None:
    async with watchers(World(run=1e6)) as ours:
        watch, followed = begun(ours), begun(ours, "followed")
        ours.follow(followed)
        assert ours.waited_for() == []
        with ours.waiting(watch):
            assert ours.waited_for() == [watch]
        assert ours.waited_for() == []


@pytest.mark.anyio
async def test_a_task_that_never_settles_is_not_followed_for_longer_than_a_day() -> None:
    world = World(run=1e9)
    async with watchers(world) as ours:
        ours.follow(begun(ours))
        await anyio.sleep(5 * 24 * 3600)
    assert 24 * 3600 <= world.times[-1] <= 24 * 3600 + 1000
    assert len(world.times) <= 120


@pytest.mark.anyio
async def test_who_comes_to_wait_for_a_followed_task_speeds_it_up() -> None:
    world = World(run=71)
    async with watchers(world) as ours:
        watch = begun(ours)
        ours.follow(watch)
        await anyio.sleep(50)
        assert world.times == []
        await until_over(ours, watch)
        assert anyio.current_time() - world.began < 71 * 1.1


@pytest.mark.anyio
async def test_polling_goes_on_when_what_was_seen_could_not_be_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither the other tasks nor the process end with it, and who waits learns of it."""
    world = World(run=200)
    breaks = iter([True])

    def chance() -> float:
        is_broken = bool(world.looks) and next(breaks, False)
        return 1 / 0 if is_broken else 0.5

    async with watchers(world, chance) as ours, anyio.create_task_group() as tasks:
        for name in ("a", "b"):
            tasks.start_soon(until_over, ours, begun(ours, name))
    assert "could not be used" in caplog.text
    assert sorted(world.settled) == ["a", "b"]


# --- asking at once --------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_question_just_after_a_poll_is_answered_from_it() -> None:
    world = World()
    async with watchers(world) as ours:
        watch = begun(ours, ago=30)
        for pause in (0.0, FRESH_SECONDS - 0.1, FRESH_SECONDS + 0.1, 0.0):
            await anyio.sleep(pause)
            with ours.waiting(watch):
                shown = await ours.refresh(watch)
            assert shown.task.status == "processing"
    assert world.times == [0.0, 2 * FRESH_SECONDS]


@pytest.mark.anyio
async def test_questions_at_once_are_one_poll() -> None:
    world = World(takes=1.0)
    answers: list[str] = []

    async def ask(ours: Poller, watch: Watch) -> None:
        with ours.waiting(watch):
            answers.append((await ours.refresh(watch)).task.status)

    async with watchers(world) as ours:
        watch = begun(ours, ago=30)
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask, ours, watch)
    assert (answers, len(world.times)) == (["processing"] * 50, 1)


@pytest.mark.anyio
async def test_a_question_while_the_provider_limits_requests_does_not_reach_it() -> None:
    world = World(failures=[limited(40)])
    async with watchers(world) as ours:
        watch, other = begun(ours, ago=30), begun(ours, "other", ago=30)
        for asked in (watch, watch, other):
            with ours.waiting(asked), pytest.raises(ReadFailed) as refused:
                await ours.refresh(asked)
        assert (refused.value.code, refused.value.retry_after_seconds) == ("rate_limit", 40.0)
        assert len(world.times) == 1
        await anyio.sleep(40.1)
        with ours.waiting(other):
            assert (await ours.refresh(other)).task.status == "completed"


# --- failures --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_failures_are_reported_and_survived() -> None:
    world = World(failures=[failed(), failed(30), failed()], run=40)
    updated_at: list[bool] = []
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        with ours.waiting(watch):
            while not watch.over:
                await watch.changed()
                updated_at.append(watch.failure is not None)
    assert updated_at == [True, True, True, False]
    assert [b - a for a, b in pairwise(world.times)] == pytest.approx([4, 30, 16], rel=0.07)


@pytest.mark.anyio
async def test_a_wait_asked_for_on_one_task_holds_back_questions_about_it_and_no_others() -> None:
    world = World(failures=[failed(30)])
    async with watchers(world) as ours:
        watch, other = begun(ours, ago=30), begun(ours, "other", ago=30)
        with ours.waiting(watch):
            with pytest.raises(ReadFailed) as reported:
                await ours.refresh(watch)
            assert reported.value.code == "x"
            await anyio.sleep(10)
            with pytest.raises(ReadFailed) as held_back:
                await ours.refresh(watch)
        assert (held_back.value.code, held_back.value.retry_after_seconds) == ("rate_limit", 20.0)
        assert held_back.value.retryable
        with ours.waiting(other):
            assert (await ours.refresh(other)).task.status == "processing"
        await anyio.sleep(20)
        with ours.waiting(watch):
            assert (await ours.refresh(watch)).task.status == "processing"
        assert world.looks == [(0.0, "t"), (10.0, "other"), (30.0, "t")]


@pytest.mark.anyio
async def test_a_failure_without_a_wait_holds_no_question_back() -> None:
    world = World(failures=[failed()])
    async with watchers(world) as ours:
        watch = begun(ours, ago=30)
        with ours.waiting(watch):
            with pytest.raises(ReadFailed):
                await ours.refresh(watch)
            assert (await ours.refresh(watch)).task.status == "processing"


@pytest.mark.anyio
@pytest.mark.parametrize("is_known", [True, False])
async def test_who_comes_after_a_failure_is_no_reason_to_poll_before_its_pause_is_over(
    is_known: bool,
) -> None:
    world = World(failures=[failed(), failed()], run=0.0)
    async with watchers(world) as ours:
        opened = ours.open("t", began=anyio.current_time() - 100, expected=SEVENTY)
        watch = begun(ours, ago=100) if is_known else opened
        for _ in range(40):
            with anyio.move_on_after(0.5):
                await until_over(ours, watch)
            if watch.over:
                break
    assert [b - a for a, b in pairwise(world.times)] == pytest.approx([4, 8], rel=0.07)
    assert (watch.over, watch.failure) == (True, None)


@pytest.mark.anyio
async def test_the_pause_after_a_failure_is_as_long_where_an_emulator_plays_faster() -> None:
    world = World(run=10, failures=[failed()])
    async with watchers(world) as ours:
        began = anyio.current_time() - 5
        watch = ours.open("t", began=began, expected=SEVENTY, speed=10.0)
        ours.receive(watch, seen("pending"), ago=5)
        with ours.waiting(watch):
            with pytest.raises(ReadFailed):
                await ours.refresh(watch)
            while not watch.over:
                await watch.changed()
    assert world.times[1] - world.times[0] == pytest.approx(4, rel=0.07)
    assert world.times[-1] < 10


@pytest.mark.anyio
async def test_who_comes_after_a_failure_is_told_of_it() -> None:
    error = failed()
    world = World(run=1e6, failures=[error])
    async with watchers(world) as ours:
        watch = begun(ours, ago=30)
        with ours.waiting(watch), pytest.raises(ReadFailed):
            await ours.refresh(watch)
        with ours.waiting(watch):
            assert (watch.failure, watch.over) == (error, False)


@pytest.mark.anyio
async def test_failures_count_anew_after_a_poll_that_succeeded() -> None:
    world = World(run=1e6, failures=[failed(), failed(), None, failed(), None])
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time() - 100, expected=SEVENTY)
        with anyio.move_on_after(300):
            await until_over(ours, watch)
    gaps = [b - a for a, b in pairwise(world.times)]
    assert gaps[:2] == pytest.approx([4, 8], rel=0.07)
    assert world.failures == []
    assert max(gaps) <= 60 * 1.1


@pytest.mark.anyio
async def test_a_task_nobody_waits_for_is_polled_again_after_a_failure() -> None:
    world = World(run=300, failures=[failed(), failed(100)])
    async with watchers(world) as ours:
        ours.follow(begun(ours))
        await anyio.sleep(5000)
    assert world.settled == ["t"]
    assert world.times[2] - world.times[1] >= 100
    assert world.times[-1] <= 1500


@pytest.mark.anyio
async def test_a_refusal_ends_the_wait_and_who_asks_later_asks_anew() -> None:
    refusal = Refused("No.", code="authentication", fix="y")
    world = World(failures=[refusal], run=0.0)
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        await until_over(ours, watch)
        assert (watch.failure, watch.snapshot) == (refusal, None)
        await anyio.sleep(100)
        assert len(world.times) == 1
        await until_over(ours, watch)
        assert (watch.failure, len(world.times)) == (None, 2)


@pytest.mark.anyio
async def test_what_is_followed_and_refused_is_polled_again_after_growing_pauses() -> None:
    refusal = Refused("No.", code="permission", fix="y")
    world = World(failures=[refusal] * 7, run=0.0)
    async with watchers(world, lambda: 0.0) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        ours.follow(watch)
        await anyio.sleep(4000)
    assert [b - a for a, b in pairwise(world.times)] == [60, 120, 240, 480, 900, 900, 900]
    assert world.settled == ["t"]


@pytest.mark.anyio
async def test_what_is_refused_for_a_day_is_left_alone_then() -> None:
    world = World(failures=[Refused("No.", code="permission", fix="y")] * 500)
    async with watchers(world) as ours:
        ours.follow(begun(ours))
        await anyio.sleep(2 * 86400)
    assert 80 < len(world.times) < 110
    assert 23 * 3600 < world.times[-1] < 25 * 3600


@pytest.mark.anyio
async def test_who_asks_between_two_polls_of_what_is_refused_is_told_at_once() -> None:
    refusal = Refused("No.", code="permission", fix="y")
    world = World(failures=[refusal] * 2, run=0.0)
    async with watchers(world, lambda: 0.0) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        ours.follow(watch)
        await anyio.sleep(30)
        await until_over(ours, watch)
        assert (world.times, watch.failure) == ([0, 30], refusal)
        await anyio.sleep(200)
    assert (world.times, world.settled) == ([0, 30, 150], ["t"])


@pytest.mark.anyio
async def test_a_callback_about_what_is_refused_is_heeded_at_once() -> None:
    world = World(failures=[Refused("No.", code="permission", fix="y")], run=0.0)
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        ours.follow(watch)
        await anyio.sleep(10)
        ours.wake(watch)
        await anyio.sleep(1)
    assert (world.times, world.settled) == ([0, 10], ["t"])


@pytest.mark.anyio
async def test_what_was_never_seen_and_is_not_found_is_not_followed() -> None:
    world = World(failures=[gone()], run=0.0)
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        ours.follow(watch)
        await anyio.sleep(7200)
        ours.follow(watch)
        await anyio.sleep(7200)
    assert world.times == [0]


def gone() -> Refused:
    return Refused("No.", code="not_found", fix="y")


@pytest.mark.anyio
async def test_a_task_that_is_said_to_be_unknown_once_is_waited_for_all_the_same() -> None:
    world = World(run=30, failures=[gone(), failed(), None])
    async with watchers(world) as ours:
        watch = begun(ours)
        await until_over(ours, watch)
    assert watch.snapshot is not None
    assert (watch.snapshot.task.status, watch.failure) == ("completed", None)


@pytest.mark.anyio
async def test_who_comes_while_a_refusal_is_being_told_is_not_left_waiting() -> None:
    refusal = Refused("No.", code="authentication", fix="y")
    world = World(run=30, failures=[refusal])
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        watch = begun(ours)
        with ours.waiting(watch):  # one who was told, and has not left yet
            await watch.changed()
            assert (watch.over, watch.failure) == (True, refusal)
            await anyio.sleep(FRESH_SECONDS)
            tasks.start_soon(until_over, ours, watch)
            await anyio.sleep(100)
    assert (watch.over, watch.failure) == (True, None)
    assert len(world.times) <= 8


@pytest.mark.anyio
async def test_a_failure_and_then_a_refusal_do_not_keep_the_next_waiter_from_polls() -> None:
    world = World(run=30, failures=[failed(), Refused("No.", code="authentication", fix="y")])
    async with watchers(world) as ours:
        watch = begun(ours)
        await until_over(ours, watch)
        await anyio.sleep(FRESH_SECONDS)
        await until_over(ours, watch)
        assert anyio.current_time() - world.began < 100
    assert watch.failure is None


@pytest.mark.anyio
async def test_a_refusal_is_not_asked_for_again_within_two_seconds() -> None:
    world = World(failures=[gone()] * 20)
    async with watchers(world) as ours:
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        for _ in range(20):
            with ours.waiting(watch), pytest.raises(Refused):
                await ours.refresh(watch)
            await anyio.sleep(0.19)
    assert len(world.times) == 2


@pytest.mark.anyio
async def test_a_day_asked_for_does_not_outlast_the_links() -> None:
    world = World(run=5, failures=[limited(86400)])
    async with watchers(world) as ours:
        ours.follow(begun(ours))
        await anyio.sleep(86400)
    assert world.settled == ["t"]
    assert 900 <= world.times[1] - world.times[0] < 1000
    assert world.times[-1] < 2000


@pytest.mark.anyio
async def test_what_is_put_off_again_and_again_takes_no_room() -> None:
    world = World(run=1e6, failures=[limited(900)])
    async with watchers(world) as ours:
        watch = begun(ours)
        for _ in range(2000):
            with anyio.move_on_after(0.1):
                await until_over(ours, watch)
        assert len(ours._queue._waiting) <= 256


@pytest.mark.anyio
async def test_what_nobody_waits_for_has_no_place_in_the_line() -> None:
    async with watchers(World(run=1e6)) as ours:
        for number in range(1000):
            with ours.waiting(begun(ours, f"t{number}")):
                pass
        assert len(ours._queue._waiting) <= 256


@pytest.mark.anyio
async def test_a_fault_of_our_own_is_reported_and_survived() -> None:
    world = World(run=0.0)
    broken = [ValueError("a bug"), None]

    async def look(watch: Watch, anyway: bool) -> Snapshot | None:
        if (error := broken.pop(0)) is not None:
            raise error
        return await world.look(watch, anyway)

    async with anyio.create_task_group() as tasks:
        ours = Poller(look, tasks, anyio.Semaphore(1), random=lambda: 0.0)
        tasks.start_soon(ours.run)
        watch = ours.open("t", began=anyio.current_time(), expected=SEVENTY)
        await until_over(ours, watch)
        tasks.cancel_scope.cancel()
    assert (watch.failure, watch.over) == (None, True)


@pytest.mark.anyio
async def test_while_another_process_polls_it_is_tried_again_after_a_second() -> None:
    world = World(run=0.0)
    elsewhere = [True, True, False]

    async def look(watch: Watch, anyway: bool) -> Snapshot | None:
        answer = await world.look(watch, anyway)
        return None if elsewhere.pop(0) else answer

    async with anyio.create_task_group() as tasks:
        ours = Poller(look, tasks, anyio.Semaphore(1), random=lambda: 0.0)
        tasks.start_soon(ours.run)
        world.began = anyio.current_time()
        await until_over(ours, ours.open("t", began=world.began, expected=SEVENTY))
        tasks.cancel_scope.cancel()
    assert world.times == pytest.approx([0, 1, 2])


# --- all tasks together ----------------------------------------------------------------------


@pytest.mark.anyio
async def test_few_polls_are_under_way_at_once() -> None:
    world = World(takes=1.0, run=0.0)
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        for number in range(100):
            watch = ours.open(f"t{number}", began=anyio.current_time(), expected=SEVENTY)
            tasks.start_soon(until_over, ours, watch)
    assert (len(world.times), world.most_at_once) == (100, POLLS_AT_ONCE)


@pytest.mark.anyio
async def test_a_rate_limit_on_one_task_slows_the_polls_of_all() -> None:
    world = World(run=0.0, failures=[None] * 30 + [limited(5)])
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        for number in range(60):
            watch = ours.open(f"t{number}", began=anyio.current_time(), expected=SEVENTY)
            tasks.start_soon(until_over, ours, watch)
            await anyio.sleep(0.1)
    limit = world.times[30]
    after = [time for time in world.times if time > limit]
    assert after[0] - limit >= 5
    assert len(after) == 30  # the refused one again, and all the others
    assert min(b - a for a, b in pairwise(after)) >= 0.09  # one after the other, not in a heap
    assert max(b - a for a, b in pairwise(after)) <= 1.0


@pytest.mark.anyio
async def test_what_a_rate_limit_has_slowed_grows_quick_again_with_every_answer() -> None:
    world = World(run=0.0, failures=[None] * 30 + [limited(5)])
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        for number in range(300):
            watch = ours.open(f"t{number}", began=anyio.current_time(), expected=SEVENTY)
            tasks.start_soon(until_over, ours, watch)
            await anyio.sleep(0.1)
    gaps = [b - a for a, b in pairwise(world.times[31:])]
    assert max(gaps[-50:]) < 0.7 * min(gaps[:5])


@pytest.mark.anyio
async def test_questions_keep_their_places_in_the_line() -> None:
    world = World(run=1e6, failures=[limited(5)])

    async def ask(ours: Poller, watch: Watch) -> None:
        with suppress(ReadFailed), ours.waiting(watch), anyio.move_on_after(60):
            await ours.refresh(watch)

    async with watchers(world) as ours:
        watches = [begun(ours, f"t{number}", ago=30) for number in range(30)]
        await ask(ours, watches[0])
        await anyio.sleep(6)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):  # who asks again does not jump the line
                for watch in watches[1:]:
                    tasks.start_soon(ask, ours, watch)
                await anyio.sleep(0.5)
    after = world.times[1:]
    assert len(after) >= 15
    assert min(b - a for a, b in pairwise(after)) >= 0.1


# --- callbacks -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_callback_is_followed_by_a_poll_at_once_and_few_came_before() -> None:
    world = World(run=70)
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        watch = begun(ours)
        watch.is_called_back = True
        ours.follow(watch)
        tasks.start_soon(until_over, ours, watch)
        await anyio.sleep(70)
        ours.wake(watch)
    assert len(world.times) <= 2
    assert world.times[-1] == 70.0


@pytest.mark.anyio
async def test_a_callback_is_not_forgotten_because_the_poll_it_causes_fails() -> None:
    world = World(run=70)
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        watch = begun(ours)
        watch.is_called_back = True
        tasks.start_soon(until_over, ours, watch)
        await anyio.sleep(70)
        world.failures = [failed(), failed()]
        ours.wake(watch)
    assert world.times[-1] - 70 < 15


@pytest.mark.anyio
async def test_a_callback_is_not_put_off_by_a_poll_just_made() -> None:
    world = World(run=70)
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        watch = begun(ours)
        tasks.start_soon(until_over, ours, watch)
        await anyio.sleep(69.5)
        await ours.refresh(watch)
        await anyio.sleep(0.5)
        ours.wake(watch)
    assert world.times[-2:] == [69.5, 70.0]


@pytest.mark.anyio
async def test_a_flood_of_untrue_callbacks_changes_only_the_pace_and_that_within_bounds() -> None:
    world = World(run=600)
    async with watchers(world) as ours, anyio.create_task_group() as tasks:
        watch = begun(ours)
        watch.is_called_back = True
        ours.follow(watch)
        tasks.start_soon(until_over, ours, watch)
        for _ in range(3000):
            ours.wake(watch)
            await anyio.sleep(0.1)
        flooded = [time for time in world.times if time <= 300]
        assert flooded[:6] == pytest.approx([0, 2, 6, 14, 30, 62], abs=0.2)
        assert len(flooded) <= 20
    assert watch.snapshot is not None
    assert watch.snapshot.task.status == "completed"


@pytest.mark.anyio
async def test_callbacks_that_never_come_are_not_counted_on() -> None:
    lateness = []
    world = World(run=70)
    async with watchers(world) as ours:
        for number in range(4):
            watch = begun(ours, f"t{number}")
            watch.is_called_back = True
            ours.follow(watch)
            began = anyio.current_time()
            await until_over(ours, watch)
            lateness.append(anyio.current_time() - began - 70)
    assert max(lateness[2:]) < 5
    assert max(lateness[:2]) <= 60  # looking is the safety net


@pytest.mark.anyio
async def test_a_callback_is_worth_six_polls_that_fail_and_no_more() -> None:
    world = World(run=70, failures=[failed()] * 20)
    async with watchers(world) as ours:
        ours.wake(begun(ours, ago=70))  # nobody waits for it, and it is not followed
        await anyio.sleep(3600)
    gaps = [b - a for a, b in pairwise(world.times)]
    assert gaps == pytest.approx([4, 8, 16, 32, 60], rel=0.07)


@pytest.mark.anyio
async def test_a_callback_that_comes_while_a_poll_is_under_way_causes_another() -> None:
    world = World(run=70, takes=3.0)
    async with watchers(world) as ours:
        watch = begun(ours, ago=67)
        with ours.waiting(watch), anyio.move_on_after(1):
            await ours.refresh(watch)
        ours.wake(watch)
        await anyio.sleep(60)
    assert world.settled == []  # nobody waits for it
    assert len(world.times) == 2
    assert watch.over


@pytest.mark.anyio
async def test_two_missed_callbacks_in_a_row_end_the_counting_on_them_and_one_restores_it() -> None:
    world = World(run=150)
    async with watchers(world) as ours:
        looks = []
        for number, comes in enumerate([False, True, False, False, False, True, True]):
            before, watch = len(world.times), begun(ours, f"t{number}")
            watch.is_called_back = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(until_over, ours, watch)
                if comes:
                    await anyio.sleep(150)
                    ours.wake(watch)
            looks.append(len(world.times) - before)
    assert max(*looks[:4], looks[6]) <= 4
    assert min(looks[4:6]) >= 10


@pytest.mark.anyio
async def test_a_callback_about_what_is_settled_causes_no_poll() -> None:
    world = World(run=0.0)
    async with watchers(world) as ours:
        watch = begun(ours)
        await until_over(ours, watch)
        made = len(world.times)
        ours.wake(watch)
        await anyio.sleep(100)
        assert len(world.times) == made
