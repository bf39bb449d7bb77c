"""Pictures through MCP: local ones in, previews and bytes out."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp_types import BlobResourceContents, ImageContent, Implementation, TextContent
from PIL import Image

from tests.stage import PICTURE, Stage, open_stage
from wan25_mcp.server import create_server
from wan25_mcp.settings import Preview

pytestmark = pytest.mark.anyio


def client_of(stage: Stage, *, preview: Preview = "auto", name: str = "mcp", mode: str) -> Client:
    server = create_server(stage.editor, preview=preview)
    return Client(server, mode=mode, client_info=Implementation(name=name, version="1"))


async def finished(client: Client, *images: str, n: int = 1) -> Any:
    call = {"prompt": "Make it night", "image_urls": list(images or [PICTURE]), "n": n}
    started = await client.call_tool("edit_image", call)
    assert not started.is_error, started.content
    task_id = (started.structured_content or {})["task_id"]
    for _ in range(10):
        result = await client.call_tool("wait_for_task", {"task_id": task_id})
        if (result.structured_content or {})["status"] == "completed":
            return result
    raise AssertionError("it never ended")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_local_picture_is_edited_and_the_answer_names_the_file(
    mode: str, tmp_path: Path
) -> None:
    source = tmp_path / "cat.png"
    Image.new("RGBA", (300, 200)).save(source)
    async with (
        open_stage(folder=tmp_path, check_images=True) as stage,
        client_of(stage, mode=mode) as client,
    ):
        call = {"prompt": "Make it night", "image_urls": [str(source)]}
        started = await client.call_tool("edit_image", call)
        result = await finished(client, str(source))
    assert "Image 1: " in (started.structured_content or {})["next_step"]
    answer = result.structured_content
    [saved] = answer["saved"]
    assert f"Saved: {saved}" in result.content[0].text
    assert answer["next_step"].startswith("Tell the user where the images are saved")
    assert len(stage.emulator.submits) == 1


@pytest.mark.parametrize(
    ("preview", "name", "shown"),
    [
        ("auto", "claude-ai", True),
        ("auto", "mcp", False),
        ("auto", "codex", False),
        ("always", "codex", True),
        ("never", "claude-ai", False),
    ],
)
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_previews_go_after_the_text_to_clients_that_show_them(
    preview: Preview, name: str, shown: bool, mode: str, tmp_path: Path
) -> None:
    async with (
        open_stage(folder=tmp_path) as stage,
        client_of(stage, preview=preview, name=name, mode=mode) as client,
    ):
        result = await finished(client, n=2)
    text, *pictures = result.content
    assert isinstance(text, TextContent)
    assert len(pictures) == (2 if shown else 0)
    for picture in pictures:
        assert isinstance(picture, ImageContent)
        body = base64.b64decode(picture.data)
        assert len(body) <= 100_000
        with Image.open(BytesIO(body)) as image:
            assert image.format == "JPEG"


@pytest.mark.parametrize("saving", [True, False])
async def test_the_bytes_of_a_result_are_a_resource(saving: bool, tmp_path: Path) -> None:
    async with (
        open_stage(folder=tmp_path, save=saving) as stage,
        client_of(stage, mode="auto") as client,
    ):
        task_id = (await finished(client)).structured_content["task_id"]
        read = await client.read_resource(f"wan25://tasks/{task_id}/images/1")
        [content] = read.contents
        assert isinstance(content, BlobResourceContents)
        assert base64.b64decode(content.blob).startswith(b"\x89PNG")
        polled = len(stage.looks)
        for absent in ("2", "0", "-1", "one", "5", "1" * 5000, "٢", "²"):
            with pytest.raises(MCPError) as refused:
                await client.read_resource(f"wan25://tasks/{task_id}/images/{absent}")
            assert "no such image" in refused.value.error.message
        assert len(stage.looks) == polled
    assert (tmp_path / "out").exists() is saving


async def test_a_picture_elsewhere_is_refused_with_what_to_do(tmp_path: Path) -> None:
    async with (
        open_stage(folder=tmp_path) as stage,
        client_of(stage, mode="auto") as client,
    ):
        call = {"prompt": "Make it night", "image_urls": ["/etc/passwd"]}
        result = await client.call_tool("edit_image", call)
    answer = result.structured_content or {}
    assert result.is_error
    assert (answer["charged"], answer["error"]["code"]) == ("no", "image_not_allowed")
    assert "WAN25_INPUT_DIRS" in answer["next_step"]
    assert stage.emulator.submits == []
