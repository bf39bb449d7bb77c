"""Two accounts over one journal see nothing of each other: a sweep of whatever can be asked.

The measure is an id that nobody ever had: of another account's edit, nothing else may be told.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS
from PIL import Image

from tests.stage import KEY, Stage, inline, names_in, open_stage, request, virtual
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import Spent
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.server import create_server

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.thorough)])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual(str(request.param))


STRANGER: Final = "strangers-key"
ACCOUNTS: Final[dict[str, Any]] = {
    "key": {KEY, STRANGER},
    "accounts": {KEY: "ours", STRANGER: "theirs"},
}
BASE: Final = "https://edits.example.com/callbacks"
NOBODYS: Final = "task-that-nobody-has"
NO_HANDLE: Final = "edit-0123456789abcdef"


class OfOneProcess(SqlJournal):
    """A journal whose two accounts are used by one process."""


@pytest.fixture(params=["sqlite", "postgres", "one process"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlJournal]:
    is_server = request.param == "postgres"
    place = request.getfixturevalue("database") if is_server else tmp_path / "journal.sqlite3"
    kind = OfOneProcess if request.param == "one process" else SqlJournal
    journal = kind(place, run=inline)
    yield journal
    journal.close()


@dataclass
class Made:
    """An edit of the first account, and how its callback address was."""

    edit: Edit
    handle: str
    secret: str

    @property
    def task_id(self) -> str:
        return str(self.edit.task_id)


@asynccontextmanager
async def made_by_the_first(
    journal: SqlJournal, folder: Path, *, seconds: float = 0.0
) -> AsyncIterator[tuple[Stage, Made, AccountEditor]]:
    """An edit of one account, some seconds old, and an editor with the key of another account."""
    await anyio.Path(folder).mkdir(exist_ok=True)
    silent = httpx2.MockTransport(lambda _: httpx2.Response(404))
    options: dict[str, Any] = {"folder": folder, "callback_url": BASE, "outside": silent}
    async with open_stage(journal=journal, **ACCOUNTS, **options) as stage:
        edit = await stage.editor.edit(request())
        address = str(stage.emulator.submits[-1].body["callback_url"])
        handle, secret = address.removeprefix(f"{BASE}/").split("/")
        if seconds:
            edit = await stage.editor.wait(edit, timeout=seconds)
            assert (edit.status, len(edit.saved)) == ("completed", 1)
        async with strangers_editor(stage, journal) as stranger:
            await stranger.recent()  # its key is a new one: whose it is, is asked once
            yield stage, Made(edit, handle, secret), stranger


@asynccontextmanager
async def strangers_editor(stage: Stage, journal: SqlJournal) -> AsyncIterator[AccountEditor]:
    if isinstance(journal, OfOneProcess):
        yield stage.engine.editor(stage.account_of(STRANGER))
    else:
        async with stage.another_editor(STRANGER) as stranger:
            yield stranger


Question = Callable[[AccountEditor, str], Awaitable[Any]]


async def _answer(question: Question, editor: AccountEditor, name: str) -> Any:
    """What is told, with the name asked for taken out."""
    try:
        reported = await question(editor, name)
    except Wan25Error as error:
        reported = {"kind": type(error).__name__, **vars(error)}
    return _plain(reported, name)


def _plain(reported: Any, name: str) -> Any:
    if isinstance(reported, Edit):
        reported = {field.name: getattr(reported, field.name) for field in fields(reported)}
        if (error := reported["error"]) is not None:
            reported["error"] = {"kind": type(error).__name__, **vars(error), "request_id": None}
    if isinstance(reported, dict) and "request_id" in reported:
        reported["request_id"] = None  # each answer of the provider has its own
    return json.loads(json.dumps(reported, default=str).replace(name, "<name>"))


QUESTIONS: Final[dict[str, Question]] = {
    "get": lambda editor, name: editor.get(name),
    "wait": lambda editor, name: editor.wait(name, timeout=5.0),
    "wait without a time": lambda editor, name: editor.wait(name, timeout=0.0),
    "image": lambda editor, name: editor.image(name, 1),
    "save": lambda editor, name: editor.save(_of(name, "completed")),
    "save running": lambda editor, name: editor.save(_of(name, "processing")),
    "previews": lambda editor, name: editor.previews(_of(name, "completed")),
    "original": lambda editor, name: editor.original(name, 1),
    "called_back": lambda editor, name: editor.called_back(name, "a secret", None),
}
TOUCHES_NO_EDIT_OF_OTHERS: Final = {
    "check_folder", "connection", "duplicate_window", "edit", "finish", "has_image_host",
    "is_emulator", "known", "knows_callback", "price", "read_images", "reads_files", "recent",
    "spent", "wake",
}  # fmt: skip
"""Tested by name below, or given no name of an edit."""


def _of(name: str, status: Any) -> Edit:
    return Edit(task_id=name, status=status, charged="unknown")


def test_every_method_of_the_editor_is_swept() -> None:
    public = {name for name in vars(AccountEditor) if not name.startswith("_")}
    swept = {question.split(" ", maxsplit=1)[0] for question in QUESTIONS}
    assert public == swept | TOUCHES_NO_EDIT_OF_OTHERS


@pytest.mark.parametrize("seconds", [0.0, 120.0], ids=["running", "completed"])
async def test_of_another_accounts_edit_the_editor_reports_what_it_reports_of_none(
    journal: SqlJournal, tmp_path: Path, seconds: float
) -> None:
    async with made_by_the_first(journal, tmp_path / "f", seconds=seconds) as (_, made, stranger):
        for question in QUESTIONS.values():
            for name, nobodys in ((made.task_id, NOBODYS), (made.handle, NO_HANDLE)):
                theirs = await _answer(question, stranger, name)
                assert theirs == await _answer(question, stranger, nobodys)


async def test_of_another_accounts_task_the_provider_is_asked_and_its_answer_told(
    journal: SqlJournal, tmp_path: Path
) -> None:
    async with made_by_the_first(journal, tmp_path / "f", seconds=120.0) as (stage, made, stranger):
        reads = len(stage.emulator.reads)
        found = await stranger.get(made.task_id)
        assert len(stage.emulator.reads) == reads + 1
        assert found.error is not None
        assert (found.error.code, found.image_urls, found.saved) == ("not_found", (), ())
        assert (found.usage, found.expires_at, found.notes) == (None, None, ())
        assert (await stage.editor.get(made.task_id)).saved == made.edit.saved


async def test_what_another_account_spent_and_paid_for_an_image_is_not_told(
    journal: SqlJournal, tmp_path: Path
) -> None:
    async with made_by_the_first(journal, tmp_path / "f", seconds=120.0) as (stage, _, stranger):
        assert (await stage.editor.spent(600.0)).charged > 0
        assert (await stage.editor.price()).is_known
        assert await stranger.spent(600.0) == Spent(0.0, 0.0)
        assert not (await stranger.price()).is_known


async def test_that_another_account_made_the_same_edit_is_not_told(
    journal: SqlJournal, tmp_path: Path
) -> None:
    async with made_by_the_first(journal, tmp_path / "f") as (stage, _, stranger):
        asked = [EditInput.of(request()), EditInput.of(request("Another"))]
        assert await stage.editor.known(asked) == [True, False]
        assert await stranger.known(asked) == [False, False]


async def test_the_bytes_of_anothers_image_are_not_told_even_to_who_has_its_edit(
    journal: SqlJournal, tmp_path: Path
) -> None:
    """As by a link that somebody was shown: what the disk has is the account's."""
    async with made_by_the_first(journal, tmp_path / "f", seconds=120.0) as (_, made, stranger):
        shown = replace(made.edit, saved=())
        assert (await stranger.save(shown)).saved == ()
        await anyio.Path(made.edit.saved[0]).write_bytes(b"what only the disk has")
        assert await stranger.image(shown, 1) != b"what only the disk has"


