"""The pictures: how they look, how long they live, who may fetch them."""

from __future__ import annotations

import io
from typing import Any

import anyio
import pytest
from PIL import Image, ImageChops
from trio.testing import MockClock

from wan25_mcp.emulator.pictures import LABEL, output_size, render, sample

pytestmark = pytest.mark.anyio
WIDE, TALL = sample(800, 450), sample(500, 800, seed=3)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def opened(raw: bytes) -> Image.Image:
    with Image.open(io.BytesIO(raw)) as image:
        image.load()
        return image


async def test_a_result_is_a_png_of_the_last_image_that_says_what_it_is(play: Any) -> None:
    async with play(check_images=True) as p:
        links = [p.emulator.host(WIDE), p.emulator.host(TALL)]
        task = await p.settled(await p.accepted(image_urls=links, prompt="Change it"))
        async with p.visitor() as visitor:
            answer = await visitor.get(task["results"][0])
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "image/png"
        assert int(answer.headers["content-length"]) == len(answer.content)
        picture = opened(answer.content)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (1012, 1619))
        assert picture.info == picture.info | {
            "Software": LABEL,
            "Prompt": "Change it",
            "Task": f"{task['id']}_0",
        }


def test_the_same_request_draws_the_same_bytes_and_each_image_of_it_differs() -> None:
    first = render([WIDE], "a prompt", "task", 0)
    assert first == render([WIDE], "a prompt", "task", 0)
    assert opened(first).tobytes() != opened(render([WIDE], "a prompt", "task", 1)).tobytes()


def test_a_result_is_derived_from_its_input() -> None:
    results = [opened(render([raw], "p", "t", 0)) for raw in (WIDE, sample(800, 450, seed=9))]
    assert ImageChops.difference(*results).getbbox() is not None


@pytest.mark.parametrize("size", [(384, 5000), (5000, 384), (384, 384), (1920, 1080), (1, 1)])
def test_the_output_has_the_area_of_the_model_and_the_aspect_of_the_input(
    size: tuple[int, int],
) -> None:
    width, height = output_size(*size)
    assert width * height == pytest.approx(1280 * 1280, rel=0.005)
    assert width / height == pytest.approx(size[0] / size[1], rel=0.005)


def test_a_photograph_is_turned_the_way_its_exif_says() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (800, 400)).save(buffer, "JPEG", exif=exif)
    assert opened(render([buffer.getvalue()], "p", "t", 0)).size == output_size(400, 800)


@pytest.mark.parametrize(
    "prompt", ["把背景换成星空", "x" * 2000, "🎨", "\u0000\n\t", "a\u202eb", ""]
)
@pytest.mark.parametrize("source", [[], [WIDE], [sample(384, 5000), sample(5000, 384)]])
def test_no_prompt_and_no_aspect_stops_the_drawing(prompt: str, source: list[bytes]) -> None:
    assert opened(render(source, prompt, "t", 0)).format == "PNG"


def test_letters_the_font_lacks_are_left_out() -> None:
    mixed, latin, none, blank = (
        opened(render([WIDE], prompt, "t", 0)).crop((0, 840, 1707, 960))
        for prompt in ("把背景换成 starry 星空", "starry", "星空", "")
    )
    assert ImageChops.difference(mixed, latin).getbbox() is None
    assert ImageChops.difference(none, blank).getbbox() is None
    assert ImageChops.difference(latin, blank).getbbox() is not None


async def test_links_expire_a_day_after_completion(play: Any) -> None:
    async with play(run_seconds=100) as p, p.visitor() as visitor:
        task_id = await p.accepted()
        await anyio.sleep(100.5)
        link = (await p.query(task_id))["results"][0]
        await anyio.sleep(24 * 3600 - 1)
        assert (await visitor.get(link)).status_code == 200
        await anyio.sleep(1)
        answer = await visitor.get(link)
        assert answer.status_code == 403
        assert "Request has expired" in answer.text
        assert (await p.query(task_id))["results"] == [link]


async def test_unknown_links_are_not_found(play: Any) -> None:
    async with play(run_seconds=10) as p, p.visitor() as visitor:
        p.emulator.outcome(images=1)
        link = (await p.settled(await p.accepted(n=2)))["results"][0]
        for name in (
            link.replace("_0", "_1"),
            link.replace("_0", "_00"),
            link.replace("_0", "_²"),
            link.replace("_0", "_x"),
            link[:-6] + "z_0.png",
        ):
            assert (await visitor.get(name)).status_code == 404


async def test_a_running_task_has_no_picture_yet(play: Any) -> None:
    async with play() as p, p.visitor() as visitor:
        link = f"{p.emulator.public_url}/results/{await p.accepted()}_0.png"
        assert (await visitor.get(link)).status_code == 404


async def test_a_key_sent_to_a_link_is_refused_and_remembered(play: Any) -> None:
    async with play(run_seconds=10) as p:
        link = (await p.settled(await p.accepted()))["results"][0]
        p.client.headers["user-agent"] = "a-product/1"
        assert (await p.client.get(link)).status_code == 403
        assert p.emulator.leaked_keys == ["Bearer emulator-key"]


@pytest.mark.parametrize(
    ("agent", "status"),
    [
        ("python-httpx2/2.16.2", 403),
        ("python-httpx/0.28.1", 403),
        ("python-requests/2.34", 403),
        ("Python-urllib/3.11", 403),
        ("wan25-mcp/0.1 (+https://example.com)", 200),
        ("Mozilla/5.0", 200),
    ],
)
async def test_the_cdn_refuses_library_agents(play: Any, agent: str, status: int) -> None:
    async with play(run_seconds=10) as p, p.visitor() as visitor:
        link = (await p.settled(await p.accepted()))["results"][0]
        assert (await visitor.get(link, headers={"user-agent": agent})).status_code == status


async def test_library_agents_are_served_when_so_switched(play: Any) -> None:
    async with play(run_seconds=10, refuse_library_agents=False) as p, p.visitor() as visitor:
        link = (await p.settled(await p.accepted()))["results"][0]
        answer = await visitor.head(link, headers={"user-agent": "python-httpx2/2"})
        assert (answer.status_code, answer.content) == (200, b"")
