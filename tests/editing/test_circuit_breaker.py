"""While the provider keeps failing nothing new is sent; looks and joined calls go on."""

from __future__ import annotations

from typing import Any, Final

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stage import Stage, open_stage, request
from wan25_mcp.editing.circuit_breaker import FAILURES_TO_OPEN, LONGEST_PAUSE, CircuitBreaker
from wan25_mcp.errors.codes import CODES
from wan25_mcp.journal import Withheld
from wan25_mcp.polling.poller import FRESH_SECONDS

NOW: Final = 1000.0


# --- its law ---------------------------------------------------------------------------------


def failing(times: int, now: float = NOW) -> CircuitBreaker:
    breaker = CircuitBreaker()
    for _ in range(times):
        breaker.failed(now)
    return breaker


def test_it_is_closed_until_the_service_has_failed_five_times_in_a_row() -> None:
    assert [failing(times).pause(NOW) for times in range(6)] == [None] * 5 + [30.0]


def test_each_failure_after_a_pause_doubles_it_up_to_ten_minutes() -> None:
    breaker, now, pauses = failing(5), NOW, []
    for _ in range(7):
        pause = breaker.pause(now) or 0.0
        pauses.append(pause)
        now += pause
        breaker.failed(now)
    assert pauses == [30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0]


def test_failures_of_submits_already_under_way_do_not_make_the_pause_longer() -> None:
    assert failing(40).pause(NOW) == 30.0


def test_it_says_how_long_it_stays_open_and_closes_in_time() -> None:
    breaker = failing(5)
    assert [breaker.pause(NOW + after) for after in (0, 10, 29.5, 30, 31)] == [
        30.0,
        20.0,
        0.5,
        None,
        None,
    ]


def test_the_first_failure_after_a_pause_opens_it_again_for_longer() -> None:
    breaker = failing(5)
    breaker.failed(NOW + 31)
    assert breaker.pause(NOW + 31) == 60.0


def test_after_its_pause_it_lets_one_through_and_the_others_wait_for_what_comes_of_it() -> None:
    breaker = failing(5)
    assert breaker.pause(NOW + 31) is None
    breaker.started(NOW + 31)
    assert breaker.pause(NOW + 32) == 29.0
    breaker.failed(NOW + 33)
    assert breaker.pause(NOW + 33) == 60.0
    breaker.started(NOW + 100)
    breaker.succeeded()
    assert breaker == CircuitBreaker()


def test_a_submit_that_starts_while_it_is_closed_changes_nothing() -> None:
    breaker = failing(4)
    breaker.started(NOW)
    assert breaker == failing(4)


@pytest.mark.parametrize("times", [1, 4, 5, 50])
def test_one_success_closes_it_and_forgets_every_failure(times: int) -> None:
    breaker = failing(times)
    breaker.succeeded()
    assert breaker == CircuitBreaker()
    assert breaker.pause(NOW) is None


@given(
    st.lists(st.tuples(st.booleans(), st.floats(0, 700)), max_size=40),
)
def test_whatever_happens_it_is_open_only_after_five_failures_and_never_for_long(
    events: list[tuple[bool, float]],
) -> None:
    breaker, now, in_a_row = CircuitBreaker(), NOW, 0
    for good, after in events:
        now += after
        if good:
            breaker.succeeded()
        else:
            breaker.failed(now)
        in_a_row = 0 if good else in_a_row + 1
        pause = breaker.pause(now)
        assert (pause is not None) == (in_a_row >= FAILURES_TO_OPEN)
        if pause is not None:
            # A difference of epoch seconds has the rounding of those.
            assert 0 < pause <= LONGEST_PAUSE + 1e-6


# --- in the editor ---------------------------------------------------------------------------

FAILURES: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "unknown outcomes": ({"kind": "status", "code": 500}, 5),
    "dropped connections": ({"kind": "drop_before"}, 5),
    "overload": ({"kind": "status", "code": 503}, 2),  # tried four times in each edit
    "no connection": ({"kind": "refuse"}, 2),
}
PATIENT: Final = 600.0


async def fail(stage: Stage, fault: dict[str, Any], edits: int) -> None:
    """Let edits, each of its own content, meet a fault that stays."""
    stage.emulator.fault(endpoint="submit", times=0, **fault)
    for number in range(edits):
        edit = await stage.editor.edit(request(f"failing {number}"), patience=PATIENT)
        assert edit.error is not None
    stage.emulator.faults.clear()


async def held_back(stage: Stage, prompt: str = "held back") -> float:
    """For how long an edit is held back, after seeing the whole refusal and that none was sent."""
    before = len(stage.emulator.submits)
    with pytest.raises(Withheld) as caught:
        await stage.editor.edit(request(prompt))
    assert len(stage.emulator.submits) == before
    seconds = caught.value.retry_after_seconds
    assert seconds is not None
    assert vars(caught.value) == {
        "message": "The provider has failed several times in a row, so submitting is paused for "
        f"another {seconds:.0f} s; nothing was sent.",
        "code": "provider_failing",
        "fix": CODES["provider_failing"].fix,
        "retryable": True,
        "retry_after_seconds": seconds,
        "request_id": None,
        "charged": "no",
    }
    return seconds


