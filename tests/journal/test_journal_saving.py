"""Images that nobody asks about: all of them, within bounds, and nothing again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.outputs.internet import picture
from tests.stage import OWNER, T0, TRIO_IF_THOROUGH, Stage, inline, names_in, open_stage, request
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.outputs.download import NotDownloaded

pytestmark = pytest.mark.anyio

HOUR = 3600.0
PNG = picture()
GIF = b"GIF89a" + bytes(100)
"""What no try can make a result of."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    place: Any = tmp_path / "journal.sqlite3"
    if request.param == "postgresql":
        place = request.getfixturevalue("database")
    journal = SqlJournal(place, run=inline)
    yield journal
    journal.close()


def quick(stage: Stage) -> None:
    """Have every result be a picture that need not be drawn."""
    stage.emulator.fault(endpoint="result", kind="status", code=200, body=PNG, times=0)


async def images_per_edit(stage: Stage) -> list[int]:
    return [len(past.edit.saved) for past in await stage.editor.recent(1000)]


async def made(stage: Stage, count: int, **fields: Any) -> list[Edit]:
    """So many edits, each submitted."""
    return [await stage.editor.edit(request(f"Number {i}", **fields)) for i in range(count)]


@asynccontextmanager
async def after_a_crash(
    folder: Path,
    count: int,
    journal: SqlJournal | None = None,
    *,
    seen: bool = False,
    **switches: Any,
) -> AsyncIterator[Stage]:
    """So many edits of a process that has died, before or after it has seen them completed."""
    journal = journal or SqlJournal(folder / "journal.sqlite3", run=inline)
    usual: dict[str, Any] = {"balance": 1e6, "run_seconds": 60.0}
    async with open_stage(journal=journal, folder=folder, **(usual | switches)) as stage:
        async with stage.another_editor() as dying:
            for number in range(count):
                await dying.edit(request(f"Number {number}"))
        await anyio.sleep(100)
        for name in stage.emulator.tasks if seen else ():
            await journal.record(OWNER, await stage.client.query(name), now=T0 + 100)
        yield stage


# --- all of them -------------------------------------------------------------------------------


@pytest.mark.deadline(240)
@TRIO_IF_THOROUGH
async def test_more_than_a_hundred_results_are_saved_after_a_hundred_that_were(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path, balance=1e6) as stage:
        await made(stage, 105)
        quick(stage)
        await anyio.sleep(300)
        assert await images_per_edit(stage) == [1] * 105
        stage.emulator.faults.clear()
        stage.emulator.fault(endpoint="result", kind="status", code=503, times=15)
        quick(stage)
        for number in range(15):
            await stage.editor.edit(request(f"Later {number}"))
        await anyio.sleep(HOUR / 4)
        assert await images_per_edit(stage) == [1] * 120


@pytest.mark.deadline(240)
@pytest.mark.thorough
async def test_many_that_fail_for_long_hold_up_no_other(tmp_path: Path) -> None:
    async with after_a_crash(tmp_path, 110, seen=True) as stage:
        # Each drips until its time is over; they are the oldest.
        stage.emulator.fault(endpoint="result", kind="delay", seconds=1000, times=100)
        quick(stage)
        await stage.editor.recent()
        await anyio.sleep(HOUR / 3)
        counts = await images_per_edit(stage)
        assert counts[:10] == [1] * 10
        await anyio.sleep(HOUR / 2)
        assert await images_per_edit(stage) == [1] * 110


@pytest.mark.deadline(240)  # where branches are counted
@TRIO_IF_THOROUGH
async def test_what_failed_is_tried_again_after_growing_pauses_that_the_link_outlives(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path, balance=1e6) as stage:
        stage.emulator.fault(endpoint="result", kind="status", code=503, times=0)
        [edit] = await made(stage, 1)
        tries = [await until_tried(stage, edit) for _ in range(9)]
        pauses = [round(b - a) for a, b in pairwise(tries)]
        assert pauses == sorted(pauses)
        assert pauses[0] <= 60
        assert 1800 <= pauses[-1] <= 3660
        await anyio.sleep(9 * HOUR)
        stage.emulator.faults.clear()
        await anyio.sleep(1.1 * HOUR)
        assert await images_per_edit(stage) == [1]


async def until_tried(stage: Stage, edit: Edit) -> float:
    """The moment of the next try, to 5 seconds."""
    journal = (await stage.editor._opened()).journal
    before = (await journal.unsaved_images(OWNER, str(edit.task_id))).get(1)
    with anyio.fail_after(2 * HOUR):
        while True:
            await anyio.sleep(5)
            now = (await journal.unsaved_images(OWNER, str(edit.task_id))).get(1)
            if now is not None and now != before:
                return now.tried_at


