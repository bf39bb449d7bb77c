"""Limits on the size of one request, and on the memory of all requests together.

A request may contain images, as `data:` URIs. The size limit is a little above what the tool's
schema allows, so that the tool itself refuses an image that is slightly too large. While too many
bodies are in memory, a request waits unread. A request without an image never waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

import anyio
from mcp_types import INTERNAL_ERROR, INVALID_REQUEST
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan25_mcp.editing.arguments import MAX_SOURCE_CHARACTERS
from wan25_mcp.inputs.sources import MAX_DATA_BYTES
from wan25_mcp.inputs.weighted_semaphore import WeightedSemaphore
from wan25_mcp.provider.models import MAX_IMAGES_IN

MAX_BODY_BYTES: Final = MAX_IMAGES_IN * MAX_SOURCE_CHARACTERS + 4_000_000
"""The images, and 4 MB for the rest of the call and for slashes that a client escapes."""

MAX_HELD_BYTES: Final = 2 * MAX_BODY_BYTES
"""Limit for all bodies in progress; parsing takes about five times the memory of each."""

SMALL_BYTES: Final = 64 * 1024
ROOM_SECONDS: Final = 20.0
RETRY_AFTER_SECONDS: Final = 5

HANDED_OVER_SECONDS: Final = 4.0
"""Seconds for which a message is still in progress after a 202, as `edit_image` takes at most."""


class BodyBudget:
    """Wraps the SDK's app, which must accept bodies of `max_each` bytes."""

    def __init__(self, app: ASGIApp, max_each: int, max_held: int) -> None:
        self._app = app
        self._max_each = max_each
        self._room = WeightedSemaphore(max_held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        size, receive = await self._size_of(scope, receive)
        if size <= SMALL_BYTES:
            await self._app(scope, receive, send)
        elif size > self._max_each:
            await self._too_large()(scope, receive, send)
        elif await self._has_room(size):
            await self._answer(size, scope, receive, send)
        else:
            await _no_room()(scope, receive, send)

    async def _size_of(self, scope: Scope, receive: Receive) -> tuple[int, Receive]:
        """The size of a body; the maximum if it is neither announced nor small."""
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        if "transfer-encoding" not in headers:  # which takes precedence if both are given
            is_size = announced.isascii() and announced.isdigit()
            return int(announced) if is_size else 0, receive
        read: deque[Message] = deque()
        size = 0
        while size <= SMALL_BYTES:
            read.append(message := await receive())
            size += len(message.get("body", b""))
            if not message.get("more_body", False):
                break
        else:
            size = self._max_each

        async def replay() -> Message:
            return read.popleft() if read else await receive()

        return size, replay

    async def _has_room(self, size: int) -> bool:
        with anyio.move_on_after(ROOM_SECONDS):
            await self._room.take(size)
            return True
        return False

    async def _answer(self, size: int, scope: Scope, receive: Receive, send: Send) -> None:
        status = 0

        async def note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            if status != 413:  # of a body of unknown size; the text below is more helpful
                await send(message)

        try:
            await self._app(scope, receive, note_status)
        finally:
            seconds = HANDED_OVER_SECONDS if status == 202 else 0
            asyncio.get_running_loop().call_later(seconds, self._room.give, size)
        if status == 413:
            await self._too_large()(scope, receive, send)

    def _too_large(self) -> Response:
        return _refusal(
            413,
            INVALID_REQUEST,
            f"The request is too large: the limit is {self._max_each // 1_000_000} MB, and "
            f"{MAX_DATA_BYTES // 1_000_000} MB for each image in a data: URI. Give a public "
            "https:// link or a smaller image. Nothing was sent or charged.",
        )


def _no_room() -> Response:
    return _refusal(
        503,
        INTERNAL_ERROR,
        "The server is busy with other requests that carry images. Call again in "
        f"{RETRY_AFTER_SECONDS} seconds, or give a public https:// link instead of a data: URI. "
        "Nothing was sent or charged.",
        {"retry-after": str(RETRY_AFTER_SECONDS)},
    )


def _refusal(
    status: int, code: int, message: str, headers: dict[str, str] | None = None
) -> Response:
    """A JSON-RPC error without an id: the id is in the body, which was not read."""
    error = {"code": code, "message": message}
    return JSONResponse({"jsonrpc": "2.0", "id": None, "error": error}, status, headers)
