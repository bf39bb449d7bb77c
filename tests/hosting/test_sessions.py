"""Sessions of the older protocol: how many there are, and whose ends to make room."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import anyio
import httpx2
import pytest
from starlette.types import Scope, Send

from tests.hosting.test_hosting import calling
from tests.server.test_transports import INITIALIZE, LIST
from wan25_mcp.hosting import app as hosted
from wan25_mcp.hosting import sessions
from wan25_mcp.hosting.sessions import SessionLimit

pytestmark = pytest.mark.anyio
ACCEPT: Final = {"accept": "application/json, text/event-stream"}
MOST: Final = 3


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "MAX_SESSIONS", MOST)


async def opened(http: httpx2.AsyncClient) -> str:
    answer = await http.post("/mcp", json=INITIALIZE, headers=ACCEPT)
    assert answer.status_code == 200
    return str(answer.headers["mcp-session-id"])


async def ask(http: httpx2.AsyncClient, session: str, method: str = "POST") -> int:
    headers = ACCEPT | {"mcp-session-id": session}
    with anyio.fail_after(10):
        body = {"json": LIST} if method == "POST" else {}
        return (await http.request(method, "/mcp", headers=headers, **body)).status_code  # type: ignore[arg-type]


async def test_a_new_client_is_let_in_and_the_session_idle_longest_ends(tmp_path: Path) -> None:
    async with calling("streamable-http", "127.0.0.1", tmp_path) as http:
        first, second, third = [await opened(http) for _ in range(MOST)]
        assert await ask(http, first) == 200
        fourth = await opened(http)
        assert [await ask(http, one) for one in (first, second, third, fourth)] == [
            200, 404, 200, 200
        ]  # fmt: skip


async def test_however_many_open_sessions_and_leave_the_next_one_is_served(tmp_path: Path) -> None:
    async with calling("streamable-http", "127.0.0.1", tmp_path) as http:
        names = [await opened(http) for _ in range(50)]
        assert await ask(http, names[-1]) == 200
        left = [name for name in names if await ask(http, name) == 200]
    assert left == names[-MOST:]


async def test_a_session_that_its_client_ended_leaves_room(tmp_path: Path) -> None:
    async with calling("streamable-http", "127.0.0.1", tmp_path) as http:
        first, second, third = [await opened(http) for _ in range(MOST)]
        assert await ask(http, second, "DELETE") == 200
        fourth = await opened(http)
        assert [await ask(http, one) for one in (first, second, third, fourth)] == [
            200, 404, 200, 200
        ]  # fmt: skip


async def test_a_session_whose_stream_is_open_is_not_idle() -> None:
    """By the app alone: a client in memory cannot hold a stream open."""
    ended: list[str] = []
    leave = anyio.Event()
    count = 0

    async def app(scope: Scope, receive: object, send: Send) -> None:
        nonlocal count
        named = dict(scope["headers"]).get(b"mcp-session-id", b"").decode()
        if scope["method"] == "DELETE":
            ended.append(named)
        if scope["method"] == "GET":
            await leave.wait()
        count += not named
        name = (named or str(count)).encode()
        headers = [(b"mcp-session-id", name)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def unheard(message: object) -> None:
        pass

    now = 0.0
    bound = SessionLimit(app, 2, clock=lambda: now)

    async def send(method: str, session: str | None = None) -> None:
        headers = [(b"mcp-session-id", session.encode())] if session else []
        scope = {"type": "http", "method": method, "headers": headers}
        await bound(scope, None, unheard)  # type: ignore[arg-type]

    async with anyio.create_task_group() as tasks:
        await send("POST")
        tasks.start_soon(send, "GET", "1")
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            await send("POST")
        assert ended == ["2", "3"]
        leave.set()
        await anyio.wait_all_tasks_blocked()
        await send("POST")
        assert ended == ["2", "3", "4"]
        now += sessions.IDLE_SECONDS + 1  # all that is left has been ended by the SDK
        await send("POST")
    assert ended == ["2", "3", "4", "1", "5"]
    assert len(bound._endings) == len(bound._idle) == 1
    assert not bound._busy
