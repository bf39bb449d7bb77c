"""One suite over every way to reach the server: four transports, two protocol eras.

Each answer must be complete as text alone and as structure alone, because half the clients show
the model only the one, the other half only the other.
"""

from __future__ import annotations

import base64
import random
import re
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final, get_args

import anyio
import jsonschema
import pytest
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, CallToolResult, TextContent
from PIL import Image

from tests.emulator_lab import Emulator
from tests.stage import environment, names_in
from wan25_mcp.editing.answers import EMULATOR_NOTE
from wan25_mcp.editing.arguments import MAX_SOURCE_CHARACTERS
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.hosting.bodies import MAX_BODY_BYTES
from wan25_mcp.polling.poller import FRESH_SECONDS
from wan25_mcp.provider.statuses import Status
from wan25_mcp.server import create_server
from wan25_mcp.settings import Settings

pytestmark = pytest.mark.anyio
WAYS: Final = ["memory", "stdio", "streamable-http", "sse"]
ERAS: Final = ["legacy", "auto"]  # 2025-11-25 and 2026-07-28
PAIRS: Final = [(way, era) for way in WAYS for era in ERAS]
SPEED: Final = 20.0


@dataclass
class Caller:
    """A client of the server, and the emulator behind it."""

    client: Client
    emulator: Emulator
    way: str
    era: str

    async def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """Call a tool; the structure of its answer, checked against the text."""
        result = await self.client.call_tool(tool, given)
        return checked(result)

    async def edit(self, prompt: str, **given: Any) -> dict[str, Any]:
        link = given.pop("image_urls", [self.emulator.sample_image_url()])
        return await self.call("edit_image", prompt=prompt, image_urls=link, **given)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(speed=SPEED, run_seconds=40, balance=1e6).serving() as emulator:
        yield emulator


@pytest.fixture(scope="module")
async def callers(emulator: Emulator) -> AsyncIterator[dict[tuple[str, str], Caller]]:
    """Everybody who calls, all connected at once to the one emulator."""
    async with AsyncExitStack() as stack:
        found = {}
        for way, era in PAIRS:
            directory = stack.enter_context(tempfile.TemporaryDirectory())
            values = {"WAN25_EMULATOR": emulator.base_url, "WAN25_DATA_DIR": directory}
            client = await stack.enter_async_context(WAY[way](values, era))
            found[way, era] = Caller(client, emulator, way, era)
        yield found


