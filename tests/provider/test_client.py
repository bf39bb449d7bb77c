"""One exchange each: what was sent, what came back, and what it says about the money.

The rows of the money table, counted in the emulator: a submit is never answered with "not charged"
while the emulator has charged it.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.emulator_lab.faults import Fault
from tests.stage import KEY, PICTURE, T0, open_stage, request
from wan25_mcp.errors import (
    InvalidRequest,
    OutcomeUnknown,
    ReadFailed,
    Refused,
    Unreachable,
    Wan25Error,
)
from wan25_mcp.errors.codes import CODES
from wan25_mcp.provider.client import Client
from wan25_mcp.provider.dashboard import with_dashboard
from wan25_mcp.provider.exchange import MAX_BODY_BYTES, USER_AGENT, open_http
from wan25_mcp.provider.models import Balance, CreditReport, Usage
from wan25_mcp.provider.protocol import Provider

pytestmark = pytest.mark.anyio
CHECK_DASHBOARD = CODES["outcome_unknown"].fix


# --- what is sent ----------------------------------------------------------------------------


async def test_a_submit_sends_the_documented_request(no_blocking: None) -> None:
    async with open_stage() as stage:
        task = await stage.client.submit(request(n=2), idempotency_key="edit-1")
        [submit] = stage.emulator.submits
    assert submit.body == {
        "prompt": "Make it night",
        "image_urls": [PICTURE],
        "n": 2,
        "model": "wan2.5-image-to-image",
    }
    assert submit.headers["authorization"] == f"Bearer {KEY}"
    assert submit.headers["content-type"] == "application/json"
    assert submit.headers["user-agent"] == USER_AGENT
    assert submit.headers["idempotency-key"] == "edit-1"
    assert (task.status, task.progress, task.created) == ("pending", 0, T0)
    assert task.usage == Usage(credits_reserved=3, billing_rule="per_call", user_group="default")
    assert stage.emulator.ledger.charges == 1


@pytest.mark.parametrize(
    ("base", "expected"),
    [
        ("https://a.example/apiv1", "https://a.example/apiv1/v1/images/generations"),
        ("https://a.example/apiv1/", "https://a.example/apiv1/v1/images/generations"),
        ("https://a.example", "https://a.example/v1/images/generations"),
        ("http://a.example:8080/x/y", "http://a.example:8080/x/y/v1/images/generations"),
    ],
)
async def test_the_path_of_the_base_url_is_kept(base: str, expected: str) -> None:
    seen: list[str] = []

    def answer(asked: httpx2.Request) -> httpx2.Response:
        seen.append(str(asked.url))
        return ok({"id": "t"})

    async with one_answer(answer, base) as client:
        await client.submit(request(), idempotency_key="k")
    assert seen == [expected]


def ok(body: Any, status: int = 200, **headers: str) -> httpx2.Response:
    return httpx2.Response(status, json=body, headers=headers)


@asynccontextmanager
async def one_answer(answer: Any, base: str = "https://api.example/apiv1") -> AsyncIterator[Client]:
    """A client to which every request is answered so; httpx2's own transport for that."""
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as http:
        yield Client(http, base_url=base, key=SecretStr(KEY))


async def submit(client: Client) -> Wan25Error:
    with pytest.raises(Wan25Error) as failed:
        await client.submit(request(), idempotency_key="k")
    return failed.value


def told(error: Wan25Error) -> tuple[type[Wan25Error], str, str, bool]:
    return type(error), error.code, error.charged, error.retryable


# --- the money table -------------------------------------------------------------------------

REFUSALS = [
    (400, "invalid_request", "The provider rejected the request as invalid (HTTP 400): "
     "Invalid request format [n]."),
    (401, "authentication", "The provider did not accept the API key (HTTP 401): "
     "Invalid request format [n]."),
    (402, "insufficient_credits", "The account does not have enough credits for this edit "
     "(HTTP 402): Invalid request format [n]."),
    (403, "permission", "This API key may not do that (HTTP 403): Invalid request format [n]."),
    (404, "not_found", "The provider did not find what was requested (HTTP 404): "
     "Invalid request format [n]."),
    (413, "too_large", "The request is too large (HTTP 413): Invalid request format [n]."),
    (422, "invalid_request", "The provider could not process the request (HTTP 422): "
     "Invalid request format [n]."),
    (418, "refused", "The provider refused the request (HTTP 418): Invalid request format [n]."),
]  # fmt: skip


