"""The journal's file is deleted or replaced while servers use it: nobody counts by another file."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from tests.stage import inline, open_stage, request
from wan25_mcp.editing.edit import Edit
from wan25_mcp.journal import Allowance, JournalUnusable, Withheld
from wan25_mcp.journal.sql import SqlJournal

pytestmark = pytest.mark.anyio


def delete(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


def delete_the_file_alone(path: Path) -> None:
    path.unlink()


def delete_the_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def move_the_folder_away(path: Path) -> None:
    path.parent.rename(path.parent.parent / "moved")


def replace_by_an_empty_file(path: Path) -> None:
    delete(path)
    path.touch(0o600)


HARMS = [
    delete,
    delete_the_file_alone,
    delete_the_folder,
    move_the_folder_away,
    replace_by_an_empty_file,
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "journal.sqlite3"


@pytest.fixture
def journal(place: Path) -> Iterator[SqlJournal]:
    journal = SqlJournal(place, run=inline)
    yield journal
    journal.close()


@pytest.fixture
def second(place: Path) -> Iterator[SqlJournal]:
    """The journal of another server."""
    journal = SqlJournal(place, run=inline)
    yield journal
    journal.close()


@pytest.mark.parametrize("harm", HARMS)
async def test_two_servers_go_on_in_the_same_file(
    place: Path,
    journal: SqlJournal,
    second: SqlJournal,
    harm: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_stage(journal=journal) as stage:
        await stage.editor.edit(request("before"))
        harm(place)
        with caplog.at_level(logging.WARNING):
            made = await stage.editor.edit(request("after"))
        assert "deleted or replaced" in caplog.text
        async with stage.another_editor(journal=second) as other:
            deduplicated = await other.edit(request("after"))
    assert (deduplicated.task_id, deduplicated.deduplicated) == (made.task_id, True)
    assert os.stat(place).st_mode & 0o077 == 0  # noqa: PTH116  others must not read it


@pytest.mark.parametrize("harm", HARMS)
async def test_the_limit_of_a_second_server_counts_what_the_first_spends_after_that(
    place: Path, journal: SqlJournal, second: SqlJournal, harm: Callable[[Path], None]
) -> None:
    limit = Allowance(credit_limit=3.0)
    async with open_stage(journal=journal, allowance=limit) as stage:
        await stage.editor.edit(request("before"))
        harm(place)
        async with stage.another_editor(journal=second) as other:
            await other.edit(request("first"))
            await stage.editor.edit(request("second"))
            for editor in (other, stage.editor):
                with pytest.raises(Withheld):
                    await editor.edit(request("third"))
    assert len(stage.emulator.submits) == 3


async def test_while_a_submit_is_under_way_that_only_the_old_file_knows_nothing_new_is_sent(
    place: Path, journal: SqlJournal
) -> None:
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        found: list[Edit] = []

        async def edit() -> None:
            found.append(await stage.editor.edit(request("under way")))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(edit)
            await anyio.sleep(1)
            delete(place)
            with pytest.raises(JournalUnusable) as refused:
                await stage.editor.edit(request("new"))
            assert (refused.value.charged, refused.value.retryable) == ("no", True)
        [edited] = found
        assert (edited.status, edited.charged) == ("pending", "reserved")
        later = await stage.editor.edit(request("new"))
        assert later.status == "pending"
        assert len(stage.emulator.submits) == 2
        done = await stage.editor.wait(edited, timeout=120)
        assert done.status == "completed"


async def test_a_file_deleted_between_claim_and_send_sends_nothing(
    place: Path, journal: SqlJournal
) -> None:
    class Deleting(SqlJournal):
        async def begin(self, handle: str, *, now: float, lease: float) -> bool:
            delete(place)
            return await super().begin(handle, now=now, lease=lease)

    deleting = Deleting(place, run=inline)
    async with open_stage(journal=deleting) as stage:
        refused = await stage.editor.edit(request())
        assert (refused.status, refused.charged) == ("failed", "no")
        assert refused.error is not None
        assert refused.error.code == "journal_unusable"
        assert stage.emulator.submits == []
    deleting.close()


async def test_a_journal_that_is_in_place_is_not_opened_anew(
    place: Path, journal: SqlJournal
) -> None:
    async with open_stage(journal=journal) as stage:
        await stage.editor.edit(request("before"))
        engine = journal._engine
        os.utime(place, (time.time(), time.time()))
        await stage.editor.edit(request("after"))
        assert journal._engine is engine