@pytest.fixture(params=PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
def caller(request: pytest.FixtureRequest, callers: dict[tuple[str, str], Caller]) -> Caller:
    """Each of them in turn."""
    return callers[request.param]


@pytest.fixture(autouse=True)
def clean(emulator: Emulator) -> None:
    emulator.faults.clear()
    emulator.outcomes.clear()


@asynccontextmanager
async def in_memory(values: dict[str, str], era: str) -> AsyncIterator[Client]:
    settings = Settings.from_mapping(values)
    async with (
        open_configured_editor(settings) as editor,
        Client(create_server(editor), mode=era) as client,
    ):
        yield client


@asynccontextmanager
async def over_stdio(values: dict[str, str], era: str) -> AsyncIterator[Client]:
    server = StdioServerParameters(
        command=sys.executable,
        args=["-W", "error", "-m", "wan25_mcp"],
        env=environment(**values),
    )
    async with Client(server, mode=era) as client:
        yield client


@asynccontextmanager
async def listening(values: dict[str, str], *arguments: str) -> AsyncIterator[str]:
    """A server over HTTP in a process of its own; its address."""
    command = [sys.executable, "-W", "error", "-m", "wan25_mcp", "serve", "--port", "0", *arguments]
    async with await anyio.open_process(command, env=environment(**values)) as process:
        assert process.stderr is not None
        told = b""
        with anyio.fail_after(20):
            while not (found := re.search(rb"Serving MCP at (\S+)\n", told)):
                told += await process.stderr.receive()
        try:
            yield found.group(1).decode()
        finally:
            process.terminate()
            with anyio.fail_after(10):
                await process.wait()


@asynccontextmanager
async def over_http(values: dict[str, str], era: str) -> AsyncIterator[Client]:
    async with (
        listening(values, "--transport", "streamable-http") as url,
        Client(url, mode=era) as client,
    ):
        yield client


@asynccontextmanager
async def over_sse(values: dict[str, str], era: str) -> AsyncIterator[Client]:
    async with (
        listening(values, "--transport", "sse") as url,
        Client(sse_client(url), mode=era) as client,
    ):
        yield client


WAY: Final[dict[str, Any]] = {
    "memory": in_memory,
    "stdio": over_stdio,
    "streamable-http": over_http,
    "sse": over_sse,
}


# --- complete alone --------------------------------------------------------------------------


def checked(result: CallToolResult) -> dict[str, Any]:
    """The structure of an answer, after finding each of its facts in the text."""
    [block] = result.content
    assert isinstance(block, TextContent)
    answer: dict[str, Any] = dict(result.structured_content or {})
    assert answer
    missing = [fact for fact in facts(answer) if fact not in block.text]
    assert not missing, f"not in the text: {missing}\n{block.text}"
    assert bool(result.is_error) == (answer["error"] is not None)
    assert answer["status"] in get_args(Status)
    assert answer["next_step"]
    assert EMULATOR_NOTE in block.text
    assert EMULATOR_NOTE in answer["next_step"]
    for word in ("Traceback", "pydantic", "httpx", "sqlalchemy", "emulator-key"):
        assert word not in block.text
    assert len(block.text) < 2500
    return answer


def facts(answer: dict[str, Any]) -> list[str]:
    """How each fact of the structure must read in the text."""
    usage, error = answer["usage"] or {}, answer["error"] or {}
    found = [
        answer["task_id"],
        f"Status: {answer['status']}",
        f"Charged: {answer['charged']}",
        answer["next_step"],
        answer["expires_at"],
        *answer["image_urls"],
        *answer["saved"],
        *(error.get(name) for name in ("code", "message", "request_id")),
        usage.get("billing_rule"),
        usage.get("user_group"),
    ]
    if answer["progress"] is not None:
        found.append(f"{answer['progress']} %")
    if answer["elapsed_seconds"] is not None:
        found.append(f"started {answer['elapsed_seconds']} s ago")
    if answer["estimated_seconds"] is not None:
        found.append(f"about {answer['estimated_seconds']:.12g} s in all")
    spent = [usage.get(name) for name in ("credits_reserved", "credits_used")]
    found += [f"{amount:.12g} credits" for amount in spent if amount is not None]
    if answer["duplicate_of_earlier_call"]:
        found.append("ame request as an earlier call")
    if error:
        found.append(error["fix"])
        found.append("can be retried" if error["retryable"] else "retrying unchanged will not help")
        if error["retry_after_seconds"] is not None:
            found.append(f"after {error['retry_after_seconds']:.12g} s")
    return [fact for fact in found if fact]


# --- the tools -------------------------------------------------------------------------------


async def test_three_tools_are_listed_with_everything_a_host_asks_for(caller: Caller) -> None:
    tools = (await caller.client.list_tools()).tools
    assert [tool.name for tool in tools] == ["edit_image", "get_task", "wait_for_task"]
    assert [tool.title for tool in tools] == ["Edit image", "Get edit status", "Wait for edit"]
    for tool in tools:
        jsonschema.Draft202012Validator.check_schema(tool.input_schema)
        assert tool.output_schema == tools[0].output_schema
        assert tool.output_schema is not None
        jsonschema.Draft202012Validator.check_schema(tool.output_schema)
        assert (tool.input_schema["type"], tool.output_schema["type"]) == ("object", "object")
        assert tool.description
        paid = tool.name == "edit_image"
        hints = tool.annotations
        assert hints is not None
        assert (
            hints.read_only_hint,
            hints.destructive_hint,
            hints.idempotent_hint,
            hints.open_world_hint,
        ) == (not paid, False, not paid, True)
    assert "Never call edit_image again to check progress" in str(tools[0].description)
    assert (tools[0].meta or {})["anthropic/searchHint"]
    assert (await caller.client.list_tools()).tools == tools


async def test_the_server_says_who_it_is_and_what_it_costs(caller: Caller) -> None:
    assert caller.client.server_info is not None
    assert caller.client.server_info.name == "wan25-mcp"
    assert (caller.client.server_info.website_url or "").startswith("https://")
    [icon] = caller.client.server_info.icons or []
    assert (icon.mime_type, icon.sizes) == ("image/png", ["48x48"])
    drawn = Image.open(BytesIO(base64.b64decode(icon.src.partition(",")[2])))
    assert (drawn.format, drawn.size) == ("PNG", (48, 48))
    assert len(icon.src) < 500  # it is in every answer of the newer protocol
    instructions = caller.client.instructions or ""
    assert "paid" in instructions
    assert EMULATOR_NOTE in instructions
    expected = {"legacy": "2025-11-25", "auto": "2026-07-28"}[caller.era]
    assert caller.client.protocol_version == expected


# --- the whole way ---------------------------------------------------------------------------


async def test_every_caller_starts_an_edit_waits_with_progress_and_is_told_the_whole(
    callers: dict[tuple[str, str], Caller], emulator: Emulator
) -> None:
    # All at once: each takes the seconds until the first look.
    before = emulator.ledger.charges
    all_have_started = Together(len(callers))
    async with anyio.create_task_group() as tasks:
        for caller in callers.values():
            tasks.start_soon(an_edit_is_told_the_whole_way, caller, all_have_started)
    assert emulator.ledger.charges == before + 2 * len(callers)


class Together:
    """Where so many wait for one another."""

    def __init__(self, count: int) -> None:
        self._missing, self._complete = count, anyio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


async def an_edit_is_told_the_whole_way(caller: Caller, all_have_started: Together) -> None:
    # The first poll comes after 2 s; then progress has risen, and the edit is done seconds later.
    caller.emulator.outcome(run_seconds=6 * SPEED)
    started = await caller.edit(f"Make it night, {caller.way}, {caller.era}", n=2)
    assert (started["status"], started["charged"], started["progress"]) == (
        "pending",
        "reserved",
        0,
    )
    assert started["usage"] == {
        "credits_reserved": 3.0,
        "credits_used": None,
        "billing_rule": "per_call",
        "user_group": "default",
    }
    task_id = started["task_id"]
    assert task_id in started["next_step"]
    heard: list[tuple[float, float | None, str | None]] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    still = checked(
        await caller.client.call_tool(
            "wait_for_task",
            {"task_id": task_id, "timeout_seconds": 2.8},
            progress_callback=hear,
        )
    )
    assert (still["status"], still["error"]) == ("processing", None)
    assert "wait_for_task" in still["next_step"]
    percents = [progress for progress, _, _ in heard]
    assert len(heard) >= 2
    assert percents == sorted(set(percents))
    assert all(total == 100 and message for _, total, message in heard)
    assert str(heard[-1][2]).startswith("processing, ")
    await all_have_started.wait()  # from here on a submit may meet the delay of a slow provider
    await a_slow_provider_is_answered_with_a_handle(caller)
    done = await caller.call("wait_for_task", task_id=task_id)
    assert await caller.call("get_task", task_id=task_id) == done
    assert (done["status"], done["charged"], done["progress"]) == ("completed", "yes", 100)
    assert len(done["image_urls"]) == 2
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", done["expires_at"])
    assert done["usage"]["credits_used"] == 3.0
    assert done["error"] is None


async def a_slow_provider_is_answered_with_a_handle(caller: Caller) -> None:
    """Within seconds; the handle leads to the task."""
    # The same run as every other edit here: whose submit comes first takes the fate.
    caller.emulator.outcome(run_seconds=6 * SPEED)
    caller.emulator.fault(endpoint="submit", kind="delay", seconds=3.3)
    # The promise is 4 s, and held to it in virtual time; here the machine may be busy.
    answer = await caller.edit(f"Slowly, {caller.way}, {caller.era}")
    assert (answer["status"], answer["charged"], answer["error"]) == ("submitting", "unknown", None)
    handle = answer["task_id"]
    assert handle in answer["next_step"]
    with anyio.fail_after(10):
        while answer["status"] == "submitting":
            answer = await caller.call("wait_for_task", task_id=handle, timeout_seconds=1)
    assert answer["task_id"] in caller.emulator.tasks


async def test_a_repeated_call_is_deduplicated_but_not_with_force_new(caller: Caller) -> None:
    link = [caller.emulator.sample_image_url()]
    before = caller.emulator.ledger.charges
    first = await caller.edit("Twice", image_urls=link)
    again = await caller.edit("Twice", image_urls=link)
    assert (again["task_id"], again["duplicate_of_earlier_call"]) == (first["task_id"], True)
    other = await caller.edit("Twice", image_urls=link, force_new=True)
    assert other["task_id"] != first["task_id"]
    assert not other["duplicate_of_earlier_call"]
    assert caller.emulator.ledger.charges == before + 2


async def test_a_wait_that_expires_is_no_error(caller: Caller) -> None:
    caller.emulator.outcome(stuck_at=40)
    started = await caller.edit("Never done")
    still = await caller.call("wait_for_task", task_id=started["task_id"], timeout_seconds=0.3)
    # It ends with a poll, so it has news, if the poll is quick.
    assert still["status"] in ("pending", "processing")
    assert (still["error"], still["charged"]) == (None, "reserved")
    assert "wait_for_task" in still["next_step"]
    assert "Do not call edit_image again" in still["next_step"]


# --- refusals and errors ---------------------------------------------------------------------

FIELDS = "prompt, image_urls, n, callback_url, model, force_new"
SECRET = "sk-live-SECRET0123456789"
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("edit_image", {}, "prompt is required. image_urls is required."),
    ("edit_image", {"prompt": "p", "image_urls": ["http://127.1/"]},
     "image_urls[0] points to an internal or reserved address."),
    ("edit_image", {"prompt": "p", "image_urls": ["https://a.example/b"], "n": "two"},
     "n must be a whole number from 1 to 4."),
    ("edit_image", {"prompt": "p", "image_urls": ["https://a.example/b"], "n": True},
     "n must be a whole number from 1 to 4."),
    ("edit_image", {"prompt": "p", "image_urls": ["https://a.example/b"], "size": SECRET},
     f"Unknown argument size. Valid arguments: {FIELDS}."),
    ("edit_image", {"prompt": "p", "image_urls": ["https://a.example/b"], "model": SECRET},
     "model must be wan2.5-image-to-image."),
    ("get_task", {}, "task_id is required."),
    ("get_task", {"task_id": f"a/{SECRET}"},
     "task_id must be a task id as edit_image returned it."),
    ("get_task", {"task_id": "t", "id": SECRET}, "Unknown argument id. Valid arguments: task_id."),
    ("wait_for_task", {"task_id": "t", "timeout_seconds": "soon"},
     "timeout_seconds must be a number of seconds, 0 or more."),
]  # fmt: skip