@pytest.mark.parametrize(("status", "code", "message"), REFUSALS)
async def test_a_refusal_costs_nothing_and_is_not_worth_repeating(
    status: int, code: str, message: str
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(
            Fault("submit", "status", status, message="Invalid request format", param="n")
        )
        error = await submit(stage.client)
        assert told(error) == (Refused, code, "no", False)
        assert error.message == message
        assert error.request_id
        assert (len(stage.emulator.submits), stage.emulator.ledger.charges) == (1, 0)


@pytest.mark.parametrize(
    ("status", "fault", "wait"),
    [
        (429, {"retry_after": 7}, 7.0),
        (429, {"retry_after": "0"}, 0.0),
        (429, {"fallback_suggestion": "retry after 60 seconds"}, 60.0),
        (429, {"retry_after": 5, "fallback_suggestion": "retry after 60 seconds"}, 5.0),
        (429, {"retry_after": "soon", "fallback_suggestion": "retry after 60 seconds"}, 60.0),
        (429, {"retry_after": "-5"}, None),
        (429, {"retry_after": "99999999"}, 86400.0),
        (429, {"retry_after": "1e5"}, None),
        (429, {"retry_after": "\u00b2"}, None),
        (503, {}, None),
        (503, {"fallback_suggestion": "retry after 30 seconds"}, 30.0),
        (503, {"retry_after": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0.0),
        (503, {"retry_after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 86400.0),
        (503, {"retry_after": "Fri, 31 Dec 9999 23:59:59 -0000"}, 86400.0),
        (503, {"retry_after": "Mon, 01 Jan 0100 00:00:00 -0000"}, 0.0),
        (503, {"retry_after": "Mon, 01 Jan 2024 00:00:00 +99999999999999999999"}, None),
        (503, {"retry_after": "Mon, 99 Jan 2024 00:00:00 GMT"}, None),
    ],
)
async def test_asked_to_wait_is_not_charged_and_says_how_long(
    status: int, fault: dict[str, Any], wait: float | None
) -> None:
    async with open_stage() as stage:
        kind = "rate_limit_error" if status == 429 else "service_unavailable_error"
        plain = {"body": {"error": {"code": status, "message": "Later", "type": kind}}}
        words = fault if "fallback_suggestion" in fault else plain | fault
        stage.emulator.fault(endpoint="submit", kind="status", code=status, **words)
        error = await submit(stage.client)
        code = "rate_limit" if status == 429 else "service_unavailable"
        assert told(error) == (Refused, code, "no", True)
        assert error.retry_after_seconds == wait
        assert stage.emulator.ledger.charges == 0


async def test_a_date_to_wait_for_is_reported_in_seconds() -> None:
    async with open_stage() as stage:
        date = formatdate(time.time() + 20, usegmt=True)
        stage.emulator.fault(endpoint="submit", kind="status", code=503, retry_after=date)
        asked = (await submit(stage.client)).retry_after_seconds
    assert asked is not None
    assert 17 <= asked <= 20


@given(st.text(st.characters(max_codepoint=255), max_size=60) | st.from_regex(
    r"\A(Mon|Sun), [0-9]{1,3} (Jan|Dec) [0-9]{1,5} [0-9]{2}:[0-9]{2}:00 (GMT|[-+][0-9]{4,6})\Z"
))  # fmt: skip
def test_any_wait_header_is_a_number_of_seconds_or_none(value: str) -> None:
    headers = [(b"retry-after", value.encode("latin-1"))]
    naked = {"message": "Resource exhausted", "type": "", "param": "", "code": 429}
    errors: list[Wan25Error] = []

    async def ask() -> None:
        async with one_answer(
            lambda _: httpx2.Response(429, headers=headers, json=naked)
        ) as client:
            errors.append(await submit(client))

    anyio.run(ask)
    assert told(errors[0]) == (Refused, "rate_limit", "no", True)
    asked = errors[0].retry_after_seconds
    assert asked is None or 0 <= asked <= 86400


async def test_a_refused_connection_costs_nothing_and_may_be_repeated() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="refuse")
        error = await submit(stage.client)
        assert told(error) == (Unreachable, "unreachable", "no", True)
        assert error.message == (
            "The provider could not be reached (no connection); nothing was sent."
        )
        assert (len(stage.emulator.submits), stage.emulator.ledger.charges) == (0, 0)


GATEWAYS: list[dict[str, Any]] = [
    {"kind": "html", "code": 503},
    {"kind": "html", "code": 429},
    {"kind": "status", "code": 503, "body": "no healthy upstream"},
    {"kind": "status", "code": 503, "body": "upstream connect error or disconnect/reset before "
     "headers. reset reason: connection termination"},
    {"kind": "status", "code": 503, "body": {"message": "no healthy upstream"}},
    {"kind": "status", "code": 503, "body": {"message": "x", "code": 503}},
    {"kind": "status", "code": 503, "body": b""},
    {"kind": "status", "code": 503, "retry_after": 1, "body": '{"error": {"code": 503, "mess'},
    {"kind": "status", "code": 503, "type": "upstream_error"},
    {"kind": "status", "code": 429, "body": {"message": "API rate limit exceeded"}},
    {"kind": "status", "code": 429, "retry_after": 7, "body": ""},
]  # fmt: skip


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("fault", GATEWAYS, ids=lambda fault: str(fault)[9:60])
async def test_a_503_or_429_that_is_not_the_apis_own_may_have_been_charged(
    fault: dict[str, Any], accepted: bool
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", accepted=accepted, **fault)
        error = await submit(stage.client)
        assert told(error) == (OutcomeUnknown, "outcome_unknown", "unknown", False)
        assert stage.emulator.ledger.charges == int(accepted)


UNKNOWN: list[tuple[dict[str, Any], str, int]] = [
    ({"kind": "drop_before"}, "The connection failed after the edit was sent (the connection "
     "broke), so it may or may not have been accepted.", 0),
    ({"kind": "drop_after"}, "The connection failed after the edit was sent (the connection "
     "broke), so it may or may not have been accepted.", 1),
    ({"kind": "delay", "seconds": 61}, "The connection failed after the edit was sent (it took "
     "too long to answer), so it may or may not have been accepted.", 1),
    ({"kind": "status", "code": 500, "message": "Oops"}, "The provider failed internally "
     "(HTTP 500): Oops. The edit may or may not have been accepted.", 0),
    ({"kind": "status", "code": 502, "accepted": True, "message": "Bad gateway"}, "The provider's "
     "own upstream failed (HTTP 502): Bad gateway. The edit may or may not have been accepted.", 1),
    ({"kind": "html", "code": 504}, "The provider's own upstream took too long (HTTP 504). "
     "The edit may or may not have been accepted.", 0),
    ({"kind": "html", "code": 408}, "The provider refused the request (HTTP 408). "
     "The edit may or may not have been accepted.", 0),
    ({"kind": "status", "code": 409, "message": "Conflict"}, "The provider refused the request "
     "(HTTP 409): Conflict. The edit may or may not have been accepted.", 0),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "message", "charges"), UNKNOWN)
async def test_what_may_have_been_accepted_is_reported_as_unknown(
    fault: dict[str, Any], message: str, charges: int
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", **fault)
        error = await submit(stage.client)
        assert told(error) == (OutcomeUnknown, "outcome_unknown", "unknown", False)
        fix = with_dashboard(CHECK_DASHBOARD, stage.emulator.base_url)
        assert (error.message, error.fix) == (message, fix)
        assert (len(stage.emulator.submits), stage.emulator.ledger.charges) == (1, charges)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "truncate"},
        {"kind": "garbage_json"},
        {"kind": "empty"},
        {"kind": "html", "code": 200, "accepted": True},
        {"kind": "status", "code": 202, "body": {"status": "pending"}, "accepted": True},
        {"kind": "status", "code": 200, "body": {"error": {"code": 1}}, "accepted": True},
        {"kind": "status", "code": 204, "body": b"", "accepted": True},
    ],
)
async def test_a_2xx_nobody_can_read_may_have_been_charged(fault: dict[str, Any]) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", **fault)
        error = await submit(stage.client)
        assert told(error) == (OutcomeUnknown, "unreadable_answer", "unknown", False)
        assert "no task id" in error.message
        assert (len(stage.emulator.submits), stage.emulator.ledger.charges) == (1, 1)


async def test_a_refusal_whose_body_breaks_off_is_still_a_refusal() -> None:
    async with open_stage(denied_keys=[KEY]) as stage:
        stage.emulator.fault(endpoint="submit", kind="truncate")
        error = await submit(stage.client)
        assert told(error) == (Refused, "permission", "no", False)


async def test_a_429_whose_body_breaks_off_does_not_say_who_answered() -> None:
    async with open_stage(rate_limit=1) as stage:
        await stage.client.submit(request(), idempotency_key="first")
        stage.emulator.fault(endpoint="submit", kind="truncate")
        error = await submit(stage.client)
        assert told(error) == (OutcomeUnknown, "outcome_unknown", "unknown", False)


async def test_a_redirect_is_not_followed_with_the_key() -> None:
    seen: list[httpx2.Request] = []

    def redirect(asked: httpx2.Request) -> httpx2.Response:
        seen.append(asked)
        return httpx2.Response(307, headers={"location": "https://evil.example/"})

    async with one_answer(redirect) as client:
        error = await submit(client)
        with pytest.raises(Refused):
            await client.query("task-1")
    assert told(error) == (Refused, "refused", "no", False)
    assert [str(asked.url) for asked in seen] == [
        "https://api.example/apiv1/v1/images/generations",
        "https://api.example/apiv1/v1/tasks/task-1",
    ]


async def test_an_answer_that_drips_ends_at_the_deadline_of_the_exchange() -> None:
    class Drip(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await anyio.sleep(1)
                yield b" "

    began = anyio.current_time()
    async with one_answer(lambda _: httpx2.Response(200, stream=Drip())) as client:
        error = await submit(client)
    assert told(error) == (OutcomeUnknown, "unreadable_answer", "unknown", False)
    assert anyio.current_time() - began == pytest.approx(120, abs=1)


async def test_an_answer_without_end_is_not_read_to_its_end() -> None:
    served = 0

    class Endless(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            nonlocal served
            while True:
                served += 65536
                yield b" " * 65536

    async with one_answer(lambda _: httpx2.Response(200, stream=Endless())) as client:
        assert (await submit(client)).charged == "unknown"
        with pytest.raises(ReadFailed):
            await client.query("task-1")
    assert served <= 2 * (MAX_BODY_BYTES + 65536)


async def test_cancelling_a_submit_does_not_undo_it() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        with anyio.move_on_after(5) as scope:
            await stage.client.submit(request(), idempotency_key="k")
        assert scope.cancelled_caught
        assert stage.emulator.ledger.charges == 1


# --- any answer at all -----------------------------------------------------------------------

WRAPPERS = [
    b'{"id": "t", "status": "completed", "results": %s}',
    b'{"id": "t", "result_data": {"url": %s}}',
    b'{"id": "t", "usage": %s, "error": %s, "task_info": %s}',
    b'{"error": {"code": %s, "message": %s}}',
    b'{"data": {"user": %s, "token": %s}}',
]


@pytest.mark.parametrize("depth", [100, 900, 950, 960, 970, 980, 990, 5000])
async def test_an_answer_nested_however_deep_is_an_answer_or_our_error(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    for body in (wrapper.replace(b"%s", nested) for wrapper in WRAPPERS):
        for status in (200, 400):
            async with one_answer(
                lambda _, body=body, status=status: httpx2.Response(status, content=body)
            ) as client:
                await _ask_everything(client)


LARGE = [
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"1" * 4000, b"1" * 5000, b"0.1e-999",
    b'"\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\x00", b"{", b'{"a":', b"null", b"true", b"[]",
    b"\xef\xbb\xbf{}", b'"task-1"', b'{"id": "task-1", "id": 5}',
]  # fmt: skip


@pytest.mark.parametrize("value", LARGE, ids=lambda value: str(value)[:12])
@pytest.mark.parametrize("wrapper", [b"%s", *WRAPPERS, b'{"id": "t", "progress": %s}',
                                     b'{"id": "t", "created": %s, "duration": %s}'])  # fmt: skip
async def test_any_number_or_broken_text_is_an_answer_or_our_error(
    value: bytes, wrapper: bytes
) -> None:
    body = wrapper.replace(b"%s", value)
    for status in (200, 400, 429, 500):
        async with one_answer(
            lambda _, status=status: httpx2.Response(status, content=body)
        ) as client:
            await _ask_everything(client)


ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "status", "error", "message", "code", "param", "data", "url",
                             "results", "usage", "user", "progress", "fallback_suggestion"]),
            inner,
        )
    ),
    max_leaves=12,
)  # fmt: skip


