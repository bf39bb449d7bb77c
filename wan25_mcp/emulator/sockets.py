"""The emulator on a real socket. Knows uvicorn's HTTP protocol, not its server.

uvicorn's own server installs signal handlers, ticks every 0.1 s and logs; here asyncio listens and
uvicorn speaks HTTP. A single request cannot be refused once its connection stands, so over a
socket `refuse` resets the connection unheard: the client sees a read error, not a connect error.
For a true refusal, use a port nobody listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from wan25_mcp.emulator.wire import HANG_UP

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

KEEP_ALIVE_SECONDS = 75
# Told, never bound by choice of ours: how this machine calls a socket open to all.
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


@contextmanager
def bound(host: str, port: int) -> Generator[socket.socket, None, None]:
    """A listening socket; port 0 finds a free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=128) as listener:
        yield listener


def url_of(listener: socket.socket) -> str:
    """The origin under which this machine reaches the socket."""
    host, port = listener.getsockname()[:2]
    host = ANY_ADDRESS.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@asynccontextmanager
async def listening(app: ASGIApp, listener: socket.socket) -> AsyncGenerator[None, None]:
    """Serve until the block ends, then cut every connection at once."""
    config = Config(
        _without_cancellation(app),
        http=AbortableProtocol,
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
    server = await loop.create_server(
        partial(AbortableProtocol, config, state, {}, loop), sock=listener
    )
    try:
        yield
    finally:
        server.close()
        await _cut(state)


class AbortableProtocol(H11Protocol):
    """Gives the app a way to cut its own connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app, hang_up = self.app, partial(_hang_up, transport)

        async def cuttable(scope: Any, receive: Any, send: Any) -> None:
            scope[HANG_UP] = hang_up
            await app(scope, receive, send)

        self.app = cuttable


def _hang_up(transport: asyncio.Transport, reset: bool) -> None:
    """Reset at once, or close after what was written."""
    if not reset:
        transport.close()
        return
    peer = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _without_cancellation(app: ASGIApp) -> ASGIApp:
    """On the way out every request is cancelled; uvicorn would log each as an error."""

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
