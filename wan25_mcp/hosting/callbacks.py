"""Receives the provider's callbacks when a task is settled. Their content is not trusted.

A POST to `{path}/{handle}/{secret}` passes the handle, the secret and at most a task id to
`notify`, which checks the secret. Every request is answered in less than a second. A caller without
a secret learns nothing, and can only use up the rate limit for strangers.

The provider sends no token and uses the server's public name, so these requests bypass the gates.
"""

from __future__ import annotations

import logging
import math
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import TaskGroup
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.client import read_callback

MAX_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 0.4
NOTIFY_SECONDS: Final = 0.5
"""Together with BODY_SECONDS less than the second within which every callback is answered."""

MAX_AT_ONCE: Final = 64
"""Limit of bodies read, and of secrets checked, at the same time."""

PER_SECOND: Final = 30.0
BURST: Final = 60.0
RETRY_AFTER_SECONDS: Final = 2

Knows = Callable[[str, str], bool]
"""Whether a handle and its secret are known to this process; False if only `notify` can tell."""

Notify = Callable[[str, str, str | None], Awaitable[bool]]
"""Receives a handle, a secret and possibly a task id; returns whether the secret is right."""

_TAIL: Final = re.compile(rb"/(?P<handle>edit-[0-9a-f]{16})/(?P<secret>[A-Za-z0-9_-]{43})")
_LOG: Final = logging.getLogger(__name__)


class TokenBucket:
    """Allows `per_second` on average, and `burst` at once.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left, self._filled_at = burst, clock()

    def take(self) -> float:
        """Take a token. Returns 0, or the seconds until there is one."""
        now = self._clock()
        self._left += max(now - self._filled_at, 0.0) * self._per_second
        self._left, self._filled_at = min(self._left, self._burst), now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0


class _TooLarge(Exception):
    """A body of more than MAX_BYTES."""


@dataclass
class _Reply:
    """The result of `notify`, once there is one."""

    is_right: bool | None = None
    """Whether the secret is right; None if `notify` could not tell."""
    given: anyio.Event = field(default_factory=anyio.Event)


class CallbackReceiver:
    """An ASGI app that answers callbacks below `path`. Create it with `open_receiver`.

    Args:
        path: Begins with a slash and does not end with one.
        notify: May hang or raise; the provider is still answered in time.
        tasks: The task group that `notify` runs in, so that it delays no answer if it cannot be
            cancelled.
        knows: Says which callbacks have their own rate limit, which strangers cannot use up.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        path: str,
        notify: Notify,
        tasks: TaskGroup,
        *,
        knows: Knows = lambda _handle, _secret: False,
        clock: Callable[[], float] = anyio.current_time,
    ) -> None:
        self.path = path
        self._path = path.encode()
        self._notify = notify
        self._knows = knows
        self._tasks = tasks
        self._strangers = TokenBucket(PER_SECOND, BURST, clock)
        self._known = TokenBucket(PER_SECOND, BURST, clock)
        self._reading = self._notifying = 0
        self._warned = False

    def is_below(self, scope: Scope) -> bool:
        """Whether a request is for this receiver, by its path exactly as sent."""
        return scope["type"] == "http" and _raw_path(scope).startswith(self._path + b"/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        # The connection is closed: nobody needs it idle, and the rest of a body is not read.
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        # The raw path is matched: this server makes no address with another spelling.
        path = _raw_path(scope)
        found = _TAIL.fullmatch(path[len(self._path) :]) if path.startswith(self._path) else None
        if found is None:
            return _not_found()
        if scope["method"] != "POST":
            return PlainTextResponse("Only POST.", 405, {"allow": "POST"})
        if _announces_too_much(Headers(scope=scope)):
            return _too_large()
        handle, secret = found["handle"].decode(), found["secret"].decode()
        bucket = self._known if self._knows(handle, secret) else self._strangers
        if wait := bucket.take():
            return _later(429, math.ceil(wait))
        try:
            hint = await self._hint(receive)
        except _TooLarge:
            return _too_large()
        return await self._notified(handle, secret, hint)

    # --- the task id in the body ------------------------------------------------------------

    async def _hint(self, receive: Receive) -> str | None:
        """The task id in a body; None if there is none, or if it does not arrive in time.

        Raises:
            _TooLarge: The body is too long to be a callback.
        """
        if self._reading >= MAX_AT_ONCE:
            return None
        self._reading += 1
        try:
            with anyio.move_on_after(BODY_SECONDS):
                return read_callback(await _body(receive))
            return None
        finally:
            self._reading -= 1

    # --- notify ----------------------------------------------------------------------------

    async def _notified(self, handle: str, secret: str, hint: str | None) -> Response:
        reply = _Reply()
        if self._notifying < MAX_AT_ONCE:
            self._notifying += 1
            self._tasks.start_soon(self._run_notify, reply, handle, secret, hint)
            with anyio.move_on_after(NOTIFY_SECONDS):
                await reply.given.wait()
        if reply.is_right is None:
            self._warn(handle)
            return _later(503, RETRY_AFTER_SECONDS)
        self._warned = False
        _LOG.debug(
            "A callback for %s: %s", handle, "accepted" if reply.is_right else "wrong secret"
        )
        return Response(status_code=204) if reply.is_right else _not_found()

    async def _run_notify(self, reply: _Reply, handle: str, secret: str, hint: str | None) -> None:
        try:
            with anyio.move_on_after(NOTIFY_SECONDS):
                reply.is_right = await self._notify(handle, secret, hint)
        except Wan25Error as error:
            _LOG.debug("A callback for %s: %s", handle, error.message)
        except Exception as error:  # noqa: BLE001  a stranger's request must not stop the server
            # Without the error's text: a database error quotes the query, which has the secret.
            trace = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("A callback for %s: %s\n%s", handle, type(error).__name__, trace)
        finally:
            self._notifying -= 1
            reply.given.set()

    def _warn(self, handle: str) -> None:
        """Warn once until a callback succeeds again, however many arrive in the meantime."""
        if not self._warned:
            self._warned = True
            _LOG.warning("A callback for %s could not be checked; polling continues.", handle)


@asynccontextmanager
async def open_receiver(
    path: str, notify: Notify, knows: Knows = lambda _handle, _secret: False
) -> AsyncIterator[CallbackReceiver]:
    """A receiver for as long as the block runs."""
    async with anyio.create_task_group() as tasks:
        yield CallbackReceiver(path, notify, tasks, knows=knows)
        tasks.cancel_scope.cancel()


def _raw_path(scope: Scope) -> bytes:
    raw: bytes | None = scope.get("raw_path")
    return scope["path"].encode() if raw is None else raw


def _announces_too_much(headers: Headers) -> bool:
    announced = headers.get("content-length", "")
    return announced.isdecimal() and (len(announced) > 9 or int(announced) > MAX_BYTES)


async def _body(receive: Receive) -> bytes:
    found = bytearray()
    while True:
        message = await receive()
        found += message.get("body", b"")
        if len(found) > MAX_BYTES:
            raise _TooLarge
        if not message.get("more_body", False):  # the end, or the caller has disconnected
            return bytes(found)


def _not_found() -> Response:
    """The same answer for every reason, so that a stranger learns nothing."""
    return PlainTextResponse("Not Found", 404)


def _too_large() -> Response:
    return PlainTextResponse("Too large to be a callback.", 413)


def _later(status: int, seconds: int) -> Response:
    return PlainTextResponse("Try again later.", status, {"retry-after": str(seconds)})