@given(ANYTHING, st.sampled_from([200, 201, 202, 302, 400, 404, 429, 500, 503]))
def test_any_json_under_any_status_is_an_answer_or_our_error(body: Any, status: int) -> None:
    content = json.dumps(body).encode()

    async def ask() -> None:
        async with one_answer(lambda _: httpx2.Response(status, content=content)) as client:
            await _ask_everything(client)

    anyio.run(ask)


@given(st.binary(max_size=200), st.dictionaries(
    st.sampled_from(["content-type", "content-encoding", "x-request-id", "retry-after"]),
    st.sampled_from(["gzip", "br", "text/html; charset=utf-99", "\x7f", "x" * 300, ""]),
))  # fmt: skip
def test_any_bytes_under_any_headers_are_an_answer_or_our_error(
    content: bytes, headers: dict[str, str]
) -> None:
    async def ask() -> None:
        async with one_answer(
            lambda _: httpx2.Response(200, stream=httpx2.ByteStream(content), headers=headers)
        ) as client:
            await _ask_everything(client)

    anyio.run(ask)


async def _ask_everything(client: Client) -> None:
    for ask in (
        lambda: client.submit(request(), idempotency_key="k"),
        lambda: client.query("task-1"),
        client.credits,
    ):
        error = await _error_of(ask)
        if error is not None:
            assert error.message.endswith(".")
            assert "\n" not in error.message
            assert len(error.message) < 600
            assert error.request_id is None or "\n" not in error.request_id


