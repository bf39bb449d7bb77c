"""The server as a process: how it starts, what it writes, how it stops."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest
from click.testing import CliRunner, Result

from tests.emulator_lab import Emulator
from tests.stage import environment, run, started, until
from tests.systems import linux, posix
from wan25_mcp.cli.main import main
from wan25_mcp.hosting.listening import GRACE_SECONDS

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {}}
HTTP = ["streamable-http", "sse"]


def say(process: subprocess.Popen[bytes], *messages: object) -> None:
    assert process.stdin is not None
    for message in messages:
        process.stdin.write(json.dumps(message).encode() + b"\n")
    process.stdin.flush()


def hear(process: subprocess.Popen[bytes], found: int) -> dict[str, Any]:
    """Read messages until the answer of that id; every line must be a message."""
    assert process.stdout is not None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        if message.get("id") == found:
            return message
    raise AssertionError("stdout ended")


def call(number: int, tool: str, given: dict[str, Any]) -> dict[str, Any]:
    params = {"name": tool, "arguments": given}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    """How a process ended: status, what was left on stdout, all of stderr."""
    out, err = process.communicate(timeout=40)
    return process.returncode, out.decode(), err.decode()


@contextmanager
def listening(transport: str, environ: dict[str, str], *arguments: str) -> (
    Iterator[tuple[subprocess.Popen[bytes], str, str]]
):  # fmt: skip
    """A server over HTTP: the process, its address, and what it said until then."""
    command = ["serve", "--transport", transport, "--port", "0", *arguments]
    with started(command, environ) as process:
        told = until(process.stderr, lambda text: "Serving MCP at" in text)
        yield process, told.split("Serving MCP at ")[1].split()[0], told


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with nothing set but where files would go."""
    return environment(
        WAN25_DATA_DIR=str(tmp_path / "data"), WAN25_OUTPUT_DIR=str(tmp_path / "out")
    )


# --- stdio -----------------------------------------------------------------------------------


@linux
def test_stdio_lists_tools_writes_nothing_else_and_ends_with_its_input(
    environ: dict[str, str], tmp_path: Path
) -> None:
    with started([], environ, cwd=tmp_path) as process:
        say(process, INITIALIZE, INITIALIZED, LIST)
        assert hear(process, 1)["result"]["serverInfo"]["name"] == "wan25-mcp"
        assert len(hear(process, 2)["result"]["tools"]) == 3
        listeners = sockets_of(process.pid)
        assert ended(process) == (0, "", "")
    assert listeners == []
    assert list(tmp_path.iterdir()) == []


