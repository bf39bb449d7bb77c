"""Looks over the client and the journal: learnt from the past, shared by processes, taken over."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.stage import OWNER, T0, TRIO_IF_THOROUGH, inline, open_stage, request
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit, Progress
from wan25_mcp.errors import ReadFailed
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.polling.poller import POLL_PATIENCE
from wan25_mcp.polling.shared_poller import POLL_LEASE_SECONDS, REFRESH_SECONDS

pytestmark = pytest.mark.anyio


def memory() -> SqlJournal:
    """A journal that outlives the editor it is given to."""
    return SqlJournal("sqlite://", run=inline)


# --- what the journal teaches ----------------------------------------------------------------


@TRIO_IF_THOROUGH
async def test_polls_become_few_and_late_notice_rare_as_runs_are_learnt() -> None:
    async with open_stage(run_seconds=70) as stage:
        looks, late = [], []
        for number in range(30):
            before, began = len(stage.looks), anyio.current_time()
            edit = await stage.editor.edit(request(f"Number {number}"))
            stage.emulator.outcome(progress="absent")
            await stage.editor.wait(edit, timeout=600)
            looks.append(len(stage.looks) - before)
            late.append(anyio.current_time() - began - 70)
            await anyio.sleep(61)
        assert max(looks[-5:]) < looks[0]
        assert max(late[-5:]) <= 0.04 * 70


async def test_a_waiter_is_told_what_is_typical_once_there_were_a_few() -> None:
    async with open_stage(run_seconds=70) as stage:
        reported: list[Progress] = []

        async def notify(progress: Progress) -> None:
            reported.append(progress)

        for number in range(4):
            edit = await stage.editor.edit(request(f"Number {number}"))
            reported.clear()
            await stage.editor.wait(edit, timeout=600, on_progress=notify)
            await anyio.sleep(61)
        assert {progress.typical for progress in reported} == {70.0}


async def test_a_task_submitted_elsewhere_is_as_old_as_the_provider_says() -> None:
    async with open_stage(run_seconds=66) as stage:
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        await anyio.sleep(60)
        assert (await stage.editor.wait(task.id, timeout=600)).status == "completed"
        assert stage.looks[0] == 60.0
        assert stage.looks[-1] <= 66 + 0.07 * 66


@pytest.mark.parametrize("speed", [1.0, 10.0])
async def test_an_emulator_that_plays_faster_is_polled_faster_and_as_seldom(
    speed: float,
) -> None:
    async with open_stage(is_emulator=True, speed=speed, run_seconds=70) as stage:
        edit = await stage.editor.edit(request())
        began = anyio.current_time()
        assert (await stage.editor.wait(edit, timeout=600)).status == "completed"
        assert anyio.current_time() - began <= 1.1 * 70 / speed
        assert len(stage.looks) <= 9


# --- what nobody foresaw ---------------------------------------------------------------------


class Flaky:
    """Where the journal's work runs; now and then it breaks as nobody foresaw."""

    def __init__(self) -> None:
        self.is_broken = False

    async def __call__(self, job: Callable[[], Any], *, may_abandon: bool = False) -> Any:
        if self.is_broken:
            raise ZeroDivisionError("surprise")
        return await inline(job, may_abandon=may_abandon)


