"""What the texts of a run promise about local images: no more than its settings can keep."""

from __future__ import annotations

from pathlib import Path

import pytest
from mcp.client import Client

from wan25_mcp import Settings, open_configured_editor
from wan25_mcp.server import create_server

pytestmark = pytest.mark.anyio


async def texts(tmp_path: Path, **values: str) -> tuple[str, str, str]:
    """The instructions, the description of `edit_image`, and that of `image_urls`."""
    usual = {"WAN25_DATA_DIR": str(tmp_path / "data"), "WAN25_INPUT_DIRS": str(tmp_path)}
    settings = Settings.from_mapping({**usual, **values})
    async with (
        open_configured_editor(settings) as editor,
        Client(create_server(editor)) as client,
    ):
        [tool] = [one for one in (await client.list_tools()).tools if one.name == "edit_image"]
        instructions = client.instructions or ""
    images = tool.input_schema["properties"]["image_urls"]["description"]
    assert "  " not in f"{instructions} {tool.description} {images}"
    assert not (tmp_path / "data").exists()
    return instructions, tool.description or "", images


@pytest.mark.parametrize(
    "values",
    [
        {"WAN25_BUCKET_URL": "s3://pictures"},
        {"WAN25_FILES_URL": "https://files.example.com"},
        {"WAN25_BASE_URL": "https://api.evolink.ai"},
        {"WAN25_EMULATOR": "1"},
    ],
)
async def test_a_place_that_is_configured_is_promised(
    values: dict[str, str], tmp_path: Path
) -> None:
    instructions, tool, images = await texts(tmp_path, **values)
    assert "no_image_host" not in f"{instructions} {tool}"
    assert "Local images of any common format are converted. " in tool
    assert "path" in images


@pytest.mark.parametrize("key", ["", "some-key"])
async def test_a_place_that_is_not_known_yet_is_not_promised(key: str, tmp_path: Path) -> None:
    instructions, tool, images = await texts(tmp_path, WAN25_API_KEY=key)
    for text in (instructions, tool):
        assert "no_image_host" in text
        assert "only" in text
        assert "file service" in text
    assert "path" in images


async def test_where_no_files_are_read_no_paths_are_promised(tmp_path: Path) -> None:
    from dataclasses import replace

    settings = replace(Settings.from_mapping({"WAN25_EMULATOR": "1"}), input_dirs=())
    async with open_configured_editor(settings) as editor:
        server = create_server(editor)
        async with Client(server) as client:
            [tool] = [one for one in (await client.list_tools()).tools if one.name == "edit_image"]
    assert "absolute path" not in str(tool.input_schema)
    assert "data: URI" in str(tool.input_schema)
    assert "reads no files" in (server.instructions or "")