def sockets_of(pid: int) -> list[str]:
    """The sockets a process holds, other than the pairs of its event loop."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    lines = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines += Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[9] in inodes]


@posix
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stdio_ends_at_once_on_a_signal(number: signal.Signals, environ: dict[str, str]) -> None:
    began = time.monotonic()
    with started([], environ) as process:
        say(process, INITIALIZE, INITIALIZED, LIST)
        hear(process, 2)
        stopped = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=40) == 128 + number
        assert time.monotonic() - stopped < 2 * (stopped - began)
        _, out, err = ended(process)
    assert (out, err) == ("", "")


DISCOVER = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "server/discover",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
        }
    },
}


def test_a_probe_for_the_newer_protocol_is_answered(environ: dict[str, str]) -> None:
    with started([], environ) as process:
        say(process, DISCOVER)
        assert hear(process, 0)["result"]["supportedVersions"] == ["2026-07-28"]
        assert ended(process) == (0, "", "")


def test_a_client_that_has_fallen_back_from_its_probe_is_served(environ: dict[str, str]) -> None:
    """As the Vercel AI SDK does when the start takes over a second. It takes an answer to the probe
    for an error."""
    with started([], environ) as process:
        say(process, DISCOVER, INITIALIZE, INITIALIZED, LIST)
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["id"] == 1
        assert len(hear(process, 2)["result"]["tools"]) == 3
        assert ended(process) == (0, "", "")


def test_nothing_is_written_after_stdin_has_ended(environ: dict[str, str]) -> None:
    """A client of SDK 1.x that has given up a wait crashes on closing when an answer comes in."""
    with started(["serve", "--emulator"], environ) as process:
        say(process, INITIALIZE, INITIALIZED)
        hear(process, 1)
        link = "https://example.com/cat.png"
        say(process, call(2, "edit_image", {"prompt": "Night", "image_urls": [link]}))
        task_id = hear(process, 2)["result"]["structuredContent"]["task_id"]
        say(process, call(3, "wait_for_task", {"task_id": task_id, "timeout_seconds": 30}), LIST)
        hear(process, 2)
        status, out, _ = ended(process)
    assert (status, out) == (0, "")


def test_stdio_survives_garbage_on_its_input(environ: dict[str, str]) -> None:
    with started([], environ) as process:
        assert process.stdin is not None
        for garbage in (b"\n", b"not json\n", b"[]\n", b"\xff\xfe\n", b'{"jsonrpc":"1.0"}\n',
                        b'{"jsonrpc":"2.0","id":9,"method":"no/such"}\n'):  # fmt: skip
            process.stdin.write(garbage)
        say(process, INITIALIZE, INITIALIZED, LIST)
        assert len(hear(process, 2)["result"]["tools"]) == 3
        status, _, err = ended(process)
    assert status == 0
    assert "Traceback" not in err


def test_stdio_ends_quietly_when_its_reader_is_gone(environ: dict[str, str]) -> None:
    with started([], environ) as process:
        say(process, INITIALIZE)
        hear(process, 1)
        assert process.stdout is not None
        process.stdout.close()
        say(process, INITIALIZED, LIST)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=10) in (0, 1)
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()


def test_starting_twice_at_once_is_no_conflict(environ: dict[str, str]) -> None:
    with ExitStack() as stack:
        processes = [stack.enter_context(started([], environ)) for _ in range(2)]
        for process in processes:
            say(process, INITIALIZE, INITIALIZED, LIST)
        for process in processes:
            assert len(hear(process, 2)["result"]["tools"]) == 3
            assert ended(process) == (0, "", "")


def test_no_key_is_no_reason_not_to_start_and_a_call_says_how_to_set_one(
    environ: dict[str, str],
) -> None:
    with started([], environ) as process:
        edit = {"prompt": "p", "image_urls": ["https://a.example/b.png"]}
        say(process, INITIALIZE, INITIALIZED, call(5, "edit_image", edit))
        result = hear(process, 5)["result"]
        assert result["isError"] is True
        assert result["structuredContent"]["error"]["code"] == "missing_api_key"
        assert ended(process) == (0, "", "")
    assert not Path(environ["WAN25_DATA_DIR"]).exists()


def test_the_key_never_leaves_on_stderr_even_at_debug(environ: dict[str, str]) -> None:
    key = "sk-live-SECRET0123456789"
    values = environ | {
        "WAN25_API_KEY": key,
        "WAN25_LOG_LEVEL": "DEBUG",
        "WAN25_BASE_URL": "http://127.0.0.1:9/apiv1",
    }
    with started([], values) as process:
        say(process, INITIALIZE, INITIALIZED, call(6, "get_task", {"task_id": "t"}))
        assert hear(process, 6)["result"]["structuredContent"]["error"]["code"] == "unreachable"
        status, out, err = ended(process)
    assert status == 0
    assert "connect_tcp" in err
    assert key not in err + out
    assert all(line[:4].isdigit() for line in err.splitlines())


@posix
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_submit_on_the_wire_gets_its_id_into_the_journal_before_the_end(
    environ: dict[str, str], tmp_path: Path
) -> None:
    ends = {"eof": 0, "SIGTERM": 143, "SIGINT": 130}
    delay = 1.5
    async with Emulator(check_images=False).serving() as emulator:
        emulator.fault(endpoint="submit", kind="delay", seconds=delay, times=0)

        async def check(end: str) -> None:
            """Stop a server while it submits; its journal, read by another process, has the id."""
            values = environ | {
                "WAN25_EMULATOR": emulator.base_url,
                "WAN25_DATA_DIR": str(tmp_path / end),
            }
            link = emulator.sample_image_url()
            status, to_start, to_end = await anyio.to_thread.run_sync(
                _cut_off, end, values, emulator, link
            )
            assert (status, to_end < delay + to_start) == (ends[end], True)
            listed = await anyio.to_thread.run_sync(run, ["tasks"], values)
            task_ids = {t.id for t in emulator.tasks.values() if t.order.prompt == end}
            assert len(task_ids) == 1
            assert task_ids.pop() in listed.stdout.decode()

        async with anyio.create_task_group() as tasks:
            for end in ends:
                tasks.start_soon(check, end)
        assert emulator.ledger.charges == 3


def _cut_off(
    end: str, values: dict[str, str], emulator: Emulator, link: str
) -> tuple[int, float, float]:
    """How a server ended, and the seconds until its submit and from then to its end."""
    started_at = time.monotonic()
    with started([], values) as process:
        edit = call(5, "edit_image", {"prompt": end, "image_urls": [link]})
        say(process, INITIALIZE, INITIALIZED, edit)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if end in [submit.body["prompt"] for submit in list(emulator.submits)]:
                break
            time.sleep(0.02)
        began = time.monotonic()
        if end == "eof":
            assert process.stdin is not None
            process.stdin.close()
        else:
            process.send_signal(getattr(signal, end))
        return process.wait(timeout=40), began - started_at, time.monotonic() - began


# --- HTTP ------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("number", "transport"),
    [
        (signal.SIGTERM, "sse"),
        (signal.SIGINT, "streamable-http"),
        pytest.param(signal.SIGTERM, "streamable-http", marks=pytest.mark.thorough),
        pytest.param(signal.SIGINT, "sse", marks=pytest.mark.thorough),
    ],
)
def test_over_http_it_serves_and_ends_on_a_signal(
    transport: str, number: signal.Signals, environ: dict[str, str], tmp_path: Path
) -> None:
    began = time.monotonic()
    with listening(transport, environ) as (process, url, told):
        path = "/mcp" if transport == "streamable-http" else "/sse"
        assert url.startswith("http://127.0.0.1:")
        assert url.endswith(path)
        if transport == "sse":
            told += until(process.stderr, lambda text: "deprecated" in text)
        stream = open_stream(url) if transport == "sse" else None
        stopped = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=40) == 128 + number
        assert time.monotonic() - stopped < GRACE_SECONDS + 2 * (stopped - began)
        if stream is not None:
            stream.close()
        _, out, err = ended(process)
    assert out == ""
    lines = (told + err).splitlines()
    assert lines[0] == f"Serving MCP at {url}"
    assert lines[1:] == (
        []
        if transport == "streamable-http"
        else ["SSE is deprecated by the MCP specification: use --transport streamable-http if "
              "your client can."]
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def open_stream(url: str) -> socket.socket:
    """An SSE stream that somebody holds open."""
    parts = httpx2.URL(url)
    stream = socket.create_connection(("127.0.0.1", parts.port), timeout=10)
    stream.sendall(f"GET {parts.path} HTTP/1.1\r\nhost: 127.0.0.1:{parts.port}\r\n\r\n".encode())
    assert b"200 OK" in stream.recv(4096)
    return stream


@pytest.mark.parametrize("transport", HTTP)
def test_beyond_loopback_without_a_token_it_says_why_it_does_not_start(
    transport: str, environ: dict[str, str]
) -> None:
    ran = serve(environ, "--transport", transport, "--host", "0.0.0.0", "--port", "0")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.splitlines() == [
        "Error: Refusing to listen on 0.0.0.0 without a token: anyone who reaches it could spend "
        "your credits.",
        "To do: Set WAN25_SERVER_TOKEN (callers send it as a bearer token), or listen on "
        "127.0.0.1.",
    ]


def serve(environ: dict[str, str], *arguments: str) -> Result:
    """A server that is not to start, so that this process can run it."""
    return CliRunner().invoke(main, ["serve", *arguments], env=environ)


def test_with_a_token_it_listens_beyond_loopback_and_asks_for_it(environ: dict[str, str]) -> None:
    values = environ | {"WAN25_SERVER_TOKEN": "a-good-token"}
    with listening("streamable-http", values, "--host", "0.0.0.0") as (_, url, told):
        address = url.replace("0.0.0.0", "127.0.0.1")
        with httpx2.Client(trust_env=False, timeout=10) as http:
            refused = http.post(address, json=INITIALIZE)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Bearer realm="wan25-mcp"'
            headers = {
                "authorization": "Bearer a-good-token",
                "accept": "application/json, text/event-stream",
            }
            assert http.post(address, json=INITIALIZE, headers=headers).status_code == 200
            evil = headers | {"host": "evil.example"}
            assert http.post(address, json=INITIALIZE, headers=evil).status_code == 421
        assert "a-good-token" not in told


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid", "8.8.8.8", "::1%nowhere"])
def test_an_address_that_cannot_be_listened_on_gives_a_sentence(
    host: str, environ: dict[str, str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        values = environ | {"WAN25_SERVER_TOKEN": "a-good-token"}
        ran = serve(values, "--transport", "sse", "--host", host, "--port", port)
    first, second = ran.stderr.splitlines()
    assert first.startswith(f"Error: Cannot listen on {host} port {port}: ")
    assert second == "To do: Choose another --port (0 picks a free one) or --host."
    assert (ran.exit_code, ran.stdout) == (2, "")


@pytest.mark.parametrize(
    "host",
    ["::1", *(pytest.param(host, marks=pytest.mark.thorough) for host in ("[::1]", "localhost"))],
)
def test_it_listens_on_every_spelling_of_loopback(host: str, environ: dict[str, str]) -> None:
    with listening("streamable-http", environ, "--host", host) as (_, url, _told):
        assert url.count("[") <= 1
        with httpx2.Client(trust_env=False, timeout=10) as http:
            accept = {"accept": "application/json, text/event-stream"}
            assert http.post(url, json=INITIALIZE, headers=accept).status_code == 200


# --- start-up --------------------------------------------------------------------------------


def test_nothing_heavy_is_imported_to_list_the_tools() -> None:
    script = (
        "import sys, wan25_mcp.cli.main, wan25_mcp.server.stdio\n"
        "heavy = {'sqlalchemy', 'PIL', 'wan25_mcp.emulator', 'obstore', 'trio', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        timeout=20,
        check=True,
        env={**os.environ},
    )
    assert ran.stdout.decode().strip() == "[]"