@pytest.mark.anyio
@pytest.mark.parametrize("kind", FAILURES)
async def test_after_repeated_failures_edits_are_held_back_for_as_long_as_is_said(
    kind: str,
) -> None:
    async with open_stage() as stage:
        await fail(stage, *FAILURES[kind])
        seconds = await held_back(stage)
        await anyio.sleep(seconds - 1)
        assert await held_back(stage) == pytest.approx(1)
        await anyio.sleep(1)
        edit = await stage.editor.edit(request("held back"))
        assert (edit.status, edit.task_id) == ("pending", stage.emulator.submits[-1].task_id)


@pytest.mark.anyio
async def test_four_failures_in_a_row_hold_nothing_back() -> None:
    async with open_stage() as stage:
        await fail(stage, {"kind": "status", "code": 500}, 4)
        edit = await stage.editor.edit(request("next"))
        assert edit.status == "pending"


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [None, 400, 401, 402, 403, 404, 413, 422])
async def test_any_sensible_answer_in_between_starts_the_count_anew(answer: int | None) -> None:
    async with open_stage() as stage:
        await fail(stage, {"kind": "status", "code": 502}, 4)
        if answer is not None:
            stage.emulator.fault(endpoint="submit", kind="status", code=answer)
        await stage.editor.edit(request("between"))
        await fail(stage, {"kind": "drop_before"}, 4)
        edit = await stage.editor.edit(request("next"))
        assert edit.status == "pending"


@pytest.mark.anyio
async def test_a_success_after_the_pause_closes_it_and_a_failure_opens_it_for_longer() -> None:
    async with open_stage() as stage:
        await fail(stage, {"kind": "status", "code": 500}, 5)
        assert await held_back(stage) == 30.0
        await anyio.sleep(30)
        stage.emulator.fault(endpoint="submit", kind="status", code=500)
        await stage.editor.edit(request("too early"))
        assert await held_back(stage) == 60.0
        await anyio.sleep(60)
        assert (await stage.editor.edit(request("held back"))).status == "pending"
        await fail(stage, {"kind": "drop_before"}, 4)
        assert (await stage.editor.edit(request("one more"))).status == "pending"


@pytest.mark.anyio
async def test_while_it_is_open_polls_and_waits_go_on_and_identical_calls_are_answered() -> None:
    async with open_stage() as stage:
        made = await stage.editor.edit(request("before"))
        assert made.task_id
        await fail(stage, {"kind": "status", "code": 500}, 5)
        await held_back(stage)
        deduplicated = await stage.editor.edit(request("before"))
        assert (deduplicated.task_id, deduplicated.deduplicated, deduplicated.error) == (
            made.task_id,
            True,
            None,
        )
        unknown = await stage.editor.edit(request("failing 0"))
        assert (unknown.status, unknown.deduplicated, unknown.charged) == (
            "unknown",
            True,
            "unknown",
        )
        looked = await stage.editor.get(made.task_id)
        assert (looked.status, looked.error) == (deduplicated.status, None)
        assert await held_back(stage) == 30.0
        waited = await stage.editor.wait(made.task_id, timeout=120)
        assert (waited.status, len(waited.image_urls)) == ("completed", 1)
        assert len(stage.emulator.submits) == 6


@pytest.mark.anyio
async def test_while_it_is_open_not_even_a_forced_edit_is_sent() -> None:
    async with open_stage() as stage:
        made = await stage.editor.edit(request("before"))
        await fail(stage, {"kind": "status", "code": 500}, 5)
        with pytest.raises(Withheld):
            await stage.editor.edit(request("before"), force_new=True)
        assert len(stage.emulator.submits) == 6
        assert (await stage.editor.edit(request("before"))).task_id == made.task_id


@pytest.mark.anyio
async def test_a_rate_limit_is_no_failure_of_the_service() -> None:
    async with open_stage() as stage:
        await fail(stage, {"kind": "status", "code": 429}, 4)
        edit = await stage.editor.edit(request("next"))
        assert edit.status == "pending"


@pytest.mark.anyio
async def test_failed_polls_hold_no_edit_back() -> None:
    async with open_stage() as stage:
        made = await stage.editor.edit(request("before"))
        stage.emulator.fault(endpoint="query", kind="status", code=503, times=0)
        await anyio.sleep(FRESH_SECONDS)
        for _ in range(10):
            assert (await stage.editor.get(made.task_id or "")).error is not None
        assert (await stage.editor.edit(request("next"))).status == "pending"
