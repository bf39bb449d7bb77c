"""Without its journal the editor sends nothing and says why; looks at tasks go on.

And what was sent before the journal failed is kept in memory, told in every answer, and written as
soon as there is room.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sqlite3
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import psycopg
import pytest
from mcp.client import Client as McpClient
from mcp.shared.exceptions import MCPError
from PIL import Image

from tests.emulator_lab import Emulator
from tests.journal.conftest import PASSWORD, Postgres
from tests.journal.processes import Books, serving
from tests.stage import (
    KEY,
    OWNER,
    PICTURE,
    T0,
    Stage,
    inline,
    names_in,
    open_stage,
    request,
    the_owner,
    virtual,
)
from tests.systems import IS_ROOT, posix
from wan25_mcp.editing.edit import Edit, unseen
from wan25_mcp.errors import OutcomeUnknown, ReadFailed, Wan25Error
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import Allowance, ClaimRequest, DegradedJournal, Intent, JournalUnusable
from wan25_mcp.journal.engine import ADVISORY_LOCK
from wan25_mcp.journal.schema import VERSION
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task
from wan25_mcp.server import create_server

pytestmark = [pytest.mark.anyio, posix]
T = TypeVar("T")
NOBODY: Final = 65534
FIX: Final = CODES["journal_unusable"].fix


@pytest.fixture
def anyio_backend() -> Any:
    return virtual("asyncio")


def refusal(reason: str) -> dict[str, Any]:
    """The whole error, for one reason."""
    return {
        "message": "The journal, which prevents paying twice, is unavailable: "
        f"{reason}. Nothing was sent.",
        "code": "journal_unusable",
        "fix": FIX,
        "retryable": True,
        "retry_after_seconds": None,
        "request_id": None,
        "charged": "no",
    }


async def refused(stage: Stage, prompt: str = "refused") -> dict[str, Any]:
    """What an edit is refused with, after seeing that nothing was sent for it."""
    with pytest.raises(JournalUnusable) as caught:
        await stage.editor.edit(request(prompt))
    assert [submit for submit in stage.emulator.submits if submit.body["prompt"] == prompt] == []
    return vars(caught.value)


async def a_task_made_elsewhere(stage: Stage) -> str:
    return (await stage.client.submit(request("elsewhere"), idempotency_key="x")).id


async def reads_go_on(stage: Stage, task_id: str) -> None:
    """Looks and waits tell the state the provider tells, whatever became of the journal."""
    looked = await stage.editor.get(task_id)
    assert (looked.task_id, looked.status, looked.charged, looked.error) == (
        task_id,
        "processing",
        "reserved",
        None,
    )
    waited = await stage.editor.wait(task_id, timeout=120)
    assert (waited.task_id, waited.status, waited.charged, waited.error) == (
        task_id,
        "completed",
        "yes",
        None,
    )
    assert len(waited.image_urls) == 1
    again = await stage.editor.get(task_id)
    assert (again.status, again.image_urls) == ("completed", waited.image_urls)


# --- a journal that cannot be opened ---------------------------------------------------------


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """As a user whom permissions bind; root is not. The folder is theirs."""
    if not IS_ROOT:
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that another user can be given; pytest's own are closed to others."""
    folder = Path(tempfile.mkdtemp(prefix="wan25-fault-"))
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(stat.S_IRWXU)
    shutil.rmtree(folder)


def _made(folder: Path) -> Path:
    """The file of a journal that was used before."""
    path = folder / "journal.sqlite3"
    journal = SqlJournal(path, run=inline)
    journal._opened()
    journal.close()
    return path


def _folder_read_only(folder: Path) -> Path:
    folder.chmod(0o500)
    return folder / "journal.sqlite3"


def _folder_closed(folder: Path) -> Path:
    path = _made(folder)
    folder.chmod(0o000)
    return path


def _file_read_only(folder: Path) -> Path:
    path = _made(folder)
    path.chmod(0o400)
    return path


def _folder_is_a_file(folder: Path) -> Path:
    (folder / "data").write_text("a file")
    return folder / "data" / "journal.sqlite3"


def _file_is_a_folder(folder: Path) -> Path:
    path = folder / "journal.sqlite3"
    path.mkdir()
    return path


def _garbage(folder: Path) -> Path:
    path = folder / "journal.sqlite3"
    path.write_bytes(b"This is no journal. " * 500)
    return path


def _damaged(folder: Path) -> Path:
    path = _made(folder)
    content = bytearray(path.read_bytes())
    content[100:] = os.urandom(len(content) - 100)
    path.write_bytes(content)
    return path


def _newer(folder: Path) -> Path:
    path = _made(folder)
    Books(path).execute("UPDATE wan25_version SET version = 99")
    return path


UNOPENABLE: Final[dict[Callable[[Path], Path], str]] = {
    _folder_read_only: "permission denied",
    _folder_closed: "permission denied",
    _file_read_only: "permission denied",
    _folder_is_a_file: "its folder is a file",
    _file_is_a_folder: "is a directory",
    _garbage: "its file is not a journal",
    _damaged: "its file is damaged",
    _newer: "it was written by a newer wan25-mcp (journal version 99; this program knows "
    f"{VERSION}), so upgrade this one",
}


NEVER_WRITTEN: Final = (_folder_read_only, _folder_is_a_file)
"""There is no journal yet, and so no edit that it could not tell of."""


@pytest.mark.parametrize("harm", UNOPENABLE, ids=lambda harm: harm.__name__.strip("_"))
async def test_with_a_file_that_cannot_be_used_nothing_is_sent_and_polls_go_on(
    folder: Path, harm: Callable[[Path], Path]
) -> None:
    path = harm(folder)
    journal = SqlJournal(path, run=inline)
    async with open_stage(journal=journal) as stage:
        task_id = await a_task_made_elsewhere(stage)
        with as_nobody(folder):
            assert await refused(stage) == refusal(UNOPENABLE[harm])
            await anyio.sleep(5)
            await reads_go_on(stage, task_id)
            assert await refused(stage) == refusal(UNOPENABLE[harm])
            if harm in NEVER_WRITTEN:
                with pytest.raises(ReadFailed) as failed:
                    await stage.editor.get("edit-0123456789abcdef")
                assert failed.value.code == "not_found"
            else:
                assert says_it_cannot_be_read(await stage.editor.get("edit-0123456789abcdef"))
        assert len(stage.emulator.submits) == 1
    journal.close()


