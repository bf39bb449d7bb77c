"""Callbacks with nothing played but the provider: a real client, server processes, real sockets.

The emulator plays 30 times as fast as the provider and says so, and the server paces its looks by
that. What is measured in real seconds: how soon news arrive, and how long the server takes.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.abc
import httpx2
import pytest
from mcp.client import Client

from tests.emulator_lab import Emulator
from tests.emulator_lab.records import Delivery, Read
from tests.hosting.test_callbacks_http import free_port
from tests.journal.processes import Books, until
from tests.stage import PICTURE, environment, tries, within

pytestmark = pytest.mark.anyio
SPEED: Final = 30.0
RUN: Final = 36.0
"""Seconds of the provider's, which are little more than one here."""

NOTICED: Final = 0.5
"""Real seconds from a callback to the answer of who waits."""

PATH: Final = "/wan25-callbacks"
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def played() -> Emulator:
    return Emulator(
        check_images=False, speed=SPEED, run_seconds=RUN, allow_loopback=True, balance=1e6
    )


def settings(emulator: Emulator, port: int, folder: Path) -> dict[str, str]:
    """What a server is told that is called back at a port."""
    return {
        "WAN25_EMULATOR": emulator.base_url,
        "WAN25_DATA_DIR": str(folder),
        "WAN25_CALLBACK_URL": f"http://127.0.0.1:{port}{PATH}",
        "WAN25_SAVE": "off",
    }


@dataclass
class Desk:
    """A client of a server process, and the provider behind it."""

    client: Client
    emulator: Emulator
    port: int
    """Where the provider calls back."""
    process: anyio.abc.Process

    async def call(self, tool: str, **given: Any) -> dict[str, Any]:
        with anyio.fail_after(20):
            result = await self.client.call_tool(tool, given)
        told: dict[str, Any] = result.structured_content or {}
        return told

    async def edit(self, prompt: str | None = None) -> dict[str, Any]:
        prompt = prompt or f"Make it night {next(_numbers)}"
        return await self.call("edit_image", prompt=prompt, image_urls=[PICTURE])

    async def wait(self, task_id: str) -> dict[str, Any]:
        return await self.call("wait_for_task", task_id=task_id, timeout_seconds=15)

    def address(self) -> str:
        """Where the provider is to call about the latest submit."""
        address: str = self.emulator.submits[-1].body["callback_url"]
        assert address.startswith(f"http://127.0.0.1:{self.port}{PATH}/edit-")
        return address

    def calls(self, task_id: str) -> list[Delivery]:
        return [call for call in self.emulator.callbacks if call.task_id == task_id]

    def looks(self, task_id: str) -> list[Read]:
        return [read for read in self.emulator.reads if read.task_id == task_id]

    def is_paid_once(self, task_id: str) -> bool:
        """Whether the latest submit made this task, and no other submit asked for the same."""
        prompt = self.emulator.submits[-1].body["prompt"]
        made = [one for one in self.emulator.submits if one.body["prompt"] == prompt]
        charged = self.emulator.ledger[task_id].charged
        return ([one.task_id for one in made], charged) == ([task_id], 1.5)


@asynccontextmanager
async def open_desk(
    emulator: Emulator, port: int, folder: Path, *, called_at: int | None = None
) -> AsyncIterator[Desk]:
    """A server process over HTTP that is called back at its own port, unless told otherwise."""
    values = settings(emulator, called_at or port, folder)
    command = [sys.executable, "-m", "wan25_mcp", "serve", "--transport", "streamable-http"]
    process = await anyio.open_process([*command, "--port", str(port)], env=environment(**values))
    try:
        assert process.stderr
        told = b""
        with anyio.fail_after(20):
            while b"Serving MCP" not in told:
                told += await process.stderr.receive()
        async with Client(f"http://127.0.0.1:{port}/mcp") as client:
            yield Desk(client, emulator, called_at or port, process)
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(10):
            if process.returncode is None:
                process.kill()
            await process.aclose()