async def _error_of(ask: Callable[[], Awaitable[object]]) -> Wan25Error | None:
    try:
        await ask()
    except Wan25Error as error:
        return error
    return None


# --- looking ---------------------------------------------------------------------------------


async def test_a_poll_reports_how_far_a_task_is() -> None:
    async with open_stage() as stage:
        task = await stage.client.submit(request(), idempotency_key="k")
        await anyio.sleep(30)
        seen = await stage.client.query(task.id)
        assert (seen.id, seen.status) == (task.id, "processing")
        assert seen.progress
        await anyio.sleep(31)
        done = await stage.client.query(task.id)
        assert (done.status, done.progress, done.duration) == ("completed", 100, 60)
        assert done.usage == Usage(credits_used=1.5)
        assert done.image_urls == (f"http://emulator.test/results/{task.id}_0.png",)


@pytest.mark.parametrize("task_id", ["", "a/b", "../credits", "a?b", "a%2fb", "a b", "\n"])
async def test_what_cannot_be_a_task_id_is_not_asked_for(task_id: str) -> None:
    async with open_stage() as stage:
        with pytest.raises(InvalidRequest):
            await stage.client.query(task_id)
        assert stage.emulator.reads == []


async def test_an_unknown_task_is_said_to_be_unknown() -> None:
    async with open_stage() as stage:
        with pytest.raises(Refused) as refused:
            await stage.client.query("task-unified-1-abc")
        assert told(refused.value) == (Refused, "not_found", "no", False)
        assert refused.value.message == (
            "The provider does not know this task id (HTTP 404): Task not found or expired."
        )
        for word in ("task_id", "WAN25_API_KEY", "WAN25_BASE_URL", "wan25-mcp tasks"):
            assert word in refused.value.fix


