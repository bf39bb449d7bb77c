"""Scripted faults, in memory: what a client sees, and what was done all the same."""

from __future__ import annotations

from typing import Any

import anyio
import httpx2
import pytest
from trio.testing import MockClock

from tests.emulator_lab import Fault
from tests.emulator_lab.faults import Script

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def outcome(p: Any) -> tuple[list[tuple[bool, int | None]], int]:
    """Of each submit, whether it was accepted and what was answered; how many were charged."""
    return [(s.accepted, s.status) for s in p.emulator.submits], p.emulator.ledger.charges


@pytest.mark.parametrize(
    ("kind", "error", "submits", "charges"),
    [
        ("refuse", httpx2.ConnectError, [], 0),
        ("drop_before", httpx2.ReadError, [(False, None)], 0),
        ("drop_after", httpx2.ReadError, [(True, None)], 1),
        ("truncate", httpx2.RemoteProtocolError, [(True, None)], 1),
    ],
)
async def test_a_connection_fault_is_what_a_network_would_raise(
    play: Any, kind: Any, error: type[Exception], submits: Any, charges: int
) -> None:
    async with play() as p:
        p.emulator.fault(Fault("submit", kind))
        with pytest.raises(error):
            await p.submit()
        assert outcome(p) == (submits, charges)
        assert (await p.submit()).status_code == 200