@pytest.fixture(scope="module")
async def desk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Desk]:
    async with (
        played().serving() as emulator,
        open_desk(emulator, free_port(), tmp_path_factory.mktemp("data")) as desk,
    ):
        await desk.wait((await desk.edit())["task_id"])  # what is imported at first use
        yield desk


@pytest.fixture(autouse=True)
def clean(request: pytest.FixtureRequest) -> None:
    if "desk" in request.fixturenames:
        emulator = request.getfixturevalue("desk").emulator
        emulator.faults.clear()
        emulator.outcomes.clear()


async def post(url: str, news: Any) -> int:
    """Call back, as the provider does or as a stranger would; the status of the answer."""
    where, body = urlsplit(url), json.dumps(news).encode()
    head = f"POST {where.path} HTTP/1.1\r\nhost: {where.netloc}\r\ncontent-length: {len(body)}"
    with anyio.fail_after(5):
        async with await anyio.connect_tcp("127.0.0.1", where.port or 0) as stream:
            await stream.send(head.encode() + b"\r\n\r\n" + body)
            return int((await stream.receive()).split()[1])


# --- one server ------------------------------------------------------------------------------


@tries
async def test_a_finished_task_is_noticed_within_half_a_second_of_its_callback(desk: Desk) -> None:
    edit = await desk.edit()
    done = await desk.wait(edit["task_id"])
    heard = time.time()
    [call] = desk.calls(edit["task_id"])
    await until("it is answered", lambda: call.status is not None)
    within(NOTICED, heard - call.time)
    assert (done["status"], done["charged"], call.status) == ("completed", "yes", 204)
    assert len(desk.looks(edit["task_id"])) <= 2
    assert desk.is_paid_once(edit["task_id"])


@tries
async def test_a_callback_that_is_lost_is_made_up_for_by_polling(desk: Desk) -> None:
    desk.emulator.fault(endpoint="callback", kind="refuse", times=4)
    edit = await desk.edit()
    done = await desk.wait(edit["task_id"])
    late = time.time() - desk.calls(edit["task_id"])[0].time
    assert [call.status for call in desk.calls(edit["task_id"])] == [None] * 4
    assert (done["status"], done["charged"]) == ("completed", "yes")
    within(60 / SPEED + NOTICED, late)
    assert len(desk.looks(edit["task_id"])) <= 2
    assert desk.is_paid_once(edit["task_id"])


@tries
async def test_a_callback_that_is_forged_changes_nothing(desk: Desk) -> None:
    others = desk.address()
    edit = await desk.edit()
    handle, secret = desk.address().split("/")[-2:]
    base, news = desk.address().removesuffix(f"/{handle}/{secret}"), {"id": edit["task_id"]}
    for forged in (
        f"{base}/{handle}/{'x' * 43}",
        f"{base}/edit-0123456789abcdef/{secret}",
        f"{base}/{handle}/{others.split('/')[-1]}",
        f"{base}/{others.split('/')[-2]}/{secret}",
        base,
    ):
        assert await post(forged, news) in (401, 404)
    await anyio.sleep(0.3)
    assert desk.looks(edit["task_id"]) == []
    done = await desk.wait(edit["task_id"])
    within(NOTICED, time.time() - desk.calls(edit["task_id"])[0].time)
    assert (done["status"], len(desk.looks(edit["task_id"])) <= 2) == ("completed", True)
    assert desk.is_paid_once(edit["task_id"])


async def test_a_callback_that_is_repeated_causes_no_further_poll(desk: Desk) -> None:
    desk.emulator.fault(endpoint="callback", kind="drop_after", times=3)
    edit = await desk.edit()
    done = await desk.wait(edit["task_id"])
    await until("it has called four times", lambda: len(desk.calls(edit["task_id"])) == 4)
    await until("all are answered", lambda: desk.calls(edit["task_id"])[-1].status == 204)
    await anyio.sleep(0.2)
    assert (done["status"], len(desk.looks(edit["task_id"])) <= 2) == ("completed", True)
    assert await desk.call("get_task", task_id=edit["task_id"]) == done
    assert desk.is_paid_once(edit["task_id"])