async def test_another_account_is_listed_nothing_and_attends_to_nothing(
    journal: SqlJournal, tmp_path: Path
) -> None:
    async with made_by_the_first(journal, tmp_path / "f") as (stage, made, stranger):
        asked = len(stage.emulator.reads)  # also whether the stranger's key is the same account's
        await anyio.sleep(300)
        read = [one for one in stage.emulator.reads[asked:] if one.task_id == made.task_id]
        assert {one.headers["authorization"] for one in read} == {f"Bearer {KEY}"}
        assert await stranger.recent() == []
        assert len(names_in(tmp_path / "f" / "out")) == 1


async def test_a_callback_with_its_secret_is_known_to_no_other_account(
    journal: SqlJournal, tmp_path: Path
) -> None:
    async with made_by_the_first(journal, tmp_path / "f") as (stage, made, stranger):
        assert not stranger.knows_callback(made.handle, made.secret)
        assert await stranger.called_back(made.handle, made.secret, made.task_id) is False
        assert await stage.editor.called_back(made.handle, made.secret, made.task_id) is True


async def test_the_same_edit_by_two_accounts_is_made_paid_and_uploaded_twice(
    journal: SqlJournal, tmp_path: Path
) -> None:
    async with made_by_the_first(journal, tmp_path / "f") as (stage, _, stranger):
        Image.new("RGB", (640, 480), 128).save(tmp_path / "f" / "cat.png")
        edits = []
        for editor in (stage.editor, stranger):
            images = await editor.read_images([str(tmp_path / "f" / "cat.png")])
            edits.append(await editor.edit(EditInput("Make it day", images, 1, None, MODEL)))
            await anyio.sleep(5)
        assert [edit.deduplicated for edit in edits] == [False, False]
        links = [submit.body["image_urls"][0] for submit in stage.emulator.submits[-2:]]
        assert links[0] != links[1]


