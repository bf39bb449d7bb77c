"""Callbacks: when, how often, to whom."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import anyio
import httpx2
import pytest
from trio.testing import MockClock

from tests.emulator_lab import Fault

pytestmark = pytest.mark.anyio
HOOK = "https://hooks.example/done"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Receiver:
    """A callback address that answers `statuses` in turn, then 204; None never answers."""

    def __init__(self, statuses: Sequence[int | None] = ()) -> None:
        self._statuses = list(statuses)
        self.times: list[float] = []
        self.requests: list[httpx2.Request] = []
        self.transport = httpx2.MockTransport(self._answer)

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        self.times.append(anyio.current_time())
        self.requests.append(request)
        status = self._statuses.pop(0) if self._statuses else 204
        if status is None:
            await anyio.sleep_forever()
        return httpx2.Response(status or 500)

    @property
    def pauses(self) -> list[float]:
        return [round(b - a, 3) for a, b in zip(self.times, self.times[1:], strict=False)]


async def settle(p: Any, **fields: Any) -> dict[str, Any]:
    task = await p.settled(await p.accepted(callback_url=HOOK, **fields))
    await anyio.sleep(120)
    return dict(task)


@pytest.mark.parametrize("outcome", [{}, {"fail": "service_error"}, {"cancelled": True}])
async def test_a_settled_task_is_posted_once_as_the_query_reads(
    play: Any, outcome: dict[str, Any]
) -> None:
    hook = Receiver()
    async with play(outside=hook.transport, run_seconds=10) as p:
        p.emulator.outcome(**outcome)
        task = await settle(p)
        (request,) = hook.requests
        assert (request.method, str(request.url)) == ("POST", HOOK)
        assert request.headers["content-type"] == "application/json"
        assert "authorization" not in request.headers
        assert json.loads(request.content) == task
        (delivery,) = p.emulator.callbacks
        assert (delivery.attempt, delivery.status, delivery.body) == (1, 204, task)


async def test_the_money_is_settled_before_the_callback_goes_out(play: Any) -> None:
    settled = []

    async def record(request: httpx2.Request) -> httpx2.Response:
        task_id = json.loads(request.content)["id"]
        settled.append(p.emulator.ledger[task_id].settled)
        return httpx2.Response(200)

    async with play(outside=httpx2.MockTransport(record), run_seconds=10) as p:
        await settle(p)
    assert settled == [True]


async def test_a_refusing_address_is_tried_four_times_after_1_2_and_4_seconds(play: Any) -> None:
    hook = Receiver([500, 302, 404, 503])
    async with play(outside=hook.transport, run_seconds=10) as p:
        await settle(p)
        assert hook.pauses == [1, 2, 4]
        assert [d.status for d in p.emulator.callbacks] == [500, 302, 404, 503]


async def test_any_2xx_ends_the_attempts(play: Any) -> None:
    hook = Receiver([500, 299])
    async with play(outside=hook.transport, run_seconds=10) as p:
        await settle(p)
        assert [d.delivered for d in p.emulator.callbacks] == [False, True]


async def test_a_silent_address_is_given_ten_seconds(play: Any) -> None:
    hook = Receiver([None, 200])
    async with play(outside=hook.transport, run_seconds=10) as p:
        await settle(p)
        assert hook.pauses == [11]
        assert [(d.status, d.error) for d in p.emulator.callbacks] == [
            (None, "timeout"),
            (200, None),
        ]


async def test_speed_shortens_the_retries_too(play: Any) -> None:
    hook = Receiver([500, 500, 500])
    async with play(outside=hook.transport, run_seconds=10, speed=10) as p:
        await settle(p)
        assert hook.pauses == [0.1, 0.2, 0.4]


async def test_a_connection_that_fails_counts_as_an_attempt(play: Any) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no route", request=request)

    async with play(outside=httpx2.MockTransport(refuse), run_seconds=10) as p:
        await settle(p)
        assert [d.error for d in p.emulator.callbacks] == ["ConnectError: no route"] * 4


async def test_callback_faults_drop_repeat_delay_and_spoil_deliveries(play: Any) -> None:
    hook = Receiver()
    async with play(outside=hook.transport, run_seconds=10) as p:
        for fault in (
            Fault("callback", "drop_before"),
            Fault("callback", "drop_after"),
            Fault("callback", "status", code=503),
            Fault("callback", "empty", seconds=5),
        ):
            p.emulator.fault(fault)
        await settle(p)
        assert [d.status for d in p.emulator.callbacks] == [None, None, 503, 204]
        assert hook.pauses == [2, 9]
        assert [len(r.content) > 0 for r in hook.requests] == [True, True, False]


async def test_loopback_is_called_only_when_allowed(play: Any) -> None:
    hook = Receiver()
    link = "http://127.0.0.1:8123/hook"
    async with play(outside=hook.transport, run_seconds=10) as p:
        assert (await p.submit(callback_url=link)).status_code == 400
    async with play(outside=hook.transport, run_seconds=10, allow_loopback=True) as p:
        await p.settled(await p.accepted(callback_url=link))
        assert [str(r.url) for r in hook.requests] == [link]
        assert (await p.submit(callback_url="http://10.0.0.1/")).status_code == 400
        assert (await p.submit(callback_url="http://a.example/")).status_code == 400
