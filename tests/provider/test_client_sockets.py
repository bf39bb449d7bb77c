"""The money table over real connections: what was sent is read off the wire, byte by byte."""

from __future__ import annotations

import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import httpx2
import pytest
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from tests.stage import KEY, request
from wan25_mcp.errors import OutcomeUnknown, ReadFailed, Refused, Unreachable, Wan25Error
from wan25_mcp.provider.client import Client
from wan25_mcp.provider.exchange import open_http

pytestmark = pytest.mark.anyio
Speak = Callable[[anyio.abc.SocketStream], Awaitable[None]]
TASK = json.dumps({"id": "task-1", "status": "pending"}).encode()


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: these connections are real."""
    return str(request.param)


class Wire:
    """A server that does one thing with every connection, and counts them."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.heard = b""

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}/apiv1"


@asynccontextmanager
async def listening(speak: Callable[[anyio.abc.SocketStream, Wire], Awaitable[None]]) -> (
    AsyncIterator[Wire]
):  # fmt: skip
    wire = Wire()

    async def serve(stream: anyio.abc.SocketStream) -> None:
        wire.connections += 1
        async with stream:
            try:
                await speak(stream, wire)
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                return

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        wire.port = listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.start_soon(listener.serve, serve)
        with anyio.fail_after(20):
            yield wire
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def client_of(base: str, **options: Any) -> AsyncIterator[Client]:
    timeout = httpx2.Timeout(5, read=1)
    async with httpx2.AsyncClient(timeout=timeout, trust_env=False, **options) as http:
        yield Client(http, base_url=base, key=SecretStr(KEY))


async def submit(client: Client) -> Wan25Error:
    with pytest.raises(Wan25Error) as failed:
        await client.submit(request(), idempotency_key="k")
    return failed.value


async def hear(stream: anyio.abc.SocketStream, wire: Wire, most: int = 1 << 30) -> None:
    """Read a whole request, or its first bytes."""
    while len(wire.heard) < most and not wire.heard.endswith(b"}"):
        wire.heard += await stream.receive(min(65536, most - len(wire.heard)))


def reset(stream: anyio.abc.SocketStream) -> None:
    """Let the close that follows be a RST."""
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def told(error: Wan25Error) -> tuple[type[Wan25Error], str, bool]:
    return type(error), error.charged, error.retryable


NOT_SENT = (Unreachable, "no", True)
MAYBE = (OutcomeUnknown, "unknown", False)


# --- before anything was sent -----------------------------------------------------------------


async def test_a_port_nobody_listens_on_costs_nothing() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client_of(f"http://127.0.0.1:{unused.getsockname()[1]}/x") as client:
            assert told(await submit(client)) == NOT_SENT


async def test_a_name_that_does_not_resolve_costs_nothing() -> None:
    async with client_of("http://no-such-host.invalid/apiv1") as client:
        with anyio.fail_after(20):
            assert told(await submit(client)) == NOT_SENT


@pytest.mark.parametrize("base", ["https://a..example/x", "https://exa mple.com/", "ftp://a.b/",
                                  "https://" + "a" * 70 + ".example/", "https://xn--/",
                                  "http://[::1/", "https://a.example:99999/"])  # fmt: skip
async def test_a_base_url_that_cannot_be_used_costs_nothing(base: str) -> None:
    async with client_of(base) as client:
        with anyio.fail_after(20):
            assert told(await submit(client)) == NOT_SENT


@pytest.mark.parametrize("speech", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\x00\x02",
                                    b""])  # fmt: skip
async def test_a_server_that_cannot_speak_tls_costs_nothing(speech: bytes) -> None:
    async def speak(stream: anyio.abc.SocketStream, _: Wire) -> None:
        await stream.receive(1)
        if speech:
            await stream.send(speech)
        else:
            reset(stream)

    async with (
        listening(speak) as wire,
        client_of(wire.base.replace("http:", "https:")) as client,
    ):
        assert told(await submit(client)) == NOT_SENT


async def test_a_tls_handshake_that_never_ends_costs_nothing() -> None:
    async def speak(stream: anyio.abc.SocketStream, _: Wire) -> None:
        await stream.receive(1)
        await anyio.sleep_forever()

    timeout = httpx2.Timeout(5, connect=0.5)
    async with (
        listening(speak) as wire,
        httpx2.AsyncClient(timeout=timeout, trust_env=False) as http,
    ):
        base = wire.base.replace("http:", "https:")
        client = Client(http, base_url=base, key=SecretStr(KEY))
        assert told(await submit(client)) == NOT_SENT


async def test_a_certificate_nobody_vouches_for_costs_nothing() -> None:
    async with client_of("https://127.0.0.1:1/", verify=ssl.create_default_context()) as client:
        assert told(await submit(client)) == NOT_SENT


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 403 Forbidden\r\n\r\n", b"HTTP/1.1 407 Who?\r\ncontent-length: 0\r\n\r\n"]
)
async def test_a_proxy_that_opens_no_tunnel_costs_nothing(answer: bytes) -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        while b"\r\n\r\n" not in wire.heard:
            wire.heard += await stream.receive()
        await stream.send(answer)

    async with (
        listening(speak) as wire,
        client_of("https://api.example/x", proxy=f"http://127.0.0.1:{wire.port}") as client,
    ):
        assert told(await submit(client)) == NOT_SENT
        assert wire.heard.startswith(b"CONNECT api.example:443")
        assert KEY.encode() not in wire.heard


async def test_a_tunnel_that_then_fails_its_handshake_costs_nothing() -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        while b"\r\n\r\n" not in wire.heard:
            wire.heard += await stream.receive()
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        await stream.receive()
        await stream.send(b"not tls at all")

    async with (
        listening(speak) as wire,
        client_of("https://api.example/x", proxy=f"http://127.0.0.1:{wire.port}") as client,
    ):
        assert told(await submit(client)) == NOT_SENT


