"""The receiver of callbacks, on real sockets: what it takes, and what nobody can do to it."""

from __future__ import annotations

import json
import logging
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest

from tests.emulator_lab import Emulator
from tests.journal.processes import serving
from tests.server.test_transports import (
    INITIALIZE,
    INITIALIZED,
    LIST,
    call,
    ended,
    hear,
    listening,
    say,
    sockets_of,
)
from tests.stage import TooSlow, environment, run, started, tries, until, within
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.errors import SettingsError
from wan25_mcp.hosting import create_app
from wan25_mcp.hosting.app import HttpTransport
from wan25_mcp.hosting.callbacks import CallbackReceiver, TokenBucket, open_receiver
from wan25_mcp.hosting.connections import Lobby
from wan25_mcp.hosting.listening import bind, main_server
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.server import create_server
from wan25_mcp.settings import CALLBACKS_NEED_HTTP, Settings

pytestmark = pytest.mark.anyio
PATH: Final = "/wan25-callbacks"
HANDLE: Final = "edit-0123456789abcdef"
SECRET: Final = "Ab_-" * 10 + "xyz"
GOOD: Final = f"{PATH}/{HANDLE}/{SECRET}"
TOKEN: Final = "a-good-token"
KIB: Final = 1024


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Told:
    """What the receiver passed on. `says` is what happens then."""

    says: Callable[[], Any] = lambda: True
    calls: list[tuple[str, str, str | None]] = field(default_factory=list)
    came: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, handle: str, secret: str, hint: str | None) -> bool:
        self.calls.append((handle, secret, hint))
        self.came.set()
        said = self.says()
        answer: bool = await said if hasattr(said, "__await__") else said
        return answer


@dataclass
class Peer:
    """The provider, or whoever pretends to be it."""

    port: int
    http: httpx2.AsyncClient

    async def post(self, path: str = GOOD, **more: Any) -> httpx2.Response:
        with anyio.fail_after(5):
            return await self.http.post(path, **more)

    async def raw(self, *pieces: bytes, then_end: bool = False) -> bytes:
        """Send bytes as they are, and read the answer to its end."""
        with anyio.fail_after(20):
            async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
                for piece in pieces:
                    await stream.send(piece)
                if then_end:
                    await stream.send_eof()
                return b"".join([part async for part in stream])


@asynccontextmanager
async def peer_of(port: int) -> AsyncIterator[Peer]:
    base = f"http://127.0.0.1:{port}"
    async with httpx2.AsyncClient(base_url=base, trust_env=False, timeout=5) as http:
        yield Peer(port, http)


@asynccontextmanager
async def receiver(
    told: Told,
    clock: Callable[[], float] | None = None,
    knows: Callable[[str, str], bool] = lambda _handle, _secret: False,
) -> AsyncIterator[Peer]:
    """A receiver on a port of its own."""
    async with anyio.create_task_group() as tasks:
        app = CallbackReceiver(PATH, told, tasks, knows=knows, clock=clock or anyio.current_time)
        with bind("127.0.0.1", 0) as listener:
            port = listener.getsockname()[1]
            server = main_server(app, "WARNING", Lobby(256))
            tasks.start_soon(server.serve, [listener])
            async with peer_of(port) as peer:
                yield peer
            server.should_exit = True
            await server.shutdown()
        tasks.cancel_scope.cancel()


def head(path: str = GOOD, *lines: str, method: str = "POST") -> bytes:
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", "host: public.example", *lines, "", ""]
    ).encode("latin-1")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


# --- what it takes ---------------------------------------------------------------------------

BODIES: list[Any] = [
    (b'{"id": "task-unified-1"}', "task-unified-1"),
    (b'{"id": "task-unified-1", "status": "completed", "error": null}', "task-unified-1"),
    (b"", None),
    (b"{}", None),
    (b"[]", None),
    (b'"task-unified-1"', None),
    (b'{"id": 5}', None),
    (b'{"id": ["task-unified-1"]}', None),
    (b'{"id": "../../etc/passwd"}', None),
    (b'{"id": ""}', None),
    (b'{"id": "' + b"t" * 201 + b'"}', None),
    (b'{"id": nope', None),
    (b"\xff\xfe\x00", None),
    (b'{"id": ' + b"9" * 5000 + b"}", None),
    (b"[" * 60_000, None),
    (b"<html>502 Bad Gateway</html>", None),
]


