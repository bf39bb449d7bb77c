"""An account outlives its keys: who owns what a journal holds when the key is a new one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from pydantic import SecretStr

from tests.stage import KEY, Stage, inline, names_in, open_stage, request, virtual
from wan25_mcp.editing.connect import key_id
from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import Allowance, JournalUnusable, Withheld
from wan25_mcp.journal.sql import SqlJournal

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.thorough)])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual(str(request.param))


NEW: str = "rotated-key"
STRANGER: str = "strangers-key"
KEYS: dict[str, Any] = {
    "key": {KEY, NEW, STRANGER},
    "accounts": {KEY: "ours", NEW: "ours", STRANGER: "theirs"},
}


@pytest.fixture(params=["sqlite", "postgres"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlJournal]:
    is_file = request.param == "sqlite"
    place = tmp_path / "journal.sqlite3" if is_file else request.getfixturevalue("database")
    journal = SqlJournal(place, run=inline)
    yield journal
    journal.close()


@asynccontextmanager
async def two_keys(journal: SqlJournal, **words: Any) -> AsyncIterator[Stage]:
    async with open_stage(journal=journal, **(KEYS | words)) as stage:
        yield stage


async def test_with_a_new_key_of_the_account_the_earlier_edits_are_listed(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            assert [past.edit.task_id for past in await rotated.recent()] == [made.task_id]
            found = await rotated.wait(made.task_id or "", timeout=120)
    assert (found.task_id, found.status, found.error) == (made.task_id, "completed", None)


async def test_with_a_new_key_an_identical_edit_is_not_paid_again(journal: SqlJournal) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            again = await rotated.edit(request())
        assert (again.task_id, again.deduplicated) == (made.task_id, True)
        assert len(stage.emulator.submits) == 1


async def test_with_a_new_key_the_limit_counts_what_the_old_one_spent(
    journal: SqlJournal,
) -> None:
    limit = Allowance(credit_limit=3.0)
    async with two_keys(journal, allowance=limit) as stage:
        await stage.editor.edit(request("first"))
        await stage.editor.edit(request("second"))
        async with stage.another_editor(NEW) as rotated:
            with pytest.raises(Withheld) as withheld:
                await rotated.edit(request("third"))
        assert withheld.value.code == "credit_limit"
        assert len(stage.emulator.submits) == 2


async def test_what_was_under_way_is_saved_with_the_new_key(
    journal: SqlJournal, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    async with two_keys(journal, folder=folder) as stage:
        async with stage.another_editor() as old:
            await old.edit(request())
        async with stage.another_editor(NEW) as rotated:
            await rotated.connection()
            await anyio.sleep(300)
            assert len(names_in(folder / "out")) == 1


async def test_a_key_of_another_account_sees_nothing_and_pays_for_itself(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(STRANGER) as stranger:
            assert await stranger.recent() == []
            theirs = await stranger.edit(request())
        async with stage.another_editor(STRANGER) as stranger:
            assert [past.edit.task_id for past in await stranger.recent()] == [theirs.task_id]
        assert (theirs.deduplicated, theirs.task_id == made.task_id) == (False, False)


async def test_edits_at_another_address_are_not_asked_about(journal: SqlJournal) -> None:
    async with two_keys(journal) as stage:
        await stage.editor.edit(request())
        await anyio.sleep(5)
        reads = len(stage.emulator.reads)
        async with stage.another_editor(NEW, address="elsewhere") as rotated:
            assert await rotated.recent() == []
        assert len(stage.emulator.reads) == reads


async def test_while_the_provider_does_not_tell_nothing_is_sent_with_a_new_key(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            stage.emulator.fault(endpoint="query", kind="status", code=503)
            with pytest.raises(JournalUnusable) as refused:
                await rotated.edit(request())
            assert (refused.value.code, refused.value.charged) == ("service_unavailable", "no")
            await anyio.sleep(6)
            again = await rotated.edit(request())
        assert (again.task_id, again.deduplicated) == (made.task_id, True)
        assert len(stage.emulator.submits) == 1


async def test_a_provider_that_does_not_answer_holds_the_call_for_three_seconds(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            stage.emulator.fault(endpoint="query", kind="delay", seconds=60.0)
            began = anyio.current_time()
            with pytest.raises(JournalUnusable):
                await rotated.edit(request())
            assert anyio.current_time() - began <= 3.5
        assert len(stage.emulator.submits) == 1


async def test_a_key_that_is_not_accepted_is_said_to_be_so(journal: SqlJournal) -> None:
    async with two_keys(journal) as stage:
        await stage.editor.edit(request())
        async with stage.another_editor("no-key-at-all") as wrong:
            with pytest.raises(Wan25Error) as refused:
                await wrong.edit(request())
        assert (refused.value.code, refused.value.charged) == ("authentication", "no")


async def test_a_joined_key_is_not_asked_about_again(journal: SqlJournal) -> None:
    async with two_keys(journal) as stage:
        await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            await rotated.recent()
        await anyio.sleep(120)
        reads = len(stage.emulator.reads)
        async with stage.another_editor(NEW) as rotated:
            assert len(await rotated.recent()) == 1
        assert len(stage.emulator.reads) == reads


async def test_an_account_with_a_name_outlives_its_key_and_nobody_is_asked(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        async with stage.another_editor(account="studio") as before:
            made = await before.edit(request())
            await before.wait(made, timeout=120)
        reads = len(stage.emulator.reads)
        async with stage.another_editor(NEW, account="studio") as rotated:
            assert [past.edit.task_id for past in await rotated.recent()] == [made.task_id]
            assert (await rotated.edit(request("a new one"))).deduplicated is False
        async with stage.another_editor(account="another") as other:
            assert await other.recent() == []
        assert len(stage.emulator.reads) == reads


async def test_edits_from_before_the_account_had_a_name_are_its_own(journal: SqlJournal) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(account="studio") as named:
            assert [past.edit.task_id for past in await named.recent()] == [made.task_id]
        async with stage.another_editor() as unnamed:  # the same key, the name taken away again
            assert [past.edit.task_id for past in await unnamed.recent()] == [made.task_id]


async def test_owners_whose_tasks_a_key_may_read_become_one(journal: SqlJournal) -> None:
    """As journals are that were used with several keys before keys were joined."""
    async with two_keys(journal, accounts={}) as stage:
        await stage.editor.edit(request("by the first key"))
        async with stage.another_editor(STRANGER) as other:
            await other.edit(request("by the second key"))
        stage.emulator.accounts = {KEY: "ours", NEW: "ours", STRANGER: "ours"}
        for key in (NEW, KEY, STRANGER):
            async with stage.another_editor(key) as editor:
                prompts = {past.prompt for past in await editor.recent()}
                assert prompts == {"by the first key", "by the second key"}


async def test_two_processes_that_bring_the_same_new_key_agree(journal: SqlJournal) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(NEW) as one, stage.another_editor(NEW) as two:
            found: list[str | None] = []

            async def look(editor: Any) -> None:
                found.extend(past.edit.task_id for past in await editor.recent())

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(look, one)
                tasks.start_soon(look, two)
        assert found == [made.task_id, made.task_id]


async def test_an_edit_of_an_earlier_journal_whose_address_is_unknown_is_asked_about(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        async with stage.another_editor(address=None) as old:
            made = await old.edit(request())
        async with stage.another_editor(NEW) as rotated:
            assert [past.edit.task_id for past in await rotated.recent()] == [made.task_id]


async def test_reading_with_a_new_key_creates_no_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    async with two_keys(SqlJournal(path, run=inline)) as stage:
        async with stage.another_editor(NEW) as editor:
            assert await editor.recent() == []
        assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "other",
    ["HTTPS://ai.odkkk.com/apiv1", "https://AI.odkkk.com:443/apiv1", "https://ai.odkkk.com/apiv1/"],
)
def test_one_address_written_differently_is_one(other: str) -> None:
    key = SecretStr(KEY)
    assert key_id(other, key) == key_id("https://ai.odkkk.com/apiv1", key)


@pytest.mark.parametrize(
    "other",
    ["http://ai.odkkk.com/apiv1", "https://ai.odkkk.com:8443/apiv1", "https://ai.odkkk.com"],
)
def test_other_addresses_are_others(other: str) -> None:
    key = SecretStr(KEY)
    assert key_id(other, key) != key_id("https://ai.odkkk.com/apiv1", key)


def test_the_key_of_the_documented_address_is_named_as_it_was() -> None:
    """Or every journal written before would be somebody else's."""
    assert key_id("https://ai.odkkk.com/apiv1", SecretStr("k")) == "8ad853ef5b851c47afe66efe"