@pytest.mark.parametrize(("tool", "given", "message"), WRONG)
async def test_wrong_arguments_are_answered_in_our_words(
    caller: Caller, tool: str, given: dict[str, Any], message: str
) -> None:
    before = len(caller.emulator.submits)
    answer = await caller.call(tool, **given)
    assert answer["error"]["code"] == "invalid_request"
    assert answer["error"]["message"] == message
    assert not answer["error"]["retryable"]
    assert SECRET not in str(answer)
    paid = tool == "edit_image"
    names_a_task = given.get("task_id") == "t"  # of which such a call learns nothing
    assert answer["status"] == ("failed" if paid else "unknown")
    assert answer["charged"] == ("unknown" if names_a_task else "no")
    assert len(caller.emulator.submits) == before


REFUSALS = [
    (400, "invalid_request", "no"),
    (401, "authentication", "no"),
    (402, "insufficient_credits", "no"),
    (403, "permission", "no"),
    (404, "not_found", "no"),
    (413, "too_large", "no"),
    (422, "invalid_request", "no"),
]


async def test_every_refusal_of_the_provider_is_complete(caller: Caller) -> None:
    for status, code, charged in REFUSALS:
        caller.emulator.fault(
            endpoint="submit", kind="status", code=status, message="Said so", param="n"
        )
        answer = await caller.edit(f"Refused {status}")
        assert (answer["task_id"], answer["status"], answer["charged"]) == (None, "failed", charged)
        assert answer["error"]["code"] == code
        assert "Said so [n]" in answer["error"]["message"]
        assert answer["error"]["request_id"]


