"""A real server on loopback that plays the whole internet, and plays it badly.

Names are resolved by a resolver of the test's, and every public address is answered by that server.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from ipaddress import ip_address
from typing import Any, Final

import anyio
import anyio.abc
import anyio.streams.tls
import httpcore2
import httpx2
import pytest
from PIL import Image

from wan25_mcp.outputs.download import NotDownloaded, download, open_downloads
from wan25_mcp.outputs.pinned_transport import PinnedTransport, resolve
from wan25_mcp.url_safety import is_public

PUBLIC: Final = "93.184.216.34"
OTHER: Final = "8.8.8.8"
NEW: Final = "2606:4700::1111"
Stream = anyio.abc.ByteStream
Answer = bytes | Callable[[Stream], Awaitable[None]]


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48)) -> bytes:
    packed = BytesIO()
    Image.effect_noise(size, 60).convert("RGB").save(packed, kind)
    return packed.getvalue()


PNG: Final = picture()


def answer(
    body: bytes = PNG, *headers: str, status: str = "200 OK", length: int | None = None
) -> bytes:
    said = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {said}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def moved(to: str, status: str = "302 Found") -> bytes:
    return answer(b"", f"Location: {to}", status=status)


class Dial(httpcore2.AsyncNetworkBackend):
    """Connects to the test's server whatever public address is dialled."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._real = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self._world.dialled.append(host)
        if host in self._world.silent:
            with anyio.move_on_after(timeout):
                await anyio.sleep_forever()
            raise httpcore2.ConnectTimeout
        if host in self._world.dead:
            raise httpcore2.ConnectError
        if is_public(ip_address(host)):
            host, port = "127.0.0.1", self._world.port
        return await self._real.connect_tcp(host, port, timeout)


@dataclass
class World:
    """The server, the resolver, and what they saw."""

    answers: dict[str, Answer]
    names: dict[str, list[list[str]]] = field(default_factory=dict)
    port: int = 0
    heard: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    dialled: list[str] = field(default_factory=list)
    dead: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    tls: ssl.SSLContext | None = None

    @property
    def here(self) -> str:
        """The server's own, internal origin."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [head.split(" ")[1] for head in self.heard]

    async def resolve(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        if host in self.names:
            turns = self.names[host]
            return turns.pop(0) if len(turns) > 1 else turns[0]
        return [PUBLIC] if host.endswith(".example") else await resolve(host, port)

    async def get(self, link: str, **options: Any) -> bytes:
        transport = PinnedTransport(
            resolve=self.resolve, dial=Dial(self), tls=self.tls, next_after=0.25
        )
        async with open_downloads(transport) as http:
            http.timeout = httpx2.Timeout(5, read=options.pop("read", 5))
            return await download(link, http=http, **options)

    async def fails(self, link: str = "http://a.example/", **options: Any) -> NotDownloaded:
        with pytest.raises(NotDownloaded) as caught:
            await self.get(link, **options)
        assert caught.value.charged == "yes"
        assert caught.value.fix
        return caught.value


@asynccontextmanager
async def world(
    answers: dict[str, Answer] | Answer, *, server_tls: ssl.SSLContext | None = None, **known: Any
) -> AsyncIterator[World]:
    seen = World(answers if isinstance(answers, dict) else {"/": answers}, **known)

    async def serve(stream: Stream) -> None:
        async with stream:
            try:
                if server_tls is not None:
                    stream = await anyio.streams.tls.TLSStream.wrap(
                        stream, ssl_context=server_tls, standard_compatible=False, server_side=True
                    )
                await _speak(stream, seen)
            except (anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
                return

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        seen.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, serve)
        with anyio.fail_after(20):
            yield seen
        tasks.cancel_scope.cancel()


async def _speak(stream: Stream, seen: World) -> None:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive()
    seen.heard.append(head.decode())
    say = seen.answers[seen.paths[-1].split("?")[0]]
    if callable(say):
        await say(stream)
    else:
        await stream.send(say)
