"""Saving results: hostile links, whole files or none, and never over another file."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stage import names_in
from wan25_mcp.client import USER_AGENT
from wan25_mcp.emulator import Emulator
from wan25_mcp.images import NotSaved, save_images, saving, stem_of

pytestmark = pytest.mark.anyio
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)
LINK = "https://cdn.example/x.png?sig=SIGNATURE"
Answer = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: files are written in threads."""
    return str(request.param)


@asynccontextmanager
async def world(answer: Answer) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        yield http


def image(body: bytes = PNG, status: int = 200, **headers: str) -> Answer:
    return lambda _: httpx2.Response(status, content=body, headers=headers)


async def refused(answer: Answer, directory: Path, link: str = LINK) -> str:
    async with world(answer) as http:
        with pytest.raises(NotSaved) as failed:
            await save_images(http, [link], directory, stem="s")
    error = failed.value
    assert (error.code, error.charged, error.retryable) == ("not_saved", "yes", True)
    assert "SIGNATURE" not in error.message + error.fix
    assert names_in(directory) == []
    return error.message


async def test_an_image_is_saved_under_its_name_and_by_its_own_kind(tmp_path: Path) -> None:
    kinds = {
        PNG: ".png",
        b"\xff\xd8\xff\xe0rest": ".jpg",
        b"BMrest": ".bmp",
        b"RIFF\x10\x00\x00\x00WEBPrest": ".webp",
    }
    for body, ending in kinds.items():
        async with world(image(body)) as http:
            [path] = await save_images(http, [LINK], tmp_path / "new" / "dir", stem="s")
        assert path == tmp_path / "new" / "dir" / f"s-1{ending}"
        assert path.read_bytes() == body


async def test_no_key_goes_to_a_result_link_and_the_product_says_its_name(tmp_path: Path) -> None:
    seen: list[httpx2.Request] = []

    def answer(asked: httpx2.Request) -> httpx2.Response:
        seen.append(asked)
        return httpx2.Response(200, content=PNG)

    async with world(answer) as http:
        await save_images(http, [LINK, LINK], tmp_path, stem="s")
    assert [asked.headers["user-agent"] for asked in seen] == [USER_AGENT] * 2
    assert not [asked for asked in seen if "authorization" in asked.headers]
    assert names_in(tmp_path) == ["s-1.png", "s-2.png"]


@pytest.mark.parametrize(
    "link",
    ["http://127.0.0.1/x.png", "http://2130706433/", "http://localhost/", "http://[::1]/",
     "https://169.254.169.254/latest/meta-data", "file:///etc/passwd", "ftp://a.example/x.png",
     "https://user:pass@a.example/", "x.png", "", "https://[::1", "https://a\nb.example/"],
)  # fmt: skip
async def test_a_link_that_leads_inward_is_not_followed(link: str, tmp_path: Path) -> None:
    def never(_: httpx2.Request) -> httpx2.Response:
        raise AssertionError("asked")

    assert (await refused(never, tmp_path, link)).startswith("The image was not downloaded: its")
    redirect: Answer = lambda r: (  # noqa: E731
        httpx2.Response(302, headers={"location": link or "http://10.0.0.1/"})
        if r.url.host == "cdn.example"
        else never(r)
    )
    if link != "x.png" and "\n" not in link:
        await refused(redirect, tmp_path)


