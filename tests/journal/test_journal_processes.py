"""Two server processes over one journal are one server, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import httpx2
import pytest

from tests.emulator_lab import Emulator
from tests.journal.conftest import empty_place
from tests.journal.processes import (
    Books,
    Server,
    charges,
    listening,
    serving,
    submits,
    until,
)
from tests.stage import KEY, PICTURE, environment, tries, within

pytestmark = pytest.mark.anyio
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(check_images=False, run_seconds=600, balance=1e6).serving() as emulator:
        yield emulator


@dataclass(frozen=True)
class Shop:
    """A provider, a journal, and how server processes come to know of both."""

    emulator: Emulator
    place: Path | str
    values: dict[str, str]

    @property
    def books(self) -> Books:
        return Books(self.place)


def shop_of(emulator: Emulator, place: Path | str) -> Shop:
    journal = (
        {"WAN25_DATABASE_URL": place}
        if isinstance(place, str)
        else {"WAN25_DATA_DIR": str(place.parent)}
    )
    values = {"WAN25_BASE_URL": emulator.base_url, "WAN25_API_KEY": KEY, **journal}
    return Shop(emulator, place, values)


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)]
)
def shop(
    request: pytest.FixtureRequest,
    emulator: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Shop:
    if request.param == "sqlite":
        return shop_of(emulator, tmp_path_factory.mktemp("data") / "journal.sqlite3")
    return shop_of(emulator, empty_place(request.getfixturevalue("postgres")))


@pytest.fixture(scope="module")
async def pair(shop: Shop) -> AsyncIterator[tuple[Server, Server]]:
    """Two server processes over one journal."""
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(serving(shop.values)) for _ in range(2)]
        yield a, b


@pytest.fixture
def prompt(emulator: Emulator) -> Iterator[str]:
    """Content of this test's own."""
    yield f"Make it night {next(_numbers)}"
    emulator.faults.clear()
    emulator.outcomes.clear()


async def both(pair: tuple[Server, Server], prompt: str, times: int = 1) -> list[dict[str, Any]]:
    """The same call to both at the same moment; all answers."""
    sent = [(server, await server.send_edit(prompt)) for _ in range(times) for server in pair]
    return [await server.answer(number) for server, number in sent]


@pytest.mark.parametrize("seconds", [0.0, 1.0])
async def test_identical_calls_at_the_same_moment_make_one_submit(
    shop: Shop, pair: tuple[Server, Server], prompt: str, seconds: float
) -> None:
    shop.emulator.fault(endpoint="submit", kind="delay", seconds=seconds)
    answers = await both(pair, prompt, times=3)
    [task_id] = charges(shop.emulator, prompt)
    assert [answer["task_id"] for answer in answers] == [task_id] * 6
    assert {answer["status"] for answer in answers} == {"pending"}
    assert {answer["charged"] for answer in answers} == {"reserved"}
    assert sorted(answer["duplicate_of_earlier_call"] for answer in answers) == [
        False,
        *[True] * 5,
    ]
    assert len(submits(shop.emulator, prompt)) == 1


async def test_a_later_call_to_the_other_is_deduplicated_and_says_so_unless_it_is_forced(
    shop: Shop, pair: tuple[Server, Server], prompt: str
) -> None:
    a, b = pair
    first = await a.edit(prompt)
    second = await b.edit(prompt)
    assert second == first | {
        "duplicate_of_earlier_call": True,
        "progress": second["progress"],
        "status": second["status"],
    }
    assert charges(shop.emulator, prompt) == [first["task_id"]]
    forced = await b.edit(prompt, force_new=True)
    assert forced["duplicate_of_earlier_call"] is False
    assert charges(shop.emulator, prompt) == [first["task_id"], forced["task_id"]]
    assert (await a.edit(prompt))["task_id"] == forced["task_id"]


def _that_differs(of_resource: Mapping[str, Any]) -> dict[str, Any]:
    """A resource proposes no wait, and time passes."""
    return {name: of_resource[name] for name in ("progress", "next_step", "elapsed_seconds")}


