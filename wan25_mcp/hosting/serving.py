"""Runs the app on a socket until a signal asks it to stop.

uvicorn's own signal handling raises the signal again when it is done, which ends the process
before submits on the wire have learnt their task ids; so signals are received here.
"""

from __future__ import annotations

import functools
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import anyio
import uvicorn
from anyio.abc import TaskStatus

from wan25_mcp.connecting import open_configured_editor
from wan25_mcp.errors import SettingsError
from wan25_mcp.hosting.app import PATHS, HttpTransport, create_app
from wan25_mcp.server.build import configured_server
from wan25_mcp.settings import Settings

GRACE_SECONDS: Final = 2
"""How long open streams may go on after a signal."""


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(settings: Settings, transport: HttpTransport, *, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit status: 128 + the signal's number.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    host = host.strip("[]")
    # Who calls over HTTP may sit elsewhere: files of this machine are theirs only if so configured.
    settings = replace(settings, input_dirs=settings.input_dirs or ())
    async with open_configured_editor(settings) as editor:
        server = configured_server(editor, settings)
        app = create_app(server, transport, host=host, settings=settings)
        with _bound(host, port) as listener:
            config = uvicorn.Config(
                app,
                log_config=None,
                log_level=settings.log_level.lower(),
                access_log=False,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
            announce = functools.partial(_announce, transport, host, listener.getsockname()[1])
            return await _run(_Server(config), listener, announce)


async def _run(
    server: uvicorn.Server, listener: socket.socket, announce: Callable[[], None]
) -> int:
    status = 0

    async def stop_on_signal(*, task_status: TaskStatus[None]) -> None:
        nonlocal status
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                status = 128 + number
                server.should_exit = True
                # Streams still open are cut now; uvicorn would log each as an error.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async with anyio.create_task_group() as tasks:
        await tasks.start(stop_on_signal)
        announce()  # only now: who reads it may connect, or stop us, at once
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()
    return status


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            raise SettingsError(
                f"Cannot listen on {host} port {port}: {(error.strerror or 'unknown').lower()}.",
                fix="Choose another --port (0 takes a free one) or --host.",
            ) from None
        yield listener


def _announce(transport: HttpTransport, host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    print(f"Serving MCP at http://{shown}:{port}{PATHS[transport]}", file=sys.stderr, flush=True)  # noqa: T201  stderr, for the person who started it
    if transport == "sse":
        print(  # noqa: T201  stderr
            "SSE is deprecated by the MCP specification: use --transport streamable-http if your "
            "client can.",
            file=sys.stderr,
            flush=True,
        )
