"""The server over stdin and stdout, and how it stops.

A blocked read of stdin cannot be interrupted, so a signal cannot unwind the transport. Instead the
server waits for the task ids of submits in progress, then ends the process.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.stdio import stdio_server

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.server.build import configured_server
from wan25_mcp.server.signals import stop_signals
from wan25_mcp.server.stdio_streams import Input, Output
from wan25_mcp.settings import CALLBACKS_NEED_HTTP, Settings


async def serve_stdio(settings: Settings) -> None:
    """Serve until stdin closes, or a signal ends the process with status 128 + its number."""
    if settings.callback_url is not None:
        # No port is opened over stdio, so a submit must not carry an address to call back.
        settings = replace(settings, callback_url=None)
        logging.getLogger(__name__).warning(CALLBACKS_NEED_HTTP)
    # Signals are received until the editor has closed: hosts send SIGTERM 2 seconds after closing
    # stdin, and a submit may then still be waiting for its task id.
    async with anyio.create_task_group() as tasks:
        async with open_configured_editor(settings) as editor:
            tasks.start_soon(_end_on_signal, editor)
            server = configured_server(editor, settings)
            try:
                await _serve(server)
            except* (BrokenPipeError, ConnectionResetError):
                pass  # the host is gone, so nobody would read an error
        tasks.cancel_scope.cancel()


async def _serve(server: MCPServer[Any]) -> None:
    """As `run_stdio_async` of the SDK, with streams of our own: it takes none."""
    inner = server._lowlevel_server  # noqa: SLF001  the SDK has no other way to it
    async with stdio_server() as (messages, answers):
        options = inner.create_initialization_options()
        await inner.run(Input(messages), Output(answers), options)


async def _end_on_signal(editor: AccountEditor) -> None:
    with stop_signals() as signals:
        async for number in signals:
            await editor.finish()
            os._exit(128 + number)
