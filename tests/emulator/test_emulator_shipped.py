"""The emulator as it is shipped, without what tests add to it."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.emulator_lab import Emulator as ScriptedEmulator
from wan25_mcp.emulator import Emulator, EmulatorOptions
from wan25_mcp.emulator.sockets import bound, listening, url_of

pytestmark = pytest.mark.anyio
HEADERS = {"authorization": "Bearer emulator-key", "user-agent": "a-product/1"}


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are uvicorn's, and uvicorn is asyncio's."""
    return "asyncio"


@pytest.mark.usefixtures("no_blocking")
async def test_it_edits_its_own_sample_and_calls_back_over_sockets() -> None:
    received: list[dict[str, Any]] = []
    delivered = anyio.Event()

    async def receive(request: Request) -> Response:
        received.append(await request.json())
        if len(received) == 1:
            return Response(status_code=500)
        delivered.set()
        return Response(status_code=204)

    hooks = Starlette(routes=[Route("/hook", receive, methods=["POST"])])
    emulator = Emulator(EmulatorOptions(run_seconds=20, speed=100, allow_loopback=True))
    with anyio.fail_after(20), bound("127.0.0.1", 0) as listener:
        async with (
            listening(hooks, listener),
            emulator.serving(),
            httpx2.AsyncClient(base_url=emulator.base_url, headers=HEADERS) as client,
        ):
            body = {
                "model": "wan2.5-image-to-image",
                "prompt": "p",
                "n": 1,
                "image_urls": [emulator.sample_image_url()],
                "callback_url": f"{url_of(listener)}/hook",
            }
            submitted = await client.post("v1/images/generations", json=body)
            assert submitted.headers["x-request-id"]
            await delivered.wait()
            task = (await client.get(f"v1/tasks/{submitted.json()['id']}")).json()
            assert received == [task, task]
            async with httpx2.AsyncClient(headers={"user-agent": "a-product/1"}) as visitor:
                picture = await visitor.get(task["results"][0])
            assert picture.content.startswith(b"\x89PNG")
            assert emulator.ledger[task["id"]].charged == 1.5


@pytest.mark.parametrize("path", ["openapi.json", "_emulator/state", "_emulator/faults"])
async def test_it_has_no_addresses_that_only_tests_use(path: str) -> None:
    async with Emulator().serving() as emulator, httpx2.AsyncClient() as client:
        for method in ("GET", "POST"):
            answer = await client.request(method, f"{emulator.public_url}/{path}")
            assert answer.status_code == 404


async def test_what_tests_add_leaves_the_answers_as_they_are() -> None:
    """Both answer the same requests with the same bytes."""
    body = {"model": "wan2.5-image-to-image", "prompt": "p", "n": 2}
    requests: list[tuple[str, str, Any]] = [
        ("POST", "v1/images/generations", {**body, "image_urls": ["https://a.example/1.png"]}),
        ("POST", "v1/images/generations", body),
        ("POST", "v1/images/generations", {**body, "model": "another"}),
        ("GET", "v1/credits", None),
        ("GET", "v1/tasks/task-unified-1-abcdefgh", None),
        ("DELETE", "v1/credits", None),
    ]

    def clock() -> float:
        return 1_800_000_000.0

    answers = []
    for emulator in (
        Emulator(EmulatorOptions(clock=clock, check_images=False)),
        ScriptedEmulator(clock=clock, check_images=False),
    ):
        async with (
            emulator.running(),
            httpx2.AsyncClient(
                transport=emulator.transport(), base_url=emulator.base_url, headers=HEADERS
            ) as client,
        ):
            found = [await client.request(m, path, json=given) for m, path, given in requests]
            answers.append([(a.status_code, dict(a.headers), json.loads(a.text)) for a in found])
    assert answers[0] == answers[1]
    assert [status for status, *_ in answers[0]] == [200, 400, 404, 200, 404, 405]