async def test_two_accounts_that_may_read_one_task_each_poll_and_save_it(
    journal: SqlJournal, tmp_path: Path
) -> None:
    """Two names of one key: the provider shows both the task, and the journal keeps them apart."""
    async with (
        open_stage(journal=journal, folder=tmp_path) as stage,
        stage.another_editor(account="studio") as studio,
        stage.another_editor(account="office") as office,
    ):
        made = await studio.edit(request())
        found = [await editor.wait(made, timeout=120) for editor in (studio, office)]
        assert [edit.status for edit in found] == ["completed", "completed"]
        assert [len(edit.saved) for edit in found] == [1, 1]
        assert found[0].saved != found[1].saved
        assert [past.edit.task_id for past in await studio.recent()] == [made.task_id]
        assert await office.recent() == []


async def test_an_answer_that_names_the_task_of_another_account_is_not_believed(
    journal: SqlJournal,
) -> None:
    async with (
        open_stage(journal=journal, **ACCOUNTS) as stage,
        stage.another_editor(STRANGER) as stranger,
    ):
        first = await stage.editor.edit(request())
        body = {"id": first.task_id, "status": "pending"}
        stage.emulator.fault(endpoint="submit", kind="status", code=200, body=body, accepted=True)
        second = await stranger.edit(request())
        assert (await stranger.recent())[0].edit.task_id == second.task_id
    assert (second.status, second.charged) == ("unknown", "unknown")


def _told(result: Any, name: str) -> Any:
    answer = result.structured_content
    answer["error"]["request_id"] = None
    return json.loads(json.dumps(answer).replace(name, "<name>"))


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("seconds", [0.0, 120.0], ids=["running", "completed"])
async def test_tools_and_resources_report_nothing_of_anothers_edit(
    journal: SqlJournal, tmp_path: Path, seconds: float, mode: str
) -> None:
    async with (
        made_by_the_first(journal, tmp_path / "f", seconds=seconds) as (_, made, stranger),
        Client(create_server(stranger), mode=mode) as client,
    ):
        for name, nobodys in ((made.task_id, NOBODYS), (made.handle, NO_HANDLE)):
            for tool, more in (("get_task", {}), ("wait_for_task", {"timeout_seconds": 3})):
                answers = [
                    _told(await client.call_tool(tool, {"task_id": asked, **more}), asked)
                    for asked in (name, nobodys)
                ]
                assert answers[0] == answers[1]
                assert answers[0]["error"]["code"] == "not_found"
            with pytest.raises(Exception, match=r"(?i)not|no such"):
                await client.read_resource(f"wan25://tasks/{name}/images/1")
        told = []
        for asked in (made.task_id, NOBODYS):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(f"wan25://tasks/{asked}")
            told.append((refused.value.error.code, refused.value.error.message))
        assert told[0] == told[1]
        assert told[0][0] == INVALID_PARAMS
        assert not [image for image in made.edit.image_urls if image in str(told)]
        listed = await client.read_resource("wan25://tasks")
        assert json.loads(listed.contents[0].text) == {"tasks": []}  # type: ignore[union-attr]