async def test_a_folder_that_is_put_right_gets_the_images_that_could_not_be_written(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        await anyio.Path(tmp_path / "out").write_text("in the way")
        await made(stage, 1)
        await anyio.sleep(300)
        [past] = await stage.editor.recent()
        assert "a file of that name exists" in past.edit.notes[0]
        await anyio.Path(tmp_path / "out").unlink()
        await anyio.sleep(HOUR)
        assert await images_per_edit(stage) == [1]


# --- within bounds -----------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "is_ours"), [(1, True), (2, True), (4, False)])
async def test_no_more_images_are_used_than_were_asked_for_and_the_rest_is_said(
    n: int, is_ours: bool, tmp_path: Path
) -> None:
    async with open_stage(folder=tmp_path, balance=1e6) as stage:
        quick(stage)
        if is_ours:
            task_id = str((await stage.editor.edit(request(n=n))).task_id)
        else:
            task_id = (await stage.client.submit(request(), idempotency_key="elsewhere")).id
        links = [f"{stage.emulator.public_url}/results/{task_id}_{i}.png" for i in range(500)]
        done = {"id": task_id, "status": "completed", "results": links}
        stage.emulator.fault(endpoint="query", kind="status", code=200, body=done, times=0)
        edit = await stage.editor.wait(task_id, timeout=300)
        assert (len(edit.image_urls), len(edit.saved)) == (n, n)
        assert len(edit.notes) == 1
        assert "500" in edit.notes[0]
        with pytest.raises(Wan25Error):
            await stage.editor.image(edit, n + 1)
        await anyio.sleep(HOUR)
        assert len(names_in(tmp_path / "out")) == n
        assert (await stage.editor.get(task_id)) == edit


async def test_an_answer_with_as_many_images_as_were_asked_for_says_nothing_of_it(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        edit = await stage.editor.wait(await stage.editor.edit(request(n=2)), timeout=300)
    assert (len(edit.image_urls), len(edit.saved), edit.notes) == (2, 2, ())


UNUSABLE = {
    "too large": {"body": bytes(64 * 1024 * 1024 + 1)},
    "no image": {"body": GIF},
}


@pytest.mark.parametrize("kind", UNUSABLE)
@TRIO_IF_THOROUGH
async def test_what_no_try_can_bring_is_downloaded_once_and_the_answer_keeps_saying_why(
    kind: str, tmp_path: Path
) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    async with open_stage(folder=tmp_path, journal=journal) as stage:
        # A second download would bring the image.
        stage.emulator.fault(endpoint="result", kind="status", code=200, **UNUSABLE[kind])
        edit = await stage.editor.wait(await stage.editor.edit(request()), timeout=100)
        assert (edit.status, edit.saved, len(edit.image_urls)) == ("completed", (), 1)
        assert edit.notes[0].startswith("Not saved: ")
        await anyio.sleep(50 * 60)
        async with stage.another_editor() as after_a_restart:
            assert await after_a_restart.get(edit) == edit
            with pytest.raises(NotDownloaded):
                await after_a_restart.image(edit, 1)
            await anyio.sleep(4 * HOUR)
            [past] = await after_a_restart.recent()
            assert (past.edit.saved, past.edit.notes) == ((), edit.notes)
            asked = await after_a_restart.get(edit)  # seldom enough
            assert (len(asked.saved), asked.notes) == (1, ())


@TRIO_IF_THOROUGH
async def test_of_several_images_the_good_ones_are_saved_and_only_they(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        stage.emulator.fault(endpoint="result", kind="status", code=200, body=GIF, skip=1)
        edit = await stage.editor.wait(await stage.editor.edit(request(n=3)), timeout=100)
        assert [path[-5] for path in edit.saved] == ["1", "3"]
        await anyio.sleep(10 * HOUR)
        assert len(names_in(tmp_path / "out")) == 2


async def test_without_saving_an_image_that_is_none_is_downloaded_once_for_previews(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path, save=False) as stage:
        stage.emulator.fault(endpoint="result", kind="status", code=200, body=GIF)
        edit = await stage.editor.wait(await stage.editor.edit(request()), timeout=100)
        for _ in range(3):
            with pytest.raises(NotDownloaded):
                await stage.editor.previews(edit)
        await anyio.sleep(HOUR)
        assert len(await stage.editor.previews(edit)) == 1


async def test_a_link_that_is_refused_at_first_is_not_given_up(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        stage.emulator.fault(endpoint="result", kind="status", code=404, times=2)
        await made(stage, 1)
        await anyio.sleep(600)
        assert await images_per_edit(stage) == [1]


# --- after a crash -----------------------------------------------------------------------------


async def test_what_should_be_finished_after_a_restart_is_polled_and_saved_at_once(
    tmp_path: Path,
) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    async with open_stage(run_seconds=90, journal=journal, folder=tmp_path) as stage:
        async with stage.another_editor() as dying:
            edit = await dying.edit(request())
            await dying.wait(edit, timeout=86)  # polled a moment ago
        before = len(stage.looks)
        await anyio.sleep(6)
        stage.editor.wake()
        await anyio.sleep(5)
        assert len(stage.looks) == before + 1
        [past] = await stage.editor.recent()
        assert (past.edit.status, len(past.edit.saved)) == ("completed", 1)


async def test_a_restart_costs_what_still_runs_one_poll(tmp_path: Path) -> None:
    async with after_a_crash(tmp_path, 3, run_seconds=1000.0) as stage:
        assert stage.looks == []
        stage.editor.wake()
        await anyio.sleep(30)
        assert len(stage.looks) == 3


async def test_two_processes_that_take_up_the_same_tasks_share_what_they_see(
    tmp_path: Path,
) -> None:
    async with after_a_crash(tmp_path, 3, run_seconds=1000.0) as stage:
        stage.editor.wake()
        async with stage.another_editor() as other:
            other.wake()
            await anyio.sleep(2 * HOUR)
            alone = 15  # about what one process makes of a run of 1000 s, three times
            assert len(stage.looks) <= 3 * alone
        assert await images_per_edit(stage) == [1] * 3
    assert len(names_in(tmp_path / "out")) == 3


@pytest.mark.deadline(240)
@TRIO_IF_THOROUGH
async def test_results_a_dead_process_saw_but_did_not_save_are_saved_on_both_databases(
    tmp_path: Path, journal: SqlJournal
) -> None:
    async with after_a_crash(tmp_path, 112, journal, seen=True) as stage:
        quick(stage)
        stage.editor.wake()
        await anyio.sleep(10)
        assert await images_per_edit(stage) == [1] * 112