@pytest.mark.parametrize(("body", "hint"), BODIES, ids=lambda value: str(value)[:40])
async def test_of_a_body_at_most_a_task_id_is_taken(body: bytes, hint: str | None) -> None:
    told = Told()
    async with receiver(told) as peer:
        answer = await peer.post(content=body)
    assert (answer.status_code, answer.content) == (204, b"")
    assert told.calls == [(HANDLE, SECRET, hint)]


async def test_duplicates_are_passed_on_each_time() -> None:
    told = Told()
    async with receiver(told) as peer:
        assert {(await peer.post(GOOD)).status_code for _ in range(3)} == {204}
        assert (await peer.post(GOOD + "?attempt=2")).status_code == 204
    assert told.calls == [(HANDLE, SECRET, None)] * 4


# --- what it does not ------------------------------------------------------------------------

FORGED = [
    "/", "", "*", PATH, f"{PATH}/", f"{PATH}/{HANDLE}", f"{PATH}/{HANDLE}/", f"{GOOD}/", f"{GOOD}x",
    GOOD[:-1], f"/{GOOD}", f"{PATH}//{HANDLE}/{SECRET}", f"{PATH}/{HANDLE}//{SECRET}",
    f"{PATH}/./{HANDLE}/{SECRET}", f"{PATH}/../{GOOD}", f"/x/..{GOOD}", f"{PATH}/%2e%2e{GOOD}",
    f"{PATH}%2F{HANDLE}/{SECRET}", f"{PATH}/{HANDLE}%2F{SECRET}",
    f"{PATH}/%65dit-{HANDLE[5:]}/{SECRET}",
    f"{PATH}/{HANDLE}/%41{SECRET[1:]}", f"{PATH}\\{HANDLE}\\{SECRET}", f"{GOOD};x", f"{GOOD}%00",
    f"{GOOD}%0a", f"{PATH}/{HANDLE.upper()}/{SECRET}", f"{PATH}/task-{HANDLE[5:]}/{SECRET}",
    f"{PATH.upper()}/{HANDLE}/{SECRET}", f"{PATH}/{HANDLE}0/{SECRET}",
    f"{PATH}/{HANDLE}/{SECRET[:-1]}=",
    f"/other{GOOD}", f"{PATH}x/{HANDLE}/{SECRET}", f"http://public.example{GOOD}", f"/{SECRET}",
]  # fmt: skip


async def test_every_other_path_is_unknown() -> None:
    told = Told()
    async with receiver(told) as peer:
        for path in FORGED:
            answer = await peer.raw(head(path, "content-length: 0"))
            # "" and what holds odd characters is not even HTTP.
            assert status_of(answer) in (400, 404), path
    assert told.calls == []


async def test_a_wrong_secret_looks_like_a_path_that_is_none() -> None:
    told = Told(lambda: False)
    async with receiver(told) as peer:
        wrong = await peer.post(GOOD, content=b'{"id": "task-unified-1"}')
        unknown = await peer.post("/no/such/path", content=b'{"id": "task-unified-1"}')
    assert len(told.calls) == 1
    shown = [
        (answer.status_code, answer.text, sorted(set(answer.headers.items()) - {date(answer)}))
        for answer in (wrong, unknown)
    ]
    assert shown[0] == shown[1]
    assert (wrong.status_code, wrong.text) == (404, "Not Found")


