"""The emulator without a socket: an httpx2 transport onto its app.

A task of the emulator serves each request: a request whose caller gives up is carried out
nevertheless, as over a network.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, cast

import anyio
import httpx2
from anyio.abc import TaskGroup

from tests.emulator_lab.wire import Answer, Dropped

if TYPE_CHECKING:
    from starlette.types import ASGIApp


class MemoryTransport(httpx2.AsyncBaseTransport):
    """Raises what a client over a network would: ConnectError, ReadError, ReadTimeout …"""

    def __init__(
        self, app: Callable[[], ASGIApp], task_group: Callable[[], TaskGroup | None]
    ) -> None:
        self._app = app
        self._task_group = task_group

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        task_group = self._task_group()
        if task_group is None:
            raise httpx2.ConnectError("The emulator is not running.", request=request)
        await anyio.lowlevel.checkpoint()
        exchange = _Exchange(httpx2.ASGITransport(self._app()), await _detached(request))
        task_group.start_soon(exchange.serve)
        return await exchange.answer()


async def _detached(request: httpx2.Request) -> httpx2.Request:
    """The same request with its body read, so that it outlives its sender."""
    stream = cast("httpx2.AsyncByteStream", request.stream)
    body = b"".join([chunk async for chunk in stream])
    return httpx2.Request(
        request.method,
        request.url,
        headers=request.headers,
        stream=httpx2.ByteStream(body),
        extensions=request.extensions,
    )


class _Exchange:
    """One request, served in the emulator's task group."""

    def __init__(self, server: httpx2.ASGITransport, request: httpx2.Request) -> None:
        self._server = server
        self._request = request
        self._done = anyio.Event()
        self._response: httpx2.Response | None = None
        self._failure: Exception = httpx2.ReadError("The emulator stopped.", request=request)

    async def serve(self) -> None:
        try:
            self._response = await self._server.handle_async_request(self._request)
        except Dropped as dropped:
            self._drop(dropped)
        except Exception as error:  # noqa: BLE001 - raised in the caller's task
            self._failure = error
        finally:
            self._done.set()

    async def answer(self) -> httpx2.Response:
        timeout = self._request.extensions.get("timeout", {}).get("read")
        try:
            with anyio.fail_after(timeout):
                await self._done.wait()
        except TimeoutError as error:
            raise httpx2.ReadTimeout("No answer in time.", request=self._request) from error
        if self._response is None:
            raise self._failure
        return self._response

    def _drop(self, dropped: Dropped) -> None:
        if dropped.answer is not None:
            self._response = _broken(dropped.answer, self._request)
        elif dropped.kind == "refuse":
            self._failure = httpx2.ConnectError("Connection refused.", request=self._request)
        else:
            self._failure = httpx2.ReadError("Connection reset by peer.", request=self._request)


def _broken(answer: Answer, request: httpx2.Request) -> httpx2.Response:
    stream = _Torn(answer.body[: len(answer.body) // 2], request)
    return httpx2.Response(answer.status, headers=answer.headers, stream=stream)


class _Torn(httpx2.AsyncByteStream):
    """A body that ends too early."""

    def __init__(self, part: bytes, request: httpx2.Request) -> None:
        self._part = part
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._part
        message = "peer closed connection without sending complete message body"
        raise httpx2.RemoteProtocolError(message, request=self._request)
