"""Waiting with server processes and real time: waits that are given up, and answers in time.

The tasks are a minute old when they are first asked about, as if a client had come back to them, so
that they are looked at every few seconds. Nobody calls back.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from mcp import StdioServerParameters
from mcp.client import Client

from tests.emulator_lab import Emulator
from tests.journal.processes import listening, serving, until
from tests.stage import KEY, PICTURE, environment, tries, within

pytestmark = pytest.mark.anyio
AGE: Final = 60.0
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def provider() -> AsyncIterator[Emulator]:
    """One whose clock says that everything began a minute ago."""
    emulator = Emulator(check_images=False, balance=1e6, clock=lambda: time.time() - AGE)
    async with emulator.serving():
        yield emulator


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    async with provider() as emulator:
        yield emulator


@pytest.fixture(autouse=True)
def clean(emulator: Emulator) -> None:
    clear(emulator)


def clear(emulator: Emulator) -> None:
    emulator.faults.clear()
    emulator.outcomes.clear()


def values_for(emulator: Emulator, place: Path | str, **more: str) -> dict[str, str]:
    """What a server is told, with its journal in a folder or at a URL."""
    journal = "WAN25_DATABASE_URL" if isinstance(place, str) else "WAN25_DATA_DIR"
    return {
        "WAN25_BASE_URL": emulator.base_url,
        "WAN25_API_KEY": KEY,
        "WAN25_SAVE": "off",
        journal: str(place),
        **more,
    }


async def task_of(emulator: Emulator, run_seconds: float) -> str:
    """A task that somebody else has submitted."""
    emulator.outcome(run_seconds=run_seconds, progress="absent")
    order = {
        "model": "wan2.5-image-to-image",
        "prompt": f"Make it night {next(_numbers)}",
        "image_urls": [PICTURE],
        "n": 1,
    }
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as http:
        url = f"{emulator.base_url}/v1/images/generations"
        answer = await http.post(url, json=order, headers={"authorization": f"Bearer {KEY}"})
    task_id: str = answer.json()["id"]
    return task_id


# --- clients that stop to wait ---------------------------------------------------------------


@asynccontextmanager
async def over_stdio(values: dict[str, str], era: str) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=sys.executable, args=["-m", "wan25_mcp"], env=environment(**values)
    )
    async with Client(server, mode=era) as client:
        yield client


@asynccontextmanager
async def over_http(values: dict[str, str], era: str) -> AsyncIterator[Client]:
    async with listening(values) as url, Client(url, mode=era) as client:
        yield client


WAYS: Final[dict[str, tuple[Any, str]]] = {
    "stdio, 2025": (over_stdio, "legacy"),
    "http, 2025": (over_http, "legacy"),
    "http, 2026": (over_http, "auto"),
}


@pytest.mark.thorough
async def test_cancelling_a_wait_stops_only_that_wait_and_causes_no_poll(
    emulator: Emulator, tmp_path: Path
) -> None:
    """Three tasks that one client waits for, and three for which others come and go as well."""
    async with anyio.create_task_group() as tasks:
        for number, (way, era) in enumerate(WAYS.values()):
            tasks.start_soon(_come_and_go, emulator, way, era, tmp_path / str(number))


async def _come_and_go(emulator: Emulator, way: Any, era: str, folder: Path) -> None:
    async with way(values_for(emulator, folder), era) as client:
        calm = [await task_of(emulator, run) for run in (5.0, 7.0, 9.0)]
        busy = [await task_of(emulator, run) for run in (5.0, 7.0, 9.0)]
        done: dict[str, str] = {}

        async def wait(task_id: str) -> None:
            asked = {"task_id": task_id, "timeout_seconds": 30}
            result = await client.call_tool("wait_for_task", asked)
            done[task_id] = (result.structured_content or {})["status"]

        async def give_up(task_id: str, after: float) -> None:
            with anyio.move_on_after(after) as patience:
                await wait(task_id)
            assert patience.cancelled_caught

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for task_id in (*calm, *busy):
                    tasks.start_soon(wait, task_id)
                for task_id in busy:
                    for after in (0.5, 1.0, 2.0, 3.0, 3.5):
                        tasks.start_soon(give_up, task_id, after)
        assert done == dict.fromkeys((*calm, *busy), "completed")
        looks = [sum(emulator.queries[one] for one in some) for some in (calm, busy)]
        assert looks[1] <= looks[0] + len(busy)


@pytest.mark.thorough
async def test_a_wait_whose_connection_is_cut_stops_and_another_goes_on(
    emulator: Emulator, tmp_path: Path
) -> None:
    async with listening(values_for(emulator, tmp_path)) as url, Client(url) as client:
        left, kept = await task_of(emulator, 9.0), await task_of(emulator, 9.0)
        reported: list[Any] = []

        async def wait() -> None:
            asked = {"task_id": kept, "timeout_seconds": 30}
            reported.append((await client.call_tool("wait_for_task", asked)).structured_content)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            for task_id in (left, left, kept, kept):
                tasks.start_soon(_cut_off, url, task_id)
        assert (reported[0]["task_id"], reported[0]["status"]) == (kept, "completed")
        # Nobody waited for it any more, and nobody here had submitted it.
        assert emulator.queries[left] == 1
        assert emulator.queries[kept] <= 4


async def _cut_off(url: str, task_id: str) -> None:
    """A client of 2026 whose connection breaks in the middle of a wait."""
    where = httpx2.URL(url)
    call = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {
            "name": "wait_for_task",
            "arguments": {"task_id": task_id, "timeout_seconds": 30},
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "a test", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        },
    }
    body = json.dumps(call).encode()
    head = [
        f"POST {where.path} HTTP/1.1",
        f"host: {where.netloc.decode()}",
        "content-type: application/json",
        "accept: application/json, text/event-stream",
        "mcp-protocol-version: 2026-07-28",
        "mcp-method: tools/call",
        "mcp-name: wait_for_task",
        f"content-length: {len(body)}",
    ]
    async with await anyio.connect_tcp("127.0.0.1", where.port or 0) as stream:
        await stream.send("\r\n".join([*head, "", ""]).encode() + body)
        with anyio.move_on_after(2):
            first = await stream.receive()
            assert first.startswith(b"HTTP/1.1 200"), first
            await anyio.sleep_forever()


# --- answers that come in time ---------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.deadline(120)
@tries
async def test_a_wait_is_answered_before_its_time_is_up(emulator: Emulator, tmp_path: Path) -> None:
    """Whatever is slow: the edit, the provider's answer, the saving, or the previews."""
    patience = 7.0
    clear(emulator)
    slow = {"WAN25_SAVE": "auto", "WAN25_OUTPUT_DIR": str(tmp_path), "WAN25_PREVIEW": "always"}
    async with serving(values_for(emulator, tmp_path / "data", **slow)) as server:
        await server.resource("wan25://tasks")
        emulator.fault(endpoint="query", kind="delay", seconds=30)
        emulator.fault(endpoint="result", kind="delay", seconds=30, times=0)
        runs = {"hung": 600.0, "running": 600.0, "done": 0.0, "done at the last moment": 5.0}
        ids = {name: await task_of(emulator, run) for name, run in runs.items()}
        await anyio.sleep(0.2)
        sent = {}
        for name, task_id in ids.items():
            asked = {"task_id": task_id, "timeout_seconds": patience}
            sent[name] = time.monotonic(), await server.send_call("wait_for_task", **asked)
            await until("it was looked at", partial(emulator.queries.get, task_id))
        reported = {}
        for name in ("done", "hung", "running", "done at the last moment"):
            began, number = sent[name]
            reported[name] = await server.answer(number)
            within(patience, time.monotonic() - began)
    assert {name: (one["status"], one["saved"]) for name, one in reported.items()} == {
        "hung": ("unknown", []),
        "running": ("pending", []),
        "done": ("completed", []),
        "done at the last moment": ("completed", []),
    }