async def test_a_404_to_anything_else_does_not_speak_of_task_ids() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(Fault("submit", "status", 404, message="No such model"))
        stage.emulator.fault(Fault("credits", "status", 404, message="No such page"))
        errors = [await submit(stage.client)]
        with pytest.raises(Refused) as refused:
            await stage.client.credits()
        errors.append(refused.value)
    assert [error.message for error in errors] == [
        "The provider did not find what was requested (HTTP 404): No such model.",
        "The provider did not find what was requested (HTTP 404): No such page.",
    ]
    assert {error.fix for error in errors} == {
        "Check the model name and WAN25_BASE_URL (or WAN25_EMULATOR), path included."
    }


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "code": 429, "retry_after": 9}, "rate_limit"),
        ({"kind": "status", "code": 500}, "service_error"),
        ({"kind": "html", "code": 502}, "service_error"),
        ({"kind": "status", "code": 503}, "service_unavailable"),
        ({"kind": "drop_before"}, "read_failed"),
        ({"kind": "truncate"}, "read_failed"),
        ({"kind": "delay", "seconds": 70}, "read_failed"),
        ({"kind": "empty"}, "unreadable_answer"),
        ({"kind": "garbage_json"}, "unreadable_answer"),
        ({"kind": "html", "code": 200}, "unreadable_answer"),
        ({"kind": "status", "code": 200, "body": "[]"}, "unreadable_answer"),
        ({"kind": "status", "code": 200, "body": "null"}, "unreadable_answer"),
    ],
)
async def test_a_failed_poll_says_so_and_may_be_repeated(fault: dict[str, Any], code: str) -> None:
    async with open_stage() as stage:
        task = await stage.client.submit(request(), idempotency_key="k")
        stage.emulator.fault(endpoint="query", **fault)
        with pytest.raises(ReadFailed) as failed:
            await stage.client.query(task.id)
        assert (failed.value.code, failed.value.retryable) == (code, True)
        assert failed.value.retry_after_seconds in (None, 9.0, 30.0, 60.0)
        assert (await stage.client.query(task.id)).id == task.id


