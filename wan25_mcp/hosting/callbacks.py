"""Receives the provider's word that a task is settled, and believes nothing it says.

A POST to `{path}/{handle}/{secret}` passes the handle, the secret and at most a task id on to
`notify`, which alone can tell whether the secret is that submit's. Every answer comes in under a
second. Whoever does not know a secret learns nothing, and can do no more than use up the pace.

The provider sends no token and calls us by our public name, so no gate stands before this.
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

MOST_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 0.4
NOTIFY_SECONDS: Final = 0.5
"""With the body's, under the second in which every callback is answered."""

MAX_BATCH: Final = 64
"""Bodies that are read, and secrets that are compared, at one time."""

PER_SECOND: Final = 30.0
BURST: Final = 60.0
RETRY_AFTER_SECONDS: Final = 2

Knows = Callable[[str, str], bool]
"""Whether a handle and its secret are surely ours; False where only `notify` can tell."""

Notify = Callable[[str, str, str | None], Awaitable[bool]]
"""Told a handle, a secret and perhaps a task id; returns whether the secret is that submit's."""

_TAIL: Final = re.compile(rb"/(?P<handle>edit-[0-9a-f]{16})/(?P<secret>[A-Za-z0-9_-]{43})")
_LOG: Final = logging.getLogger(__name__)


class TokenBucket:
    """Lets `per_second` through in the long run, and `burst` at once.

    Args:
        clock: Seconds that only rise.
    """

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float]) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._left, self._filled_at = burst, clock()

    def take(self) -> float:
        """Take one: 0, or the seconds until there is one."""
        now = self._clock()
        self._left += max(now - self._filled_at, 0.0) * self._per_second
        self._left, self._filled_at = min(self._left, self._burst), now
        if self._left < 1:
            return (1 - self._left) / self._per_second
        self._left -= 1
        return 0.0


class _TooLarge(Exception):
    """A body of more than MOST_BYTES."""


@dataclass
class _Reply:
    """What `notify` said, once it has."""

    belongs: bool | None = None
    """None: it could not say."""
    spoken: anyio.Event = field(default_factory=anyio.Event)


class CallbackReceiver:
    """An ASGI app that answers callbacks below `path`. Make one with `open_receiver`.

    Args:
        path: Begins with a slash and does not end with one.
        notify: May hang or raise: neither makes the provider wait, nor ends anything.
        tasks: Where `notify` runs, so that one that cannot be cancelled holds up no answer.
        knows: Whose callbacks come through however many strangers call.
        clock: Seconds that only rise.
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
        self._ours = TokenBucket(PER_SECOND, BURST, clock)
        self._reading = self._telling = 0
        self._complained = False

    def is_below(self, scope: Scope) -> bool:
        """Whether a request is one for this receiver, by its path as it was sent."""
        return scope["type"] == "http" and _raw_path(scope).startswith(self._path + b"/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await self._answer(scope, receive)
        # No connection outlives its answer: an idle one is of use to nobody, and what is left of
        # a body is not read.
        answer.headers["connection"] = "close"
        await answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        # The raw path: what is spelt otherwise than we spelt it was not made by us.
        path = _raw_path(scope)
        found = _TAIL.fullmatch(path[len(self._path) :]) if path.startswith(self._path) else None
        if found is None:
            return _not_found()
        if scope["method"] != "POST":
            return PlainTextResponse("Only POST.", 405, {"allow": "POST"})
        if _announces_too_much(Headers(scope=scope)):
            return _too_large()
        handle, secret = found["handle"].decode(), found["secret"].decode()
        bucket = self._ours if self._knows(handle, secret) else self._strangers
        if wait := bucket.take():
            return _later(429, math.ceil(wait))
        try:
            hint = await self._hint(receive)
        except _TooLarge:
            return _too_large()
        return await self._passed_on(handle, secret, hint)

    # --- the body, of which at most a hint is taken -----------------------------------------

    async def _hint(self, receive: Receive) -> str | None:
        """The task id that a body names; None when it names none, or none in time.

        Raises:
            _TooLarge: The body is too long to be a callback.
        """
        if self._reading >= MAX_BATCH:
            return None
        self._reading += 1
        try:
            with anyio.move_on_after(BODY_SECONDS):
                return read_callback(await _body(receive))
            return None
        finally:
            self._reading -= 1

    # --- passing it on ----------------------------------------------------------------------

    async def _passed_on(self, handle: str, secret: str, hint: str | None) -> Response:
        reply = _Reply()
        if self._telling < MAX_BATCH:
            self._telling += 1
            self._tasks.start_soon(self._tell, reply, handle, secret, hint)
            with anyio.move_on_after(NOTIFY_SECONDS):
                await reply.spoken.wait()
        if reply.belongs is None:
            self._complain(handle)
            return _later(503, RETRY_AFTER_SECONDS)
        self._complained = False
        _LOG.debug("A callback for %s: %s", handle, "taken" if reply.belongs else "not its own")
        return Response(status_code=204) if reply.belongs else _not_found()

    async def _tell(self, reply: _Reply, handle: str, secret: str, hint: str | None) -> None:
        try:
            with anyio.move_on_after(NOTIFY_SECONDS):
                reply.belongs = await self._notify(handle, secret, hint)
        except Wan25Error as error:
            _LOG.debug("A callback for %s: %s", handle, error.message)
        except Exception as error:  # noqa: BLE001  a stranger's request must not end the server
            # Not its text: a database's error quotes what was asked of it, the secret included.
            trace = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("A callback for %s: %s\n%s", handle, type(error).__name__, trace)
        finally:
            self._telling -= 1
            reply.spoken.set()

    def _complain(self, handle: str) -> None:
        """Once for each time of trouble, however many callbacks come in it."""
        if not self._complained:
            self._complained = True
            _LOG.warning("A callback for %s could not be checked; looks go on.", handle)


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
    return announced.isdecimal() and (len(announced) > 9 or int(announced) > MOST_BYTES)


async def _body(receive: Receive) -> bytes:
    found = bytearray()
    while True:
        message = await receive()
        found += message.get("body", b"")
        if len(found) > MOST_BYTES:
            raise _TooLarge
        if not message.get("more_body", False):  # the end, or the caller has gone
            return bytes(found)


def _not_found() -> Response:
    """The one answer to whoever knows no secret, whatever it was that was wrong."""
    return PlainTextResponse("Not Found", 404)


def _too_large() -> Response:
    return PlainTextResponse("Too large to be a callback.", 413)


def _later(status: int, seconds: int) -> Response:
    return PlainTextResponse("Not now; please call again.", status, {"retry-after": str(seconds)})
