"""The view in the chat as clients get it: its page, its tool, its policy, the pictures it reads."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client import Client
from mcp.client.extension import advertise
from mcp.server.apps import APP_MIME_TYPE, EXTENSION_ID
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, TextResourceContents
from PIL import Image

from tests.stage import PICTURE, Stage, inline, open_stage
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.server import create_server
from wan25_mcp.server.apps import URI, image_origins
from wan25_mcp.settings import Settings

pytestmark = pytest.mark.anyio

MAX_BYTES = 40_000
# The page is read from its file in a thread, and virtual time does not wait for threads.
reads_the_page = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])


async def page_of(stage: Stage, origins: tuple[str, ...] = (), mode: str = "auto") -> Any:
    server = create_server(stage.editor, image_origins=origins)
    async with Client(server, mode=mode) as client:
        [content] = (await client.read_resource(URI)).contents
    assert isinstance(content, TextResourceContents)
    return content


@reads_the_page
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_the_view_is_one_small_page_of_the_type_that_hosts_show(mode: str) -> None:
    async with open_stage() as stage:
        page = await page_of(stage, mode=mode)
    assert page.mime_type == "text/html;profile=mcp-app"
    assert page.meta == {"ui": {"csp": {}, "prefersBorder": True}}
    assert page.text.startswith("<!doctype html>")
    assert len(page.text.encode()) <= MAX_BYTES


class _Names(HTMLParser):
    """What a page would load, and what it calls its parts."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [value for name in ("src", "href", "srcset") if (value := given.get(name))]
        self.ids += [value] if (value := given.get("id")) else []


@reads_the_page
async def test_the_page_loads_nothing_and_writes_no_html() -> None:
    async with open_stage() as stage:
        text = (await page_of(stage)).text
    found = _Names()
    found.feed(text)
    assert found.loads == []
    assert len(set(found.ids)) == len(found.ids)
    assert set(re.findall(r'\$\("([a-z-]+)"\)', text)) <= {*found.ids, "after", "expiry"}  # made
    for writes in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(",
                   "fetch(", "XMLHttpRequest", "WebSocket", "@import", "localStorage"):  # fmt: skip
        assert writes not in text


async def test_only_the_tool_that_starts_an_edit_has_the_view() -> None:
    async with open_stage() as stage, Client(create_server(stage.editor)) as client:
        listed = (await client.list_tools()).tools
    bound = {tool.name: tool.meta["ui"] for tool in listed if tool.meta and "ui" in tool.meta}
    assert bound == {"edit_image": {"resourceUri": URI}}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_answer_is_the_same_with_apps_and_without(mode: str) -> None:
    answers = []
    for extensions in ([], [advertise(EXTENSION_ID, {"mimeTypes": [APP_MIME_TYPE]})]):
        async with (
            open_stage() as stage,
            Client(create_server(stage.editor), mode=mode, extensions=extensions) as client,
        ):
            call = {"prompt": "Make it night", "image_urls": [PICTURE]}
            made = await client.call_tool("edit_image", call)
            answers.append((len(made.content), made.meta, sorted(made.structured_content or {})))
    assert answers[0] == answers[1]
    assert answers[0][0] == 1


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        ({}, ("https://ai.odkkk.com:443",)),
        (
            {"WAN25_BASE_URL": "https://api.evolink.ai/v9"},
            ("https://api.evolink.ai:443", "https://files-api.evolink.ai:443"),
        ),
        (
            {"WAN25_FILES_URL": "https://files.example.com/x"},
            ("https://ai.odkkk.com:443", "https://files.example.com:443"),
        ),
        ({"WAN25_EMULATOR": "http://127.0.0.1:8080/apiv1"}, ("http://127.0.0.1:8080",)),
        ({"WAN25_EMULATOR": "1"}, ()),
    ],
)
def test_declared_are_the_origins_that_the_settings_tell(
    settings: dict[str, str], origins: tuple[str, ...]
) -> None:
    assert image_origins(Settings.from_mapping(settings)) == origins


@reads_the_page
async def test_the_declared_origins_are_for_pictures_alone() -> None:
    async with open_stage() as stage:
        page = await page_of(stage, ("https://api.example.com:443",))
    assert page.meta["ui"]["csp"] == {"resourceDomains": ["https://api.example.com:443"]}