# --- after something was sent -----------------------------------------------------------------


@pytest.mark.parametrize("heard", [1, 10, 100, 200, 300, 350, 1 << 20])
async def test_a_reset_after_any_byte_of_the_request_is_unknown(heard: int) -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire, heard)
        reset(stream)

    async with listening(speak) as wire, client_of(wire.base) as client:
        assert told(await submit(client)) == MAYBE
        assert wire.connections == 1


WHOLE = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-request-id: r-1\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(TASK), TASK)
)


@pytest.mark.parametrize("cut", ["reset", "close"])
@pytest.mark.parametrize("said", [0, 1, 12, 17, 60, WHOLE.index(b"{"), len(WHOLE) - 1])
async def test_an_answer_cut_after_any_byte_is_unknown(said: int, cut: str) -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        if said:
            await stream.send(WHOLE[:said])
        if cut == "reset":
            await anyio.sleep(0.02)  # a RST overtakes what was just written
            reset(stream)

    async with listening(speak) as wire, client_of(wire.base) as client:
        assert told(await submit(client)) == MAYBE
        assert (wire.connections, wire.heard.count(b"POST ")) == (1, 1)


async def test_the_whole_answer_is_a_task() -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        for byte in range(len(WHOLE)):
            await stream.send(WHOLE[byte : byte + 1])

    async with listening(speak) as wire, client_of(wire.base) as client:
        assert (await client.submit(request(), idempotency_key="k")).id == "task-1"


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        pytest.param(
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\nabcd",
            # httpx2 leaves a generator of its own open here; trio says so.
            marks=pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
        ),
        b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\x00" * 100,
    ],
    ids=lambda answer: repr(answer)[:40],
)
async def test_an_answer_that_is_no_http_is_unknown(answer: bytes) -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        await stream.send(answer)

    async with listening(speak) as wire, client_of(wire.base) as client:
        assert told(await submit(client)) == MAYBE


async def test_no_answer_in_time_is_unknown() -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        await anyio.sleep_forever()

    async with listening(speak) as wire, client_of(wire.base) as client:
        error = await submit(client)
        assert told(error) == MAYBE
        assert "it took too long to answer" in error.message


async def test_a_refusal_whose_body_is_cut_is_still_a_refusal() -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        await stream.send(b"HTTP/1.1 402 Pay\r\nretry-after: 3\r\ncontent-length: 9\r\n\r\n{")

    async with listening(speak) as wire, client_of(wire.base) as client:
        error = await submit(client)
        assert told(error) == (Refused, "no", False)
        assert error.retry_after_seconds == 3


@pytest.mark.parametrize("status", [b"429 Slow", b"503 Busy"])
@pytest.mark.parametrize("length", [b"content-length: 900\r\n", b""])
async def test_an_error_that_is_cut_does_not_say_that_nothing_was_accepted(
    status: bytes, length: bytes
) -> None:
    code = status[:3]
    half = b'{"error": {"code": ' + code + b', "message": "Later", "type": "rate_limit_err'

    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        await stream.send(
            b"HTTP/1.1 " + status + b"\r\nretry-after: 1\r\n" + length + b"\r\n" + half
        )

    async with listening(speak) as wire, client_of(wire.base) as client:
        assert told(await submit(client)) == MAYBE


async def test_an_idle_connection_is_never_used_for_a_submit() -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        await hear(stream, wire)
        wire.heard = b""
        await stream.send(WHOLE)
        await stream.receive()

    async with listening(speak) as wire, open_http() as http:
        client = Client(http, base_url=wire.base, key=SecretStr(KEY))
        for _ in range(3):
            await client.submit(request(), idempotency_key="k")
        assert wire.connections == 3


async def test_a_poll_that_breaks_is_a_failed_poll() -> None:
    async def speak(stream: anyio.abc.SocketStream, wire: Wire) -> None:
        while b"\r\n\r\n" not in wire.heard:
            wire.heard += await stream.receive()
        reset(stream)

    async with listening(speak) as wire, client_of(wire.base) as client:
        with pytest.raises(ReadFailed) as failed:
            await client.query("task-1")
        assert failed.value.retryable


# --- the emulator on a real socket ------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], type[Wan25Error], int]] = [
    ({"kind": "drop_before"}, OutcomeUnknown, 0),
    ({"kind": "drop_after"}, OutcomeUnknown, 1),
    ({"kind": "truncate"}, OutcomeUnknown, 1),
    ({"kind": "html"}, OutcomeUnknown, 0),
    ({"kind": "empty"}, OutcomeUnknown, 1),
    ({"kind": "garbage_json"}, OutcomeUnknown, 1),
    ({"kind": "delay", "seconds": 2}, OutcomeUnknown, 1),
    ({"kind": "status", "code": 500, "accepted": True}, OutcomeUnknown, 1),
    ({"kind": "status", "code": 429}, Refused, 0),
    ({"kind": "status", "code": 402}, Refused, 0),
]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize(("fault", "kind", "charges"), FAULTS)
async def test_over_a_socket_no_charge_is_ever_reported_as_none(
    fault: dict[str, Any], kind: type[Wan25Error], charges: int
) -> None:
    emulator = Emulator(check_images=False)
    async with emulator.serving(), client_of(emulator.base_url) as client:
        emulator.fault(endpoint="submit", **fault)
        error = await submit(client)
        assert type(error) is kind
        assert (len(emulator.submits), emulator.ledger.charges) == (1, charges)
        assert error.charged == ("no" if kind is Refused else "unknown")