@pytest.mark.parametrize("harm", [_folder_read_only, _folder_closed, _file_read_only])
async def test_a_journal_is_used_as_soon_as_it_can_be(
    folder: Path, harm: Callable[[Path], Path]
) -> None:
    path = harm(folder)
    journal = SqlJournal(path, run=inline)
    async with open_stage(journal=journal) as stage:
        with as_nobody(folder):
            await refused(stage)
            _open_again(folder)
            edit = await stage.editor.edit(request("refused"))
            assert edit.task_id == stage.emulator.submits[-1].task_id
    journal.close()


def _open_again(folder: Path) -> None:
    folder.chmod(0o700)
    for path in folder.iterdir():
        path.chmod(0o600)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not _mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)):
        pytest.skip("this user may not mount a disk")
    yield disk
    unmount = shutil.which("umount")
    assert unmount
    subprocess.run([unmount, "-l", str(disk)], check=True, timeout=20)


def _mount(*arguments: str) -> bool:
    program = shutil.which("mount")
    if program is None:
        return False
    done = subprocess.run([program, *arguments], capture_output=True, timeout=20, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("used_before", [True, False])
async def test_on_a_read_only_disk_nothing_is_sent_and_polls_go_on(
    small_disk: Path, used_before: bool
) -> None:
    path = small_disk / "journal.sqlite3"
    if used_before:
        _made(small_disk)
    assert _mount("-o", "remount,ro", str(small_disk))
    journal = SqlJournal(path, run=inline)
    async with open_stage(journal=journal) as stage:
        task_id = await a_task_made_elsewhere(stage)
        assert await refused(stage) == refusal("read-only file system")
        await anyio.sleep(5)
        await reads_go_on(stage, task_id)
    journal.close()


def _nobody_listens(server: Postgres) -> str:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    return f"postgresql://wan25:{PASSWORD}@127.0.0.1:{port}/postgres"


def _wrong_password(server: Postgres) -> str:
    return server.url.replace(PASSWORD, "wrong-and-not-to-be-told")


def _no_such_user(server: Postgres) -> str:
    return server.url.replace("wan25", "somebody")


def _no_such_database(server: Postgres) -> str:
    return server.url.replace("/postgres", "/elsewhere")


def _not_a_url(server: Postgres) -> str:
    return f"postgresql:wan25:{PASSWORD}"


def _nothing_may_be_written(server: Postgres) -> str:
    return server.url + "?options=-cdefault_transaction_read_only%3Don"


UNREACHABLE: Final[dict[Callable[[Postgres], str], str]] = {
    _nobody_listens: "the database cannot be reached",
    _wrong_password: "the database refuses the user",
    _no_such_user: "the database refuses the user",
    _no_such_database: "the database, or its user, does not exist",
    _not_a_url: "WAN25_DATABASE_URL is not a database URL",
    _nothing_may_be_written: "it is read-only",
}


@pytest.mark.parametrize("harm", UNREACHABLE, ids=lambda harm: harm.__name__.strip("_"))
async def test_with_a_database_that_cannot_be_used_nothing_is_sent_and_no_secret_is_reported(
    postgres_server: Postgres, harm: Callable[[Postgres], str], caplog: pytest.LogCaptureFixture
) -> None:
    journal = SqlJournal(harm(postgres_server), run=inline)
    async with open_stage(journal=journal) as stage:
        task_id = await a_task_made_elsewhere(stage)
        assert await refused(stage) == refusal(UNREACHABLE[harm])
        await anyio.sleep(5)
        await reads_go_on(stage, task_id)
    journal.close()
    for secret in (PASSWORD, "not-to-be-told", "127.0.0.1", "postgresql:"):
        assert secret not in caplog.text


# --- a journal that fails while it is used ---------------------------------------------------


Harm = Callable[[], AbstractContextManager[None]]


@contextmanager
def _full(disk: Path) -> Iterator[None]:
    """Not a byte of room is left."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(disk).free == 0
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def _no_quota() -> Iterator[None]:
    """This process may write no file any further."""
    import resource  # not on Windows

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def _stopped(server: Postgres) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another process holds it."""
    with closing(sqlite3.connect(path, timeout=5)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.rollback()


@contextmanager
def _locked_database(url: str) -> Iterator[None]:
    with psycopg.connect(url, connect_timeout=10) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(%s)", [ADVISORY_LOCK])
        yield


class Broken:
    """A journal, and a way to break it for a while."""

    def __init__(
        self, place: Path | str, harm: Harm, reason: str, *, takes_turns: bool = True
    ) -> None:
        self.journal = SqlJournal(place, run=inline)
        self.harm = harm
        self.reason = reason
        self.takes_turns = takes_turns
        """Whether a transaction can be begun, though nothing can be written in it."""
        self._books = Books(place)

    def stages(self) -> dict[str, tuple[str, str | None]]:
        """What the tables say of each prompt."""
        rows = self._books.rows("SELECT prompt, stage, task_id FROM wan25_account_intents")
        return {row["prompt"]: (row["stage"], row["task_id"]) for row in rows}


WAYS: Final = [
    "disk full", "file locked", "database stopped",
    *(pytest.param(way, marks=pytest.mark.thorough) for way in ("no quota", "database locked")),
]  # fmt: skip


@pytest.fixture(params=WAYS)
def broken(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Broken]:
    monkeypatch.setattr("wan25_mcp.journal.engine.BUSY_SECONDS", 0.1)
    path = tmp_path / "journal.sqlite3"
    give: dict[str, Callable[[], Broken]] = {
        "disk full": lambda: _on_disk(request.getfixturevalue("small_disk")),
        "no quota": lambda: Broken(path, _no_quota, "the disk failed"),
        "file locked": lambda: Broken(
            path, lambda: _locked(path), "another process has locked it", takes_turns=False
        ),
        "database stopped": lambda: _in_database(request, _stopped),
        "database locked": lambda: _in_database(request, None),
    }
    broken = give[request.param]()
    yield broken
    broken.journal.close()


def _on_disk(disk: Path) -> Broken:
    return Broken(disk / "journal.sqlite3", lambda: _full(disk), "the disk is full")


def _in_database(
    request: pytest.FixtureRequest, harm: Callable[[Postgres], AbstractContextManager[None]] | None
) -> Broken:
    url: str = request.getfixturevalue("database")
    server: Postgres = request.getfixturevalue("postgres_server")
    if harm is None:
        return Broken(
            url, lambda: _locked_database(url), "another process has locked it", takes_turns=False
        )
    return Broken(url, lambda: harm(server), "the database cannot be reached", takes_turns=False)


async def test_when_the_journal_fails_nothing_more_is_sent_until_it_works_again(
    broken: Broken,
) -> None:
    async with open_stage(journal=broken.journal) as stage:
        before = await stage.editor.edit(request("before"))
        assert before.task_id
        await anyio.sleep(5)
        with broken.harm():
            assert await refused(stage, "new") == refusal(broken.reason)
            if broken.takes_turns:  # an equal call only reads, and is told its task
                earlier = await stage.editor.edit(request("before"))
                assert (earlier.task_id, earlier.deduplicated) == (before.task_id, True)
            else:
                with pytest.raises(JournalUnusable):
                    await stage.editor.edit(request("before"))
            await reads_go_on(stage, before.task_id)
            assert len(stage.emulator.submits) == 1
        deduplicated = await stage.editor.edit(request("before"))
        assert (deduplicated.task_id, deduplicated.status, deduplicated.deduplicated) == (
            before.task_id,
            "completed",
            True,
        )
        new = await stage.editor.edit(request("new"))
        assert [submit.task_id for submit in stage.emulator.submits] == [
            before.task_id,
            new.task_id,
        ]


async def test_an_acceptance_that_cannot_be_written_is_reported_and_written_once_there_is_room(
    broken: Broken,
) -> None:
    async with open_stage(journal=broken.journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        other = await stage.editor.edit(request("other"))
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        async with anyio.create_task_group() as tasks:
            found: list[Edit] = []
            tasks.start_soon(_edit_into, stage, "kept", found)
            await anyio.sleep(1)
            assert broken.stages()["kept"] == ("sending", None)
            with broken.harm():
                await anyio.sleep(1.5)
                [edit] = found
                task_id = stage.emulator.submits[-1].task_id
                assert (edit.task_id, edit.status, edit.charged, edit.error) == (
                    task_id,
                    "pending",
                    "reserved",
                    None,
                )
                await anyio.sleep(2.5)
                assert stage.looks == []  # the answer to the submit has told enough
                stage.emulator.fault(endpoint="query", kind="html", code=502)
                blind = await stage.editor.get(task_id or "")
                assert (blind.task_id, blind.status, blind.charged, blind.usage) == (
                    task_id,
                    "pending",
                    "reserved",
                    edit.usage,
                )
                assert isinstance(blind.error, ReadFailed)
                await anyio.sleep(8)
                looked = await stage.editor.get(task_id or "")
                assert (looked.task_id, looked.status, looked.charged) == (
                    task_id,
                    "processing",
                    "reserved",
                )
                # What the journal does hold is not forgotten over what it lacks.
                earlier = await stage.editor.get(other.task_id or "")
                assert (earlier.task_id, earlier.status) == (other.task_id, "processing")
                by_handle = await stage.editor.get(_handle_of(stage, "kept"))
                assert (by_handle.task_id, by_handle.status) == (task_id, "processing")
                unheard = await stage.editor.get("task-0")
                assert (unheard.task_id, unheard.status) == ("task-0", "unknown")
        assert broken.stages()["kept"] == ("sending", None)
        await stage.editor.get(task_id or "")
        assert broken.stages()["kept"] == ("accepted", task_id)
        deduplicated = await stage.editor.edit(request("kept"))
        assert (deduplicated.task_id, deduplicated.deduplicated) == (task_id, True)
    assert len(stage.emulator.submits) == 2


async def _edit_into(stage: Stage, prompt: str, found: list[Edit]) -> None:
    found.append(await stage.editor.edit(request(prompt)))


def _handle_of(stage: Stage, prompt: str) -> str:
    """The handle of an edit whose answer tells only its task id."""
    [sent] = [submit for submit in stage.emulator.submits if submit.body["prompt"] == prompt]
    return sent.headers["idempotency-key"]


async def test_the_log_names_what_could_not_be_written_and_does_not_call_it_unsent(
    broken: Broken, caplog: pytest.LogCaptureFixture
) -> None:
    """Were the process killed now, the log alone would know the id of what was paid for."""
    async with open_stage(journal=broken.journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_edit_into, stage, "kept", [])
            await anyio.sleep(1)
            with broken.harm():
                await anyio.sleep(1.5)
                task_id = str(stage.emulator.submits[0].task_id)
                handle = _handle_of(stage, "kept")
                [reported] = [one for one in caplog.records if task_id in one.getMessage()]
                assert handle in reported.getMessage()
                assert reported.levelname == "ERROR"
                await stage.editor.get(task_id)
        written = await stage.editor.edit(request("written"))
        assert str(written.task_id) not in caplog.text
    assert broken.reason in caplog.text
    assert "othing was sent" not in caplog.text


async def test_an_image_that_is_not_saved_for_want_of_a_journal_was_not_unsent(
    broken: Broken, tmp_path: Path
) -> None:
    async with open_stage(journal=broken.journal, folder=tmp_path) as stage:
        edit = await stage.editor.edit(request("completed"))
        with broken.harm():
            reported = await stage.editor.wait(edit, timeout=120)
        assert (reported.status, reported.charged, reported.saved) == ("completed", "yes", ())
        [note] = reported.notes
        assert broken.reason in note
        assert "othing was sent" not in note
        await anyio.sleep(60)
        saved = [Path(path).name for path in (await stage.editor.get(edit)).saved]
        assert saved == names_in(tmp_path / "out")
        assert len(saved) == 1


async def test_an_acceptance_is_written_once_there_is_room_though_nobody_asks(
    broken: Broken,
) -> None:
    async with open_stage(journal=broken.journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_edit_into, stage, "kept", [])
            await anyio.sleep(1)
            with broken.harm():
                await anyio.sleep(3)
        assert broken.stages()["kept"] == ("sending", None)
        await anyio.sleep(60)
        assert broken.stages()["kept"] == ("accepted", stage.emulator.submits[0].task_id)


async def test_an_unknown_outcome_that_cannot_be_written_is_reported_and_never_sent_again(
    broken: Broken,
) -> None:
    async with open_stage(journal=broken.journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="drop_after", seconds=2)
        async with anyio.create_task_group() as tasks:
            found: list[Edit] = []
            tasks.start_soon(_edit_into, stage, "lost", found)
            await anyio.sleep(1)
            with broken.harm():
                await anyio.sleep(1.5)
        [edit] = found
        assert isinstance(edit.error, OutcomeUnknown)
        assert (edit.status, edit.charged, edit.error.code) == (
            "unknown",
            "unknown",
            "outcome_unknown",
        )
        again = await stage.editor.edit(request("lost"))
        assert (again.task_id, again.status, again.deduplicated) == (edit.task_id, "unknown", True)
        assert broken.stages()["lost"] == ("unknown", None)
    assert len(stage.emulator.submits) == 1


@pytest.mark.parametrize("is_of_this_process", [True, False])
async def test_an_answer_with_anothers_task_is_reported_from_its_own_while_nothing_can_be_written(
    broken: Broken, is_of_this_process: bool
) -> None:
    """What an earlier process has sent is known again as soon as the journal is."""
    async with open_stage(journal=broken.journal) as stage, stage.another_editor() as other:
        first = await (stage.editor if is_of_this_process else other).edit(request("first"))
        assert first.task_id
        body = {"id": first.task_id, "status": "pending"}
        stage.emulator.fault(
            endpoint="submit", kind="status", code=200, body=body, accepted=True, seconds=2
        )
        async with anyio.create_task_group() as tasks:
            found: list[Edit] = []
            tasks.start_soon(_edit_into, stage, "mixed up", found)
            await anyio.sleep(1)
            with broken.harm():
                await anyio.sleep(1.5)
        if is_of_this_process:
            [edit] = found
            assert (edit.status, edit.charged) == ("unknown", "unknown")
            assert isinstance(edit.error, OutcomeUnknown)
        await anyio.sleep(40)
        again = await stage.editor.edit(request("mixed up"))
        assert (again.status, again.charged, again.deduplicated) == ("unknown", "unknown", True)
        assert broken.stages() == {
            "first": ("accepted", first.task_id),
            "mixed up": ("unknown", None),
        }
        assert (await stage.editor.get(first.task_id)).task_id == first.task_id
    assert len(stage.emulator.submits) == 2


async def test_two_who_poll_at_once_after_the_journal_works_again_are_both_answered(
    broken: Broken,
) -> None:
    async with open_stage(journal=broken.journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_edit_into, stage, "kept", [])
            await anyio.sleep(1)
            with broken.harm():
                await anyio.sleep(1.5)
        task_id = stage.emulator.submits[0].task_id or ""
        answers: list[tuple[str | None, str]] = []

        async def look() -> None:
            edit = await stage.editor.get(task_id)
            answers.append((edit.task_id, edit.status))

        await anyio.sleep(8)
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(look)
    assert answers == [(task_id, "processing")] * 5


class _Slow(SqlJournal):
    """A journal that cannot be written at first, and then takes its time with one step."""

    def __init__(self) -> None:
        super().__init__("sqlite://", run=inline)
        self.is_broken = True
        self.may_write = anyio.Event()

    async def mark_unknown(self, handle: str, error: Wan25Error) -> None:
        if self.is_broken:
            raise JournalUnusable("the disk is full")
        await self.may_write.wait()
        await super().mark_unknown(handle, error)

    async def accept(self, owner: str, handle: str, task: Task, *, now: float) -> bool:
        if self.is_broken:
            raise JournalUnusable("the disk is full")
        return await super().accept(owner, handle, task, now=now)


async def test_an_acceptance_is_kept_that_fails_while_an_earlier_step_is_written() -> None:
    journal = _Slow()
    degraded = DegradedJournal(journal, the_owner)
    asked = ClaimRequest(
        handle="edit-1", owner=OWNER, fingerprint="f", n=1, prompt="night", holder="a process"
    )
    claim = await journal.claim(asked, now=T0, window=600, lease=60, allowance=Allowance())
    await journal.begin("edit-1", now=T0, lease=60)
    unknown = await degraded.mark_unknown(claim.intent, OutcomeUnknown(code="outcome_unknown"))
    task = Task.model_validate({"id": "task-1", "status": "pending"})
    async with anyio.create_task_group() as tasks:
        journal.is_broken = False
        tasks.start_soon(partial(degraded.find, "edit-1", now=T0 + 1))  # writes what was kept
        await anyio.sleep(1)
        journal.is_broken = True
        assert (await degraded.accept(unknown, task, now=T0 + 2)).task_id == "task-1"
        journal.may_write.set()
    journal.is_broken = False
    found = await degraded.find("edit-1", now=T0 + 3)
    assert found is not None
    assert (found.stage, found.task_id) == ("accepted", "task-1")
    assert await journal.find("task-1", OWNER, now=T0 + 3) is not None


async def test_when_the_journal_fails_whoever_wants_to_poll_may_and_what_is_seen_is_kept(
    broken: Broken,
) -> None:
    degraded = DegradedJournal(broken.journal, the_owner)
    pending, done = (
        Task.model_validate({"id": "task-1", "status": status})
        for status in ("pending", "completed")
    )
    before = await degraded.record(pending, now=T0)
    await broken.journal.note_saved(OWNER, "task-1", 1, "x")  # on the disk, and all before it
    look = partial(degraded.acquire_poll, "task-1", seen_at=T0, lease=20.0)
    with broken.harm():
        assert [await look(now=T0 + 1) for _ in range(2)] == [True, True]
        await degraded.release_poll("task-1")
        seen = await degraded.record(done, now=T0 + 2)
        assert seen.settled_at == T0 + 2
        assert await degraded.snapshots(["task-1", "task-9"]) == {"task-1": seen}
    assert await degraded.snapshots(["task-1", "task-9"]) == {"task-1": seen}
    assert await broken.journal.snapshots(OWNER, ["task-1"]) == {"task-1": before}
    assert [await look(now=T0 + 1) for _ in range(2)] == [True, False]
    await degraded.find("task-1", now=T0 + 3)  # the next question writes what was kept
    kept = (await broken.journal.snapshots(OWNER, ["task-1"]))["task-1"]
    assert (kept.task, kept.settled_at) == (done, T0 + 2)


async def test_a_row_that_cannot_be_read_ends_nothing(folder: Path) -> None:
    journal = SqlJournal(folder / "journal.sqlite3", run=inline)
    async with open_stage(journal=journal, run_seconds=60) as stage:
        spoilt = await stage.editor.edit(request("spoilt"))
        Books(journal._url).execute("UPDATE wan25_account_tasks SET answer = '{'")
        whole = await stage.editor.edit(request("whole"))
        await anyio.sleep(100)  # rounds go on, and waits
        assert (await stage.editor.wait(whole, timeout=300)).status == "completed"
        assert (await stage.editor.wait(spoilt, timeout=300)).status == "completed"
    journal.close()


async def test_a_journal_that_cannot_be_read_reports_nothing_of_polls(folder: Path) -> None:
    degraded = DegradedJournal(SqlJournal(_garbage(folder), run=inline), the_owner)
    assert await degraded.acquire_poll("task-1", seen_at=None, now=T0, lease=20.0) is True
    await degraded.release_poll("task-1")
    assert await degraded.seen_since(0.0) == {}
    assert await degraded.snapshots(["task-1"]) == {}
    assert list(await degraded.past_runs(n=1)) == []
    assert list(await degraded.orphaned(now=T0, unseen_for=60.0)) == []


@pytest.mark.parametrize(
    "broken", [way for way in WAYS if way != "database stopped"], indirect=True
)
async def test_what_is_known_by_its_handle_is_read_from_a_disk_that_takes_nothing(
    broken: Broken,
) -> None:
    """Also while the lease of a dead process's submit has run out, which ought to be noted."""
    async with open_stage(journal=broken.journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=401)
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        await stage.editor.edit(request("refused"))
        lost = await stage.editor.edit(request("lost"))
        assert lost.task_id
        Books(broken.journal._url).execute(
            "UPDATE wan25_account_intents SET stage = 'sending', lease_until = 1 "
            "WHERE prompt = 'refused'"
        )
        with broken.harm():
            edit = await stage.editor.get(lost.task_id)
            assert (edit.task_id, edit.status, edit.charged) == (lost.task_id, "unknown", "unknown")
            listed = [one.edit.status for one in await stage.editor.recent()]
            assert sorted(listed) == ["failed", "unknown"]


class Unreadable:
    """Where the journal's work runs; what is read fails while it is told to."""

    def __init__(self) -> None:
        self.fails = False

    async def __call__(self, job: Any, *, may_abandon: bool = False) -> Any:
        if self.fails and job.args[0] == "read":
            raise JournalUnusable("the disk fails")
        return await inline(job)

    @contextmanager
    def harm(self) -> Iterator[None]:
        self.fails = True
        yield
        self.fails = False


@pytest.fixture(params=["sqlite", "postgresql"])
def unreadable(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[SqlJournal, Harm]]:
    """A journal, and a way to have it unreadable for a while."""
    disk = Unreadable()
    if request.param == "sqlite":
        journal, harm = SqlJournal(tmp_path / "journal.sqlite3", run=disk), disk.harm
    else:
        server: Postgres = request.getfixturevalue("postgres_server")
        journal = SqlJournal(request.getfixturevalue("database"), run=inline)
        harm = partial(_stopped, server)
    yield journal, harm
    journal.close()


def says_it_cannot_be_read(edit: Edit) -> bool:
    """Whether an answer says that an edit may exist and may be paid for, and why that is all."""
    error = edit.error
    assert isinstance(error, ReadFailed)
    assert (error.code, error.charged, error.retryable) == ("journal_unusable", "unknown", True)
    assert "Nothing was sent" not in error.message
    return (edit.status, edit.charged) == ("unknown", "unknown")


async def test_a_handle_is_not_said_to_be_unknown_while_the_journal_cannot_be_read(
    unreadable: tuple[SqlJournal, Harm],
) -> None:
    journal, harm = unreadable
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        started = await stage.editor.edit(request())
        handle = started.task_id or ""
        assert handle.startswith("edit-")
        await anyio.sleep(20)
        task_id = await a_task_made_elsewhere(stage)
        async with stage.another_editor() as another:
            with harm():
                for editor in (stage.editor, another):
                    for edit in (await editor.get(handle), await editor.wait(handle, timeout=3)):
                        assert says_it_cannot_be_read(edit)
                        assert edit.task_id == handle
                    for name in (task_id, stage.emulator.submits[0].task_id or ""):
                        looked = await editor.get(name)
                        assert (looked.task_id, looked.charged) == (name, "reserved")
                with pytest.raises(ReadFailed) as failed:
                    await another.image(handle, 1)
                assert failed.value.code == "journal_unusable"
            reported = await another.get(handle)
            assert reported.task_id == stage.emulator.submits[0].task_id
            with pytest.raises(ReadFailed) as failed:
                await another.get("edit-0123456789abcdef")
            assert failed.value.code == "not_found"


async def test_a_wait_outlives_a_journal_that_cannot_be_read_for_a_while(tmp_path: Path) -> None:
    disk = Unreadable()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        started = await stage.editor.edit(request())
        await anyio.sleep(20)
        async with stage.another_editor() as another, anyio.create_task_group() as tasks:
            done: list[Edit] = []

            async def wait() -> None:
                done.append(await another.wait(started, timeout=200))

            with disk.harm():
                tasks.start_soon(wait)
                await anyio.sleep(15)
        assert [edit.status for edit in done] == ["completed"]
    journal.close()


@pytest.mark.parametrize("is_reachable", [True, False])
async def test_a_deduplicated_edit_is_told_of_though_the_journal_cannot_be_read(
    tmp_path: Path, is_reachable: bool
) -> None:
    disk = Unreadable()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with open_stage(journal=journal) as stage:
        first = await stage.editor.edit(request())
        await anyio.sleep(5)
        async with stage.another_editor() as another:
            await another.recent()  # whose edits they are is known from here on
            with disk.harm():
                if not is_reachable:
                    stage.emulator.fault(endpoint="query", kind="html", code=502, times=0)
                deduplicated = await another.edit(request())
        assert (deduplicated.task_id, deduplicated.deduplicated) == (first.task_id, True)
        if is_reachable:
            assert (deduplicated.status, deduplicated.charged, deduplicated.error) == (
                "processing",
                "reserved",
                None,
            )
        else:
            assert (deduplicated.status, deduplicated.charged) == ("unknown", "unknown")
            assert isinstance(deduplicated.error, ReadFailed)
            assert deduplicated.error.code == "service_error"
    journal.close()


async def test_a_deduplicated_edit_that_is_being_sent_is_unknown_while_the_journal_cannot_be_read(
    tmp_path: Path,
) -> None:
    disk = Unreadable()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with open_stage(journal=journal) as stage, stage.another_editor() as another:
        await another.recent()  # whose edits they are is known from here on
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        started = await stage.editor.edit(request())
        with disk.harm():
            deduplicated = await another.edit(request())
        assert says_it_cannot_be_read(deduplicated)
        assert (deduplicated.task_id, deduplicated.deduplicated) == (started.task_id, True)
    journal.close()


async def test_a_deduplicated_edit_of_unknown_outcome_says_why_though_the_journal_cannot_be_read(
    tmp_path: Path,
) -> None:
    disk = Unreadable()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with open_stage(journal=journal) as stage, stage.another_editor() as another:
        await another.recent()  # whose edits they are is known from here on
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        lost = await stage.editor.edit(request())
        with disk.harm():
            deduplicated = await another.edit(request())
        assert (deduplicated.task_id, deduplicated.status, deduplicated.deduplicated) == (
            lost.task_id,
            "unknown",
            True,
        )
        assert isinstance(deduplicated.error, OutcomeUnknown)
    journal.close()


async def test_an_image_is_given_by_its_link_while_the_journal_cannot_be_read(
    tmp_path: Path,
) -> None:
    disk = Unreadable()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with open_stage(journal=journal, folder=tmp_path) as stage:
        done = await stage.editor.wait(await stage.editor.edit(request()), timeout=200)
        assert len(done.saved) == 1
        whole = await stage.editor.image(done, 1)
        with disk.harm():
            assert await stage.editor.image(done, 1) == whole
    journal.close()


async def test_a_resource_is_not_said_to_be_absent_while_the_journal_cannot_be_read(
    tmp_path: Path,
) -> None:
    disk = Unreadable()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with (
        open_stage(journal=journal) as stage,
        McpClient(create_server(stage.editor)) as client,
    ):
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        started = await stage.editor.edit(request())
        absent = "wan25://tasks/edit-0123456789abcdef/images/1"
        with pytest.raises(MCPError) as unknown:
            await client.read_resource(absent)
        with disk.harm(), pytest.raises(MCPError) as unreadable:
            await client.read_resource(f"wan25://tasks/{started.task_id}/images/1")
        assert unknown.value.error.code != unreadable.value.error.code
        assert "journal cannot be read" in unreadable.value.error.message
    journal.close()


def test_an_accepted_edit_whose_state_cannot_be_read_says_so() -> None:
    accepted = Intent(
        handle="edit-1",
        owner=OWNER,
        created_at=T0,
        n=1,
        prompt=None,
        stage="accepted",
        task_id="task-1",
    )
    edit = unseen(accepted)
    assert edit.task_id == "task-1"
    assert says_it_cannot_be_read(edit)


class SlowDisk:
    """Where the journal's work runs; while it fails, each write takes a second to do so."""

    def __init__(self) -> None:
        self.fails = False

    async def __call__(self, job: Callable[[], T], *, may_abandon: bool = False) -> T:
        if self.fails:
            with anyio.CancelScope(shield=True):  # as a thread is waited for
                await anyio.sleep(1)
            self.fails = False
            raise JournalUnusable("the disk fails")
        return await inline(job)


both_backends = pytest.mark.parametrize(
    "anyio_backend", [virtual("asyncio"), virtual("trio")], ids=["asyncio", "trio"]
)


class Disk:
    """Where the journal's work runs: how long it takes, and what it fails with."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.error: Exception | None = None

    async def __call__(self, job: Callable[[], T], *, may_abandon: bool = False) -> T:
        with anyio.CancelScope(shield=True):  # as a thread is waited for
            await anyio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        return await inline(job)


@both_backends
@pytest.mark.parametrize("kind", ["drop_after", "delay"])
async def test_what_may_have_been_accepted_is_not_said_to_be_never_sent_by_a_server_that_stops(
    tmp_path: Path, kind: str
) -> None:
    """The answer comes in the last moment before the server gives up; its writing fails."""
    disk = SlowDisk()
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=disk)
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind=kind, seconds=4.8)
        with anyio.move_on_after(0.1):
            await stage.editor.edit(request("last"), patience=0.05)
        tasks_of_the_end = anyio.create_task_group()
        async with tasks_of_the_end:
            tasks_of_the_end.start_soon(stage.editor.finish)
            await anyio.sleep(4.5)
            disk.fails = True
    rows = Books(tmp_path / "journal.sqlite3").intents("last")
    assert [(row["stage"], row["error"]) for row in rows] == [("sending", None)]
    later = await journal.find(rows[0]["handle"], OWNER, now=T0 + 3600)
    journal.close()
    assert later is not None
    assert later.stage == "unknown"


async def test_a_server_that_was_taken_for_dead_while_it_waited_sends_nothing_and_says_so(
    tmp_path: Path,
) -> None:
    """As after a machine's sleep: another process has said of the intent that it was never sent."""
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=30)
        found: list[Edit] = []

        async def edit() -> None:
            found.append(await stage.editor.edit(request("asleep"), patience=120))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(edit)
            await anyio.sleep(5)
            [row] = Books(tmp_path / "journal.sqlite3").intents("asleep")
            seen = await journal.find(row["handle"], OWNER, now=T0 + 3600)
            assert seen is not None
            assert seen.stage == "refused"
        assert len(stage.emulator.submits) == 1
        [reported] = found
        assert reported.error is not None
        assert (reported.task_id, reported.status, reported.charged, reported.error.code) == (
            None,
            "failed",
            "no",
            "never_sent",
        )
        again = await stage.editor.edit(request("asleep"))
        assert (again.status, again.deduplicated) == ("pending", False)
    journal.close()


# --- callbacks meanwhile ---------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["before", "meanwhile"])
async def test_a_callback_in_an_outage_resolves_a_submit_of_unknown_outcome(
    broken: Broken, lost: str
) -> None:
    """Whether the loss was written before the journal failed, or could not be."""
    base = "https://edits.example.com/callbacks"
    async with open_stage(journal=broken.journal, callback_url=base, run_seconds=20) as stage:
        other = await stage.editor.edit(request("other"))
        stage.emulator.fault(endpoint="submit", kind="drop_after", seconds=2)
        async with anyio.create_task_group() as tasks:
            found: list[Edit] = []
            tasks.start_soon(_edit_into, stage, "lost", found)
            await anyio.sleep(1 if lost == "meanwhile" else 3)
            with broken.harm():
                await anyio.sleep(2)
                url = stage.emulator.submits[-1].body["callback_url"]
                handle, secret = url.removeprefix(f"{base}/").split("/")
                task_id = stage.emulator.submits[-1].task_id
                with suppress(JournalUnusable):  # which says it where it cannot be read either
                    assert not await stage.editor.called_back(handle, "x" * 43, task_id)
                assert await stage.editor.called_back(handle, secret, task_id)
                await anyio.sleep(100)
        [edit] = found
        assert (edit.task_id, edit.status, edit.charged) == (handle, "unknown", "unknown")
        done = await stage.editor.wait(edit, timeout=300)
        assert (done.task_id, done.status, done.charged) == (task_id, "completed", "yes")
        assert broken.stages()["lost"] == ("accepted", task_id)
        assert broken.stages()["other"] == ("accepted", other.task_id)
        again = await stage.editor.edit(request("lost"))
        assert (again.task_id, again.deduplicated) == (task_id, True)
    assert stage.emulator.ledger.charges == 2


async def test_a_callback_in_an_outage_that_names_another_edits_task_resolves_nothing(
    broken: Broken,
) -> None:
    """Not even when that edit's acceptance could not be written either."""
    base = "https://edits.example.com/callbacks"
    async with open_stage(journal=broken.journal, callback_url=base, run_seconds=600) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        stage.emulator.fault(endpoint="submit", kind="drop_after", seconds=2)
        async with anyio.create_task_group() as tasks:
            kept: list[Edit] = []
            lost: list[Edit] = []
            tasks.start_soon(_edit_into, stage, "kept", kept)
            await anyio.sleep(0.5)
            tasks.start_soon(_edit_into, stage, "lost", lost)
            await anyio.sleep(0.5)
            with broken.harm():
                await anyio.sleep(2)
                url = stage.emulator.submits[1].body["callback_url"]
                handle, secret = url.removeprefix(f"{base}/").split("/")
                assert await stage.editor.called_back(handle, secret, kept[0].task_id)
                await anyio.sleep(3)
                reported = [await stage.editor.get(handle)]
        await anyio.sleep(60)
        reported.append(await stage.editor.get(handle))
        assert [(edit.task_id, edit.status, edit.charged) for edit in reported] == [
            (handle, "unknown", "unknown")
        ] * 2
        assert broken.stages() == {
            "kept": ("accepted", kept[0].task_id),
            "lost": ("unknown", None),
        }


# --- between the steps of a submit -----------------------------------------------------------


@both_backends
async def test_an_id_that_waits_for_the_journal_when_the_server_gives_up_is_not_lost() -> None:
    """It comes in the last moment, while another write is under way, and has to queue."""
    disk = Disk()
    journal = SqlJournal("sqlite://", run=disk)
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=4.5)
        edit = await stage.editor.edit(request("last"), patience=0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.editor.finish)  # gives up after 5 seconds
            await anyio.sleep(4)
            disk.seconds = 2.0
            await journal.note_saved(OWNER, "task-0", 1, "/elsewhere.png")
        [task_id] = stage.emulator.tasks
    kept = await journal.find(str(edit.task_id), OWNER, now=T0)
    assert kept is not None
    assert (kept.stage, kept.task_id) == ("accepted", task_id)


@both_backends
@pytest.mark.parametrize("moment", [0.5, 1.5, 2.5])
async def test_a_caller_who_leaves_in_the_middle_of_a_claim_leaves_no_intent_unsent(
    moment: float,
) -> None:
    """At 0.5 s the claim waits for another's, at 1.5 s both of a batch are carried out."""
    disk = Disk()
    journal = SqlJournal("sqlite://", run=disk)
    async with open_stage(journal=journal) as stage:
        await stage.editor.recent()  # whose edits they are is known from here on
        disk.seconds = 1.0
        prompts = ["first", "second", "third"]
        async with anyio.create_task_group() as tasks:
            for prompt in prompts:
                tasks.start_soon(_edit_until, stage, prompt, moment)
                await anyio.sleep(0.1)
        await anyio.sleep(30)
        kept = await journal.recent(OWNER, now=T0, limit=9)
        sent = sorted(submit.body["prompt"] for submit in stage.emulator.submits)
    assert sorted(str(intent.prompt) for intent, _ in kept) == sent == sorted(prompts)
    assert {intent.stage for intent, _ in kept} == {"accepted"}


async def _edit_until(stage: Stage, prompt: str, seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await stage.editor.edit(request(prompt))


@pytest.mark.parametrize("origin", ["first send", "resend"])
async def test_a_journal_that_fails_between_claim_and_send_keeps_the_submit_back(
    origin: str,
) -> None:
    disk = Disk()
    journal = SqlJournal("sqlite://", run=disk)
    async with open_stage(journal=journal) as stage:
        await stage.editor.recent()  # whose edits they are is known from here on
        if origin == "resend":
            stage.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=20)
        found: list[Edit] = []

        async def edit() -> None:
            found.append(await stage.editor.edit(request("kept back"), patience=60))

        async with anyio.create_task_group() as tasks:
            if origin == "first send":
                disk.seconds = 1.0  # until the claim is written
            tasks.start_soon(edit)
            await anyio.sleep(1.5 if origin == "first send" else 10)
            disk.seconds, disk.error = 0.0, JournalUnusable("the disk is full")
            await anyio.sleep(30)
            disk.error = None
        [reported] = found
        assert reported.error is not None
        # What was refused and is not sent again was sent, so the refusal is told.
        code = {"first send": "journal_unusable", "resend": "rate_limit"}[origin]
        assert (reported.task_id, reported.status, reported.charged, reported.error.code) == (
            None,
            "failed",
            "no",
            code,
        )
        assert ("othing was sent" in reported.error.message) == (origin == "first send")
        assert reported.error.retryable
        assert len(stage.emulator.submits) == (0 if origin == "first send" else 1)
        assert stage.emulator.ledger.charges == 0
        again = await stage.editor.edit(request("kept back"))
        assert (again.status, again.deduplicated) == ("pending", False)


ERRORS: Final = pytest.mark.parametrize(
    "error",
    [
        JournalUnusable("the disk is full"),
        RuntimeError("can't start new thread"),
        ValueError("a bug"),
    ],
    ids=["disk", "threads", "bug"],
)


@both_backends
@ERRORS
@pytest.mark.parametrize("outcome", ["unknown", "refused"])
async def test_the_outcome_of_a_submit_outlives_whatever_writing_it_fails_with(
    error: Exception, outcome: str
) -> None:
    disk = Disk()
    journal = SqlJournal("sqlite://", run=disk)
    async with open_stage(journal=journal) as stage:
        if outcome == "unknown":
            stage.emulator.fault(endpoint="submit", kind="drop_after", seconds=2)
        else:
            stage.emulator.fault(endpoint="submit", kind="status", code=401, seconds=2)
        handle = str((await stage.editor.edit(request("paid"), patience=1.0)).task_id)
        disk.error = error
        await anyio.sleep(1.5)
        disk.error = None
        reported = await stage.editor.get(handle)
        assert reported.charged == {"unknown": "unknown", "refused": "no"}[outcome]
        kept = await journal.find(handle, OWNER, now=T0)
        assert kept is not None
        assert kept.stage == outcome
        assert (await stage.editor.edit(request("another"))).status == "pending"


@both_backends
async def test_a_process_keeps_nothing_of_a_submit_that_has_ended() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=401)
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        for prompt in ("refused", "unknown", "accepted"):
            await stage.editor.edit(request(prompt))
        account = stage.editor._account
        assert account is not None
        assert account.submitter._under_way == {}