# --- the pictures it reads ----------------------------------------------------------------------


async def edited(stage: Stage, client: Client, *images: str) -> str:
    call = {"prompt": "Make it night", "image_urls": list(images)}
    started = await client.call_tool("edit_image", call)
    task_id = str((started.structured_content or {})["task_id"])
    await anyio.sleep(1)
    return task_id


async def read(client: Client, uri: str) -> Image.Image:
    [content] = (await client.read_resource(uri)).contents
    assert isinstance(content, BlobResourceContents)
    assert content.mime_type == "image/jpeg"
    body = base64.b64decode(content.blob)
    assert len(body) <= 100_000
    return Image.open(BytesIO(body))


async def test_of_local_inputs_a_small_preview_is_kept_and_of_linked_ones_none(
    tmp_path: Path,
) -> None:
    source = tmp_path / "cat.png"
    Image.new("RGBA", (3000, 2000), (200, 30, 30, 255)).save(source)
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    async with (
        open_stage(folder=tmp_path, journal=journal) as stage,
        Client(create_server(stage.editor)) as client,
    ):
        task_id = await edited(stage, client, PICTURE, str(source))
        kept = await read(client, f"wan25://tasks/{task_id}/inputs/2")
        assert (kept.format, kept.size) == ("JPEG", (768, 512))
        with pytest.raises(MCPError, match="No preview of this input is kept"):
            await client.read_resource(f"wan25://tasks/{task_id}/inputs/1")
        # Another process, after a restart of the host, shows the same chat.
        async with (
            stage.another_editor() as other,
            Client(create_server(other)) as later,
        ):
            assert (await read(later, f"wan25://tasks/{task_id}/inputs/2")).size == (768, 512)


async def test_an_input_that_was_uploaded_before_has_its_preview_too(tmp_path: Path) -> None:
    source = tmp_path / "cat.jpg"
    Image.new("RGB", (800, 600), (30, 200, 30)).save(source)
    async with (
        open_stage(folder=tmp_path) as stage,
        Client(create_server(stage.editor)) as client,
    ):
        await edited(stage, client, str(source))
        call = {"prompt": "Make it day", "image_urls": [str(source)]}
        again = (await client.call_tool("edit_image", call)).structured_content or {}
        await anyio.sleep(1)
        kept = await read(client, f"wan25://tasks/{again['task_id']}/inputs/1")
    assert kept.size == (768, 576)
    assert len(stage.emulator.submits) == 2


async def test_an_edit_is_not_harmed_by_a_preview_that_cannot_be_kept(
    tmp_path: Path,
) -> None:
    class Full(SqlJournal):
        async def keep_input(self, *args: Any, **given: Any) -> None:
            raise JournalUnusable("the disk is full")

    source = tmp_path / "cat.jpg"
    Image.new("RGB", (800, 600)).save(source)
    journal = Full(tmp_path / "journal.sqlite3", run=inline)
    async with (
        open_stage(folder=tmp_path, journal=journal) as stage,
        Client(create_server(stage.editor)) as client,
    ):
        task_id = await edited(stage, client, str(source))
        [past] = await stage.editor.recent()
        with pytest.raises(MCPError, match="No preview"):
            await client.read_resource(f"wan25://tasks/{task_id}/inputs/1")
    assert past.edit.error is None
    assert len(stage.emulator.submits) == 1


async def test_a_result_has_a_small_preview(tmp_path: Path) -> None:
    async with (
        open_stage(folder=tmp_path) as stage,
        Client(create_server(stage.editor)) as client,
    ):
        task_id = await edited(stage, client, PICTURE)
        with pytest.raises(MCPError, match="no such image"):
            await client.read_resource(f"wan25://tasks/{task_id}/previews/1")
        await anyio.sleep(120)
        preview = await read(client, f"wan25://tasks/{task_id}/previews/1")
        assert max(preview.size) == 768
        for absent in ("2", "0", "x"):
            with pytest.raises(MCPError, match="no such image"):
                await client.read_resource(f"wan25://tasks/{task_id}/previews/{absent}")
