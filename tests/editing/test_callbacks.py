"""What callbacks do: the emulator posts them, and lies are told; the API alone is believed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx2
import pytest

from tests.stage import OWNER, T0, TRIO_IF_THOROUGH, Stage, inline, open_stage, request
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.callbacks import CallbackAddress
from wan25_mcp.editing.edit import Edit
from wan25_mcp.journal import Journal, JournalUnusable
from wan25_mcp.journal.sql import SqlJournal

pytestmark = pytest.mark.anyio
BASE = "https://edits.example.com/callbacks"


@dataclass
class Receiver:
    """What stands at our public address: hands each callback to the editor."""

    editor: AccountEditor | None = None
    heard: list[tuple[float, str, str]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    async def answer(self, posted: httpx2.Request) -> httpx2.Response:
        assert str(posted.url).startswith(BASE)
        handle, secret = str(posted.url).removeprefix(f"{BASE}/").split("/")
        self.heard.append((anyio.current_time(), handle, secret))
        assert self.editor is not None
        is_true = await self.editor.called_back(handle, secret, json.loads(posted.content)["id"])
        self.answers.append(204 if is_true else 404)
        return httpx2.Response(self.answers[-1])


@asynccontextmanager
async def called(
    receiver: Receiver | None = None, **options: Any
) -> AsyncIterator[tuple[Stage, Receiver]]:
    """A stage whose emulator can call us."""
    receiver = receiver or Receiver()
    outside = httpx2.MockTransport(receiver.answer)
    async with open_stage(callback_url=BASE, outside=outside, **options) as stage:
        receiver.editor = stage.editor
        yield stage, receiver


async def secret_of(stage: Stage) -> tuple[str, str]:
    """The handle and the secret of the address that the latest submit carried."""
    url = stage.emulator.submits[-1].body["callback_url"]
    handle, secret = url.removeprefix(f"{BASE}/").split("/")
    return handle, secret


def money(stage: Stage) -> tuple[int, int]:
    return len(stage.emulator.submits), stage.emulator.ledger.charges


@pytest.mark.parametrize("run", [5.0, 41.0, 70.0, 119.0, 300.0])
async def test_a_finished_task_is_noticed_at_once_with_two_polls_at_most(run: float) -> None:
    async with called(run_seconds=run) as (stage, receiver):
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(edit, timeout=600)
        [(when, *_)] = receiver.heard
        assert anyio.current_time() - when <= 0.5
        assert (done.status, receiver.answers) == ("completed", [204])
        assert len(stage.looks) <= (2 if run <= 120 else 4)


async def test_each_submit_has_an_address_of_its_own_and_the_journal_keeps_only_a_digest() -> None:
    journal = SqlJournal("sqlite://", run=inline)
    async with called(journal=journal) as (stage, _):
        await stage.editor.edit(request("one"))
        first = await secret_of(stage)
        await stage.editor.edit(request("two"))
        second = await secret_of(stage)
        assert first[0] != second[0]
        assert first[1] != second[1]
        assert len(first[1]) == 43
        intent = await journal.find(first[0], OWNER, now=T0)
        assert intent is not None
        assert intent.callback is not None
        assert first[1] not in intent.callback


async def test_a_process_knows_its_own_addresses_without_the_journal() -> None:
    async with called() as (stage, _):
        await stage.editor.edit(request())
        handle, secret = await secret_of(stage)
        assert stage.editor.knows_callback(handle, secret)
        assert not stage.editor.knows_callback(handle, "x" * 43)
        assert not stage.editor.knows_callback("edit-0123456789abcdef", secret)
        async with stage.another_editor() as other:
            assert not other.knows_callback(handle, secret)


async def test_the_addresses_a_process_knows_are_the_latest_ten_thousand() -> None:
    async with called() as (stage, _):
        await stage.editor.edit(request())
        first = await secret_of(stage)
        await stage.editor.edit(request("another"))
        second = await secret_of(stage)
        assert stage.editor._account is not None
        for number in range(9_999):
            stage.editor._account.callbacks.note(f"edit-{number}", CallbackAddress("", "0" * 64))
        assert not stage.editor.knows_callback(*first)
        assert stage.editor.knows_callback(*second)
        assert await stage.editor.called_back(*first, None)  # the journal knows it


async def test_an_address_of_the_callers_own_is_passed_on_untouched() -> None:
    theirs = "https://agent.example/done"
    async with open_stage(callback_url=BASE) as stage:
        await stage.editor.edit(request(callback_url=theirs))
        assert stage.emulator.submits[-1].body["callback_url"] == theirs


async def test_without_an_address_of_ours_none_is_sent() -> None:
    async with open_stage() as stage:
        await stage.editor.edit(request())
        assert "callback_url" not in stage.emulator.submits[-1].body


async def test_a_lost_callback_is_made_up_for_by_polling() -> None:
    async with called(run_seconds=70) as (stage, receiver):
        stage.emulator.fault(endpoint="callback", kind="refuse", times=0)
        done = await stage.editor.wait(await stage.editor.edit(request()), timeout=600)
        assert (done.status, receiver.heard) == ("completed", [])
        assert anyio.current_time() < 1000 + 70 + 60
        assert len(stage.looks) <= 4


@pytest.mark.parametrize(
    ("handle", "secret"),
    [("edit-0123456789abcdef", None), (None, "x" * 43), ("edit-0123456789abcdef", "x" * 43)],
)
async def test_a_forged_callback_changes_nothing(handle: str | None, secret: str | None) -> None:
    async with called(run_seconds=70) as (stage, _):
        edit = await stage.editor.edit(request())
        true_handle, true_secret = await secret_of(stage)
        forged = (handle or true_handle, secret or true_secret, edit.task_id)
        assert [await stage.editor.called_back(*forged) for _ in range(100)] == [False] * 100
        await anyio.sleep(20)
        assert stage.looks == []
        done = await stage.editor.wait(edit, timeout=600)
        assert (done.status, money(stage)) == ("completed", (1, 1))


async def test_a_callback_that_is_repeated_causes_one_poll() -> None:
    async with called(run_seconds=70) as (stage, receiver):
        stage.emulator.fault(endpoint="callback", kind="drop_after", times=3)
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(edit, timeout=600)
        made = len(stage.looks)
        await anyio.sleep(60)
        assert (len(receiver.heard), receiver.answers) == (4, [204] * 4)
        assert (len(stage.looks), made <= 2, done.status) == (made, True, "completed")
        assert money(stage) == (1, 1)


async def test_a_callback_before_the_submit_is_answered_is_heeded_after() -> None:
    async with called(run_seconds=5) as (stage, receiver):
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=20)
        edit = await stage.editor.edit(request())
        assert edit.status == "submitting"
        await anyio.sleep(10)
        assert receiver.answers == [204]
        done = await stage.editor.wait(edit, timeout=600)
        assert (done.status, len(stage.looks), money(stage)) == ("completed", 1, (1, 1))
        assert anyio.current_time() - receiver.heard[0][0] < 16.5


async def test_a_callback_long_after_the_end_causes_no_poll() -> None:
    async with called(run_seconds=70) as (stage, _):
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(edit, timeout=600)
        made = len(stage.looks)
        await anyio.sleep(3600)
        assert await stage.editor.called_back(*await secret_of(stage), edit.task_id)
        await anyio.sleep(60)
        assert (len(stage.looks), await stage.editor.get(edit)) == (made, done)


@TRIO_IF_THOROUGH
async def test_a_flood_of_true_secrets_with_untrue_news_changes_only_the_pace() -> None:
    async with called(run_seconds=300) as (stage, _):
        edit = await stage.editor.edit(request())
        address = await secret_of(stage)
        for _ in range(2000):
            assert await stage.editor.called_back(*address, edit.task_id)
            await anyio.sleep(0.1)
        assert len(stage.looks) <= 12
        done = await stage.editor.wait(edit, timeout=600)
        assert (done.status, money(stage)) == ("completed", (1, 1))


async def test_what_a_callback_says_is_not_believed() -> None:
    async with called(run_seconds=300) as (stage, _):
        other = await stage.editor.edit(request("other"))
        edit = await stage.editor.edit(request())
        assert await stage.editor.called_back(*await secret_of(stage), other.task_id)
        await anyio.sleep(5)
        assert (await stage.editor.get(edit)).status in ("pending", "processing")
        assert (await stage.editor.get(edit)).task_id == edit.task_id
        assert (await stage.editor.get(other)).task_id == other.task_id


# --- submits of unknown outcome --------------------------------------------------------------


async def test_a_callback_resolves_a_submit_of_unknown_outcome() -> None:
    async with called(run_seconds=70) as (stage, _):
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request())
        assert (edit.status, edit.charged) == ("unknown", "unknown")
        done = await stage.editor.wait(edit, timeout=600)
        [task_id] = stage.emulator.tasks
        assert (done.task_id, done.status, done.charged) == (task_id, "completed", "yes")
        assert (await stage.editor.get(str(edit.task_id))).task_id == task_id
        again = await stage.editor.edit(request())
        assert (again.task_id, again.deduplicated, money(stage)) == (task_id, True, (1, 1))


async def test_it_does_so_after_a_restart_and_saves_what_was_paid_for(tmp_path: Any) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    async with called(run_seconds=70, journal=journal, folder=tmp_path) as (stage, receiver):
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request())
        async with stage.another_editor() as restarted:
            receiver.editor = restarted
            await anyio.sleep(100)
            [past] = await restarted.recent()
            assert (past.edit.status, past.edit.charged) == ("completed", "yes")
            assert len(past.edit.saved) == 1
            assert past.edit.task_id != edit.task_id
    journal.close()


@pytest.mark.parametrize("names", ["nothing", "no task", "another edit's task"])
async def test_a_callback_that_names_no_task_of_its_own_resolves_nothing(names: str) -> None:
    async with called(run_seconds=600) as (stage, _):
        other = await stage.editor.edit(request("other"))
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request())
        hint = {"nothing": None, "no task": "task-0", "another edit's task": other.task_id}[names]
        assert await stage.editor.called_back(*await secret_of(stage), hint)
        await anyio.sleep(30)
        assert (await stage.editor.get(str(edit.task_id))).status == "unknown"
        assert (await stage.editor.get(other)).task_id == other.task_id


async def test_a_callback_that_names_a_task_seen_before_resolves_nothing() -> None:
    async with called(run_seconds=600) as (stage, _):
        foreign = await stage.client.submit(request("foreign"), idempotency_key="elsewhere")
        await stage.editor.get(foreign.id)
        await anyio.sleep(1)
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request())
        assert await stage.editor.called_back(*await secret_of(stage), foreign.id)
        await anyio.sleep(30)
        assert (await stage.editor.get(str(edit.task_id))).status == "unknown"


async def test_a_callback_reports_which_task_it_is_when_the_answer_named_another() -> None:
    async with called(run_seconds=70) as (stage, _):
        other = await stage.editor.edit(request("other"))
        body = {"id": other.task_id, "status": "pending"}
        stage.emulator.fault(endpoint="submit", kind="status", code=200, body=body, accepted=True)
        edit = await stage.editor.edit(request())
        assert edit.status == "unknown"
        done = await stage.editor.wait(edit, timeout=600)
        assert (done.task_id, done.status) == (list(stage.emulator.tasks)[1], "completed")
        assert money(stage) == (2, 2)


async def test_a_callback_is_heeded_though_the_api_fails_for_a_while() -> None:
    async with called(run_seconds=70) as (stage, _):
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request())
        stage.emulator.fault(endpoint="query", kind="html", code=502, times=5)
        done = await stage.editor.wait(edit, timeout=600)
        assert (done.status, money(stage)) == ("completed", (1, 1))


class Disk:
    """Where the journal's work runs; while it fails, nothing can be read or written."""

    def __init__(self) -> None:
        self.fails = False

    async def __call__(self, job: Any, *, may_abandon: bool = False) -> Any:
        if self.fails:
            raise JournalUnusable("the disk fails")
        return await inline(job)


