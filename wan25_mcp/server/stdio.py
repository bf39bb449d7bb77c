"""The server over stdin and stdout, and how it stops.

A blocked read of stdin cannot be interrupted, so a signal cannot unwind the transport: it gives
submits on the wire their last chance, then ends the process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.editor import Editor
from wan25_mcp.server.build import configured_server
from wan25_mcp.settings import Settings

Beside = Callable[[Editor], Coroutine[Any, Any, None]]


async def serve_stdio(settings: Settings, beside: Beside | None = None) -> None:
    """Serve until stdin ends, or a signal ends the process with status 128 + its number.

    Args:
        beside: What runs over the same editor until then, such as a receiver of callbacks.
    """
    # The receiver lives longer than the editor: hosts send SIGTERM 2 seconds after closing stdin,
    # while the editor may still be learning a task id.
    async with anyio.create_task_group() as tasks:
        async with open_configured_editor(settings) as editor:
            tasks.start_soon(_end_on_signal, editor)
            if beside is not None:
                tasks.start_soon(beside, editor)
            server = configured_server(editor, settings)
            try:
                await server.run_stdio_async()
            except* (BrokenPipeError, ConnectionResetError):
                pass  # the host has gone; there is nobody left to tell
        tasks.cancel_scope.cancel()


async def _end_on_signal(editor: Editor) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for number in signals:
            await editor.finish()
            os._exit(128 + number)
