"""Limits the number of sessions of the older protocol.

A client of that protocol opens a session and may leave without closing it. The SDK keeps it for
half an hour, and refuses new clients once there are 10,000. Here the session that has been idle
longest is ended instead. If its client returns, it gets a 404 and opens another session, as the
specification says.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_SESSIONS: Final = 1000
"""Each takes about 40 kB."""

IDLE_SECONDS: Final = 1800.0
"""Lifetime of a session without a request or an open stream."""

_SESSION: Final = "mcp-session-id"


class SessionLimit:
    """Wraps the SDK's app. Above the limit, ends sessions with a DELETE request.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(
        self, app: ASGIApp, limit: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._app = app
        self._limit = limit
        self._clock = clock
        self._endings: dict[str, Scope] = {}
        """The request that ends each session, authorized like the one that opened it."""
        self._idle: dict[str, float] = {}
        """When each session became idle, the longest idle first."""
        self._busy: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = Headers(scope=scope).get(_SESSION) if scope["type"] == "http" else None
        if name in self._endings:
            await self._use(name, scope, receive, send)
            return

        async def note_opened(message: Message) -> None:
            opened = _opened_by(message)
            await send(message)
            if opened:
                self._endings[opened] = _ending(opened, scope)
                self._idle[opened] = self._clock()

        await self._app(scope, receive, note_opened if name is None else send)
        if name is None:
            await self._make_room()

    async def _use(self, name: str, scope: Scope, receive: Receive, send: Send) -> None:
        self._busy[name] += 1
        self._idle.pop(name, None)
        is_over = False

        async def note_over(message: Message) -> None:
            nonlocal is_over
            is_over |= message.get("status") == 404 or scope["method"] == "DELETE"
            await send(message)

        try:
            await self._app(scope, receive, note_over)
        finally:
            self._busy[name] -= 1
            if is_over:
                self._forget(name)
            elif not self._busy[name] and name in self._endings:
                self._idle[name] = self._clock()

    async def _make_room(self) -> None:
        expired = self._clock() - IDLE_SECONDS  # the SDK has already ended sessions idle since then
        while self._idle:
            name, since = next(iter(self._idle.items()))
            if since > expired and len(self._endings) <= self._limit:
                return
            ending = self._endings[name]
            self._forget(name)
            await self._app(ending, _no_body, _discard)

    def _forget(self, name: str) -> None:
        self._endings.pop(name, None)
        self._idle.pop(name, None)
        if not self._busy[name]:
            del self._busy[name]


def _opened_by(message: Message) -> str | None:
    if message["type"] != "http.response.start" or message["status"] >= 400:
        return None
    return Headers(raw=list(message.get("headers", []))).get(_SESSION)


def _ending(name: str, opening: Scope) -> Scope:
    host = [header for header in opening["headers"] if header[0] == b"host"]
    headers = [*host, (_SESSION.encode(), name.encode())]
    return {**opening, "method": "DELETE", "headers": headers, "state": {}}


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _discard(message: Message) -> None:
    pass
