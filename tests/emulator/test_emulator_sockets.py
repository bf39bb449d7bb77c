"""The same emulator on a real socket: faults down to the connection, a prompt end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from tests.emulator_lab import Emulator, Fault
from tests.stage import tries, within

pytestmark = [pytest.mark.anyio]
KEY = {"authorization": "Bearer emulator-key", "user-agent": "a-product/1"}
SUBMIT = {"model": "wan2.5-image-to-image", "prompt": "p", "n": 1}


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are uvicorn's, and uvicorn is asyncio's."""
    return "asyncio"


@asynccontextmanager
async def served(
    **switches: Any,
) -> AsyncGenerator[tuple[Emulator, httpx2.AsyncClient], None]:
    emulator = Emulator(**({"run_seconds": 0.2} | switches))
    with anyio.fail_after(20):
        async with (
            emulator.serving(),
            httpx2.AsyncClient(base_url=emulator.base_url, headers=KEY) as client,
        ):
            yield emulator, client


async def submit(emulator: Emulator, client: httpx2.AsyncClient, **fields: Any) -> Any:
    body = SUBMIT | {"image_urls": [emulator.sample_image_url()]} | fields
    return await client.post("v1/images/generations", json=body)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await anyio.sleep(0.01)
    raise AssertionError("it never came true")


async def settled(client: httpx2.AsyncClient, task_id: str) -> dict[str, Any]:
    for _ in range(500):
        task = (await client.get(f"v1/tasks/{task_id}")).json()
        if task["status"] not in ("pending", "processing"):
            break
        await anyio.sleep(0.02)
    return dict(task)


@pytest.mark.usefixtures("no_blocking")
async def test_a_task_runs_and_its_picture_is_fetched_over_a_socket() -> None:
    async with served() as (emulator, client):
        host, port = emulator.base_url.removesuffix("/apiv1").rsplit(":", 1)
        assert host == "http://127.0.0.1"
        assert int(port) > 0
        assert emulator.files_url == f"{host}:{port}"
        task = await settled(client, (await submit(emulator, client)).json()["id"])
        (link,) = task["results"]
        assert link.startswith(emulator.public_url)
        async with httpx2.AsyncClient(headers={"user-agent": "a-product/1"}) as visitor:
            picture = await visitor.get(link)
        assert picture.content.startswith(b"\x89PNG")
        assert emulator.leaked_keys == []


