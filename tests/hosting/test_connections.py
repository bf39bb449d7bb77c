"""Connections to the port where MCP is served, against those who hold them open: real sockets."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import httpx2
import pytest
from anyio.abc import SocketStream

from tests.server.test_transports import INITIALIZE, listening
from tests.stage import environment
from tests.systems import posix
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.hosting import connections, create_app
from wan25_mcp.hosting.connections import Lobby, max_connections, report_accept_errors
from wan25_mcp.hosting.listening import bind, main_server
from wan25_mcp.server import create_server
from wan25_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN: Final = "a-good-token"
ACCEPT: Final = {"accept": "application/json, text/event-stream"}
GONE: Final = (anyio.BrokenResourceError, anyio.EndOfStream)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def served(tmp_path: Path, *, limit: int = 100, sse: bool = False) -> AsyncIterator[int]:
    """The app with a token, on a real socket; its port."""
    values = {"WAN25_DATA_DIR": str(tmp_path), "WAN25_SERVER_TOKEN": TOKEN}
    settings = Settings.from_mapping(values)
    async with open_configured_editor(settings) as editor:
        app = create_app(
            create_server(editor),
            "sse" if sse else "streamable-http",
            host="127.0.0.1",
            settings=settings,
        )
        server = main_server(app, "WARNING", Lobby(limit))
        with bind("127.0.0.1", 0) as listener:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(server.serve, [listener])
                yield listener.getsockname()[1]
                server.should_exit = True


async def stranger(port: int) -> SocketStream:
    return await anyio.connect_tcp("127.0.0.1", port)


async def call(port: int, token: str = TOKEN) -> httpx2.Response:
    headers = ACCEPT | {"authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(trust_env=False, timeout=5) as http:
        return await http.post(f"http://127.0.0.1:{port}/mcp", json=INITIALIZE, headers=headers)


async def is_closed(stream: SocketStream, seconds: float = 3) -> bool:
    """Whether the other side ends a connection in that time, whatever it says before."""
    with anyio.move_on_after(seconds):
        try:
            while True:
                await stream.receive()
        except GONE:
            return True
    return False


async def trickle(stream: SocketStream, byte: bytes, seconds: float = 4) -> None:
    """Send a byte now and then, which uvicorn takes for life, until the other side has enough."""
    with anyio.fail_after(seconds), suppress(*GONE):
        while True:
            await stream.send(byte)
            await anyio.sleep(0.1)


def head(port: int, *lines: str, token: str = TOKEN) -> bytes:
    usual = [f"host: 127.0.0.1:{port}", f"authorization: Bearer {token}"]
    accept = ["accept: application/json, text/event-stream", "content-type: application/json"]
    return "\r\n".join(["POST /mcp HTTP/1.1", *usual, *accept, *lines, "", ""]).encode()


# --- too many --------------------------------------------------------------------------------


async def test_strangers_who_hold_connections_push_out_each_other_and_no_caller(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(tmp_path, limit=10) as port, AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(await stranger(port)) for _ in range(10)]
        with anyio.fail_after(5):
            assert (await call(port)).status_code == 200
            assert await is_closed(strangers[0])
        later = [await stack.enter_async_context(await stranger(port)) for _ in range(30)]
        with anyio.fail_after(5):
            assert (await call(port)).status_code == 200
        assert not await is_closed(later[-1], 0.2)
    assert len([line for line in caplog.messages if "connections are open" in line]) == 1


async def test_one_who_asks_without_the_token_is_still_a_stranger(tmp_path: Path) -> None:
    async with served(tmp_path, limit=3) as port, AsyncExitStack() as stack:
        strangers = [await stack.enter_async_context(await stranger(port)) for _ in range(3)]
        for one in strangers:
            await one.send(head(port, "content-length: 2", token="wrong") + b"{}")
            assert b"401" in await one.receive()
        assert (await call(port)).status_code == 200
        assert await is_closed(strangers[0])


async def test_an_open_stream_of_a_caller_outlives_every_stranger_and_every_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEAD_SECONDS", "BODY_SECONDS"):
        monkeypatch.setattr(connections, name, 0.2)
    async with served(tmp_path, limit=3, sse=True) as port, AsyncExitStack() as stack:
        stream = await stack.enter_async_context(await stranger(port))
        lines = f"GET /sse HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
        await stream.send(lines.encode())
        assert b"200 OK" in await stream.receive()
        for _ in range(12):
            await stack.enter_async_context(await stranger(port))
        assert not await is_closed(stream, 1)


def test_no_more_connections_than_half_of_what_a_process_may_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = {256: 128, 1024: 512, 1_000_000: 512, 4: 8}
    for descriptors, limit in limits.items():
        monkeypatch.setattr(connections, "descriptors", lambda found=descriptors: found)
        assert max_connections() == limit


@contextmanager
def soft_limit(limit: int) -> Iterator[None]:
    """How many descriptors processes started in the block may have."""
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@posix
def test_beyond_loopback_a_thousand_idle_strangers_stop_no_caller_and_fill_no_log(
    tmp_path: Path,
) -> None:
    import resource  # not on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("this machine does not let a test open so many sockets")
    environ = environment(WAN25_DATA_DIR=str(tmp_path), WAN25_SERVER_TOKEN=TOKEN)
    with ExitStack() as stack:
        with soft_limit(1024):
            serving = listening("streamable-http", environ, "--host", "0.0.0.0")
            process, url, _ = stack.enter_context(serving)
        stack.enter_context(soft_limit(max(soft, 4096)))
        address = url.replace("0.0.0.0", "127.0.0.1")
        port = httpx2.URL(address).port
        for _ in range(1200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        headers = ACCEPT | {"authorization": f"Bearer {TOKEN}"}
        with httpx2.Client(trust_env=False, timeout=5) as http:
            for _ in range(3):
                assert http.post(address, json=INITIALIZE, headers=headers).status_code == 200
        process.terminate()
        _, told = process.communicate(timeout=15)
    assert len(told.decode().splitlines()) <= 2


# --- too slow --------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"POST /mcp HTTP/1.1\r\nhost: a"])
async def test_a_head_that_does_not_come_in_time_ends_the_connection(
    sent: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.3)
    async with served(tmp_path) as port, await stranger(port) as slow:
        await slow.send(sent or b"\r\n")
        assert await is_closed(slow)


async def test_the_second_head_on_a_kept_connection_has_a_time_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    async with served(tmp_path) as port, await stranger(port) as slow:
        await slow.send(head(port, "content-length: 2", token="wrong") + b"{}")
        assert b"401" in await slow.receive()
        began = anyio.current_time()
        await trickle(slow, b"P")
        assert anyio.current_time() - began > 0.3


async def test_a_body_that_trickles_ends_the_connection_and_a_steady_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BODY_SECONDS", 0.5)
    monkeypatch.setattr(connections, "BODY_BYTES_PER_SECOND", 1000)

    async def sent(pieces: int, piece: bytes) -> bytes:
        """What a request whose body comes in pieces, ten a second, is answered with."""
        async with await stranger(port) as one:
            try:
                await one.send(head(port, f"content-length: {pieces * len(piece)}"))
                for _ in range(pieces):
                    await one.send(piece)
                    await anyio.sleep(0.1)
                return await one.receive()
            except GONE:
                return b""

    async with served(tmp_path) as port:
        with anyio.fail_after(10):
            assert await sent(30, b" ") == b""
            assert b"HTTP/1.1 400" in await sent(12, b" " * 200)


async def test_a_refused_body_that_goes_on_and_on_ends_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.5)
    async with served(tmp_path) as port, await stranger(port) as slow:
        await slow.send(head(port, "content-length: 1000000", token="wrong"))
        assert b"401" in await slow.receive()
        await trickle(slow, b" ")


# --- what the sockets are --------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_answers_leave_at_once(host: str) -> None:
    """Nagle's algorithm, with an acknowledgement delayed on the other side, costs 40 ms a call."""
    accepted: list[int] = []

    class Accepting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            found = transport.get_extra_info("socket")
            accepted.append(found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    with bind(host, 0) as listener:
        server = await asyncio.get_running_loop().create_server(Accepting, sock=listener)
        async with server, await anyio.connect_tcp(host, listener.getsockname()[1]) as stream:
            assert await is_closed(stream)
    assert len(accepted) == 1
    assert accepted[0] != 0


async def test_connections_that_cannot_be_accepted_are_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    full = OSError(errno.EMFILE, "Too many open files")
    report_accept_errors(loop)
    try:
        for _ in range(2000):
            loop.call_exception_handler(
                {"message": "socket.accept() out of system resource", "exception": full}
            )
        assert len(caplog.messages) == 1
        now += connections.WARNING_SECONDS + 1
        loop.call_exception_handler(
            {"message": "socket.accept() out of system resource", "exception": full}
        )
        loop.call_exception_handler({"message": "something else"})
    finally:
        loop.set_exception_handler(None)
    assert [record.levelno for record in caplog.records] == [
        logging.WARNING,
        logging.WARNING,
        logging.ERROR,
    ]
