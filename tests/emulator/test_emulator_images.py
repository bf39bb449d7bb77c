"""What the emulator makes of the images it is given links to."""

from __future__ import annotations

import io
from typing import Any

import httpx2
import pytest
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from trio.testing import MockClock

from wan25_mcp.emulator.inspection import inspect
from wan25_mcp.emulator.tasks import TaskFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def picture(
    kind: str = "PNG", size: tuple[int, int] = (400, 400), mode: str = "RGB", **options: Any
) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, kind, **options)
    return buffer.getvalue()


def paletted(transparent: bool) -> bytes:
    options: dict[str, Any] = {"transparency": 0} if transparent else {}
    return picture(mode="P", **options)


@pytest.mark.parametrize(
    "raw",
    [
        picture("JPEG"),
        picture("PNG"),
        picture("PNG", mode="L"),
        paletted(transparent=False),
        picture("BMP"),
        picture("WEBP"),
        picture("WEBP", mode="RGBA"),
        picture(size=(384, 5000)),
        picture(size=(5000, 384)),
    ],
    ids=["jpeg", "png", "grey", "palette", "bmp", "webp", "webp-alpha", "tall", "wide"],
)
def test_an_acceptable_image_is_measured(raw: bytes) -> None:
    with Image.open(io.BytesIO(raw)) as image:
        assert inspect(raw) == image.size


BAD_SIZE = (
    "image_dimension_mismatch",
    "Image width and height must be between 384 and 5000 pixels.",
)
UNREADABLE = ("image_processing_error", "The image is corrupt or of an unsupported format.")
TRANSPARENT = ("image_processing_error", "PNG images must not have a transparent channel.")
BAD_IMAGES = {
    "narrow": (picture(size=(383, 400)), BAD_SIZE),
    "low": (picture(size=(400, 383)), BAD_SIZE),
    "wide": (picture(size=(5001, 400), mode="1"), BAD_SIZE),
    "bomb": (picture(size=(20000, 20000), mode="1"), BAD_SIZE),
    "rgba": (picture(mode="RGBA"), TRANSPARENT),
    "grey-alpha": (picture(mode="LA"), TRANSPARENT),
    "transparent-palette": (paletted(transparent=True), TRANSPARENT),
    "gif": (picture("GIF"), UNREADABLE),
    "avif": (b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + bytes(64), UNREADABLE),
    "tiff": (picture("TIFF"), UNREADABLE),
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), UNREADABLE),
    "html": (b"<!doctype html><title>Log in</title>", UNREADABLE),
    "empty": (b"", UNREADABLE),
    "cut-short": (Image.effect_noise((400, 400), 90).tobytes()[:9] + picture()[9:], UNREADABLE),
    "half": (picture("BMP")[:9000], UNREADABLE),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_is_reported_with_its_documented_code(name: str) -> None:
    raw, expected = BAD_IMAGES[name]
    with pytest.raises(TaskFailed) as caught:
        inspect(raw)
    assert (caught.value.error["code"], caught.value.error["message"]) == expected


async def test_a_task_with_a_bad_image_fails_and_costs_nothing(play: Any) -> None:
    async with play(check_images=True) as p:
        good, bad = p.emulator.sample_image_url(), p.emulator.host(picture(size=(100, 100)))
        task = await p.settled(await p.accepted(image_urls=[good, bad]))
        assert task["status"] == "failed"
        assert task["error"] == {
            "code": BAD_SIZE[0],
            "message": BAD_SIZE[1],
            "type": "task_error",
        }
        assert p.emulator.ledger.balance == 100


async def _world(request: Request) -> Response:
    """An internet of one host."""
    name = request.path_params["name"]
    if name == "hop":
        left = int(request.query_params["left"])
        to = f"/hop?left={left - 1}" if left else "/good"
        return RedirectResponse(to)
    if name == "inward":
        return RedirectResponse("http://169.254.169.254/good")
    answers = {
        "good": Response(picture()),
        "gone": Response(status_code=404),
        "big": Response(picture("BMP", (4000, 900))),
        "page": Response("<html>", media_type="text/html"),
    }
    return answers[name]


WORLD = httpx2.ASGITransport(Starlette(routes=[Route("/{name}", _world)]))
UNREACHED = "The image could not be downloaded: {}."


@pytest.mark.parametrize(
    ("link", "message"),
    [
        ("https://a.example/gone", UNREACHED.format("the link answered 404")),
        ("https://a.example/big", UNREACHED.format("the image is larger than 10 MB")),
        ("https://a.example/page", UNREADABLE[1]),
        ("https://a.example/hop?left=4", UNREACHED.format("too many redirects")),
        ("https://a.example/inward", UNREACHED.format("internal address")),
        ("http://127.0.0.1/good", UNREACHED.format("internal address")),
        ("http://127.1/good", UNREACHED.format("internal address")),
        ("http://localhost:8080/good", UNREACHED.format("internal address")),
        ("http://192.168.0.1/good", UNREACHED.format("internal address")),
        ("http://[fd00::1]/good", UNREACHED.format("internal address")),
        ("http://emulator.test:81/good", ""),
        ("http://emulator.test/files/none/x.png", UNREACHED.format("the link answered 404")),
    ],
)
async def test_a_link_that_cannot_be_read_fails_the_task(
    play: Any, link: str, message: str
) -> None:
    async with play(check_images=True, outside=WORLD) as p:
        task = await p.settled(await p.accepted(image_urls=[link]))
        if message:
            assert task["error"] == {
                "code": "image_processing_error",
                "message": message,
                "type": "task_error",
            }
        else:
            assert task["status"] == "completed"


@pytest.mark.parametrize("link", ["good", "hop?left=2"])
async def test_an_image_on_the_internet_is_edited(play: Any, link: str) -> None:
    async with play(check_images=True, outside=WORLD) as p:
        task = await p.settled(await p.accepted(image_urls=[f"https://a.example/{link}"]))
        assert task["status"] == "completed"


async def test_loopback_is_read_only_when_allowed(play: Any) -> None:
    async with play(check_images=True, outside=WORLD, allow_loopback=True) as p:
        task = await p.settled(await p.accepted(image_urls=["http://127.0.0.1:9/good"]))
        assert task["status"] == "completed"
        task = await p.settled(await p.accepted(image_urls=["http://10.0.0.1/good"]))
        assert task["status"] == "failed"


async def test_a_host_that_never_answers_fails_the_task_after_half_a_minute(play: Any) -> None:
    async def hang(request: httpx2.Request) -> httpx2.Response:
        import anyio

        await anyio.sleep_forever()
        raise AssertionError(request)

    silent = httpx2.MockTransport(hang)
    async with play(check_images=True, outside=silent, run_seconds=10) as p:
        task = await p.settled(await p.accepted(), every=1)
        assert task["error"]["message"] == UNREACHED.format("the download timed out")
        assert task["duration"] == 30
