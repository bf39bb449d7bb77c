"""Calls back when a task is settled: timeout, retries and address rules of the specification."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from wan25_mcp.emulator.addresses import BadAddress
from wan25_mcp.emulator.faults import Fault, Script
from wan25_mcp.emulator.reach import Reach
from wan25_mcp.emulator.records import Delivery

RETRY_WAITS = (1.0, 2.0, 4.0)
HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


class Callbacks:
    """Delivers a settled task's JSON, and keeps `deliveries`: every attempt, in order."""

    def __init__(
        self,
        reach: Reach,
        faults: Script[Fault],
        clock: Callable[[], float],
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self._reach = reach
        self._faults = faults
        self._clock = clock
        self._wait = wait
        self.deliveries: list[Delivery] = []

    async def deliver(self, task_id: str, url: str, body: dict[str, Any]) -> None:
        """At most four attempts; whoever never answers with 2xx is given up on."""
        for attempt, pause in enumerate((0.0, *RETRY_WAITS), start=1):
            if pause:
                await self._wait(pause)
            delivery = Delivery(task_id, url, attempt, self._clock(), body)
            self.deliveries.append(delivery)
            if await self._attempt(delivery):
                return

    async def _attempt(self, delivery: Delivery) -> bool:
        import httpx2

        try:
            await self._post(delivery)
        except TimeoutError:
            delivery.error = "timeout"
        except (BadAddress, httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            delivery.error = f"{type(error).__name__}: {error}"
        return delivery.delivered

    async def _post(self, delivery: Delivery) -> None:
        """The one POST, under whatever fault is scripted for "callback".

        `refuse` and `drop_before` send nothing, `drop_after` sends and then counts as failed (so
        the receiver sees a duplicate), `status` sends and pretends `code` was answered.
        """
        fault = self._faults.take("callback")
        if fault is None:
            delivery.status = await self._reach.post(delivery.url, _encode(delivery.body))
            return
        await anyio.sleep(fault.seconds)
        if fault.kind in ("refuse", "drop_before"):
            raise OSError("dropped by a fault")
        status = await self._reach.post(delivery.url, _spoil(_encode(delivery.body), fault))
        if fault.kind == "drop_after":
            raise OSError("dropped by a fault after sending")
        delivery.status = fault.code or status


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False).encode()


def _spoil(body: bytes, fault: Fault) -> bytes:
    spoilt = {
        "truncate": body[: len(body) // 2],
        "html": HTML,
        "garbage_json": b'{"id": nope',
        "empty": b"",
    }
    return spoilt.get(fault.kind, body)