async def test_a_wait_outlives_an_exception_that_nobody_foresaw(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Flaky()
    async with open_stage(journal=SqlJournal("sqlite://", run=place), run_seconds=30) as stage:
        edit = await stage.editor.edit(request())
        done: list[Edit] = []

        async def wait() -> None:
            done.append(await stage.editor.wait(edit, timeout=300))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(5)
            place.is_broken = True
            await anyio.sleep(60)
            place.is_broken = False
        assert done[0].status == "completed"
        assert (await stage.editor.edit(request("Another"))).status == "pending"
    assert "snapshots of other processes" in caplog.text


# --- questions -------------------------------------------------------------------------------


async def test_a_question_that_the_provider_does_not_answer_is_answered_all_the_same() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        await anyio.sleep(5)
        stage.emulator.fault(endpoint="query", kind="delay", seconds=50)
        began = anyio.current_time()
        answer = await stage.editor.get(edit)
        assert anyio.current_time() - began == pytest.approx(POLL_PATIENCE, abs=0.1)
        assert (answer.status, answer.charged) == ("pending", "reserved")
        assert isinstance(answer.error, ReadFailed)
        assert "did not answer" in answer.error.message
        await anyio.sleep(45)
        assert len(stage.looks) == 1  # it went on, and what it saw is known
        assert (await stage.editor.get(edit)).status in ("processing", "completed")


async def test_fifty_questions_at_once_are_one_poll() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        await anyio.sleep(30)
        answers: list[Edit] = []

        async def ask() -> None:
            answers.append(await stage.editor.get(edit))

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(ask)
        assert {answer.status for answer in answers} == {"processing"}
        assert len(stage.looks) == 1


async def test_a_poll_that_hangs_holds_neither_its_task_nor_the_others_up() -> None:
    async with open_stage(run_seconds=40) as stage:
        edits = [await stage.editor.edit(request(f"Number {number}")) for number in range(25)]
        stage.emulator.fault(endpoint="query", kind="delay", seconds=300, times=25)
        done: list[float] = []

        async def wait(edit: Edit) -> None:
            await stage.editor.wait(edit, timeout=600)
            done.append(anyio.current_time())

        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for edit in edits:
                tasks.start_soon(wait, edit)
        assert max(done) - began < 75


async def test_progress_is_reported_before_there_is_a_task_and_before_it_was_seen() -> None:
    async with open_stage(run_seconds=40) as stage:
        reported: list[tuple[str, float]] = []

        async def notify(progress: Progress) -> None:
            reported.append((progress.edit.status, round(progress.elapsed)))

        stage.emulator.fault(endpoint="submit", kind="delay", seconds=22)
        edit = await stage.editor.edit(request())
        await stage.editor.wait(edit, timeout=600, on_progress=notify)
        assert reported[:3] == [("submitting", 5), ("submitting", 10), ("submitting", 15)]
        reported.clear()
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        stage.emulator.fault(endpoint="query", kind="html", code=502, times=3)
        await stage.editor.wait(task.id, timeout=600, on_progress=notify)
        assert reported[0][0] == "unknown"
        assert max(b - a for (_, a), (_, b) in pairwise(reported)) <= 5


# --- several processes -----------------------------------------------------------------------


async def test_two_processes_that_wait_poll_as_often_as_one_and_hear_together() -> None:
    async with open_stage(run_seconds=90) as alone:
        await alone.editor.wait(await alone.editor.edit(request()), timeout=600)
    async with open_stage(run_seconds=90, journal=memory()) as stage:
        edit = await stage.editor.edit(request())
        updated_at: list[float] = []

        async def wait(editor: AccountEditor) -> None:
            assert (await editor.wait(edit, timeout=600)).status == "completed"
            updated_at.append(anyio.current_time())

        async with stage.another_editor() as other, anyio.create_task_group() as tasks:
            for editor in (stage.editor, other, stage.editor, other):
                tasks.start_soon(wait, editor)
        assert len(stage.looks) <= len(alone.looks) + 1
        assert max(updated_at) - min(updated_at) <= REFRESH_SECONDS + 0.1


async def test_a_question_in_one_process_is_news_for_who_waits_in_another() -> None:
    async with open_stage(run_seconds=36, journal=memory()) as stage:
        edit = await stage.editor.edit(request())
        updated_at: list[float] = []

        async def wait(editor: AccountEditor) -> None:
            await editor.wait(edit, timeout=600)
            updated_at.append(anyio.current_time())

        async with stage.another_editor() as other, anyio.create_task_group() as tasks:
            tasks.start_soon(wait, other)
            await anyio.sleep(39)  # what the other saw just before is not fresh any more
            assert (await stage.editor.get(edit)).status == "completed"
            asked = anyio.current_time()
        assert updated_at[0] - asked <= REFRESH_SECONDS + 0.1


async def test_when_a_process_dies_in_the_middle_of_a_poll_another_polls_after_its_lease() -> None:
    journal = memory()
    async with open_stage(run_seconds=60, journal=journal) as stage:
        edit = await stage.editor.edit(request())
        await anyio.sleep(60)
        taken = await journal.acquire_poll(
            OWNER, str(edit.task_id), seen_at=None, now=T0 + 60.0, lease=POLL_LEASE_SECONDS
        )
        assert taken
        assert (await stage.editor.wait(edit, timeout=600)).status == "completed"
        assert 60 + POLL_LEASE_SECONDS <= stage.looks[-1] <= 60 + POLL_LEASE_SECONDS + 2
        assert len(stage.looks) == 1


async def test_a_poll_that_is_cancelled_does_not_hold_the_next_process_up() -> None:
    journal = memory()
    async with open_stage(journal=journal, run_seconds=60) as stage:
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        stage.emulator.fault(endpoint="query", kind="delay", seconds=50)
        async with stage.another_editor() as first:
            with anyio.move_on_after(3):
                await first.get(task.id)
        began = anyio.current_time()
        assert (await stage.editor.get(task.id)).status == "pending"
        assert anyio.current_time() - began <= 1.1


async def test_what_a_dead_process_followed_is_followed_and_saved_by_the_next(
    tmp_path: Path,
) -> None:
    journal = memory()
    async with open_stage(run_seconds=600, journal=journal, folder=tmp_path) as stage:
        async with stage.another_editor() as dying:
            edit = await dying.edit(request())
        await anyio.sleep(100)
        await stage.editor.recent()  # something is asked of it; of this task, nothing
        await anyio.sleep(3600)
        stage.emulator.forget(str(edit.task_id))
        done = await stage.editor.get(edit)
        assert (done.status, len(done.saved)) == ("completed", 1)
        assert len(stage.looks) <= 9


async def test_without_a_journal_that_can_be_read_tasks_are_waited_for_all_the_same(
    tmp_path: Path,
) -> None:
    journal = SqlJournal(tmp_path, run=inline)  # a folder: no database can be there
    async with open_stage(run_seconds=60, journal=journal) as stage:
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        assert (await stage.editor.wait(task.id, timeout=600)).status == "completed"
        assert len(stage.looks) <= 9


# --- a provider that refuses to show a task ----------------------------------------------------


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_poll_does_not_lose_an_image_nobody_asks_for(
    status: int, tmp_path: Path
) -> None:
    async with open_stage(run_seconds=60, folder=tmp_path) as stage:
        await stage.editor.edit(request())
        times = 3 if status == 404 else 1  # a known task is not given up at the first 404
        stage.emulator.fault(endpoint="query", kind="status", code=status, times=times)
        await anyio.sleep(1200)
        [past] = await stage.editor.recent()
        assert (past.edit.status, len(past.edit.saved)) == ("completed", 1)
        assert len(stage.looks) <= times + 2


@TRIO_IF_THOROUGH
async def test_a_key_that_is_refused_for_hours_is_tried_seldom_and_the_image_is_saved_then(
    tmp_path: Path,
) -> None:
    async with open_stage(run_seconds=60, folder=tmp_path) as stage:
        await stage.editor.edit(request())
        stage.emulator.fault(endpoint="query", kind="status", code=401, times=0)
        await anyio.sleep(5 * 3600)
        pauses = [round(after - before) for before, after in pairwise(stage.looks)]
        assert 60 <= pauses[0] <= 70
        assert pauses == sorted(pauses)
        assert 900 <= pauses[-1] <= 1000
        stage.emulator.faults.clear()
        await anyio.sleep(1000)
        [past] = await stage.editor.recent()
        assert (past.edit.status, len(past.edit.saved)) == ("completed", 1)