def date(answer: httpx2.Response) -> tuple[str, str]:
    return "date", answer.headers["date"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"])
async def test_only_post_is_allowed(method: str) -> None:
    told = Told()
    async with receiver(told) as peer:
        with anyio.fail_after(5):
            answer = await peer.http.request(method, GOOD)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert told.calls == []


# --- too much, too slow ----------------------------------------------------------------------


async def test_64_kib_are_read_and_a_byte_more_is_refused() -> None:
    told = Told()
    body = json.dumps({"id": "task-unified-1", "pad": ""}).encode()
    body = body[:-2] + b"x" * (64 * KIB - len(body)) + body[-2:]
    async with receiver(told) as peer:
        assert (await peer.post(content=body)).status_code == 204
        for announced in (64 * KIB + 1, 10**18):
            answer = await peer.raw(head(GOOD, f"content-length: {announced}"))
            assert status_of(answer) == 413
        chunk = b"8000\r\n" + b"x" * 0x8000 + b"\r\n"
        more = b"1\r\nx\r\n"
        answer = await peer.raw(head(GOOD, "transfer-encoding: chunked"), chunk, chunk, more)
        assert status_of(answer) == 413
    assert told.calls == [(HANDLE, SECRET, "task-unified-1")]


@pytest.mark.parametrize("sent", [b"", b'{"id":'])
@tries
async def test_a_body_that_does_not_end_is_no_hint_but_the_callback_counts(sent: bytes) -> None:
    told = Told()
    async with receiver(told) as peer:
        began = time.monotonic()
        answer = await peer.raw(head(GOOD, "content-length: 100"), sent)
        within(1, time.monotonic() - began)
        assert status_of(answer) == 204
    assert told.calls == [(HANDLE, SECRET, None)]


async def test_a_body_cut_off_is_no_hint_but_the_callback_counts() -> None:
    told = Told()
    async with receiver(told) as peer:
        await peer.raw(head(GOOD, "content-length: 100"), b'{"id":', then_end=True)
    assert told.calls == [(HANDLE, SECRET, None)]


@tries
async def test_a_crowd_that_drips_is_answered_in_a_second() -> None:
    told = Told()
    seconds = iter(range(10_000))
    async with receiver(told, clock=lambda: next(seconds)) as peer:
        answers: list[int] = []

        async def call_back(body: bytes) -> None:
            answers.append(status_of(await peer.raw(head(GOOD, "content-length: 9"), body)))

        async def crowd(body: bytes) -> float:
            began = time.monotonic()
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(call_back, body)
            return time.monotonic() - began

        # What a hundred take on this machine that do not drip; at once, some are put off.
        at_once = await crowd(b"not JSON.")
        answers.clear()
        told.calls.clear()
        within(1 + 2 * at_once, await crowd(b"{"))
    if 503 in answers:
        raise TooSlow("those that were read and those that were not came to be checked together")
    assert answers == [204] * 100
    assert told.calls == [(HANDLE, SECRET, None)] * 100


async def hang() -> bool:
    await anyio.sleep_forever()
    return True


async def hang_for_good() -> bool:
    """As a thread does that waits for a database."""
    with anyio.CancelScope(shield=True):
        await anyio.sleep(1.5)
    return True


def unusable() -> bool:
    raise JournalUnusable("cannot be read")


def broken() -> bool:
    raise ValueError(f"parameters: {SECRET}")


@pytest.mark.parametrize("says", [hang, hang_for_good, unusable, broken])
@tries
async def test_what_cannot_be_checked_in_time_is_to_come_again(
    says: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    told = Told(says)
    caplog.clear()
    async with receiver(told) as peer:
        began = time.monotonic()
        answers = [await peer.post(content=b"{}") for _ in range(2)]
        within(2, time.monotonic() - began)
        assert [(a.status_code, a.headers["retry-after"]) for a in answers] == [(503, "2")] * 2
        told.says = lambda: True
        assert (await peer.post()).status_code == 204
    assert len(told.calls) == 3
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    [warning] = warnings
    assert HANDLE in warning
    assert "could not be checked" in warning
    assert SECRET not in "".join(r.getMessage() for r in caplog.records if "httpx" not in r.name)


async def test_those_that_hang_are_no_more_than_64() -> None:
    told = Told(hang_for_good)
    seconds = iter(range(10_000))
    async with receiver(told, clock=lambda: next(seconds)) as peer:
        answers: list[int] = []

        async def post() -> None:
            answers.append((await peer.post()).status_code)

        async with anyio.create_task_group() as tasks:
            for _ in range(90):
                tasks.start_soon(post)
    assert answers == [503] * 90
    assert len(told.calls) == 64


async def test_a_flood_is_told_when_to_come_again_and_wakes_nobody() -> None:
    told, now = Told(), [0.0]
    async with receiver(told, clock=lambda: now[0]) as peer:
        flood = [await peer.post() for _ in range(70)]
        assert [answer.status_code for answer in flood] == [204] * 60 + [429] * 10
        assert flood[-1].headers["retry-after"] == "1"
        # What never gets so far costs nobody a turn.
        assert (await peer.post("/elsewhere")).status_code == 404
        now[0] += 1.0
        assert [(await peer.post()).status_code for _ in range(31)] == [204] * 30 + [429]
    assert len(told.calls) == 90


async def test_a_flood_of_strangers_keeps_no_callback_out_that_is_certainly_ours() -> None:
    told = Told()

    def knows(handle: str, secret: str) -> bool:
        return (handle, secret) == (HANDLE, SECRET)

    stranger = GOOD.replace(SECRET, "x" * len(SECRET))
    async with receiver(told, clock=lambda: 0.0, knows=knows) as peer:
        flood = [(await peer.post(stranger)).status_code for _ in range(70)]
        assert flood[-10:] == [429] * 10
        assert (await peer.post()).status_code == 204


def test_a_bucket_is_never_fuller_than_its_burst_and_a_clock_may_stand_still() -> None:
    now = [100.0]
    bucket = TokenBucket(2.0, 3.0, lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    now[0] += 0.25
    assert bucket.take() == 0.25
    now[0] += 3600
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


async def test_no_log_line_holds_a_secret_at_any_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = Told()
    async with receiver(told) as peer:
        for says in (lambda: True, lambda: False, unusable, broken):
            told.says = says
            await peer.raw(head(GOOD, "content-length: 0"))
        for line in ("connection: upgrade\r\nupgrade: websocket", "content-length: x"):
            await peer.raw(head(GOOD, line))
        await peer.raw(head(f"{GOOD} and more"))
    ours = [r for r in caplog.records if r.name.startswith(("wan25_mcp", "uvicorn"))]
    lines = [logging.Formatter().format(record) for record in ours]
    assert any(HANDLE in line for line in lines)
    assert not any(SECRET[:8] in line for line in lines)


# --- beside MCP ------------------------------------------------------------------------------


@asynccontextmanager
async def mounted(told: Told, transport: HttpTransport, tmp_path: Path) -> AsyncIterator[Peer]:
    """MCP behind its gates, and callbacks in front of them, on one port."""
    settings = Settings.from_mapping({"WAN25_DATA_DIR": str(tmp_path), "WAN25_SERVER_TOKEN": TOKEN})
    async with open_configured_editor(settings) as editor, open_receiver(PATH, told) as callbacks:
        app = create_app(
            create_server(editor), transport, host="127.0.0.1", settings=settings,
            callbacks=callbacks,
        )  # fmt: skip
        with bind("127.0.0.1", 0) as listener:
            server = main_server(app, "WARNING", Lobby(256))
            async with peer_of(listener.getsockname()[1]) as peer, anyio.create_task_group() as run:
                run.start_soon(server.serve, [listener])
                yield peer
                server.should_exit = True


MOUNTS: Final[list[HttpTransport]] = ["streamable-http", "sse"]


@pytest.mark.parametrize("transport", MOUNTS)
async def test_beside_mcp_a_callback_needs_neither_token_nor_a_known_host(
    transport: HttpTransport, tmp_path: Path
) -> None:
    told = Told()
    async with mounted(told, transport, tmp_path) as peer:
        public = {"host": "public.example", "origin": "https://provider.example"}
        assert (await peer.post(headers=public, content=b'{"id": "t-1"}')).status_code == 204
        assert (await peer.post(f"{PATH}/x", headers=public)).status_code == 404
        assert (await peer.post("/mcp", headers=public)).status_code == 421
        assert (await peer.post("/mcp")).status_code == 401
        assert (await peer.post(PATH)).status_code == 401
    assert told.calls == [(HANDLE, SECRET, "t-1")]


AROUND = [
    f"{PATH}/../mcp", f"{PATH}/../sse", f"{PATH}/../../mcp", f"{PATH}/./../mcp", f"{PATH}//mcp",
    f"{PATH}/mcp", f"{PATH}/%2e%2e/mcp", f"{PATH}/%2e%2e%2fmcp", f"{PATH}/..%2fmcp",
    f"{PATH}%2f..%2fmcp", f"{PATH}%2f{HANDLE}%2f{SECRET}", f"/{PATH}/../mcp", f"{PATH}/..\\mcp",
    f"/mcp{GOOD}", f"/mcp/..{GOOD}", f"/mcp?{GOOD}", f"/mcp;{GOOD}", f"//{GOOD}", "/%2fmcp",
    f"http://public.example{GOOD}/../mcp", f"http://public.example/mcp{GOOD}",
    f"{PATH}/../messages/",
    f"{GOOD}/mcp", f"{GOOD}/../../../mcp", f"/sse/..{GOOD}", f"{PATH.upper()}/../mcp",
]  # fmt: skip


@pytest.mark.parametrize("transport", MOUNTS)
async def test_no_spelling_of_a_path_gets_past_the_gates(
    transport: HttpTransport, tmp_path: Path
) -> None:
    told = Told()
    async with mounted(told, transport, tmp_path) as peer:
        for path in AROUND:
            for method in ("POST", "GET"):
                asked = head(path, "content-length: 0", "connection: close", method=method)
                assert status_of(await peer.raw(asked)) in (400, 404, 421), (method, path)
                known = asked.replace(b"public.example\r\n", b"127.0.0.1\r\n", 1)
                assert status_of(await peer.raw(known)) in (400, 401, 404), (method, path)
    assert told.calls == []


@pytest.mark.parametrize("path", ["/mcp", "/sse", "/messages/callbacks"])
async def test_callbacks_may_not_be_where_mcp_is(path: str, tmp_path: Path) -> None:
    settings = Settings.from_mapping({"WAN25_DATA_DIR": str(tmp_path)})
    async with open_configured_editor(settings) as editor, anyio.create_task_group() as tasks:
        callbacks = CallbackReceiver(path, Told(), tasks)
        server = create_server(editor)
        with pytest.raises(SettingsError) as refused:
            create_app(server, "sse", host="::1", settings=settings, callbacks=callbacks)
    assert refused.value.message == (
        f"WAN25_CALLBACK_URL has the path {path}, where MCP itself is served."
    )


# --- processes -------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return environment(
        WAN25_DATA_DIR=str(tmp_path / "data"), WAN25_OUTPUT_DIR=str(tmp_path / "out")
    )


def asked(port: int, path: str = GOOD, **headers: str) -> int:
    """What a callback is answered; waits until somebody listens."""
    deadline = time.monotonic() + 40
    with httpx2.Client(trust_env=False, timeout=5) as http:
        while True:
            try:
                return http.post(f"http://127.0.0.1:{port}{path}", headers=headers).status_code
            except httpx2.ConnectError:
                assert time.monotonic() < deadline, "nobody listens"
                time.sleep(0.02)


def use(process: subprocess.Popen[bytes]) -> None:
    say(process, call(5, "get_task", {"task_id": "task-unified-1"}))
    assert hear(process, 5)["result"]["structuredContent"]["error"]["code"] == "not_found"


@pytest.mark.parametrize("number", [pytest.param(15, marks=pytest.mark.thorough), 2, None])
def test_over_stdio_no_port_is_opened_and_stderr_says_so_once(
    number: int | None, environ: dict[str, str]
) -> None:
    values = environ | {"WAN25_CALLBACK_URL": f"https://public.example{PATH}"}
    started_at = time.monotonic()
    with started(["serve", "--emulator"], values) as process:
        say(process, INITIALIZE, INITIALIZED, LIST)
        assert len(hear(process, 2)["result"]["tools"]) == 3
        assert sockets_of(process.pid) == []
        use(process)
        use(process)
        began = time.monotonic()
        if number is not None:
            process.send_signal(number)
            assert process.wait(timeout=40) == 128 + number
        status, out, err = ended(process)
        assert time.monotonic() - began < 2 * (began - started_at)
    assert (status, out) == (128 + number if number else 0, "")
    [line] = err.splitlines()
    assert CALLBACKS_NEED_HTTP in line


async def test_over_stdio_an_edit_carries_no_callback_address(environ: dict[str, str]) -> None:
    async with Emulator(check_images=False, allow_loopback=True).serving() as emulator:
        values = environ | {
            "WAN25_EMULATOR": emulator.base_url,
            "WAN25_CALLBACK_URL": f"http://127.0.0.1:{free_port()}{PATH}",
        }
        async with serving(values) as server:
            assert (await server.edit("Make it night"))["status"] == "pending"
    [submit] = emulator.submits
    assert "callback_url" not in submit.body


@pytest.mark.parametrize(
    "transport", ["streamable-http", pytest.param("sse", marks=pytest.mark.thorough)]
)
def test_over_http_callbacks_come_to_the_server_s_port(
    transport: str, environ: dict[str, str]
) -> None:
    values = environ | {
        "WAN25_API_KEY": "sk-never-sent",
        "WAN25_SERVER_TOKEN": TOKEN,
        "WAN25_CALLBACK_URL": f"https://public.example{PATH}",
    }
    with listening(transport, values) as (process, url, _):
        port = httpx2.URL(url).port or 0
        # The first one may come before the journal is open: then it is asked to come again.
        assert asked(port) in (404, 503)
        time.sleep(2)
        assert asked(port, host="public.example") == 404
        assert asked(port) == 404
        process.terminate()
        assert process.wait(timeout=10) == 128 + 15
        _, out, err = ended(process)
    assert (out, "Traceback" in err) == ("", False)


def test_serve_warns_once_of_names_nobody_reads(environ: dict[str, str]) -> None:
    ran = run([], environ | {"WAN25_API_KYE": "sk-SECRET", "WAN25_XYZZY": "1"})
    assert (ran.returncode, ran.stdout) == (0, b"")
    [line] = ran.stderr.decode().splitlines()
    assert re.sub(r"^\S+ \S+ ", "", line) == (
        "WARNING wan25_mcp.cli.main: Unknown setting WAN25_API_KYE (WAN25_API_KEY?), WAN25_XYZZY."
    )


async def test_the_emulator_s_command_calls_back_on_this_machine_only_when_allowed() -> None:
    assert await submitted() == (400, [])
    status, calls = await submitted("--allow-loopback")
    [(handle, secret, hint)] = calls
    assert (status, handle, secret) == (200, HANDLE, SECRET)
    assert (hint or "").startswith("task-")


async def submitted(*flags: str) -> tuple[int, list[tuple[str, str, str | None]]]:
    """How the emulator's command answers a submit, and the callbacks that come of it."""
    told = Told()
    command = ["emulator", "--port", "0", "--speed", "500", *flags]
    with started(command, environment()) as process:
        url = until(process.stdout, lambda text: "\n" in text).strip()
        async with receiver(told) as peer:
            order = {
                "model": "wan2.5-image-to-image",
                "prompt": "p",
                "image_urls": [str(httpx2.URL(url).join("/files/none/x.png"))],
                "callback_url": f"http://127.0.0.1:{peer.port}{GOOD}",
            }
            answer = await peer.post(
                f"{url}/v1/images/generations", json=order, headers={"authorization": "Bearer k"}
            )
            with anyio.fail_after(10):
                if answer.status_code == 200:
                    await told.came.wait()
    return answer.status_code, told.calls