async def test_a_poll_that_never_left_is_unreachable() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="query", kind="refuse")
        with pytest.raises(Unreachable) as failed:
            await stage.client.query("task-1")
        assert failed.value.retryable


@pytest.mark.parametrize("said", [None, "", "a/b", "task 1", "x" * 201, 5, {}])
async def test_a_poll_is_about_the_task_that_was_asked_for(said: object) -> None:
    body = {"id": said, "status": "completed", "results": ["https://a.example/1.png"]}
    async with one_answer(lambda _: ok(body)) as client:
        task = await client.query("task-1")
    assert (task.id, task.status) == ("task-1", "completed")
    assert task.image_urls == ("https://a.example/1.png",)


async def test_a_poll_that_is_answered_with_another_task_is_no_poll() -> None:
    body = {"id": "task-2", "status": "completed", "results": ["https://a.example/1.png"]}
    async with one_answer(lambda _: ok(body)) as client:
        with pytest.raises(ReadFailed) as failed:
            await client.query("task-1")
    assert (failed.value.code, failed.value.retryable) == ("unreadable_answer", True)


@pytest.mark.parametrize("body", [{}, {"success": False, "message": "No."}, {"error": "No."},
                                  {"error": {"code": 404, "message": "No."}}])  # fmt: skip
async def test_a_poll_answered_with_no_task_is_no_poll(body: Any) -> None:
    async with one_answer(lambda _: ok(body)) as client:
        with pytest.raises(ReadFailed) as failed:
            await client.query("task-1")
    assert failed.value.code == "unreadable_answer"


async def test_credits_are_read_and_cost_nothing() -> None:
    async with open_stage(balance=12.5) as stage:
        balance = Balance(remaining_credits=12.5, used_credits=0)
        assert await stage.client.credits() == CreditReport(
            token=balance.model_copy(update={"unlimited_credits": False}), user=balance
        )
        assert stage.emulator.ledger.balance == 12.5


async def test_the_request_id_of_either_header_is_kept() -> None:
    for name in ("x-request-id", "x-oneapi-request-id"):
        async with one_answer(lambda _, name=name: ok({}, 400, **{name: "abc"})) as client:
            assert (await submit(client)).request_id == "abc"


async def test_the_words_of_the_provider_are_quoted_short_and_on_one_line() -> None:
    said = {"error": {"message": "a\nb\r\n  c " + "x" * 900, "param": "p\nq" + "y" * 900}}
    async with one_answer(lambda _: ok(said, 400)) as client:
        message = (await submit(client)).message
    assert message.startswith("The provider rejected the request as invalid (HTTP 400): a b c xxx")
    assert "\n" not in message
    assert len(message) < 500


async def test_an_error_never_quotes_the_key() -> None:
    def angry(asked: httpx2.Request) -> httpx2.Response:
        raise httpx2.ReadError(f"failed with {asked.headers['authorization']}", request=asked)

    async with one_answer(angry) as client:
        error = await submit(client)
    assert KEY not in error.message + error.fix


async def test_a_client_does_not_keep_idle_connections_or_follow_redirects() -> None:
    async with open_http() as http:
        assert http.follow_redirects is False
        assert http.headers["user-agent"] == USER_AGENT


def test_the_client_is_what_the_product_needs_of_a_provider() -> None:
    provider: Provider = Client(open_http(), base_url="https://a.example", key=SecretStr("k"))
    assert {"submit", "query", "credits"} <= {*dir(provider)}