@both_backends
async def test_a_machine_without_a_thread_to_spare_loses_no_id_that_was_paid_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = Disk()
    journal = SqlJournal("sqlite://", run=disk)
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        handle = str((await stage.editor.edit(request("paid"), patience=1.0)).task_id)
        disk.error = RuntimeError("can't start new thread")
        await anyio.sleep(1.5)
        [task_id] = stage.emulator.tasks
        reported = await stage.editor.get(handle)
        assert (reported.task_id, reported.charged) == (task_id, "reserved")
        assert f"{handle} is task {task_id}" in caplog.text
        assert (await refused(stage, "another"))["code"] == "journal_unusable"
        disk.error = None
        done = await stage.editor.wait(handle, timeout=300)
        assert (done.task_id, done.status) == (task_id, "completed")
        kept = await journal.find(handle, OWNER, now=T0)
        assert kept is not None
        assert (kept.stage, kept.task_id) == ("accepted", task_id)


@both_backends
@ERRORS
async def test_a_lease_that_cannot_be_renewed_does_not_stop_the_submit(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    disk = Disk()
    journal = SqlJournal("sqlite://", run=disk)
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        edit = await stage.editor.edit(request("going on"), patience=1.0)
        disk.error = error
        await anyio.sleep(7)  # two renewals
        disk.error = None
        done = await stage.editor.wait(edit, timeout=300)
        assert (done.status, done.charged, done.error) == ("completed", "yes", None)
        assert len(stage.emulator.submits) == 1
    assert "othing was sent" not in caplog.text
    assert len([record for record in caplog.records if "submit" in record.name]) == 2


@pytest.mark.parametrize(
    ("step", "since", "stage_then", "ended"),
    [
        ("claimed", 0, "intent", "refused"),
        ("paused", 2, "intent", "refused"),
        ("sent", 2, "sending", "unknown"),
        ("renewed", 30, "sending", "unknown"),
    ],
)
async def test_a_process_is_taken_for_dead_twelve_seconds_after_its_last_sign(
    tmp_path: Path, step: str, since: float, stage_then: str, ended: str
) -> None:
    disk = Disk()
    path = tmp_path / "journal.sqlite3"
    Image.new("RGB", (640, 480)).save(tmp_path / "cat.png")
    async with open_stage(journal=SqlJournal(path, run=disk), folder=tmp_path) as stage:
        for fault in _until_step(step):
            stage.emulator.fault(**fault)
        images = await stage.editor.read_images(
            [str(tmp_path / "cat.png") if step == "claimed" else PICTURE]
        )
        wish = EditInput("asleep", images, 1, None, MODEL)
        edit = await stage.editor.edit(wish, patience=0.0)
        await anyio.sleep(since + 0.5)
        disk.error = JournalUnusable("the disk is full")
        await anyio.sleep(11)
        assert await _seen_elsewhere(path, edit, after=since + 11.9) == stage_then
        assert await _seen_elsewhere(path, edit, after=since + 12.1) == ended


def _until_step(step: str) -> list[dict[str, Any]]:
    """What keeps a submit for long after a step that was not its first, but for the claim."""
    slow = {"endpoint": "submit", "kind": "delay", "seconds": 100}
    limited = {"endpoint": "submit", "kind": "status", "code": 429}
    return {
        "claimed": [{"endpoint": "upload", "kind": "delay", "seconds": 100}],
        "paused": [{**limited, "seconds": 2, "retry_after": 50}],
        "sent": [{**limited, "retry_after": 2}, slow],
        "renewed": [slow],
    }[step]


async def _seen_elsewhere(path: Path, edit: Edit, *, after: float) -> str:
    """The stage that another process reads in the journal."""
    elsewhere = SqlJournal(path, run=inline)
    intent = await elsewhere.find(str(edit.task_id), OWNER, now=T0 + after)
    elsewhere.close()
    assert intent is not None
    return intent.stage


# --- as a host sees it -----------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_whose_journal_cannot_be_used_says_so_in_its_answer(
    tmp_path: Path, anyio_backend: str
) -> None:
    (tmp_path / "journal.sqlite3").write_bytes(b"This is no journal. " * 500)
    async with Emulator(check_images=False).serving() as emulator:
        values = {
            "WAN25_BASE_URL": emulator.base_url,
            "WAN25_API_KEY": KEY,
            "WAN25_DATA_DIR": str(tmp_path),
        }
        async with serving(values) as server:
            answer = await server.edit("Make it night")
        assert emulator.submits == []
    said = refusal("its file is not a journal")
    assert (answer["task_id"], answer["status"], answer["charged"]) == (None, "failed", "no")
    assert answer["next_step"] == FIX
    assert answer["error"] == {name: said[name] for name in answer["error"]}


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_server_that_cannot_read_its_journal_does_not_say_that_an_edit_does_not_exist(
    tmp_path: Path, anyio_backend: str
) -> None:
    handle = "edit-0123456789abcdef"
    (tmp_path / "journal.sqlite3").write_bytes(b"This is no journal. " * 500)
    async with Emulator(check_images=False).serving() as emulator:
        values = {
            "WAN25_BASE_URL": emulator.base_url,
            "WAN25_API_KEY": KEY,
            "WAN25_DATA_DIR": str(tmp_path),
        }
        async with serving(values) as server:
            answer = await server.call("get_task", task_id=handle)
            foreign = await server.call("get_task", task_id="task-1")
    assert (answer["task_id"], answer["status"], answer["charged"]) == (
        handle,
        "unknown",
        "unknown",
    )
    assert (answer["error"]["code"], answer["error"]["retryable"]) == ("journal_unusable", True)
    assert "not call edit_image again" in answer["next_step"]
    assert foreign["error"]["code"] == "not_found"