async def test_a_long_wait_asked_for_is_reported_in_seconds(caller: Caller) -> None:
    caller.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=3600)
    answer = await caller.edit("Too often")
    assert answer["charged"] == "no"
    assert answer["error"]["retryable"]
    assert answer["error"]["retry_after_seconds"] == 3600


async def test_an_unknown_outcome_says_what_to_do_and_is_not_repeated(caller: Caller) -> None:
    link = [caller.emulator.sample_image_url()]
    caller.emulator.fault(endpoint="submit", kind="drop_after")
    before = len(caller.emulator.submits)
    first = await caller.edit("Lost", image_urls=link)
    assert (first["status"], first["charged"]) == ("unknown", "unknown")
    assert first["error"]["code"] == "outcome_unknown"
    assert "Check recent tasks" in first["next_step"]
    again = await caller.edit("Lost", image_urls=link)
    assert (again["task_id"], again["charged"]) == (first["task_id"], "unknown")
    assert len(caller.emulator.submits) == before + 1
    assert (await caller.call("get_task", task_id=first["task_id"]))["charged"] == "unknown"


FAILURES: Final[list[tuple[dict[str, Any], str]]] = [
    ({"fail": "content_policy_violation", "message": "Not this."}, "failed"),
    ({"fail": "a_code_of_next_year"}, "failed"),
    ({"cancelled": True}, "cancelled"),
    ({"images": 0}, "completed"),
]


