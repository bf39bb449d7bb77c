"""Two servers that wait for one task are one watcher, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.emulator_lab import Emulator
from tests.journal.conftest import empty_place
from tests.journal.processes import Server, serving, until
from tests.polling.test_waiting_processes import provider, task_of, values_for
from tests.server.test_transports import sockets_of
from tests.stage import tries, within
from wan25_mcp.polling.shared_poller import POLL_LEASE_SECONDS, REFRESH_SECONDS

pytestmark = pytest.mark.anyio
BUSY: Final = 0.7
"""Seconds that answers may take on a busy machine."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    async with provider() as emulator:
        yield emulator


async def waited(
    server: Server, task_ids: list[str], *, seconds: float = 40
) -> dict[str, tuple[float, str]]:
    """When a server's client hears that each of some tasks is settled, and how."""
    heard = {}
    numbers = {
        await server.send_call("wait_for_task", task_id=task_id, timeout_seconds=seconds): task_id
        for task_id in task_ids
    }
    # In the order in which they settle, for answers are read one after the other.
    for number, task_id in numbers.items():
        with anyio.fail_after(seconds + 5):
            status = (await server.answer(number))["status"]
        heard[task_id] = (time.time(), status)
    return heard


# --- several servers over one journal --------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.deadline(200)
@tries
async def test_two_servers_that_wait_poll_as_often_as_one_and_hear_together(
    emulator: Emulator, postgres: str, tmp_path: Path
) -> None:
    """A pair over SQLite and one over PostgreSQL, and one server alone for comparison."""
    runs = (5.0, 7.0, 9.0)
    async with AsyncExitStack() as stack:

        async def opened(place: Path | str) -> Server:
            saving = {"WAN25_SAVE": "auto", "WAN25_OUTPUT_DIR": str(tmp_path / "out")}
            values = values_for(emulator, place, **saving)
            return await stack.enter_async_context(serving(values))

        single = await opened(tmp_path / "one")
        shared_places: list[Path | str] = [tmp_path / "two", empty_place(postgres)]
        pairs = [[await opened(place), await opened(place)] for place in shared_places]
        for server in (single, *itertools.chain(*pairs)):
            await server.resource("wan25://tasks")  # what is imported at first use
        shared = [[await task_of(emulator, run) for run in runs] for _ in pairs]
        alone = [await task_of(emulator, run) for run in runs]
        for first, task_ids in zip(
            (single, *(pair[0] for pair in pairs)), (alone, *shared), strict=True
        ):
            for task_id in task_ids:  # from now on the journal knows it
                await first.call("get_task", task_id=task_id)
        heard: list[dict[str, tuple[float, str]]] = []

        async def wait(server: Server, task_ids: list[str]) -> None:
            heard.append(await waited(server, task_ids))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait, single, alone)
            for pair, task_ids in zip(pairs, shared, strict=True):
                for server in pair:
                    tasks.start_soon(wait, server, task_ids)
    looks_alone = sum(emulator.queries[task_id] for task_id in alone)
    assert {status for reported in heard for _, status in reported.values()} == {"completed"}
    for task_ids in shared:
        assert sum(emulator.queries[task_id] for task_id in task_ids) <= looks_alone + len(runs)
        for task_id in task_ids:
            moments = [reported[task_id][0] for reported in heard if task_id in reported]
            assert len(moments) == 2
            within(REFRESH_SECONDS + BUSY, max(moments) - min(moments))


@pytest.mark.thorough
@pytest.mark.deadline(200)
@tries
async def test_when_a_server_is_killed_in_the_middle_of_a_poll_another_polls_after_its_lease(
    postgres: str, tmp_path: Path
) -> None:
    """Over SQLite and PostgreSQL, at the same time."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_killed_in_the_middle_of_a_look, tmp_path)
        tasks.start_soon(_killed_in_the_middle_of_a_look, empty_place(postgres))


async def _killed_in_the_middle_of_a_look(place: Path | str) -> None:
    async with provider() as emulator:
        values = values_for(emulator, place)
        async with serving(values) as a, serving(values) as b:
            task_id = await task_of(emulator, 8.0)
            wait = {"task_id": task_id, "timeout_seconds": 40}
            # One after the other: a task nobody has seen yet may be polled by both.
            sent = [await a.send_call("wait_for_task", **wait)]
            await until("it was looked at", lambda: emulator.reads)
            await until("nobody looks", lambda: not _looks(a, emulator))
            sent.append(await b.send_call("wait_for_task", **wait))
            made = len(emulator.reads)
            emulator.fault(endpoint="query", kind="delay", seconds=60)
            await until("one looks again", lambda: len(emulator.reads) > made)
            began = emulator.reads[-1].time
            assert _looks(a, emulator) != _looks(b, emulator)
            killed, left = (0, 1) if _looks(a, emulator) else (1, 0)
            await (a, b)[killed].kill()
            with anyio.fail_after(POLL_LEASE_SECONDS + 10):
                done = await _read(partial((a, b)[left].answer, sent[left]))
            took_over = emulator.reads[-1].time - began
        assert (done["status"], done["task_id"]) == ("completed", task_id)
        assert len(emulator.reads) == made + 2
        assert took_over >= POLL_LEASE_SECONDS
        within(POLL_LEASE_SECONDS + 1 + BUSY, took_over)


async def _read(answer: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    """An answer that takes longer than most."""
    while True:
        with suppress(TimeoutError):
            return await answer()


def _looks(server: Server, emulator: Emulator) -> bool:
    """Whether a process has a connection to the provider."""
    port = int(emulator.public_url.rsplit(":", 1)[1])
    return any(
        line.split()[2].endswith(f":{port:04X}") and line.split()[3] == "01"
        for line in sockets_of(server.pid)
    )
