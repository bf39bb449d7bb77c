"""The emulator on a real socket. Uses uvicorn's HTTP protocol, but not its server.

uvicorn's own server installs signal handlers, wakes up every 0.1 s and logs. Here asyncio listens
and uvicorn handles HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEEP_ALIVE_SECONDS = 75
# For display only: the address on this machine of a socket that listens on all addresses.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@contextmanager
def bound(host: str, port: int) -> Generator[socket.socket, None, None]:
    """A listening socket; port 0 finds a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=128) as listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    """The origin at which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def listening(
    app: ASGIApp, listener: socket.socket, protocol: type[H11Protocol] = H11Protocol
) -> AsyncGenerator[None, None]:
    """Serve until the block ends, then close every connection at once."""
    config = Config(
        _without_cancellation(app),
        http=protocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(protocol, config, state, {}, loop), sock=listener)
    try:
        yield
    finally:
        server.close()
        await _cut(state)


def _without_cancellation(app: ASGIApp) -> ASGIApp:
    """Suppress the cancellation of requests at the end: uvicorn would log each as an error."""

    async def quiet(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return quiet


async def _cut(state: ServerState) -> None:
    for connection in list(state.connections):
        connection.transport.abort()
    await asyncio.sleep(0)
    for task in list(state.tasks):
        task.cancel()
    await asyncio.gather(*state.tasks, return_exceptions=True)