async def test_every_failure_of_a_task_is_complete(
    callers: dict[tuple[str, str], Caller], emulator: Emulator
) -> None:
    # Everybody's edits at once: a task is polled again only after seconds.
    started = []
    for fate, status in FAILURES:
        for caller in callers.values():
            emulator.outcome(run_seconds=0.01, **fate)
            edit = await caller.edit(f"Fails {fate}, {caller.way}, {caller.era}")
            started.append((caller, edit["task_id"], status))
    await anyio.sleep(FRESH_SECONDS)
    for caller, task_id, status in started:
        answer = await caller.call("get_task", task_id=task_id)
        assert answer["error"] is not None
        assert (answer["status"], answer["charged"]) == (status, "no")
        assert answer["task_id"] == task_id


async def test_an_unknown_task_is_an_error_and_an_unknown_handle_is_not_said_to_be_free(
    caller: Caller,
) -> None:
    for task_id, charged in (
        ("task-unified-1-none", "no"),
        ("edit-0000000000000000", "unknown"),  # another journal may know it
    ):
        for tool in ("get_task", "wait_for_task"):
            answer = await caller.call(tool, task_id=task_id)
            assert answer["error"]["code"] == "not_found"
            assert (answer["status"], answer["charged"]) == ("unknown", charged)


async def test_a_failed_poll_keeps_what_was_known(
    callers: dict[tuple[str, str], Caller], emulator: Emulator
) -> None:
    started = {}
    for pair, caller in callers.items():
        emulator.outcome(run_seconds=3600.0 * SPEED)
        started[pair] = await caller.edit(f"Look away, {pair}")
    await anyio.sleep(FRESH_SECONDS)
    # For all polls: the servers make some of their own.
    emulator.fault(endpoint="query", kind="html", code=502, times=0)
    for pair, caller in callers.items():
        task_id = started[pair]["task_id"]
        answer = await caller.call("get_task", task_id=task_id)
        assert (answer["task_id"], answer["charged"]) == (task_id, "reserved")
        assert answer["status"] in ("pending", "processing")
        assert answer["error"]["code"] == "service_error"
        assert "Do not call edit_image again" in answer["next_step"]


async def test_an_unknown_tool_is_refused_and_the_connection_goes_on(caller: Caller) -> None:
    result: Any = None
    try:
        result = await caller.client.call_tool("delete_everything", {})
    except Exception as error:  # noqa: BLE001  the SDK raises it in one era, returns it in the other
        assert "delete_everything" in str(error)  # noqa: PT017
    else:
        assert result.is_error
        assert "delete_everything" in str(result.content)
    assert (await caller.call("get_task", task_id="task-1"))["error"]["code"] == "not_found"


async def test_many_calls_at_once_are_all_answered(caller: Caller) -> None:
    before = caller.emulator.ledger.charges
    link = [caller.emulator.sample_image_url()]
    answers: list[dict[str, Any]] = []

    async def one(number: int) -> None:
        answers.append(await caller.edit(f"Number {number % 5}", image_urls=link))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(one, number)
    assert len({answer["task_id"] for answer in answers}) == 5
    assert caller.emulator.ledger.charges == before + 5


# --- images inside the call ------------------------------------------------------------------


# A second or more each, so not in every way: one for each reader of messages.
WITH_A_LARGE_MESSAGE: Final = [
    ("stdio", "auto"), ("streamable-http", "legacy"), ("streamable-http", "auto"),
    ("sse", "legacy"),
]  # fmt: skip