async def test_a_callback_that_cannot_be_checked_is_not_said_to_be_false(tmp_path: Any) -> None:
    """The caller is to come again; who made the address knows it without the journal."""
    disk = Disk()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with (
        called(run_seconds=70, journal=journal) as (stage, receiver),
        stage.another_editor() as another,
    ):
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request())
        address = await secret_of(stage)
        await anyio.sleep(60)
        disk.fails = True
        with pytest.raises(JournalUnusable):
            await another.called_back(*address, *stage.emulator.tasks)
        await anyio.sleep(60)
        disk.fails = False
        assert receiver.answers == [204]
        await anyio.sleep(5)
        assert (await stage.editor.get(edit)).status == "completed"
        assert await another.called_back(*address, *stage.emulator.tasks)
    journal.close()


# --- several processes -----------------------------------------------------------------------


async def test_who_waits_in_another_process_hears_of_a_callback_within_two_seconds() -> None:
    journal: Journal = SqlJournal("sqlite://", run=inline)
    async with called(run_seconds=70, journal=journal) as (stage, receiver):
        edit = await stage.editor.edit(request())
        done: list[Edit] = []

        async def wait(editor: AccountEditor) -> None:
            done.append(await editor.wait(edit, timeout=600))

        async with stage.another_editor() as elsewhere:
            await wait(elsewhere)
        assert anyio.current_time() - receiver.heard[0][0] <= 2
        assert done[0].status == "completed"
        assert len(stage.looks) <= 3


async def test_a_process_that_is_not_called_itself_goes_on_counting_on_callbacks() -> None:
    journal: Journal = SqlJournal("sqlite://", run=inline)
    async with (
        called(run_seconds=45, journal=journal) as (stage, receiver),
        stage.another_editor() as elsewhere,
    ):
        for number in range(4):
            before = len(stage.looks)
            edit = await elsewhere.edit(request(f"Number {number}"))
            await elsewhere.wait(edit, timeout=600)
            assert anyio.current_time() - receiver.heard[-1][0] <= 2
            assert len(stage.looks) - before == 1
