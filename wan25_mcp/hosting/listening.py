"""The socket, and the server that uvicorn runs on it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from wan25_mcp.hosting.connections import Connection, Lobby

GRACE_SECONDS: Final = 2
"""How long open streams may go on after a signal."""

WAITING_TO_BE_ACCEPTED: Final = 1024
"""One more is not answered, and its system tries again after a second or more."""


class Server(uvicorn.Server):
    """uvicorn's, without its signals: raised again at its end, they would end the process before
    submits on the wire have learnt their task ids."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        for listener in sockets or ():
            # asyncio accepts as many at once as may wait to be; the two are not the same here.
            listener.listen(WAITING_TO_BE_ACCEPTED)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def main_server(app: ASGIApp, log_level: str, lobby: Lobby) -> Server:
    """The server of the port where MCP is served; the paths asked for are never logged."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=log_level.lower(),
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
        http=partial(Connection, lobby=lobby),  # type: ignore[arg-type]  # called as a class is
        # So many are accepted at once, before the first of them can be closed again.
        backlog=max(8, lobby.most // 4),
    )
    return Server(config)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket.

    Raises:
        OSError: The address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named: asyncio sets TCP_NODELAY on what is accepted only where it is, and
    # without it every answer on a kept connection waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError:
        listener.close()
        raise
    return listener
