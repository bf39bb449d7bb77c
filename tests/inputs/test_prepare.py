"""From what a caller named to links: off the event loop, two at a time, each image once."""

from __future__ import annotations

import base64
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.inputs.corpus import picture, quarters, saved
from tests.stage import inline, inline_run
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.inputs import prepare as intakes
from wan25_mcp.inputs.conform import Conformed, check
from wan25_mcp.inputs.prepare import (
    MAX_CONVERTED,
    MAX_UPLOADED,
    EditInput,
    ImagePreparer,
    PreparedRequest,
)
from wan25_mcp.inputs.publisher import Published, published_name
from wan25_mcp.inputs.read import Picture
from wan25_mcp.journal import Journal
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.catalogue import MODEL

pytestmark = pytest.mark.anyio

T0: Final = 1_750_000_000.0


class Shelf:
    """A place that images can be put to, in memory."""

    place = "shelf"

    def __init__(self) -> None:
        self.images: list[Conformed] = []

    async def publish(self, image: Conformed, name: str) -> Published:
        self.images.append(image)
        return Published(f"https://shelf.example/{published_name(image)}", T0 + 3600)


def wish(*images: Picture) -> EditInput:
    return EditInput("Make it night", images, 1, None, MODEL)


async def prepared(
    intake: ImagePreparer, shelf: Shelf, *images: Picture, journal: Journal | None = None
) -> PreparedRequest:
    journal = journal or SqlJournal("sqlite://", run=inline)
    return await intake.prepare(wish(*images), shelf, journal, owner="me", now=T0)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_event_loop_goes_on_while_an_image_is_made(
    tmp_path: Path, no_blocking: None
) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite3")
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.001)
            ticks += 1

    large, shelf = picture(saved(quarters(6000, 3000), "JPEG")), Shelf()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            ready = await prepared(ImagePreparer(()), shelf, large, journal=journal)
            group.cancel_scope.cancel()
    journal.close()
    assert [image.width for image in shelf.images] == [5000]
    assert len(ready.changes) == 1
    assert ticks > 10


async def test_no_more_than_two_images_are_in_memory_at_once() -> None:
    at_once: list[int] = []
    now = 0

    async def slowly(job: Callable[..., Any], *given: Any) -> Any:
        nonlocal now
        if job is check:  # which takes milliseconds, and no memory
            return check(*given)
        now += 1
        at_once.append(now)
        await anyio.sleep(1)
        now -= 1
        return job(*given)

    intake, shelf = ImagePreparer((), run=slowly), Shelf()
    async with anyio.create_task_group() as group:
        for side in range(400, 405):
            group.start_soon(prepared, intake, shelf, picture(saved(quarters(side, side), "PNG")))
    assert len(shelf.images) == 5
    assert max(at_once) == MAX_CONVERTED == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_refusal_comes_out_of_the_thread_and_makes_room_for_the_next() -> None:
    intake, shelf = ImagePreparer(()), Shelf()
    with anyio.fail_after(30):
        for _ in range(MAX_CONVERTED + 1):
            with pytest.raises(InvalidRequest, match="is empty"):
                await prepared(intake, shelf, picture(b""))
        ready = await prepared(intake, shelf, picture(saved(quarters(), "PNG")))
    [image] = shelf.images
    assert ready == PreparedRequest(
        wish().request([f"https://shelf.example/{published_name(image)}"])
    )


# --- memory, however many come at once -------------------------------------------------------


def bitmap(folder: Path, name: str, side: int = 1000) -> str:
    """An image of three bytes a pixel."""
    path = folder / name
    quarters(side, side).save(path, "BMP")
    return str(path)


async def test_files_that_wait_take_no_memory(tmp_path: Path) -> None:
    sources = [bitmap(tmp_path, f"{number}.bmp") for number in range(12)]
    intake = ImagePreparer([tmp_path], run=inline_run)
    read: list[object] = []

    async def one(source: str) -> None:
        read.append(await intake.read([source]))

    await one(sources[0])  # what is imported for it stays
    tracemalloc.start()
    async with anyio.create_task_group() as group:
        for source in sources:
            group.start_soon(one, source)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read) == 13
    assert kept < 1_000_000
    assert peak < 2 * 3_000_000


async def test_a_large_image_is_converted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intakes, "LARGE_PIXELS", 500 * 500)
    made: list[tuple[int, int]] = []
    now = 0

    async def slowly(job: Callable[..., Any], *given: Any) -> Any:
        nonlocal now
        if job is check:
            return check(*given)
        now += 1
        await anyio.sleep(1)
        found = job(*given)
        made.append((found.width, now))
        now -= 1
        return found

    intake, shelf = ImagePreparer((), run=slowly), Shelf()
    async with anyio.create_task_group() as group:
        for side in (400, 600, 401, 402, 601):
            image = picture(saved(quarters(side, side), "PNG"))
            group.start_soon(prepared, intake, shelf, image)
            await anyio.sleep(0.01)  # trio starts what is started at once in any order
    assert len(made) == 5
    assert {count for width, count in made if width >= 600} == {1}
    assert max(count for _, count in made) == 2


async def test_no_more_than_four_images_are_uploaded_at_once() -> None:
    now, most = 0, 0

    class Slow(Shelf):
        async def publish(self, image: Conformed, name: str) -> Published:
            nonlocal now, most
            now += 1
            most = max(most, now)
            await anyio.sleep(5)
            now -= 1
            return await super().publish(image, name)

    intake, shelf = ImagePreparer((), run=inline_run), Slow()
    async with anyio.create_task_group() as group:
        for side in range(400, 420):
            image = picture(saved(quarters(side, side), "PNG"))
            group.start_soon(prepared, intake, shelf, image)
    assert len(shelf.images) == 20
    assert most == MAX_UPLOADED == 4


def data_uri(number: int) -> str:
    content = saved(quarters(400 + number, 400), "BMP")
    return "data:image/bmp;base64," + base64.b64encode(content).decode()


async def test_images_inside_calls_are_counted_until_nobody_holds_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intakes, "MAX_MEMORY_BYTES", 1_100_000)  # two of them
    intake = ImagePreparer((), run=inline_run)
    first, second = await intake.read([data_uri(0)]), await intake.read([data_uri(1)])
    began = anyio.current_time()
    with pytest.raises(Wan25Error) as refused:
        await intake.read([data_uri(2)])
    assert anyio.current_time() - began <= 3  # edit_image answers within 4 seconds
    assert (refused.value.code, refused.value.charged) == ("busy", "no")
    assert refused.value.retryable
    with pytest.raises(InvalidRequest):
        await intake.read(["data:,nothing that is an image"])
    del first
    assert await intake.read([data_uri(2)])
    del second
    with pytest.raises(InvalidRequest):  # the first of two is let go with the second
        await intake.read([data_uri(3), "data:,nothing that is an image"])
    assert await intake.read([data_uri(3)])
    assert intake.in_memory.bytes == 0


async def test_one_that_waits_for_room_gets_it_when_another_is_let_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(intakes, "MAX_MEMORY_BYTES", 600_000)
    intake = ImagePreparer((), run=inline_run)

    async def hold() -> None:
        held = await intake.read([data_uri(0)])
        await anyio.sleep(1)
        assert held

    async with anyio.create_task_group() as group:
        group.start_soon(hold)
        await anyio.sleep(0.5)
        assert await intake.read([data_uri(1)])
