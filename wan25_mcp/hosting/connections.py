"""Limits on connections to the MCP port: their number, and the time a request may take to arrive.

Above the limit, the connection that has waited longest without a request that passed the gates is
closed. So strangers who hold connections open displace each other, but never a caller who is being
answered. The duration of an answer is not limited, because streams stay open for hours.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 10.0
"""Time limit from the start of a connection, or the end of an answer, to the end of the next
request's head. uvicorn closes an idle connection after 5 seconds."""

BODY_SECONDS: Final = 30.0
BODY_BYTES_PER_SECOND: Final = 32_768
"""A body may take BODY_SECONDS, and one more second for each BODY_BYTES_PER_SECOND bytes."""

MAX_CONNECTIONS: Final = 512
"""Each client has one or two connections."""

WARNING_SECONDS: Final = 60.0
"""Seconds between two log lines with the same cause, so that strangers cannot fill the disk."""

_ADMIT: Final = "admit_connection"
_LOG: Final = logging.getLogger(__name__)


def descriptors() -> int:
    """The limit on open files and sockets of this process."""
    if sys.platform == "win32":  # sockets are not file descriptors there
        return 8192
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def max_connections() -> int:
    """Well below the descriptor limit: the provider, the journal and files need some too."""
    return max(8, min(MAX_CONNECTIONS, descriptors() // 2))


class OncePerMinute:
    """Logs a warning at most once a minute."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._next = float("-inf")

    def warn(self, message: str, *details: object) -> None:
        """As `logging.Logger.warning` does."""
        if self._clock() >= self._next:
            self._next = self._clock() + WARNING_SECONDS
            _LOG.warning(message, *details)


class Lobby:
    """The connections of a port that wait for a request, the longest-waiting first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._waiting: dict[Connection, None] = {}
        self._warning = OncePerMinute(asyncio.get_running_loop().time)

    def enter(self, connection: Connection, count: int) -> None:
        """Add a connection that waits for a request. Above the limit, close another one.

        Args:
            count: The number of open connections, including this one.
        """
        self._waiting[connection] = None
        if count > self.limit:
            self._warning.warn(
                "%d connections are open. Those that have waited longest for a request are closed.",
                count,
            )
            longest = next(iter(self._waiting))
            self.leave(longest)
            longest.transport.abort()

    def leave(self, connection: Connection) -> None:
        """Remove a connection whose request is being answered, or that is closed."""
        self._waiting.pop(connection, None)


class Connection(H11Protocol):
    """uvicorn's connection, with deadlines and a limit. Its own waits forever for a request."""

    def __init__(self, *args: Any, lobby: Lobby, **more: Any) -> None:
        super().__init__(*args, **more)
        self._lobby = lobby
        self._answering = 0
        self._deadline: asyncio.TimerHandle | None = None
        self.app: Any = partial(self._answer, self.app)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._lobby.leave(self)
        self._cancel_deadline()

    def _await_request(self) -> None:
        self._cancel_deadline()
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.abort)
        self._lobby.enter(self, len(self.connections))

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()

    async def _answer(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._cancel_deadline()
        self._answering += 1
        scope["state"][_ADMIT] = partial(self._lobby.leave, self)
        try:
            await app(scope, self._in_time(receive), send)
        finally:
            self._answering -= 1  # another request may have arrived in the same packet
            if not self._answering and not self.transport.is_closing():
                self._await_request()

    def _in_time(self, receive: Receive) -> Receive:
        seconds, is_coming = BODY_SECONDS, True

        async def receive_in_time() -> Message:
            nonlocal seconds, is_coming
            if not is_coming:  # the body is complete: the app waits for the client to disconnect
                return await receive()
            began = self.loop.time()
            deadline = self.loop.call_later(seconds, self.transport.abort)
            try:
                message = await receive()
            finally:
                deadline.cancel()
            seconds += len(message.get("body", b"")) / BODY_BYTES_PER_SECOND
            seconds -= self.loop.time() - began
            is_coming = message.get("more_body", False)
            return message

        return receive_in_time


class Admission:
    """Runs behind the gates. The connection of a request that gets here is not closed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if admit := scope.get("state", {}).get(_ADMIT):
            admit()
        await self._app(scope, receive, send)


def report_accept_errors(loop: asyncio.AbstractEventLoop) -> None:
    """Log at most once a minute that no connection can be accepted, not 2,000 times a second.

    asyncio retries every second, once for each place in the backlog.
    """
    warning = OncePerMinute(loop.time)

    def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and "accept" in context.get("message", ""):
            warning.warn("New connections cannot be accepted: %s.", error.strerror)
        else:
            loop.default_exception_handler(context)

    loop.set_exception_handler(report)