@tries
async def test_a_callback_that_is_quicker_than_the_submit_s_answer_is_heeded(desk: Desk) -> None:
    desk.emulator.fault(endpoint="submit", kind="delay", seconds=2)
    edit = await desk.edit()
    done = await desk.wait(edit["task_id"])
    within(NOTICED, time.time() - (desk.emulator.submits[-1].time + 2))
    [call] = desk.calls(done["task_id"])
    assert call.time - desk.emulator.submits[-1].time < 2
    assert (done["status"], done["charged"], call.status) == ("completed", "yes", 204)
    assert len(desk.looks(done["task_id"])) <= 2
    assert desk.is_paid_once(done["task_id"])


async def test_a_callback_that_comes_late_changes_nothing(desk: Desk) -> None:
    done = await desk.wait((await desk.edit())["task_id"])
    made = len(desk.looks(done["task_id"]))
    for status in ("completed", "failed"):
        assert await post(desk.address(), {"id": done["task_id"], "status": status}) == 204
    await anyio.sleep(0.3)
    assert await desk.call("get_task", task_id=done["task_id"]) == done
    assert len(desk.looks(done["task_id"])) == made
    assert desk.is_paid_once(done["task_id"])


@tries
@pytest.mark.thorough
async def test_a_flood_of_callbacks_changes_no_more_than_the_pace(desk: Desk) -> None:
    """Of strangers and of one who knows the secret, while the true one comes."""
    other = await desk.edit()
    await desk.wait(other["task_id"])
    desk.emulator.outcome(run_seconds=50.0)
    edit = await desk.edit()
    answers: Counter[tuple[bool, int]] = Counter()
    took: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_flood, desk.address(), other["task_id"], answers)
        tasks.start_soon(_ask_often, desk, other["task_id"], took)
        done = await desk.wait(edit["task_id"])
    assert sum(answers.values()) == 750
    assert {*answers} - {(knows, 503) for knows in (True, False)} == {
        (True, 204), (True, 429), (False, 404), (False, 429)
    }  # fmt: skip
    within(1, max(took))
    assert (done["task_id"], done["status"], done["charged"]) == (
        edit["task_id"], "completed", "yes"
    )  # fmt: skip
    assert len(desk.looks(edit["task_id"])) <= 4
    assert desk.is_paid_once(edit["task_id"])


async def _flood(address: str, task_id: str, answers: Counter[tuple[bool, int]]) -> None:
    """Some 250 callbacks a second, for three seconds."""
    forged = f"{address[:-43]}{'x' * 43}"

    async def one(knows: bool) -> None:
        status = await post(address if knows else forged, {"id": task_id, "status": "failed"})
        answers[knows, status] += 1

    async with anyio.create_task_group() as tasks:
        for number in range(750):
            tasks.start_soon(one, number % 2 == 0)
            if number % 5 == 4:
                await anyio.sleep(0.02)


async def _ask_often(desk: Desk, task_id: str, took: list[float]) -> None:
    for _ in range(15):
        began = anyio.current_time()
        assert (await desk.call("get_task", task_id=task_id))["status"] == "completed"
        took.append(anyio.current_time() - began)
        await anyio.sleep(0.2)


# --- submits of unknown outcome --------------------------------------------------------------


@tries
async def test_a_callback_reports_the_outcome_of_a_submit_whose_answer_was_lost(desk: Desk) -> None:
    desk.emulator.fault(endpoint="submit", kind="drop_after")
    edit = await desk.edit()
    assert (edit["status"], edit["charged"], edit["error"]["code"]) == (
        "unknown", "unknown", "outcome_unknown"
    )  # fmt: skip
    done = await desk.wait(edit["task_id"])
    task_id = desk.emulator.submits[-1].task_id or ""
    within(1 + NOTICED, time.time() - desk.calls(task_id)[0].time)  # read in the journal
    assert (done["task_id"], done["status"], done["charged"], done["error"]) == (
        task_id, "completed", "yes", None
    )  # fmt: skip
    assert await desk.call("get_task", task_id=edit["task_id"]) == done
    assert len(desk.looks(task_id)) <= 2
    assert desk.is_paid_once(task_id)


