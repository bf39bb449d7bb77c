"""Connections that can be cut while a request runs.

A single request cannot be refused once its connection stands, so over a socket `refuse` resets the
connection without reading: the client sees a read error, not a connect error. For a true refusal,
use a port nobody listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tests.emulator_lab.wire import HANG_UP


class AbortableProtocol(H11Protocol):
    """Gives the app a way to cut its own connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        app, hang_up = self.app, partial(_hang_up, transport)

        async def with_hang_up(scope: Any, receive: Any, send: Any) -> None:
            scope[HANG_UP] = hang_up
            await app(scope, receive, send)

        self.app = with_hang_up


def _hang_up(transport: asyncio.Transport, reset: bool) -> None:
    """Reset at once, or close after what was written."""
    if not reset:
        transport.close()
        return
    peer = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
