"""The messages on stdin and stdout, where clients behave otherwise than the SDK expects."""

from __future__ import annotations

import contextvars
from collections import deque
from types import TracebackType
from typing import Final, Self

import anyio
from mcp.shared._stream_protocols import ReadStream, WriteStream
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, JSONRPCError, JSONRPCNotification, JSONRPCRequest

HELD_SECONDS: Final = 0.05
"""How long a client's first message, `server/discover`, waits for an `initialize` behind it.

A client may probe for the newer protocol and fall back to `initialize` if no answer comes (the
Vercel AI SDK after 1 s, which this server's start needs on a busy machine). Answering the probe
would decide for the newer protocol, and `initialize` would be refused.
"""

Message = SessionMessage | Exception


class _Closing:
    """What both streams share: leaving a block closes them."""

    async def aclose(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.aclose()


class Input(_Closing):
    """The client's messages, without a probe that it has given up."""

    def __init__(self, inner: ReadStream[Message]) -> None:
        self._inner = inner
        self._ahead: deque[Message] = deque()
        self._is_opening = True

    @property
    def last_context(self) -> contextvars.Context | None:
        """The SDK's: the context in which the last message was sent."""
        context: contextvars.Context | None = getattr(self._inner, "last_context", None)
        return context

    async def receive(self) -> Message:
        """The next message."""
        if self._ahead:
            return self._ahead.popleft()
        message = await self._inner.receive()
        if self._is_opening and (request := _request(message)) is not None:
            self._is_opening = False
            if request.method == "server/discover":
                await self._look_behind(message, request)
                return self._ahead.popleft() if self._ahead else await self.receive()
        return message

    async def _look_behind(self, probe: Message, request: JSONRPCRequest) -> None:
        """Put what to read next into `_ahead`: the probe, unless it was given up."""
        self._ahead.append(probe)
        with anyio.move_on_after(HELD_SECONDS):
            while True:
                try:
                    message = await self._inner.receive()
                except (anyio.EndOfStream, anyio.ClosedResourceError):
                    return  # the next `receive` says so
                following = _request(message)
                if _cancels(message, request):
                    self._ahead.remove(probe)
                    self._is_opening = True
                    return
                self._ahead.append(message)
                if following is not None:
                    if following.method == "initialize":
                        self._ahead.remove(probe)
                    return

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None


class Output(_Closing):
    """The server's messages, without the errors that answer what was open when stdin ended.

    Nobody waits for them, and clients of SDK 1.x crash on closing when one comes in.
    """

    def __init__(self, inner: WriteStream[SessionMessage]) -> None:
        self._inner = inner

    async def send(self, item: SessionMessage, /) -> None:
        """Write a message."""
        message = item.message
        if not (isinstance(message, JSONRPCError) and message.error.code == CONNECTION_CLOSED):
            await self._inner.send(item)

    async def aclose(self) -> None:
        """Close it."""
        await self._inner.aclose()


def _request(message: Message) -> JSONRPCRequest | None:
    inner = message.message if isinstance(message, SessionMessage) else None
    return inner if isinstance(inner, JSONRPCRequest) else None


def _cancels(message: Message, request: JSONRPCRequest) -> bool:
    inner = message.message if isinstance(message, SessionMessage) else None
    return (
        isinstance(inner, JSONRPCNotification)
        and inner.method == "notifications/cancelled"
        and (inner.params or {}).get("requestId") == request.id
    )
