"""A proxy between the servers and the provider that breaks exchanges, and remembers how.

One connection is one exchange. It duplicates nothing and mixes nothing up: what it passes on is
what was sent, once, in whole or in part.
"""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

from benchmarks.chaos.faults import AS_IT_IS, Dice, Fault
from tests.emulator_lab.wire import name_endpoint

HOST: Final = "127.0.0.1"
_HEAD: Final = 64 * 1024
_PIECES: Final = 12
_ANSWERED_WITHIN: Final = 120.0
_PROMPT: Final = 20.0
"""Seconds after which an exchange counts as disturbed, on a machine that is very busy."""

_PAGE: Final = "<html><head><title>{0}</title></head><body><h1>{0} Gateway</h1></body></html>"


@dataclass(slots=True)
class Passage:
    """One exchange as the proxy saw it.

    Args:
        name: A submit's idempotency key; else the path.
        status: What the provider answered, if it was asked and did.
        is_clean: Whether the provider's whole answer went back undisturbed.
    """

    endpoint: str
    name: str
    fault: str
    began: float
    status: int | None = None
    is_clean: bool = False


@dataclass(frozen=True, slots=True)
class _Request:
    raw: bytes
    endpoint: str
    name: str
    prompt: str
    path: str


class Proxy:
    """Breaks what passes while `dice` says so; `dice.share = 0` lets all pass.

    Args:
        upstream: The provider's port on this machine.
    """

    def __init__(self, upstream: int, dice: Dice) -> None:
        self._upstream = upstream
        self._dice = dice
        self.port = 0
        self.passages: list[Passage] = []
        self.problems: list[str] = []

    @property
    def url(self) -> str:
        """Its origin."""
        return f"http://{HOST}:{self.port}"

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Serve while the block runs."""
        server = await asyncio.start_server(self._serve, HOST, 0, limit=_HEAD)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()

    def clean(self, name: str) -> bool:
        """Whether the last exchange of a submit went through undisturbed, answer and all."""
        passed = [one for one in self.passages if one.name == name]
        return bool(passed) and passed[-1].is_clean

    def counted(self) -> Counter[tuple[str, str]]:
        """How often what happened to which endpoint."""
        return Counter((one.endpoint, one.fault) for one in self.passages)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._exchange(reader, writer)
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # whoever was at the other end has gone: killed, or tired of waiting
        except Exception as error:  # noqa: BLE001  reported: the run must not go on believing
            self.problems.append(f"proxy: {error!r}")
        finally:
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read(reader)
        fault = self._dice.roll(request.endpoint, request.prompt or request.path)
        kind = fault.kind if fault else AS_IT_IS
        passage = Passage(request.endpoint, request.name, kind, time.time())
        self.passages.append(passage)
        if fault is None:
            writer.write(await self._ask(request.raw, passage))
            await writer.drain()
            passage.is_clean = time.time() - passage.began < _PROMPT
            return
        await self._break(fault, request, passage, writer)

    async def _break(
        self, fault: Fault, request: _Request, passage: Passage, writer: asyncio.StreamWriter
    ) -> None:
        async def ask() -> bytes:
            return await self._ask(request.raw, passage)

        match fault.kind:
            case "reset before it is read":
                _reset(writer)
            case "reset within the request":
                await self._send_part(request.raw[: int(len(request.raw) * fault.at)])
                _reset(writer)
            case "no answer":
                await ask()
                _reset(writer)
            case "reset within the answer" | "cut within the answer":
                answer = await ask()
                writer.write(answer[: int(len(answer) * fault.at)])
                await writer.drain()
                if fault.kind.startswith("reset"):
                    _reset(writer)
            case "request late":
                await asyncio.sleep(fault.seconds)
                writer.write(await ask())
            case "answer late":
                answer = await ask()
                await asyncio.sleep(fault.seconds)
                writer.write(answer)
            case "request drips":
                writer.write(await self._ask(request.raw, passage, dripping=fault.seconds))
            case "answer drips":
                await _drip(writer, await ask(), fault.seconds)
            case "gateway's page, not passed on":
                writer.write(_page(fault.status))
            case "gateway's page, after it was carried out":
                await ask()
                writer.write(_page(fault.status))
            case "nonsense under a 200":
                await ask()
                writer.write(_page(200))
            case _:
                writer.write(_own_words(fault.status))
        with suppress(OSError):
            await writer.drain()

    async def _ask(self, raw: bytes, passage: Passage, *, dripping: float = 0.0) -> bytes:
        """The provider's whole answer, carried out though nobody may be left to read it."""

        async def send(writer: asyncio.StreamWriter) -> None:
            if dripping:
                await _drip(writer, raw, dripping)
            else:
                writer.write(raw)
                await writer.drain()

        answer = await self._with_upstream(send)
        found = re.match(rb"HTTP/1\.1 (\d{3}) ", answer)
        if found is None:
            self.problems.append(f"proxy: the provider gave no answer to a {passage.endpoint}")
            raise EOFError
        passage.status = int(found.group(1))
        return answer

    async def _send_part(self, part: bytes) -> None:
        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(part)
            writer.write_eof()
            await writer.drain()

        with suppress(OSError):
            await self._with_upstream(send)

    async def _with_upstream(
        self, send: Callable[[asyncio.StreamWriter], Awaitable[None]]
    ) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self._upstream)
        try:
            async with asyncio.timeout(_ANSWERED_WITHIN):
                await send(writer)
                return await reader.read()
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> _Request:
    """A whole request, made to be the only one of its connection.

    Raises: EOFError, LimitOverrunError, OSError.
    """
    head = await reader.readuntil(b"\r\n\r\n")
    line, _, fields = head.decode("latin-1").partition("\r\n")
    method, target, _ = line.split(" ", 2)
    headers = dict(field.split(": ", 1) for field in fields.lower().strip().split("\r\n"))
    if "transfer-encoding" in headers:
        raise ValueError("a request of a kind this proxy does not read")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    head = re.sub(rb"(?i)\r\nconnection: [^\r]*", b"", head)[:-2] + b"Connection: close\r\n\r\n"
    path = target.partition("?")[0]
    endpoint = name_endpoint(method, path)
    is_submit = endpoint == "submit"
    return _Request(
        head + body,
        endpoint or "other",
        headers["idempotency-key"] if is_submit else path,
        json.loads(body)["prompt"] if is_submit else "",
        path,
    )


async def _drip(writer: asyncio.StreamWriter, whole: bytes, seconds: float) -> None:
    size = len(whole) // _PIECES + 1
    for start in range(0, len(whole), size):
        writer.write(whole[start : start + size])
        await writer.drain()
        await asyncio.sleep(seconds / _PIECES)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Not an end of the stream, but none: what was not read is lost."""
    peer: socket.socket = writer.get_extra_info("socket")
    with suppress(OSError):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _page(status: int) -> bytes:
    return _answer(status, "text/html", _PAGE.format(status).encode())


def _own_words(status: int) -> bytes:
    """The API's own error, as provider-api.md documents it: not accepted."""
    kind = "rate_limit_error" if status == 429 else "service_unavailable_error"
    error = {
        "code": status,
        "message": "Not now",
        "type": kind,
        "fallback_suggestion": "retry after 1 seconds",
    }
    return _answer(status, "application/json", json.dumps({"error": error}).encode())


def _answer(status: int, media_type: str, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} Whatever\r\nContent-Type: {media_type}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