async def test_a_truncated_answer_begins_as_the_whole_one(play: Any) -> None:
    async with play() as p:
        whole = (await p.client.get("v1/credits")).content
        p.emulator.fault(Fault("credits", "truncate"))
        async with p.client.stream("GET", "v1/credits") as answer:
            assert int(answer.headers["content-length"]) == len(whole)
            chunks = answer.aiter_raw()
            assert await anext(chunks) == whole[: len(whole) // 2]
            with pytest.raises(httpx2.RemoteProtocolError):
                await anext(chunks)


async def test_a_delay_within_patience_is_only_late(play: Any) -> None:
    async with play() as p:
        p.emulator.fault(Fault("submit", "delay", seconds=4))
        before = anyio.current_time()
        assert (await p.submit()).status_code == 200
        assert anyio.current_time() - before == 4


@pytest.mark.parametrize("accepted", [None, False])
async def test_a_delay_beyond_patience_is_a_read_timeout_and_carried_out_nevertheless(
    play: Any, accepted: bool | None
) -> None:
    async with play() as p:
        p.emulator.fault(Fault("submit", "delay", seconds=30, accepted=accepted))
        with pytest.raises(httpx2.ReadTimeout):
            await p.submit()
        assert p.emulator.ledger.charges == (0 if accepted is False else 1)
        await anyio.sleep(30)
        assert p.emulator.ledger.charges == 1


async def test_a_client_that_is_cancelled_leaves_its_submit_behind(play: Any) -> None:
    async with play() as p:
        p.emulator.fault(Fault("submit", "delay", seconds=4, accepted=False))
        with anyio.move_on_after(1) as scope:
            await p.submit()
        assert scope.cancelled_caught
        await anyio.sleep(4)
        assert p.emulator.ledger.charges == 1


@pytest.mark.parametrize(
    ("fault", "status", "media_type", "text"),
    [
        (Fault("submit", "html"), 502, "text/html", "<h1>502 Gateway</h1>"),
        (Fault("submit", "html", code=200), 200, "text/html", "<h1>200 Gateway</h1>"),
        (Fault("submit", "garbage_json"), 200, "application/json", '"task-uni'),
        (Fault("submit", "empty"), 200, "application/json", ""),
        (Fault("submit", "empty", code=504), 504, "application/json", ""),
        (Fault("submit", "status", code=418, body="short"), 418, "application/json", "short"),
    ],
)
async def test_an_unreadable_answer_is_sent_as_scripted(
    play: Any, fault: Fault, status: int, media_type: str, text: str
) -> None:
    async with play() as p:
        p.emulator.fault(fault)
        answer = await p.submit()
        assert (answer.status_code, answer.headers["content-type"]) == (status, media_type)
        assert text in answer.text
        assert answer.headers["x-request-id"]
        assert outcome(p) == ([(fault.carried_out, status)], int(fault.carried_out))


async def test_a_status_fault_answers_in_its_generation_with_its_fields(play: Any) -> None:
    async with play() as p:
        for fault in (
            Fault("submit", "status", code=503),
            Fault("submit", "status", code=429, retry_after=7, fallback_suggestion="later"),
            Fault("submit", "status", code=400, message="No", type="odd", param="n"),
        ):
            p.emulator.fault(fault)
        answers = [await p.submit() for _ in range(3)]
        assert [a.json()["error"] for a in answers] == [
            {
                "code": 503,
                "message": "Service temporarily unavailable",
                "type": "service_unavailable_error",
                "fallback_suggestion": "retry after 30 seconds",
            },
            {
                "code": 429,
                "message": "Rate limit exceeded",
                "type": "rate_limit_error",
                "fallback_suggestion": "later",
            },
            {"code": 400, "message": "No", "type": "odd", "param": "n"},
        ]
        assert [a.headers.get("retry-after") for a in answers] == [None, "7", None]
        assert outcome(p) == ([(False, 503), (False, 429), (False, 400)], 0)


async def test_the_recorded_429_without_an_envelope_can_be_played(play: Any) -> None:
    naked = {"message": "Resource exhausted", "type": "", "param": "", "code": 429}
    async with play() as p:
        p.emulator.fault(Fault("submit", "status", code=429, body=naked))
        answer = await p.submit()
        assert (answer.status_code, answer.json()) == (429, naked)


async def test_a_502_may_come_after_the_task_was_made(play: Any) -> None:
    async with play() as p:
        p.emulator.fault(Fault("submit", "status", code=502, accepted=True))
        assert (await p.submit()).status_code == 502
        assert outcome(p) == ([(True, 502)], 1)


@pytest.mark.parametrize(
    ("endpoint", "path"),
    [("query", "v1/tasks/task-unified-1-a"), ("credits", "v1/credits")],
)
async def test_a_fault_applies_to_its_endpoint_only(play: Any, endpoint: Any, path: str) -> None:
    async with play() as p:
        p.emulator.fault(Fault(endpoint, "status", code=500))
        assert (await p.submit()).status_code == 200
        assert (await p.client.get(path)).status_code == 500
        assert (await p.client.get(path)).status_code in (200, 404)


async def test_uploads_files_and_results_can_fail_too(play: Any) -> None:
    async with play(run_seconds=1, check_images=True) as p, p.visitor() as visitor:
        link = p.emulator.sample_image_url()
        p.emulator.fault(Fault("file", "drop_before"))
        task = await p.settled(await p.accepted(image_urls=[link]))
        assert task["error"]["code"] == "image_processing_error"
        task = await p.settled(await p.accepted(image_urls=[link]))
        p.emulator.fault(Fault("result", "html", code=200))
        page = await visitor.get(task["results"][0])
        assert page.headers["content-type"] == "text/html"
        p.emulator.fault(Fault("result", "truncate"))
        with pytest.raises(httpx2.RemoteProtocolError):
            await visitor.get(task["results"][0])
        p.emulator.fault(Fault("upload", "status", code=200, body={"success": False}))
        upload = f"{p.emulator.files_url}/api/v1/files/upload/stream"
        assert (await p.client.post(upload)).json() == {"success": False}


async def test_any_applies_to_everything_but_the_admin_addresses(play: Any) -> None:
    async with play(admin=True) as p:
        p.emulator.fault(Fault("any", "status", code=503, times=0))
        assert (await p.submit()).status_code == 503
        assert (await p.client.get("v1/credits")).status_code == 503
        state = await p.client.get("http://emulator.test/_emulator/state")
        assert state.status_code == 200
        p.emulator.faults.clear()
        assert (await p.submit()).status_code == 200


def test_a_script_is_taken_in_order_after_what_is_skipped() -> None:
    script: Script[Fault] = Script()
    script.add(Fault("submit", "status", code=500, skip=1, times=2))
    script.add(Fault("query", "status", code=501))
    script.add(Fault("any", "status", code=502))
    taken = [script.take("submit") for _ in range(5)]
    assert [fault and fault.code for fault in taken] == [502, 500, 500, None, None]
    assert len(script) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "nowhere", "kind": "empty"},
        {"endpoint": "submit", "kind": "explode"},
        {"endpoint": "submit", "kind": "status"},
    ],
)
def test_an_impossible_fault_is_refused_when_scripted(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="fault"):
        Fault(**fields)