async def test_a_running_server_whose_owner_another_joins_still_knows_its_edits(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal, accounts=dict.fromkeys((KEY, NEW, STRANGER), "ours")) as stage:
        async with stage.another_editor(STRANGER) as other:
            assert await stage.editor.recent() == await other.recent() == []
            made = await stage.editor.edit(request("by the first key"))
            await other.edit(request("by the second key"))
            async with stage.another_editor(NEW) as joining:
                assert len(await joining.recent()) == 2
            for editor in (stage.editor, other):
                again = await editor.edit(request("by the first key"))
                assert (again.task_id, again.deduplicated) == (made.task_id, True)
                assert len(await editor.recent()) == 2
            new = await stage.editor.edit(request("a new one"))
            assert (await other.edit(request("a new one"))).task_id == new.task_id
        assert len(stage.emulator.submits) == 3


async def test_what_a_running_server_sees_after_it_was_joined_is_seen_by_all(
    journal: SqlJournal, tmp_path: Path
) -> None:
    """Its tasks, their cost and their files are under the owner's new name, as its edits are."""
    folder = tmp_path / "images"
    folder.mkdir()
    ours = dict.fromkeys((KEY, NEW, STRANGER), "ours")
    async with (
        two_keys(journal, accounts=ours, folder=folder) as stage,
        stage.another_editor(STRANGER) as other,
    ):
        assert await stage.editor.recent() == await other.recent() == []
        await stage.editor.edit(request("by the first key"))
        made = await other.edit(request("by the second key"))
        async with stage.another_editor(NEW) as joining:
            assert len(await joining.recent()) == 2
            done = await other.wait(made, timeout=200)
            assert (done.status, len(done.saved)) == ("completed", 1)
            for editor in (joining, stage.editor, other):
                [past] = [
                    past for past in await editor.recent() if past.edit.task_id == made.task_id
                ]
                assert (past.edit.status, past.edit.saved) == ("completed", done.saved)
                assert (past.edit.charged, past.credits) == ("yes", 1.5)
            polls = len(stage.emulator.reads)
            assert (await joining.get(made)).status == "completed"
            assert len(stage.emulator.reads) == polls


async def test_an_account_named_after_a_rotation_has_the_edits_of_all_its_keys(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        made = await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            assert len(await rotated.recent()) == 1
        async with stage.another_editor(NEW, account="studio") as named:
            again = await named.edit(request())
        assert (again.task_id, again.deduplicated) == (made.task_id, True)
        async with stage.another_editor(NEW, account="another") as other:
            assert await other.recent() == []


async def test_a_call_with_a_new_key_is_answered_in_its_time_whoever_is_slow(
    journal: SqlJournal,
) -> None:
    async with two_keys(journal) as stage:
        await stage.editor.edit(request())
        async with stage.another_editor(NEW) as rotated:
            stage.emulator.fault(endpoint="query", kind="delay", seconds=2.5)
            stage.emulator.fault(endpoint="submit", kind="delay", seconds=30.0)
            began = anyio.current_time()
            assert (await rotated.edit(request("another"))).status == "submitting"
            assert anyio.current_time() - began <= 4