@pytest.mark.thorough
async def test_a_handle_from_one_leads_to_the_task_in_the_other(
    shop: Shop, pair: tuple[Server, Server], prompt: str
) -> None:
    a, b = pair
    await a.resource("wan25://tasks")  # what is imported at first use is no part of an answer
    shop.emulator.fault(endpoint="submit", kind="delay", seconds=5)
    # That this takes less than 4 s is held in virtual time; here it precedes the provider's answer.
    submitting = await a.edit(prompt)
    handle = submitting["task_id"]
    assert (submitting["status"], submitting["charged"]) == ("submitting", "unknown")
    assert handle.startswith("edit-")
    seen = await b.call("get_task", task_id=handle)
    assert seen == submitting | {"elapsed_seconds": seen["elapsed_seconds"]}
    of_resource = await b.resource(f"wan25://tasks/{handle}")
    assert of_resource == submitting | _that_differs(of_resource)
    waited = await b.call("wait_for_task", task_id=handle, timeout_seconds=4)
    [task_id] = charges(shop.emulator, prompt)
    assert (waited["task_id"], waited["charged"], waited["error"]) == (task_id, "reserved", None)
    for server in pair:
        for name in (handle, task_id):
            assert (await server.call("get_task", task_id=name))["task_id"] == task_id
    assert (await b.edit(prompt))["task_id"] == task_id
    assert len(submits(shop.emulator, prompt)) == 1


async def test_a_refusal_in_one_does_not_block_the_other(
    shop: Shop, pair: tuple[Server, Server], prompt: str
) -> None:
    a, b = pair
    shop.emulator.fault(endpoint="submit", kind="status", code=402)
    refused = await a.edit(prompt)
    assert (refused["status"], refused["charged"], refused["error"]["code"]) == (
        "failed",
        "no",
        "insufficient_credits",
    )
    made = await b.edit(prompt)
    assert charges(shop.emulator, prompt) == [made["task_id"]]


async def test_an_unknown_outcome_in_one_is_unknown_in_the_other_and_not_sent_again(
    shop: Shop, pair: tuple[Server, Server], prompt: str
) -> None:
    a, b = pair
    shop.emulator.fault(endpoint="submit", kind="drop_after")
    lost = await a.edit(prompt)
    assert (lost["status"], lost["charged"], lost["error"]["code"]) == (
        "unknown",
        "unknown",
        "outcome_unknown",
    )
    assert await b.edit(prompt) == lost | {"duplicate_of_earlier_call": True}
    assert len(submits(shop.emulator, prompt)) == 1


async def test_all_ways_to_list_edits_report_the_same(
    shop: Shop, pair: tuple[Server, Server], prompt: str
) -> None:
    a, b = pair
    before = datetime.now(UTC)
    made = await a.edit(prompt, n=2)
    shop.emulator.fault(endpoint="submit", kind="status", code=403)
    await b.edit(f"{prompt}, in snow")
    listed = await a.resource("wan25://tasks")
    assert await b.resource("wan25://tasks") == listed
    denied, accepted = listed["tasks"][:2]
    assert (datetime.fromisoformat(accepted["created_at"]) - before).total_seconds() < 10
    assert accepted == {
        "task_id": made["task_id"],
        "status": "pending",
        "created_at": accepted["created_at"],
        "prompt": prompt,
        "n": 2,
        "credits": 3.0,
        "charged": "reserved",
        "image_urls": [],
        "saved": [],
        "expires_at": None,
    }
    assert denied == accepted | {
        "task_id": None,
        "status": "failed",
        "created_at": denied["created_at"],
        "prompt": f"{prompt}, in snow",
        "n": 1,
        "credits": 0.0,
        "charged": "no",
    }
    task_id = made["task_id"]
    seen = await a.call("get_task", task_id=task_id)
    of_resource = await b.resource(f"wan25://tasks/{task_id}")
    assert of_resource == seen | _that_differs(of_resource)

    command = [sys.executable, "-m", "wan25_mcp", "tasks", "--limit", "2"]
    with anyio.fail_after(20):
        reported = await anyio.run_process(command, env=environment(**shop.values))
    lines = [line.split("  ") for line in reported.stdout.decode().splitlines()]
    assert [[part.strip() for part in line if part.strip()][1:] for line in lines] == [
        ["failed", "0 credits (no)", "-", f"{prompt}, in snow"],
        ["pending", "3 credits (reserved)", task_id, prompt],
    ]


