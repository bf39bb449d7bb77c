"""How much of all requests together is in memory: by an app that keeps what it is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

import anyio
import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from wan25_mcp.hosting import bodies
from wan25_mcp.hosting.bodies import SMALL_BYTES, BodyBudget

pytestmark = pytest.mark.anyio
MIB: Final = 1024 * 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Kept:
    """An app that reads bodies and answers when it is let."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.answers = anyio.Event()
        self.status = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.read.append(len(await Request(scope, receive).body()))
        await self.answers.wait()
        await PlainTextResponse("done", self.status)(scope, receive, send)


def caller(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://127.0.0.1")


async def pieces(size: int) -> AsyncIterator[bytes]:
    """A body whose size is not announced."""
    for start in range(0, size, 1000):
        yield bytes(min(1000, size - start))


async def test_a_large_body_waits_unread_until_there_is_room_and_a_small_one_never_waits() -> None:
    app = Kept()
    got: list[int] = []

    async def post(content: Any) -> None:
        got.append((await http.post("/", content=content)).status_code)

    async with caller(BodyBudget(app, 2 * MIB, 3 * MIB)) as http, anyio.create_task_group() as all_:
        for size in (2 * MIB, 2 * MIB, MIB, SMALL_BYTES):
            all_.start_soon(post, bytes(size))
            await anyio.wait_all_tasks_blocked()
        all_.start_soon(post, pieces(5000))
        await anyio.wait_all_tasks_blocked()
        # The third would fit beside the first, but the second was here before it.
        assert app.read == [2 * MIB, SMALL_BYTES, 5000]
        app.answers.set()
    assert sorted(app.read) == sorted([2 * MIB, SMALL_BYTES, 5000, 2 * MIB, MIB])
    assert got == [200] * 5


async def test_without_room_in_time_the_answer_says_when_to_call_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "ROOM_SECONDS", 0.1)
    app = Kept()
    async with caller(BodyBudget(app, MIB, MIB)) as http, anyio.create_task_group() as all_:
        all_.start_soon(lambda: http.post("/", content=bytes(MIB)))
        await anyio.wait_all_tasks_blocked()
        refused = await http.post("/", content=bytes(MIB))
        app.answers.set()
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == str(bodies.RETRY_AFTER_SECONDS)
    told = refused.json()
    assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", None, -32603)
    assert "Nothing was sent or charged" in told["error"]["message"]
    assert app.read == [MIB]


@pytest.mark.parametrize("announced", [True, False])
async def test_a_body_above_the_limit_is_refused_with_limit_and_remedy(announced: bool) -> None:
    app = Kept()
    app.status = 413  # as the SDK refuses a body whose size it learns as it reads
    app.answers.set()
    async with caller(BodyBudget(app, MIB, 2 * MIB)) as http:
        content: Any = bytes(MIB + 1) if announced else pieces(MIB + 1)
        refused = await http.post("/", content=content)
    assert refused.status_code == 413
    told = refused.json()
    assert (told["jsonrpc"], told["id"], told["error"]["code"]) == ("2.0", None, -32600)
    assert "1 MB" in told["error"]["message"]
    assert "https://" in told["error"]["message"]
    assert app.read == ([] if announced else [MIB + 1])


async def test_a_chunked_body_that_announces_a_small_size_as_well_waits_like_any_other() -> None:
    """Of the two, HTTP has the chunks count, and so does the server."""
    app = Kept()
    both = {"content-length": "5", "transfer-encoding": "chunked"}
    async with caller(BodyBudget(app, MIB, MIB)) as http, anyio.create_task_group() as all_:
        for _ in range(2):
            all_.start_soon(lambda: http.post("/", content=pieces(MIB), headers=both))
            await anyio.wait_all_tasks_blocked()
        assert app.read == [MIB]
        app.answers.set()
    assert app.read == [MIB, MIB]


async def test_a_message_that_is_worked_on_after_its_answer_keeps_its_room_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "HANDED_OVER_SECONDS", 0.5)
    app = Kept()
    app.answers.set()
    async with caller(BodyBudget(app, MIB, MIB)) as http:
        for status, waits in ((200, False), (202, False), (200, True)):
            app.status = status
            began = anyio.current_time()
            assert (await http.post("/", content=bytes(MIB))).status_code == status
            assert (anyio.current_time() - began > 0.4) == waits
