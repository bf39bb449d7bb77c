"""Sockets: the server that uvicorn runs on one, and a listener for callbacks alone."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from wan25_mcp.editing.editor import Editor
from wan25_mcp.hosting.callbacks import open_receiver
from wan25_mcp.hosting.connections import Connection, Lobby, descriptors
from wan25_mcp.settings import DEFAULT_CALLBACK_LISTEN, Settings

GRACE_SECONDS: Final = 2
"""How long open streams may go on after a signal."""

CONNECTION_SECONDS: Final = 5.0
"""The life of a connection to the listener for callbacks, which are answered in under one."""

MOST_CONNECTIONS: Final = 256
"""Kept well below what a process may open: it needs some for the provider and the journal."""

WAITING_TO_BE_ACCEPTED: Final = 1024
"""One more is not answered, and its system tries again after a second or more."""

REBIND_SECONDS: Final = 20.0
"""Until a port that was taken is tried again: whoever took it may have ended since."""

_LOG: Final = logging.getLogger(__name__)


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


def server_for(app: ASGIApp, log_level: str, **more: Any) -> Server:
    """A server for an app; the paths asked for are never logged."""
    config = uvicorn.Config(
        app,
        log_config=None,
        log_level=log_level.lower(),
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=GRACE_SECONDS,
        **more,
    )
    return Server(config)


def main_server(app: ASGIApp, log_level: str, lobby: Lobby) -> Server:
    """The server of the port where MCP is served."""
    return server_for(
        app,
        log_level,
        http=partial(Connection, lobby=lobby),
        # So many are accepted at once, before the first of them can be closed again.
        backlog=max(8, lobby.most // 4),
    )


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


async def receive_callbacks(settings: Settings, editor: Editor) -> None:
    """Listen for callbacks, for the editor, until cancelled.

    A port that is taken is no failure: another server of the same user has it, as a rule, and
    tells the journal that both share. Once that one ends, this one takes over.
    """
    async with open_receiver(
        callback_path(settings), editor.called_back, editor.knows_callback
    ) as receiver:
        host, port = settings.callback_listen or DEFAULT_CALLBACK_LISTEN
        with await _bound_in_time(host, port) as listener:
            _LOG.info("Listening for callbacks on %s port %d.", host, port)
            async with serving_briefly(receiver, listener, settings.log_level):
                await anyio.sleep_forever()


def callback_path(settings: Settings) -> str:
    """The path of the public address, which whatever stands between must leave as it is."""
    return urlsplit(settings.callback_url or "").path


async def _bound_in_time(host: str, port: int) -> socket.socket:
    warned = False
    while True:
        try:
            return bind(host, port)
        except OSError as error:
            if not warned:
                _LOG.warning(
                    "Cannot listen for callbacks on %s port %d (%s); looks find results all the "
                    "same, and it is tried again.",
                    host,
                    port,
                    (error.strerror or "unknown").lower(),
                )
            warned = True
        await anyio.sleep(REBIND_SECONDS)


@asynccontextmanager
async def serving_briefly(
    app: ASGIApp, listener: socket.socket, log_level: str
) -> AsyncIterator[None]:
    """Serve an app whose connections are short, as long as the block runs."""
    server = server_for(app, log_level, http=BriefConnection, lifespan="off")

    async def serve() -> None:
        with anyio.CancelScope(shield=True):  # it ends by itself, answers under way included
            await server.serve(sockets=[listener])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve)
        try:
            yield
        finally:
            server.should_exit = True


class BriefConnection(H11Protocol):
    """Closes a connection that takes too long, or is one too many.

    uvicorn would wait forever for a request that never comes, with a file descriptor each.
    """

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        if len(self.connections) > min(MOST_CONNECTIONS, descriptors() // 4):
            transport.abort()
        else:
            self._end = self.loop.call_later(CONNECTION_SECONDS, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()