# --- with processes of their own -------------------------------------------------------------


PLACES = pytest.mark.parametrize(
    "own_place",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)],
    indirect=True,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def own_place(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "journal.sqlite3"
    return empty_place(request.getfixturevalue("postgres"))


async def test_the_limit_holds_across_processes_under_calls_at_the_same_moment(
    own_place: Path | str,
) -> None:
    async with Emulator(check_images=False, run_seconds=600).serving() as emulator:
        values = shop_of(emulator, own_place).values | {"WAN25_CREDIT_LIMIT": "9"}
        async with serving(values) as a, serving(values) as b:
            await a.edit("the first, which tells the price")
            sent = [
                (server, await server.send_edit(f"{number} {server.pid}"))
                for number in range(5)
                for server in (a, b)
            ]
            answers = [await server.answer(number) for server, number in sent]
        outcomes = [(answer["error"] or {"code": "made"})["code"] for answer in answers]
        assert sorted(outcomes) == ["credit_limit"] * 5 + ["made"] * 5
        assert {a["charged"] for a in answers if a["error"]} == {"no"}
        assert (len(emulator.submits), emulator.ledger.reserved_total) == (6, 9)


@PLACES
async def test_the_limit_holds_across_processes_that_do_not_know_the_price(
    own_place: Path | str,
) -> None:
    """It is four times what is assumed; each call is made again until the limit stops it."""
    async with Emulator(check_images=False, run_seconds=600, price=6.0).serving() as emulator:
        values = shop_of(emulator, own_place).values | {"WAN25_CREDIT_LIMIT": "15"}
        codes: set[str] = set()
        async with serving(values) as a, serving(values) as b:
            for _ in range(3):
                sent = [
                    (server, await server.send_edit(f"{number} {server.pid}"))
                    for number in range(5)
                    for server in (a, b)
                ]
                answers = [await server.answer(number) for server, number in sent]
                codes |= {answer["error"]["code"] for answer in answers if answer["error"]}
        assert "credit_limit" in codes <= {"credit_limit", "price_unknown"}
        assert (len(emulator.submits), emulator.ledger.reserved_total) == (2, 12)


@pytest.mark.thorough
@PLACES
async def test_tasks_of_servers_that_are_gone_are_followed_by_the_next_without_being_asked(
    own_place: Path | str,
) -> None:
    """Once someone lists its tools."""
    async with Emulator(check_images=False, run_seconds=0.1).serving() as emulator:
        shop = shop_of(emulator, own_place)
        async with serving(shop.values) as stopped, serving(shop.values) as killed:
            ids = {(await stopped.edit("night"))["task_id"], (await killed.edit("snow"))["task_id"]}
            await stopped.stop()
            await killed.kill()
        shop.books.execute(
            "UPDATE wan25_account_tasks SET seen_at = seen_at - 120"
        )  # two minutes pass
        async with serving(shop.values) as next_one:
            assert emulator.reads == []
            await next_one.ask("tools/list")

            def kept() -> list[dict[str, Any]]:
                ended = "SELECT task_id, status, answer FROM wan25_account_tasks WHERE settled = 1"
                return shop.books.rows(ended)

            await until("their ends are kept", lambda: len(kept()) == 2)
            assert {(row["task_id"], row["status"]) for row in kept()} == {
                (task_id, "completed") for task_id in ids
            }
            for row in kept():
                answer = await next_one.call("get_task", task_id=row["task_id"])
                assert answer["image_urls"] == json.loads(row["answer"])["results"] != []
                assert answer["charged"] == "yes"
    assert emulator.queries == dict.fromkeys(ids, 1)


@pytest.mark.parametrize(
    ("seconds", "stage"),
    [(1.5, "accepted"), pytest.param(30.0, "unknown", marks=pytest.mark.thorough)],
)
@pytest.mark.deadline(120)
@tries
async def test_a_server_that_is_stopped_waits_five_seconds_for_the_id_of_what_is_on_the_wire(
    tmp_path: Path, seconds: float, stage: str
) -> None:
    async with Emulator(check_images=False, run_seconds=600).serving() as emulator:
        emulator.fault(endpoint="submit", kind="delay", seconds=seconds, times=2)
        folder = tmp_path / str(next(_numbers))  # a journal for each try
        folder.mkdir()
        shop = shop_of(emulator, folder / "journal.sqlite3")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_stopped_on_the_wire, shop, "by its stdin", stage)
            tasks.start_soon(_stopped_on_the_wire, shop, "by SIGTERM", stage)
        async with serving(shop.values) as another:
            for prompt in ("by its stdin", "by SIGTERM"):
                [task_id], [intent] = charges(emulator, prompt), shop.books.intents(prompt)
                answer = await another.edit(prompt)
                assert (answer["task_id"], answer["status"], answer["charged"]) == (
                    (task_id, "pending", "reserved")
                    if stage == "accepted"
                    else (intent["handle"], "unknown", "unknown")
                )
                assert answer["duplicate_of_earlier_call"] is True
    assert len(emulator.submits) == 2


