"""Who may call over HTTP: Host, Origin and token, whatever address is bound."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest

from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.errors import SettingsError
from wan25_mcp.hosting import create_app
from wan25_mcp.hosting.app import HttpTransport, is_loopback
from wan25_mcp.server import create_server
from wan25_mcp.settings import Settings

pytestmark = pytest.mark.anyio
TOKEN: Final = "a-good-token"
LIST: Final = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def calling(
    transport: HttpTransport, host: str, tmp_path: Path, **values: str
) -> AsyncIterator[httpx2.AsyncClient]:
    """A plain HTTP client of the app, as on a socket bound to `host`."""
    settings = Settings.from_mapping({"WAN25_DATA_DIR": str(tmp_path), **values})
    async with open_configured_editor(settings) as editor:
        app: Any = create_app(create_server(editor), transport, host=host, settings=settings)
        async with (
            lifespan(app),
            httpx2.AsyncClient(
                # The SDK's SSE raises after it has refused a Host; a server logs that and goes on.
                transport=httpx2.ASGITransport(app, raise_app_exceptions=False),
                base_url="http://127.0.0.1:8000",
            ) as http,
        ):
            yield http


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Run an app's lifespan, through whatever gate stands before it."""
    up, down = anyio.Event(), anyio.Event()
    messages = [{"type": "lifespan.startup"}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await down.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Any) -> None:
        if message["type"] == "lifespan.startup.complete":
            up.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(app, {"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
        with anyio.fail_after(10):
            await up.wait()
        yield
        down.set()


async def ask(http: httpx2.AsyncClient, headers: Any = (), path: str = "/mcp") -> httpx2.Response:
    usual = [
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "tools/list"),
    ]
    body = {
        **LIST,
        "params": {
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            }
        },
    }
    with anyio.fail_after(10):
        return await http.post(path, json=body, headers=[*usual, *headers])


async def test_on_loopback_a_plain_call_is_answered(tmp_path: Path) -> None:
    async with calling("streamable-http", "127.0.0.1", tmp_path) as http:
        answer = await ask(http)
        assert answer.status_code == 200
        assert "edit_image" in answer.text


HOSTS: list[Any] = [
    ("127.0.0.1", 200),
    ("127.0.0.1:8000", 200),
    ("localhost:1234", 200),
    ("[::1]:8000", 200),
    ("evil.example", 421),
    ("evil.example:8000", 421),
    ("127.0.0.1.evil.example", 421),
    ("localhost.evil.example:8000", 421),
    ("evil.example@127.0.0.1", 421),
    ("127.0.0.1:8000.evil.example", 421),
    ("", 421),
]


@pytest.mark.parametrize(("host", "status"), HOSTS)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
async def test_the_host_header_is_checked_on_every_address(
    bound: str, host: str, status: int, tmp_path: Path
) -> None:
    async with calling("streamable-http", bound, tmp_path, WAN25_SERVER_TOKEN=TOKEN) as http:
        answer = await ask(http, [("host", host), ("authorization", f"Bearer {TOKEN}")])
        assert answer.status_code == status


ORIGINS: list[Any] = [
    ("http://127.0.0.1:8000", 200),
    ("http://localhost:3000", 200),
    ("https://localhost", 200),
    ("http://evil.example", 403),
    ("https://127.0.0.1.evil.example", 403),
    ("null", 403),
    ("file://", 403),
    ("http://localhost:3000.evil.example", 403),
    ("http://localhost:3000@evil.example", 403),
    ("chrome-extension://abc", 403),
]


@pytest.mark.parametrize(("origin", "status"), ORIGINS)
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
async def test_the_origin_header_is_checked_on_every_address(
    bound: str, origin: str, status: int, tmp_path: Path
) -> None:
    async with calling("streamable-http", bound, tmp_path, WAN25_SERVER_TOKEN=TOKEN) as http:
        answer = await ask(http, [("origin", origin), ("authorization", f"Bearer {TOKEN}")])
        assert answer.status_code == status


async def test_configured_hosts_are_accepted_and_no_others(tmp_path: Path) -> None:
    async with calling(
        "streamable-http",
        "0.0.0.0",
        tmp_path,
        WAN25_SERVER_TOKEN=TOKEN,
        WAN25_ALLOWED_HOSTS="mcp.example, other.example:8443",
    ) as http:
        key = ("authorization", f"Bearer {TOKEN}")
        for host, status in (
            ("mcp.example", 200),
            ("mcp.example:9000", 200),
            ("other.example:8443", 200),
            ("other.example", 421),
            ("sub.mcp.example", 421),
        ):
            assert (await ask(http, [("host", host), key])).status_code == status


@pytest.mark.parametrize("path", ["/sse", "/messages/?session_id=" + "0" * 32])
async def test_sse_checks_host_and_origin_too(path: str, tmp_path: Path) -> None:
    async with calling("sse", "127.0.0.1", tmp_path) as http:
        method = "GET" if path == "/sse" else "POST"
        for headers, status in (
            ({"host": "evil.example"}, 421),
            ({"origin": "http://evil.example"}, 403),
        ):
            with anyio.fail_after(10):
                answer = await http.request(method, path, headers=headers, json=LIST)
            assert answer.status_code == status


# --- the token -------------------------------------------------------------------------------