@pytest.mark.parametrize(
    ("kind", "errors", "submits", "charges"),
    [
        ("refuse", (httpx2.ReadError, httpx2.WriteError), [], 0),
        ("drop_before", (httpx2.ReadError,), [False], 0),
        ("drop_after", (httpx2.ReadError,), [True], 1),
        ("truncate", (httpx2.RemoteProtocolError,), [True], 1),
    ],
)
async def test_a_connection_fault_is_real(
    kind: Any,
    errors: tuple[type[Exception], ...],
    submits: list[bool],
    charges: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as (emulator, client):
        emulator.fault(Fault("submit", kind))
        with pytest.raises(errors):
            await submit(emulator, client)
        assert [s.accepted for s in emulator.submits] == submits
        assert emulator.ledger.charges == charges
        assert (await submit(emulator, client)).status_code == 200
    assert [r.getMessage() for r in caplog.records if r.name.startswith("uvicorn")] == []


async def test_a_dropped_connection_is_reset_not_closed() -> None:
    async with served() as (emulator, _):
        emulator.fault(Fault("credits", "drop_after"))
        port = int(emulator.public_url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /apiv1/v1/credits HTTP/1.1\r\nhost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()


async def test_a_delay_beyond_patience_is_a_read_timeout_and_accepted() -> None:
    async with served() as (emulator, client):
        emulator.fault(Fault("submit", "delay", seconds=5))
        client.timeout = httpx2.Timeout(0.3)
        with pytest.raises(httpx2.ReadTimeout):
            await submit(emulator, client)
        assert emulator.ledger.charges == 1


async def test_truncated_pictures_are_noticed() -> None:
    async with served() as (emulator, client):
        task = await settled(client, (await submit(emulator, client)).json()["id"])
        emulator.fault(Fault("result", "truncate"))
        async with httpx2.AsyncClient(headers={"user-agent": "a-product/1"}) as visitor:
            with pytest.raises(httpx2.RemoteProtocolError):
                await visitor.get(task["results"][0])


@tries
async def test_it_ends_at_once_whatever_is_under_way(caplog: pytest.LogCaptureFixture) -> None:
    emulator = Emulator()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            async with (
                httpx2.AsyncClient(headers=KEY) as client,
                emulator.serving(),
            ):
                client.base_url = httpx2.URL(emulator.base_url)
                await submit(emulator, client)
                emulator.fault(Fault("credits", "delay", seconds=3600))
                group.start_soon(_expect_an_end, emulator.base_url)
                await until(lambda: not len(emulator.faults))
                began = time.monotonic()
            within(0.5, time.monotonic() - began)
    assert [r.getMessage() for r in caplog.records if r.name.startswith("uvicorn")] == []


async def _expect_an_end(base_url: str) -> None:
    async with httpx2.AsyncClient(headers=KEY, timeout=10) as client:
        with pytest.raises(httpx2.TransportError):
            await client.get(f"{base_url}/v1/credits")


async def test_the_port_is_free_again_and_refuses_afterwards() -> None:
    async with served() as (emulator, _):
        port = int(emulator.public_url.rsplit(":", 1)[1])
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
    async with Emulator().serving(port=port) as again:
        assert again.base_url == emulator.base_url


async def test_the_real_world_is_reached_within_the_address_rules() -> None:
    """One emulator as the world of another: its files are loopback, so refused unless allowed."""
    async with served() as (world, _):
        link = world.sample_image_url()
        for allowed, status in ((False, "failed"), (True, "completed")):
            async with served(allow_loopback=allowed) as (emulator, client):
                answer = await submit(emulator, client, image_urls=[link])
                assert (await settled(client, answer.json()["id"]))["status"] == status


async def test_a_callback_arrives_on_a_loopback_address_when_allowed() -> None:
    async with served(allow_loopback=True, key=None) as (emulator, client):
        hook = f"{emulator.public_url}/hook"
        answer = await submit(emulator, client, callback_url=hook)
        await settled(client, answer.json()["id"])
        await until(lambda: any(delivery.status for delivery in emulator.callbacks))
        assert (emulator.callbacks[0].url, emulator.callbacks[0].status) == (hook, 404)


async def test_the_admin_addresses_exist_only_when_switched_on() -> None:
    async with served() as (emulator, client):
        for verb, name in (("GET", "state"), ("POST", "faults"), ("POST", "outcomes")):
            answer = await client.request(verb, f"{emulator.public_url}/_emulator/{name}")
            assert answer.status_code == 404


async def test_another_process_can_script_and_read_it() -> None:
    async with served(admin=True) as (emulator, client):
        admin = f"{emulator.public_url}/_emulator"
        fault = {"endpoint": "submit", "kind": "status", "code": 503}
        assert (await client.post(f"{admin}/faults", json=fault)).json() == {"scripted": fault}
        await client.post(f"{admin}/outcomes", json={"fail": "service_error"})
        sample = (await client.post(f"{admin}/samples", json={"width": 400, "height": 400})).json()
        assert (await submit(emulator, client)).status_code == 503
        answer = await submit(emulator, client, image_urls=[sample["url"]])
        task = await settled(client, answer.json()["id"])
        state = (await client.get(f"{admin}/state")).json()
        assert state["tasks"] == [task]
        assert state["submits_count"] == 2
        assert [s["status"] for s in state["submits"]] == [503, 200]
        assert state["balance"] == 100
        assert "emulator-key" not in str(state)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("faults", {"kind": "explode"}),
        ("faults", {"endpoint": "submit", "kind": "empty", "times": "x"}),
        ("faults", {"endpoint": "submit", "kind": "empty", "when": 1}),
        ("outcomes", {"times": None}),
        ("outcomes", {"progress": "backwards"}),
        ("samples", {"width": "wide"}),
        ("samples", {"width": 0}),
    ],
)
async def test_nonsense_scripted_by_another_process_is_refused(name: str, fields: Any) -> None:
    async with served(admin=True) as (emulator, client):
        answer = await client.post(f"{emulator.public_url}/_emulator/{name}", json=fields)
        assert answer.status_code == 400
        assert (len(emulator.faults), len(emulator.outcomes)) == (0, 0)


async def test_it_can_listen_on_ipv6() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        async with Emulator().serving("::1") as emulator, httpx2.AsyncClient(headers=KEY) as client:
            assert emulator.base_url.startswith("http://[::1]:")
            assert (await client.get(f"{emulator.base_url}/v1/credits")).status_code == 200
    except OSError:
        pytest.skip("no IPv6 here")
