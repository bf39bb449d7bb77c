"""The emulators that this program starts are one account, although each has a port of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from tests.stage import KEY, PICTURE, inline, names_in, open_stage, request
from tests.systems import linux
from wan25_mcp import Account, Settings, open_configured_editor, open_configured_engine
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.errors import SettingsError, Wan25Error
from wan25_mcp.journal import Allowance
from wan25_mcp.journal.sql import SqlJournal

pytestmark = pytest.mark.anyio


async def owner_of(editor: AccountEditor) -> str:
    return await (await editor._opened()).ownership.owner()


@pytest.mark.parametrize("name", [{}, {"WAN25_ACCOUNT": "studio"}], ids=["by key", "by name"])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_each_run_with_the_emulator_is_the_same_account(
    tmp_path: Path, name: dict[str, str]
) -> None:
    settings = Settings.from_mapping(
        {"WAN25_EMULATOR": "1", "WAN25_DATA_DIR": str(tmp_path), **name}
    )
    async with open_configured_editor(settings) as editor:
        before = await owner_of(editor), (await editor.connection()).address
        made = await editor.edit(request(image_urls=["https://example.com/cat.png"]))
    async with open_configured_editor(settings) as editor:
        assert (await owner_of(editor)) == before[0]
        assert (await editor.connection()).address != before[1]
        [past] = await editor.recent()
        assert past.edit.task_id == made.task_id


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_for_a_command_the_emulator_is_as_fast_as_in_the_demo(tmp_path: Path) -> None:
    settings = Settings.from_mapping({"WAN25_EMULATOR": "1", "WAN25_DATA_DIR": str(tmp_path)})
    estimated: dict[bool, float] = {}
    for background in (True, False):
        async with open_configured_editor(settings, background=background) as editor:
            wanted = request(image_urls=["https://example.com/cat.png"])
            made = await editor.edit(wanted, force_new=True)
            estimated[background] = made.estimated_seconds or 0.0
    assert 0 < estimated[False] < 10 < estimated[True]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_each_key_is_an_account_of_the_emulator_which_never_gets_the_key(
    tmp_path: Path,
) -> None:
    values = {"WAN25_EMULATOR": "1", "WAN25_DATA_DIR": str(tmp_path), "WAN25_SAVE": "off"}
    async with open_configured_engine(Settings.from_mapping(values)) as engine:
        keys = [SecretStr("annas-key"), SecretStr("bens-key")]
        anna, ben = (engine.editor(Account(key=key, save=False)) for key in keys)
        made = [await editor.edit(request(image_urls=[PICTURE])) for editor in (anna, ben)]
        assert [edit.deduplicated for edit in made] == [False, False]
        assert [past.edit.task_id for past in await ben.recent()] == [made[1].task_id]
        clients: list[Any] = [(await editor.connection()).client for editor in (anna, ben)]
        sent = [client._key.get_secret_value() for client in clients]
        assert all(key.startswith("emulator-key-") and "s-key" not in key for key in sent)


@pytest.mark.parametrize("wrong", [{"key": "in plain text"}, {"output_dir": "pictures"}])
def test_an_account_that_cannot_work_is_refused_when_it_is_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as refused:
        Account(**wrong)
    assert next(iter(wrong)) in refused.value.fix
    assert "plain text" not in str(refused.value)


async def test_an_edit_of_an_emulator_that_has_ended_is_made_again(tmp_path: Path) -> None:
    journal = SqlJournal("sqlite://", run=inline)
    async with open_stage(journal=journal, folder=tmp_path, key=KEY) as stage:
        async with stage.another_editor(address="http://127.0.0.1:1") as before:
            first = await before.edit(request())
        async with stage.another_editor(address="http://127.0.0.1:2") as after:
            second = await after.edit(request())
            assert (second.deduplicated, second.charged) == (False, "reserved")
            assert second.task_id != first.task_id
            assert len(await after.recent()) == 2
            await after.wait(second, timeout=200)
        # Of the first, nobody is left who could tell how it ends, and nobody asks.
        assert stage.emulator.queries[str(first.task_id)] == 0
        assert len(names_in(tmp_path / "out")) == 1


async def test_an_edit_of_an_emulator_that_has_ended_is_not_under_way_but_was_paid_for() -> None:
    journal = SqlJournal("sqlite://", run=inline)
    allowance = Allowance(max_in_flight=1, credit_limit=3.0)
    async with open_stage(journal=journal, allowance=allowance) as stage:
        for port in (1, 2):
            async with stage.another_editor(address=f"http://127.0.0.1:{port}") as editor:
                assert (await editor.edit(request(str(port)))).status == "pending"
                with pytest.raises(Wan25Error) as withheld:
                    await editor.edit(request("one too many"))
                assert withheld.value.code == "too_many_in_flight"
        async with stage.another_editor(address="http://127.0.0.1:3") as editor:
            with pytest.raises(Wan25Error) as withheld:
                await editor.edit(request("3"))
            assert withheld.value.code == "credit_limit"


@linux
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_a_configured_editor_opened_it_closes(tmp_path: Path) -> None:
    def opened() -> list[str]:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [found for link in links if (found := str(link.readlink())).startswith(folder)]

    folder = str(tmp_path)
    settings = Settings.from_mapping({"WAN25_EMULATOR": "1", "WAN25_DATA_DIR": folder})
    async with open_configured_editor(settings) as editor:
        await editor.edit(request(image_urls=["https://example.com/cat.png"]))
        assert opened()
    assert opened() == []