TOKENS: list[tuple[list[tuple[str, str]], int]] = [
    ([("authorization", f"Bearer {TOKEN}")], 200),
    ([("authorization", f"bearer {TOKEN}")], 200),
    ([("Authorization", f"BEARER   {TOKEN} ")], 200),
    ([], 401),
    ([("authorization", "")], 401),
    ([("authorization", "Bearer")], 401),
    ([("authorization", "Bearer ")], 401),
    ([("authorization", TOKEN)], 401),
    ([("authorization", f"Basic {TOKEN}")], 401),
    ([("authorization", f"Bearer {TOKEN}x")], 401),
    ([("authorization", f"Bearer {TOKEN[:-1]}")], 401),
    ([("authorization", f"Bearer {TOKEN.upper()}")], 401),
    ([("authorization", f"Bearer {TOKEN} {TOKEN}")], 401),
    ([("authorization", f"Bearer {TOKEN}")] * 2, 401),
    ([("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKEN}")], 401),
    ([("x-authorization", f"Bearer {TOKEN}")], 401),
    ([("cookie", f"authorization=Bearer {TOKEN}")], 401),
]


@pytest.mark.parametrize(("headers", "status"), TOKENS, ids=lambda value: str(value)[:60])
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0"])
async def test_the_token_is_needed_exactly_once(
    bound: str, headers: list[tuple[str, str]], status: int, tmp_path: Path
) -> None:
    async with calling("streamable-http", bound, tmp_path, WAN25_SERVER_TOKEN=TOKEN) as http:
        answer = await ask(http, headers)
        assert answer.status_code == status
        if status == 401:
            assert answer.headers["www-authenticate"] == 'Bearer realm="wan25-mcp"'
            assert answer.json() == {
                "error": "Send this server's bearer token in the Authorization header."
            }
            assert TOKEN not in answer.text


@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "PUT"])
@pytest.mark.parametrize("path", ["/", "/mcp", "/sse", "/messages/", "/no-such-path"])
async def test_nothing_is_open_without_the_token(
    transport: HttpTransport, method: str, path: str, tmp_path: Path
) -> None:
    async with calling(transport, "127.0.0.1", tmp_path, WAN25_SERVER_TOKEN=TOKEN) as http:
        assert (await http.request(method, path)).status_code == 401


@pytest.mark.parametrize("token", [b"\xff\xfe", "tökén".encode(), b"\x00"])
async def test_bytes_that_are_no_text_are_no_token(token: bytes, tmp_path: Path) -> None:
    async with calling("streamable-http", "127.0.0.1", tmp_path, WAN25_SERVER_TOKEN=TOKEN) as http:
        assert (await ask(http, [(b"authorization", b"Bearer " + token)])).status_code == 401


# --- where it listens ------------------------------------------------------------------------

LOOPBACK = ["127.0.0.1", "127.0.0.2", "localhost", "::1", "[::1]"]
BEYOND = ["0.0.0.0", "::", "", "10.0.0.1", "192.168.1.1", "8.8.8.8", "example.com", "127.1",
          "localhost.example.com", "0", "fe80::1", "::ffff:10.0.0.1"]  # fmt: skip


@pytest.mark.parametrize("host", LOOPBACK + BEYOND)
@pytest.mark.parametrize("transport", ["streamable-http", "sse"])
async def test_beyond_loopback_it_refuses_to_listen_without_a_token(
    host: str, transport: HttpTransport
) -> None:
    settings = Settings()
    assert is_loopback(host) == (host in LOOPBACK)
    async with open_configured_editor(settings) as editor:
        server = create_server(editor)
        if host in LOOPBACK:
            create_app(server, transport, host=host, settings=settings)
            return
        with pytest.raises(SettingsError) as refused:
            create_app(server, transport, host=host, settings=settings)
    assert refused.value.message == (
        f"Refusing to listen on {host} without a token: anyone who reaches it could spend "
        "your credits."
    )
    assert "WAN25_SERVER_TOKEN" in refused.value.fix


async def test_a_body_that_is_no_json_is_refused_and_the_next_call_works(tmp_path: Path) -> None:
    async with calling("streamable-http", "127.0.0.1", tmp_path) as http:
        for body in (b"", b"{", b"[]", b"\xff", b"[" * 50_000, json.dumps({"a": 1}).encode()):
            with anyio.fail_after(10):
                answer = await http.post(
                    "/mcp",
                    content=body,
                    headers={
                        "content-type": "application/json",
                        "accept": "application/json, text/event-stream",
                    },
                )
            assert 400 <= answer.status_code < 500
        assert (await ask(http)).status_code == 200


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_a_caller_who_leaves_within_the_request_is_no_error(
    version: str, tmp_path: Path
) -> None:
    """uvicorn logs a traceback of whatever the app raises, and such callers are many."""
    settings = Settings.from_mapping({"WAN25_DATA_DIR": str(tmp_path)})
    async with open_configured_editor(settings) as editor:
        server = create_server(editor)
        app: Any = create_app(server, "streamable-http", host="127.0.0.1", settings=settings)
        messages = [
            {"type": "http.request", "body": b'{"jsonrpc"', "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Any:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            """Nobody hears it."""

        headers = {
            "host": "127.0.0.1:8000",
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": version,
            "content-length": "100",
        }
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/mcp",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        async with lifespan(app):
            with anyio.fail_after(10):
                await app(scope, receive, send)
