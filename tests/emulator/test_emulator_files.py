"""The file service, and editing what was uploaded to it."""

from __future__ import annotations

import base64
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from wan25_mcp.emulator.pictures import sample

pytestmark = pytest.mark.anyio
PNG = sample(400, 400)
GIF = b"GIF89a" + bytes(20)
STREAM, BASE64 = "/api/v1/files/upload/stream", "/api/v1/files/upload/base64"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def post(p: Any, path: str, **content: Any) -> Any:
    return await p.client.post(p.emulator.files_url + path, **content)


async def test_an_upload_is_described_and_can_be_fetched(play: Any) -> None:
    async with play(clock=lambda: 1.8e9) as p:
        answer = await post(p, STREAM, files={"file": ("a cat.png", PNG)})
        assert answer.status_code == 200
        described = answer.json()
        file_id = described["data"]["file_id"]
        link = f"http://emulator.test/files/{file_id}/a%20cat.png"
        assert described == {
            "success": True,
            "code": 200,
            "msg": "",
            "data": {
                "file_id": file_id,
                "file_name": "a cat.png",
                "file_size": len(PNG),
                "mime_type": "image/png",
                "file_url": link,
                "download_url": f"{link}?download=1",
                "upload_time": "2027-01-15T08:00:00+00:00",
                "expires_at": "2027-01-18T08:00:00+00:00",
            },
        }
        async with p.visitor() as visitor:
            fetched = await visitor.get(link)
            assert fetched.content == PNG
            assert fetched.headers["content-type"] == "image/png"


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_base64_comes_bare_or_as_a_data_url(play: Any, prefix: str) -> None:
    async with play() as p:
        text = prefix + base64.b64encode(PNG).decode()
        answer = await post(p, BASE64, json={"base64_data": text, "file_name": "../../c.png"})
        assert answer.json()["data"]["file_name"] == "c.png"
        assert answer.json()["data"]["file_size"] == len(PNG)


async def test_an_uploaded_image_can_be_edited(play: Any) -> None:
    async with play(check_images=True) as p:
        answer = await post(p, STREAM, files={"file": ("c.png", PNG)}, data={"file_name": "d.png"})
        link = answer.json()["data"]["file_url"]
        assert link.endswith("/d.png")
        task = await p.settled(await p.accepted(image_urls=[link]))
        assert task["status"] == "completed"


async def test_an_uploaded_file_is_gone_after_72_hours(play: Any) -> None:
    async with play() as p:
        link = (await post(p, STREAM, files={"file": PNG})).json()["data"]["file_url"]
        await anyio.sleep(72 * 3600 - 1)
        assert (await p.client.get(link)).status_code == 200
        await anyio.sleep(1)
        assert (await p.client.get(link)).status_code == 404


TYPES = "Unsupported file type: only jpeg, png, gif and webp images"


@pytest.mark.parametrize(
    ("path", "content", "code", "message"),
    [
        (STREAM, {"files": {"file": b"BM" + bytes(60)}}, 400, TYPES),
        (STREAM, {"files": {"file": b"<html>"}}, 400, TYPES),
        (STREAM, {"files": {"file": b""}}, 400, "File is empty"),
        (STREAM, {"files": {"file": PNG + bytes(10_000_000)}}, 413, "File too large"),
        (STREAM, {"files": {"other": PNG}}, 400, "file is required"),
        (STREAM, {"data": {"file": "text"}}, 400, "multipart/form-data is required"),
        (
            STREAM,
            {"content": b"x", "headers": {"content-type": "multipart/form-data; boundary=a"}},
            400,
            "Invalid multipart data",
        ),
        (STREAM, {"json": {}}, 400, "multipart/form-data is required"),
        (BASE64, {"json": {}}, 400, "base64_data is required"),
        (BASE64, {"json": {"base64_data": "*"}}, 400, "Invalid base64 data"),
        (BASE64, {"json": {"base64_data": "é"}}, 400, "Invalid base64 data"),
        (BASE64, {"json": []}, 400, "Invalid request format"),
        (
            BASE64,
            {"json": {"base64_data": "AA==", "file_name": 1}},
            400,
            "file_name must be a string",
        ),
    ],
)
async def test_a_bad_upload_is_refused_in_the_file_services_own_words(
    play: Any, path: str, content: dict[str, Any], code: int, message: str
) -> None:
    async with play() as p:
        answer = await post(p, path, **content)
        assert answer.json() == {"success": False, "code": code, "msg": message}
        assert answer.status_code == code
        assert len(p.emulator.files) == 0


async def test_gif_is_uploadable_and_not_editable(play: Any) -> None:
    async with play(check_images=True) as p:
        answer = await post(p, STREAM, files={"file": GIF})
        assert answer.json()["data"]["mime_type"] == "image/gif"
        link = answer.json()["data"]["file_url"]
        task = await p.settled(await p.accepted(image_urls=[link]))
        assert task["error"]["code"] == "image_processing_error"


async def test_an_upload_needs_the_key(play: Any) -> None:
    async with play() as p:
        answer = await post(p, STREAM, files={"file": PNG}, headers={"authorization": "Bearer x"})
        assert answer.status_code == 401
        assert answer.json() == {
            "success": False,
            "code": 401,
            "msg": "Invalid authentication credentials",
        }
