"""A database server that accepts connections and answers nothing holds nobody up. In real time."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import anyio
import psycopg
import pytest
from sqlalchemy.pool import QueuePool

from tests.journal.conftest import Postgres
from tests.stage import OWNER, TRIO_IF_THOROUGH, open_stage, request
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.journal.time_limits import TimeLimit

pytestmark = pytest.mark.anyio

LONG = 12.0
"""Seconds far above what a call may take, and far below for ever."""


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def journal(database: str) -> Iterator[SqlJournal]:
    journal = SqlJournal(database)
    yield journal
    _wait_for_abandoned_reads(journal)
    journal.close()


def _wait_for_abandoned_reads(journal: SqlJournal) -> None:
    """A read that was left goes on in its thread until its time is up; its connection is closed
    only if it comes back before the pool is."""
    pool = journal._engine.pool if journal._engine else None
    until = time.monotonic() + LONG
    while isinstance(pool, QueuePool) and pool.checkedout() and time.monotonic() < until:
        time.sleep(0.05)


@TRIO_IF_THOROUGH
async def test_every_call_ends_and_nothing_is_sent_and_later_all_goes_on(
    journal: SqlJournal, postgres_server: Postgres
) -> None:
    async with open_stage(journal=journal, run_seconds=2.0) as stage:
        made = await stage.editor.edit(request("before"))
        task_id = made.task_id or ""
        await anyio.sleep(2.5)
        with postgres_server.frozen():
            with anyio.fail_after(LONG):
                waited = await stage.editor.wait(task_id, timeout=4)
            with anyio.fail_after(LONG):
                got = await stage.editor.get(task_id)
            assert {waited.task_id, got.task_id} == {task_id}
            with anyio.fail_after(LONG), pytest.raises(JournalUnusable) as refused:
                await stage.editor.edit(request("new"))
            assert (refused.value.charged, refused.value.retryable) == ("no", True)
            assert len(stage.emulator.submits) == 1
        with anyio.fail_after(LONG):
            edited = await _edited_at_last(stage.editor)
        assert (edited.status, edited.charged) == ("pending", "reserved")
        assert (await stage.editor.get(task_id)).status == "completed"
        assert len(stage.emulator.submits) == 2


async def _edited_at_last(editor: AccountEditor) -> Edit:
    while True:
        try:
            return await editor.edit(request("new"))
        except JournalUnusable:
            await anyio.sleep(0.2)


@TRIO_IF_THOROUGH
async def test_many_calls_at_once_are_not_answered_one_after_another(
    journal: SqlJournal, postgres_server: Postgres
) -> None:
    async with open_stage(journal=journal, run_seconds=600.0) as stage:
        made = await stage.editor.edit(request("before"))
        with postgres_server.frozen(), anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(_refused, stage.editor, f"new {number}")
                    tasks.start_soon(stage.editor.get, made.task_id or "")
        assert len(stage.emulator.submits) == 1


async def _refused(editor: AccountEditor, prompt: str) -> None:
    with pytest.raises(JournalUnusable):
        await editor.edit(request(prompt))


@pytest.mark.thorough
async def test_a_wait_in_whose_middle_the_server_freezes_ends_in_its_time(
    journal: SqlJournal, postgres_server: Postgres
) -> None:
    async with open_stage(journal=journal, run_seconds=600.0) as stage:
        made = await stage.editor.edit(request("before"))
        waited = _Call(partial(stage.editor.wait, made, timeout=5))
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(waited)
                await anyio.sleep(1)
                with postgres_server.frozen():
                    await waited.ended.wait()
    assert waited.edit is not None
    assert (waited.edit.task_id, waited.edit.status) == (made.task_id, "pending")


@pytest.mark.thorough
@TRIO_IF_THOROUGH
async def test_a_submit_that_is_accepted_meanwhile_keeps_its_id(
    journal: SqlJournal, postgres_server: Postgres
) -> None:
    async with open_stage(journal=journal, run_seconds=600.0) as stage:
        await stage.editor.edit(request("first"))  # the journal is open from here on
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=1.5)
        edited = _Call(partial(stage.editor.edit, request("before")))
        with anyio.fail_after(LONG):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(edited)
                await anyio.sleep(1)
                with postgres_server.frozen():
                    await edited.ended.wait()
                    await anyio.sleep(4)
        first, task_id = stage.emulator.tasks
        with anyio.fail_after(LONG):
            listed = await _listed_at_last(stage.editor, task_id)
        assert listed == [task_id, first]


async def _listed_at_last(editor: AccountEditor, task_id: str) -> list[str | None]:
    """The task ids of the list, once both are in it."""
    while True:
        try:
            await editor.get(task_id)  # what could not be written is written with it
            recent = await editor.recent()
            listed = [past.edit.task_id for past in recent if past.edit.status == "pending"]
        except JournalUnusable:
            listed = []
        if len(listed) == 2:
            return listed
        await anyio.sleep(0.2)


class _Call:
    """A call under way, and what came of it."""

    def __init__(self, call: Callable[[], Awaitable[Edit]]) -> None:
        self._call = call
        self.edit: Edit | None = None
        self.ended = anyio.Event()

    async def __call__(self) -> None:
        try:
            self.edit = await self._call()
        finally:
            self.ended.set()


async def test_a_socket_is_shut_in_time_where_sockets_are_no_file_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on Windows, where `os.dup` knows nothing of them."""

    def no_descriptor(number: int) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(os, "dup", no_descriptor)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(5)
        limit = TimeLimit(ours, 0.1)
        assert theirs.recv(1) == b""
        limit.end()
        assert limit.has_passed


_MANY = """
INSERT INTO wan25_account_intents (handle, owner, fingerprint, stage, created_at, lease_until,
    holder, n, credits, task_id)
  SELECT 'edit-' || i, '{owner}', i, 'accepted', {now} - i, 0, 'h', 1, 1.5, 'task-' || i
  FROM generate_series(1, {count}) i;
INSERT INTO wan25_account_tasks (owner, task_id, settled, status, answer, seen_at, settled_at,
    followed_until)
  SELECT '{owner}', 'task-' || i, 1, 'completed',
    '{{"id": "task-' || i || '", "status": "completed", "results": ["https://r.example/a.png"]}}',
    {now} - i, {now} - i, 0
  FROM generate_series(1, {count}) i;
"""


async def test_a_journal_with_much_to_bring_forward_opens_however_long_that_takes(
    journal: SqlJournal, database: str
) -> None:
    """Twelve thousand tasks that an older version saw completed."""
    now = time.time()
    assert await journal.find("no-such", OWNER, now=now) is None
    await journal.note_saved(OWNER, "task-long-forgotten", 1, "/a.png")
    place, _, folder = database.partition("?options=-csearch_path%3D")
    with psycopg.connect(place, autocommit=True, connect_timeout=10) as link:
        link.execute(f"SET search_path TO {folder}".encode())
        link.execute(_MANY.format(owner=OWNER, now=now, count=12_000).encode())
    journal.close()
    assert len(await journal.unsaved(OWNER, now=now, limit=12_001)) == 12_000
    assert await journal.saved(OWNER, "task-long-forgotten") == {}
