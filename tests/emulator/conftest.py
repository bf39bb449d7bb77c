"""One way to open an emulator for a test, and a hard deadline for every test."""

from __future__ import annotations

import signal
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import httpx2
import pytest
from blockbuster import blockbuster_ctx

from tests.emulator_lab import Emulator

T0 = 1_800_000_000
HARD_SECONDS = 60


@dataclass
class Play:
    """An open emulator and a client with its key."""

    emulator: Emulator
    client: httpx2.AsyncClient

    async def submit(self, **fields: Any) -> httpx2.Response:
        """A good submit, with `fields` over it; a field that is None is left out."""
        body = {
            "model": "wan2.5-image-to-image",
            "prompt": "Replace the background with a starry sky",
            "image_urls": ["https://example.com/image1.png"],
            "n": 1,
        } | fields
        body = {name: value for name, value in body.items() if value is not None}
        return await self.client.post("v1/images/generations", json=body)

    async def accepted(self, **fields: Any) -> str:
        answer = await self.submit(**fields)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["id"])

    async def query(self, task_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"v1/tasks/{task_id}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def settled(self, task_id: str, every: float = 5.0) -> dict[str, Any]:
        while True:
            task = await self.query(task_id)
            if task["status"] not in ("pending", "processing"):
                return task
            await anyio.sleep(every)

    def visitor(self) -> httpx2.AsyncClient:
        """A client without a key and with a name of its own, for result links."""
        return httpx2.AsyncClient(
            transport=self.emulator.transport(), headers={"user-agent": "a-product/1"}
        )


@asynccontextmanager
async def open_play(**switches: Any) -> AsyncGenerator[Play, None]:
    usual: dict[str, Any] = {"check_images": False, "clock": lambda: T0 + anyio.current_time()}
    emulator = Emulator(**(usual | switches))
    async with (
        emulator.running(),
        httpx2.AsyncClient(
            transport=emulator.transport(),
            base_url=emulator.base_url,
            headers={"authorization": "Bearer emulator-key"},
        ) as client,
    ):
        yield Play(emulator, client)


@pytest.fixture
def play() -> Callable[..., AbstractAsyncContextManager[Play]]:
    """Opens an emulator in memory: `async with play(balance=3) as p`."""
    return open_play


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def no_blocking() -> Generator[None, None, None]:
    """Blocking calls on the event loop fail the test."""
    httpx2.AsyncHTTPTransport()  # imports on first use, which blocks
    with blockbuster_ctx():
        yield


@pytest.fixture(autouse=True)
def hard_deadline() -> Generator[None, None, None]:
    """No test outlives its minute, whatever its clock says."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return
    previous = signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(HARD_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def _too_late(*_: object) -> None:
    raise TimeoutError(f"the test ran longer than {HARD_SECONDS} s")
