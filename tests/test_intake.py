"""From what a caller named to links: off the event loop, two at a time, each image once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.images.corpus import picture, quarters, saved
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.images.addressing import Published, published_name
from wan25_mcp.images.conforming import Conformed
from wan25_mcp.images.reading import Picture
from wan25_mcp.intake import MOST_CONVERTED, Intake, Prepared, Wish
from wan25_mcp.journal import Journal
from wan25_mcp.journal.sql import SqlJournal, inline
from wan25_mcp.models import MODEL

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


def wish(*images: Picture) -> Wish:
    return Wish("Make it night", images, 1, None, MODEL)


async def prepared(
    intake: Intake, shelf: Shelf, *images: Picture, journal: Journal | None = None
) -> Prepared:
    journal = journal or SqlJournal("sqlite://", run=inline)
    return await intake.prepare(wish(*images), shelf, journal, now=T0)


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
            ready = await prepared(Intake(()), shelf, large, journal=journal)
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
        now += 1
        at_once.append(now)
        await anyio.sleep(1)
        now -= 1
        return job(*given)

    intake, shelf = Intake((), run=slowly), Shelf()
    async with anyio.create_task_group() as group:
        for side in range(400, 405):
            group.start_soon(prepared, intake, shelf, picture(saved(quarters(side, side), "PNG")))
    assert len(shelf.images) == 5
    assert max(at_once) == MOST_CONVERTED == 2


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_refusal_comes_out_of_the_thread_and_makes_room_for_the_next() -> None:
    intake, shelf = Intake(()), Shelf()
    with anyio.fail_after(30):
        for _ in range(MOST_CONVERTED + 1):
            with pytest.raises(InvalidRequest, match="is empty"):
                await prepared(intake, shelf, picture(b""))
        ready = await prepared(intake, shelf, picture(saved(quarters(), "PNG")))
    [image] = shelf.images
    assert ready == Prepared(wish().request([f"https://shelf.example/{published_name(image)}"]))
