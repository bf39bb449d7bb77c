"""The socket, and the server that uvicorn runs on it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from wan25_mcp.hosting.connections import Connection, Lobby

GRACE_SECONDS: Final = 2
"""Seconds for which open streams may continue after a signal."""

ACCEPT_BACKLOG: Final = 1024
"""Beyond this, a client's system retries the connection after a second or more."""


class Server(uvicorn.Server):
    """uvicorn's server without its signal handling, which raises the signal again at the end: that
    would end the process before submits on the wire have their task ids."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            # asyncio uses one number for the backlog and for the connections it accepts at once.
            listener.listen(ACCEPT_BACKLOG)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main_server(app: ASGIApp, log_level: str, lobby: Lobby) -> Server:
    """The server of the MCP port. It never logs the requested paths."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=log_level.lower(),
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
        http=partial(Connection, lobby=lobby),  # type: ignore[arg-type]  # called as a class is
        # The number of connections accepted at once, before the first of them can be closed.
        backlog=max(8, lobby.limit // 4),
    )
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Raises:
        OSError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY on accepted sockets only if the protocol is given. Without it, every
    # answer on a kept-alive connection waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # on Windows it would let another program take the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