async def _stopped_on_the_wire(shop: Shop, prompt: str, stage: str) -> None:
    async with serving(shop.values) as server:
        await server.send_edit(prompt)
        await until("it is accepted", lambda: charges(shop.emulator, prompt))
        began = anyio.current_time()
        await (server.stop() if prompt == "by its stdin" else server.terminate())
        within(8, anyio.current_time() - began)
    [row] = shop.books.intents(prompt)
    assert row["stage"] == stage


# --- a client that sends a call again when it has waited long enough -------------------------


@dataclass
class ImpatientClient:
    """What CrewAI's client does: the same call with a new id, when the answer took too long."""

    http: httpx2.AsyncClient
    url: str
    numbers: Iterator[int]
    session: str = ""

    async def greet(self) -> None:
        me = {"name": "a framework", "version": "1"}
        answer = await self._post(
            "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": me}
        )
        self.session = answer.headers["mcp-session-id"]
        await self._send({"method": "notifications/initialized"})

    async def call(self, tool: str, given: dict[str, Any], *, patience: float) -> dict[str, Any]:
        answer = await self._post("tools/call", {"name": tool, "arguments": given}, patience)
        [data] = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
        reported: dict[str, Any] = json.loads(data)["result"]["structuredContent"]
        return reported

    async def _post(
        self, method: str, params: dict[str, Any], patience: float = 10
    ) -> httpx2.Response:
        return await self._send(
            {"id": next(self.numbers), "method": method, "params": params}, patience
        )

    async def _send(self, message: dict[str, Any], patience: float = 10) -> httpx2.Response:
        headers = {"Accept": "application/json, text/event-stream"}
        if self.session:
            headers |= {"mcp-session-id": self.session, "mcp-protocol-version": "2025-11-25"}
        with anyio.fail_after(patience):
            answer = await self.http.post(
                self.url, json={"jsonrpc": "2.0", **message}, headers=headers
            )
        assert answer.is_success, answer.text
        return answer


async def test_a_client_that_sends_again_on_timeout_is_charged_once(
    emulator: Emulator, prompt: str, tmp_path: Path
) -> None:
    shop = shop_of(emulator, tmp_path / "journal.sqlite3")
    emulator.fault(endpoint="submit", kind="delay", seconds=5)
    call = {"prompt": prompt, "image_urls": [PICTURE], "n": 1}
    async with listening(shop.values) as url, httpx2.AsyncClient(timeout=20) as http:
        client = ImpatientClient(http, url, itertools.count(1))
        await client.greet()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await client.call("edit_image", call, patience=1)
        answer = await client.call("edit_image", call, patience=5)
        assert answer["duplicate_of_earlier_call"] is True
        waited = await client.call(
            "wait_for_task", {"task_id": answer["task_id"], "timeout_seconds": 3}, patience=10
        )
    assert charges(shop.emulator, prompt) == [waited["task_id"]]
    assert len(submits(shop.emulator, prompt)) == 1