@pytest.mark.parametrize(
    "caller",
    [
        WITH_A_LARGE_MESSAGE[0],
        *(pytest.param(pair, marks=pytest.mark.thorough) for pair in WITH_A_LARGE_MESSAGE[1:]),
    ],
    ids="-".join,
    indirect=True,
)
async def test_an_image_of_10_megabytes_comes_through_inside_the_call(caller: Caller) -> None:
    before = len(caller.emulator.submits)
    with anyio.fail_after(50):
        answer = await caller.edit("Make it night", image_urls=[data_uri(9_900_000)])
        assert answer["error"] is None
        answer = await caller.call("wait_for_task", task_id=answer["task_id"], timeout_seconds=40)
    assert (answer["status"], answer["charged"]) == ("completed", "yes")
    [submit] = caller.emulator.submits[before:]
    assert submit.body["image_urls"][0].startswith(caller.emulator.files_url)


@pytest.mark.parametrize("caller", WITH_A_LARGE_MESSAGE[1:], ids="-".join, indirect=True)
async def test_an_image_larger_than_the_schema_says_is_refused_by_the_tool(caller: Caller) -> None:
    before = len(caller.emulator.submits)
    with anyio.fail_after(30):
        answer = await caller.edit(
            "Make it night", image_urls=["data:image/png;base64," + "A" * MAX_SOURCE_CHARACTERS]
        )
    assert answer["error"]["code"] == "invalid_request"
    assert str(MAX_SOURCE_CHARACTERS) in answer["error"]["message"]
    assert answer["charged"] == "no"
    assert caller.emulator.submits[before:] == []


@pytest.mark.parametrize("caller", [("streamable-http", "auto")], ids="-".join, indirect=True)
async def test_a_message_too_large_to_be_read_is_refused_with_limit_and_remedy(
    caller: Caller,
) -> None:
    with anyio.fail_after(30), pytest.raises(MCPError) as refused:
        await caller.edit("Make it night", image_urls=["data:," + "A" * MAX_BODY_BYTES])
    assert "58 MB" in str(refused.value)
    assert "https://" in str(refused.value)
    assert (await caller.call("get_task", task_id="task-1"))["error"]["code"] == "not_found"


def data_uri(size: int) -> str:
    """A picture of about that many bytes that nothing makes smaller."""
    side = int((size / 3) ** 0.5)
    image = Image.frombytes("RGB", (side, side), random.Random(1).randbytes(3 * side * side))
    body = BytesIO()
    image.save(body, "PNG", compress_level=0)
    return "data:image/png;base64," + base64.b64encode(body.getvalue()).decode()


# --- resources -------------------------------------------------------------------------------


async def test_recent_edits_are_found_without_their_ids(caller: Caller) -> None:
    started = await caller.edit("Find me again")
    read = await caller.client.read_resource("wan25://tasks")
    assert started["task_id"] in str(read.contents[0])
    one = await caller.client.read_resource(f"wan25://tasks/{started['task_id']}")
    assert '"status":"p' in str(one.contents[0]).replace("\\", "")


@pytest.mark.parametrize(
    "uri",
    [
        "wan25://nothing",
        "wan25://tasks/never-existed",
        "wan25://tasks/edit-0123456789abcdef",
        "wan25://tasks/a%2Fb",
        "wan25://tasks/never-existed/images/1",
        "wan25://tasks/never-existed/images/9",
    ],
)
async def test_a_resource_that_does_not_exist_is_the_specified_error(
    caller: Caller, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MCPError) as refused:
        await caller.client.read_resource(uri)
    assert refused.value.error.code == INVALID_PARAMS
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_prompt_that_does_not_exist_is_the_specified_error(
    caller: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(MCPError) as refused:
        await caller.client.get_prompt("nothing")
    assert refused.value.error.code == INVALID_PARAMS
    assert not [record for record in caplog.records if record.exc_info]


# --- without a key ---------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("key", ["", "${WAN25_API_KEY}"])
async def test_without_a_key_tools_are_listed_and_a_call_says_how_to_set_one(
    era: str, key: str, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        values = {"WAN25_API_KEY": key, "WAN25_DATA_DIR": str(tmp_path)}
        client = await stack.enter_async_context(in_memory(values, era))
        assert len((await client.list_tools()).tools) == 3
        for tool, given in (
            ("edit_image", {"prompt": "p", "image_urls": ["https://a.example/b"]}),
            ("get_task", {"task_id": "t"}),
        ):
            result = await client.call_tool(tool, given)
            assert result.is_error
            for told in (str(result.content), str(result.structured_content)):
                assert "missing_api_key" in told
                assert "WAN25_API_KEY" in told
                assert "wan25-mcp serve --emulator" in told
                assert "EMULATOR:" not in told
    assert names_in(tmp_path) == []