async def test_a_redirect_to_a_public_place_is_followed(tmp_path: Path) -> None:
    def answer(asked: httpx2.Request) -> httpx2.Response:
        if asked.url.path == "/x.png":
            return httpx2.Response(307, headers={"location": "/y.png"})
        if asked.url.host == "cdn.example":
            return httpx2.Response(302, headers={"location": "https://other.example/z.png"})
        return httpx2.Response(200, content=PNG)

    async with world(answer) as http:
        assert len(await save_images(http, [LINK], tmp_path, stem="s")) == 1


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (image(b"<html>sorry</html>"), "What the link gave is not an image."),
        (image(b""), "What the link gave is not an image."),
        (image(b"GIF89a" + bytes(50)), "What the link gave is not an image."),
        (image(b"RIFF\x10\x00\x00\x00WAVE"), "What the link gave is not an image."),
        (image(status=404), "The image could not be downloaded: HTTP 404 (links die after 24 "
         "hours)."),
        (image(status=403), "The image could not be downloaded: HTTP 403 (links die after 24 "
         "hours)."),
        (image(status=500), "The image could not be downloaded: HTTP 500."),
        (image(status=204), "The image could not be downloaded: HTTP 204."),
        (image(status=206), "The image could not be downloaded: HTTP 206."),
        (image(status=302, location=LINK), "The image's link leads from redirect to redirect."),
    ],
)  # fmt: skip
async def test_what_is_no_image_is_not_saved(answer: Answer, message: str, tmp_path: Path) -> None:
    assert await refused(answer, tmp_path / "out") == message


async def test_an_image_that_breaks_off_or_never_ends_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Torn(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield PNG
            raise httpx2.ReadError("gone")

    message = await refused(lambda _: httpx2.Response(200, stream=Torn()), tmp_path)
    assert message == "The image could not be downloaded: the connection broke."
    monkeypatch.setattr(saving, "MAX_IMAGE_BYTES", 50)
    message = await refused(image(), tmp_path)
    assert message == "The image is larger than any result of this model."
    monkeypatch.setattr(saving, "DOWNLOAD_SECONDS", 0.1)

    class Drip(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await anyio.sleep(0.05)
                yield b"\x89"

    message = await refused(lambda _: httpx2.Response(200, stream=Drip()), tmp_path)
    assert message == "Downloading the image took too long."


async def test_no_file_is_ever_overwritten_not_even_by_many_at_once(tmp_path: Path) -> None:
    (tmp_path / "s-1.png").write_bytes(b"mine")
    bodies = [PNG + bytes([number]) for number in range(12)]

    async def save(body: bytes) -> None:
        async with world(image(body)) as http:
            await save_images(http, [LINK], tmp_path, stem="s")

    async with anyio.create_task_group() as tasks:
        for body in bodies:
            tasks.start_soon(save, body)
    assert (tmp_path / "s-1.png").read_bytes() == b"mine"
    names = names_in(tmp_path)
    assert len(names) == 13
    assert {(tmp_path / name).read_bytes() for name in names} == {*bodies, b"mine"}


@pytest.mark.parametrize("make", ["a file where the folder should be", "a link to nowhere"])
async def test_a_folder_that_cannot_be_written_is_told(make: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    if make.startswith("a file"):
        folder.write_text("file")
    else:
        folder.symlink_to("/proc/1/nowhere")
    async with world(image()) as http:
        with pytest.raises(NotSaved) as failed:
            await save_images(http, [LINK], folder, stem="s")
    assert failed.value.message.startswith(f"The image could not be written to {folder} (")
    assert "WAN25_OUTPUT_DIR" in failed.value.fix


async def test_a_name_that_links_elsewhere_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (tmp_path / "s-1.png").symlink_to(victim)
    async with world(image()) as http:
        [path] = await save_images(http, [LINK], tmp_path, stem="s")
    assert path.name == "s-1-2.png"
    assert not victim.exists()


async def test_saving_does_not_block_the_event_loop(tmp_path: Path, no_blocking: None) -> None:
    main = threading.get_ident()
    async with Emulator(run_seconds=0.01, check_images=False).running() as emulator:
        async with world(image()) as http:
            await save_images(http, [LINK], tmp_path, stem="s")
        assert emulator.leaked_keys == []
    assert main == threading.get_ident()


@given(st.text(max_size=200), st.text(max_size=40))
def test_any_prompt_gives_a_file_name_that_is_safe_everywhere(prompt: str, task_id: str) -> None:
    stem = stem_of(prompt, task_id, date(2026, 11, 22))
    assert stem.startswith("2026-11-22-")
    assert len(stem) <= 60
    assert set(stem) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-")