@pytest.mark.thorough
@pytest.mark.deadline(120)
@tries
async def test_when_a_server_is_killed_its_successor_is_called_about_all_it_sent(
    tmp_path: Path,
) -> None:
    """What was accepted, what may have been, and what was on the wire at that moment."""
    port, folder = free_port(), tmp_path / str(next(_numbers))  # a journal for each try
    async with played().serving() as emulator:
        emulator.outcome(run_seconds=6 * SPEED, times=0)
        books = Books(folder / "emulator.sqlite3")
        await _die_with_one_on_the_wire(emulator, port, folder)
        intents = {stage: books.intents(stage)[0] for stage in ("accepted", "unknown", "sending")}
        assert [intent["stage"] for intent in intents.values()] == [*intents]
        books.let_leases_run_out("sending")
        told: dict[str, dict[str, Any]] = {}

        async def wait(second: Desk, stage: str) -> None:
            told[stage] = await second.wait(intents[stage]["handle"])

        async with open_desk(emulator, port, folder) as second:
            async with anyio.create_task_group() as tasks:
                for stage in intents:
                    tasks.start_soon(wait, second, stage)
            within(1 + NOTICED, time.time() - emulator.callbacks[-1].time)
            done = [told[stage] for stage in intents]
            assert [(one["task_id"], one["status"], one["charged"]) for one in done] == [
                (submit.task_id, "completed", "yes") for submit in emulator.submits
            ]
            again = await second.edit("sending")
            assert (again["task_id"], again["duplicate_of_earlier_call"]) == (
                told["sending"]["task_id"], True
            )  # fmt: skip
        assert [call.status for call in emulator.callbacks] == [204] * 3
        assert (len(emulator.submits), emulator.ledger.charges) == (3, 3)
        assert max(emulator.queries.values()) <= 3  # a run longer than most, to the provider


async def _die_with_one_on_the_wire(emulator: Emulator, port: int, folder: Path) -> None:
    try:
        async with open_desk(emulator, port, folder) as first, anyio.create_task_group() as tasks:
            assert (await first.edit("accepted"))["status"] == "pending"
            emulator.fault(endpoint="submit", kind="drop_after")
            assert (await first.edit("unknown"))["status"] == "unknown"
            emulator.fault(endpoint="submit", kind="delay", seconds=20)
            tasks.start_soon(first.edit, "sending")
            await until("it is on the wire", lambda: len(emulator.submits) == 3)
            first.process.kill()
            await first.process.wait()
            tasks.cancel_scope.cancel()
    except* httpx2.TransportError:
        pass  # what the client still had open to the killed server


# --- several servers -------------------------------------------------------------------------


@pytest.mark.deadline(120)
@tries
@pytest.mark.thorough
async def test_a_server_that_is_not_called_itself_goes_on_counting_on_callbacks(
    tmp_path: Path,
) -> None:
    """Two over one journal: one is called, and tells the other through the journal."""
    port, folder = free_port(), tmp_path / str(next(_numbers))  # a journal for each try
    async with (
        played().serving() as emulator,
        open_desk(emulator, port, folder),
        open_desk(emulator, free_port(), folder, called_at=port) as other,
    ):
        looks = []
        for number in range(3):
            edit = await other.edit(f"Number {number}")
            assert (await other.wait(edit["task_id"]))["status"] == "completed"
            [call] = other.calls(edit["task_id"])
            within(1 + NOTICED, time.time() - call.time)
            looks.append(emulator.queries[edit["task_id"]])
    assert max(looks) <= 2
