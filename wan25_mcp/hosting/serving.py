"""Runs the app on a socket until a signal stops it."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

import anyio
import uvicorn
from anyio.abc import TaskStatus

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.errors import SettingsError
from wan25_mcp.hosting.app import PATHS, HttpTransport, create_app
from wan25_mcp.hosting.callbacks import CallbackReceiver, open_receiver
from wan25_mcp.hosting.connections import Lobby, max_connections, report_accept_errors
from wan25_mcp.hosting.garbage import collect_less_often
from wan25_mcp.hosting.listening import bind, main_server
from wan25_mcp.server.build import configured_server
from wan25_mcp.server.signals import stop_signals
from wan25_mcp.settings import Settings


async def serve_http(settings: Settings, transport: HttpTransport, *, host: str, port: int) -> int:
    """Serve until SIGTERM or SIGINT.

    Returns:
        The exit status: 128 + the signal's number.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    collect_less_often()
    host = host.strip("[]")
    # HTTP callers may be on other machines, so local files are read only if that is configured.
    settings = replace(settings, input_dirs=settings.input_dirs or ())
    async with open_configured_editor(settings) as editor:
        server = configured_server(editor, settings)
        async with _callbacks(settings, editor) as mounted:
            app = create_app(server, transport, host=host, settings=settings, callbacks=mounted)
            with bound(host, port) as listener:
                # Unlike over stdio, no host starts this server only to see whether it starts.
                editor.wake()
                announce = functools.partial(_announce, transport, host, listener.getsockname()[1])
                report_accept_errors(asyncio.get_running_loop())
                served = main_server(app, settings.log_level, Lobby(max_connections()))
                return await run_until_signal(served, listener, announce)


@asynccontextmanager
async def _callbacks(
    settings: Settings, editor: AccountEditor
) -> AsyncIterator[CallbackReceiver | None]:
    """The receiver of callbacks to mount in the app, if one is configured."""
    if settings.callback_url is None:
        yield None
        return
    # A proxy between the provider and this server must leave the path unchanged.
    path = urlsplit(settings.callback_url).path
    async with open_receiver(path, editor.called_back, editor.knows_callback) as receiver:
        yield receiver


async def run_until_signal(
    server: uvicorn.Server, listener: socket.socket, announce: Callable[[], None]
) -> int:
    """Run a server until SIGTERM or SIGINT. Returns 128 + the signal's number."""
    status = 0

    async def stop_on_signal(*, task_status: TaskStatus[None]) -> None:
        nonlocal status
        with stop_signals() as signals:
            task_status.started()
            async for number in signals:
                status = 128 + number
                server.should_exit = True
                # Open streams are cut now, and uvicorn would log each as an error.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)

    async with anyio.create_task_group() as tasks:
        await tasks.start(stop_on_signal)
        announce()  # only now, because its reader may connect or send a signal at once
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()
    return status


_ELSEWHERE: Final = "Choose another --port (0 picks a free one) or --host."


def bound(host: str, port: int, *, fix: str = _ELSEWHERE) -> socket.socket:
    """Open a listening socket.

    Raises:
        SettingsError: The address cannot be listened on.
    """
    try:
        return bind(host, port)
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {host} port {port}: {(error.strerror or 'unknown').lower()}.",
            fix=fix,
        ) from None


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
