"""What the product does with an edit, counted in the emulator: submits, charges, looks, seconds."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.stage import OWNER, T0, TRIO_IF_THOROUGH, Stage, inline, names_in, open_stage, request
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit, Progress
from wan25_mcp.editing.engine import open_editor
from wan25_mcp.editing.options import Connection
from wan25_mcp.errors import (
    OutcomeUnknown,
    ReadFailed,
    Refused,
    SettingsError,
    TaskFailed,
    Unreachable,
)
from wan25_mcp.journal import Allowance, ClaimRequest, Intent, Journal, Withheld
from wan25_mcp.journal.records import DAY
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.models import Usage

pytestmark = pytest.mark.anyio
RESERVED = Usage(credits_reserved=1.5, billing_rule="per_call", user_group="default")


def counts(stage: Stage) -> tuple[int, int]:
    """Submits heard, and submits charged."""
    return len(stage.emulator.submits), stage.emulator.ledger.charges


def memory() -> SqlJournal:
    """A journal that outlives the editor it is given to."""
    return SqlJournal("sqlite://", run=inline)


async def kept(journal: Journal, handle: str) -> Intent:
    intent = await journal.find(handle, OWNER, now=T0)
    assert intent is not None
    return intent


# --- the whole way ---------------------------------------------------------------------------


async def test_an_edit_is_started_waited_for_and_told_whole() -> None:
    async with open_stage() as stage:
        started = await stage.editor.edit(request())
        [task_id] = stage.emulator.tasks
        assert started == Edit(
            task_id=task_id,
            status="pending",
            charged="reserved",
            progress=0,
            usage=RESERVED,
            elapsed=0,
            estimated_seconds=30,
        )
        done = await stage.editor.wait(task_id, timeout=300)
        assert done == Edit(
            task_id=task_id,
            status="completed",
            charged="yes",
            progress=100,
            image_urls=(f"http://emulator.test/results/{task_id}_0.png",),
            expires_at=datetime.fromtimestamp(T0 + 60 + 24 * 3600, UTC),
            usage=Usage(credits_used=1.5),
        )
        assert counts(stage) == (1, 1)
        assert await stage.editor.get(task_id) == done


async def test_n_images_cost_n_prices_and_come_as_n_links() -> None:
    async with open_stage() as stage:
        started = await stage.editor.edit(request(n=3))
        assert started.usage == RESERVED.model_copy(update={"credits_reserved": 4.5})
        done = await stage.editor.wait(str(started.task_id), timeout=300)
        assert (len(done.image_urls), done.usage) == (3, Usage(credits_used=4.5))


async def test_ten_tasks_at_once_are_ten_charges_and_ten_results() -> None:
    async with open_stage(run_seconds=None) as stage:
        done: list[Edit] = []

        async def one(number: int) -> None:
            edit = await stage.editor.edit(request(f"Number {number}"))
            done.append(await stage.editor.wait(str(edit.task_id), timeout=600))

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(one, number)
        assert {edit.status for edit in done} == {"completed"}
        assert len({edit.task_id for edit in done}) == 10
        assert counts(stage) == (10, 10)


# --- the submit, and the call that asked for it ----------------------------------------------


async def test_a_slow_submit_is_answered_within_four_seconds_with_a_handle() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=20)
        began = anyio.current_time()
        edit = await stage.editor.edit(request())
        assert anyio.current_time() - began <= 4
        assert edit == Edit(task_id=edit.task_id, status="submitting", charged="unknown", elapsed=3)
        handle = str(edit.task_id)
        assert handle.startswith("edit-")
        assert (await stage.editor.get(handle)) == edit
        still = await stage.editor.wait(handle, timeout=5)
        assert still == replace(edit, elapsed=7.5)
        done = await stage.editor.wait(handle, timeout=300)
        [task_id] = stage.emulator.tasks
        assert (done.task_id, done.status) == (task_id, "completed")
        assert (await stage.editor.get(handle)).task_id == task_id
        assert counts(stage) == (1, 1)


async def test_a_cancelled_call_leaves_its_submit_alone() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=10)
        with anyio.move_on_after(1) as scope:
            await stage.editor.edit(request(), patience=100)
        assert scope.cancelled_caught
        await anyio.sleep(15)
        again = await stage.editor.edit(request())
        assert (again.status, again.deduplicated) == ("processing", True)
        assert again.task_id in stage.emulator.tasks
        assert counts(stage) == (1, 1)


async def test_a_cancelled_call_in_the_first_moment_leaves_nothing_half_done() -> None:
    async with open_stage() as stage:
        for prompt in ("one", "two", "three"):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await stage.editor.edit(request(prompt))
        await anyio.sleep(1)
        submits, charges = counts(stage)
        assert submits == charges
        for prompt in ("one", "two", "three"):
            await stage.editor.edit(request(prompt))
        assert counts(stage) == (3, 3)


async def test_identical_calls_at_once_are_one_submit() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=2)
        edits: list[Edit] = []

        async def call() -> None:
            edits.append(await stage.editor.edit(request()))

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)
        assert counts(stage) == (1, 1)
        assert {edit.task_id for edit in edits} == set(stage.emulator.tasks)
        assert sorted(edit.deduplicated for edit in edits) == [False] + [True] * 19


async def test_an_identical_call_later_is_deduplicated_and_a_different_one_is_not() -> None:
    async with open_stage() as stage:
        first = await stage.editor.edit(request())
        await anyio.sleep(30)
        deduplicated = await stage.editor.edit(request())
        assert (deduplicated.task_id, deduplicated.deduplicated) == (first.task_id, True)
        for other in (request(n=2), request("Make it day"), request(image_urls=["https://a.b/c"]),
                      request(callback_url="https://a.example/b")):  # fmt: skip
            assert not (await stage.editor.edit(other)).deduplicated
        assert counts(stage) == (5, 5)


async def test_a_finished_edit_is_reused_with_its_links() -> None:
    async with open_stage() as stage:
        first = await stage.editor.edit(request())
        done = await stage.editor.wait(str(first.task_id), timeout=300)
        again = await stage.editor.edit(request())
        assert (again.status, again.image_urls, again.deduplicated) == (
            "completed",
            done.image_urls,
            True,
        )
        assert counts(stage) == (1, 1)


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        ({"fail": "service_error"}, "failed", "service_error"),
        ({"cancelled": True}, "cancelled", "request_cancelled"),
        ({"images": 0}, "completed", "generation_failed_no_content"),
    ],
)
async def test_an_edit_that_is_found_failed_when_it_is_reused_says_why(
    outcome: dict[str, Any], status: str, code: str
) -> None:
    async with open_stage() as stage:
        stage.emulator.outcome(**outcome, run_seconds=20)
        await stage.editor.edit(request())
        await anyio.sleep(25)
        again = await stage.editor.edit(request())
        assert (again.status, again.charged, again.deduplicated) == (status, "no", True)
        assert again.error is not None
        assert again.error.code == code
        assert counts(stage) == (1, 1)


async def test_force_new_pays_for_another() -> None:
    async with open_stage() as stage:
        first = await stage.editor.edit(request())
        second = await stage.editor.edit(request(), force_new=True)
        third = await stage.editor.edit(request())
        assert (second.deduplicated, third.deduplicated) == (False, True)
        assert first.task_id != second.task_id == third.task_id
        assert counts(stage) == (2, 2)


@pytest.mark.parametrize(("window", "submits"), [(0, 3), (100, 2), (1000, 1)])
async def test_the_window_of_joining_is_the_configured_one(window: float, submits: int) -> None:
    async with open_stage(window=window) as stage:
        for _ in range(3):
            await stage.editor.edit(request())
            await anyio.sleep(60)
        assert counts(stage) == (submits, submits)


@pytest.mark.parametrize("outcome", [{"fail": "service_error"}, {"cancelled": True}])
async def test_a_failed_edit_does_not_stand_in_the_way_of_a_new_try(
    outcome: dict[str, Any],
) -> None:
    async with open_stage() as stage:
        stage.emulator.outcome(**outcome)
        first = await stage.editor.edit(request())
        await stage.editor.wait(str(first.task_id), timeout=300)
        second = await stage.editor.edit(request())
        assert not second.deduplicated
        done = await stage.editor.wait(str(second.task_id), timeout=300)
        assert done.status == "completed"
        assert stage.emulator.ledger.charged_total == 1.5


# --- the credit limit ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
async def test_two_servers_keep_to_a_limit_although_the_price_is_four_times_the_assumed(
    n: int,
) -> None:
    allowance = Allowance(credit_limit=15.0, credits_per_image=1.5)
    async with (
        open_stage(price=6.0, balance=1e6, allowance=allowance, journal=memory()) as stage,
        stage.another_editor() as another,
    ):
        codes: list[str] = []

        async def call(editor: AccountEditor, prompt: str) -> None:
            try:
                await editor.edit(request(prompt, n=n))
            except Withheld as withheld:
                codes.append(withheld.code)

        for _ in range(3):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(call, (stage.editor, another)[number % 2], f"{number}")
            await anyio.sleep(1)
        assert stage.emulator.ledger.reserved_total == 12
        assert set(codes) == {"price_unknown", "credit_limit"}


async def test_an_edit_of_unknown_end_lets_no_other_pass_before_a_price_is_reported() -> None:
    allowance = Allowance(credit_limit=15.0)
    async with open_stage(price=6.0, allowance=allowance, journal=memory()) as stage:
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        assert (await stage.editor.edit(request("lost"))).status == "unknown"
        for number in range(10):
            with pytest.raises(Withheld) as withheld:
                await stage.editor.edit(request(f"{number}"), force_new=True)
            assert withheld.value.code == "price_unknown"
        await anyio.sleep(withheld.value.retry_after_seconds or 0)
        assert (await stage.editor.edit(request("later"))).status == "pending"
        assert stage.emulator.ledger.reserved_total == 12


# --- the money table -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
async def test_a_refusal_is_told_at_once_not_repeated_and_does_not_block(status: int) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=status, message="No")
        began = anyio.current_time()
        edit = await stage.editor.edit(request())
        assert anyio.current_time() - began < 0.1
        assert (edit.task_id, edit.status, edit.charged) == (None, "failed", "no")
        assert isinstance(edit.error, Refused)
        assert not edit.error.retryable
        assert counts(stage) == (1, 0)
        again = await stage.editor.edit(request())
        assert (again.status, again.deduplicated) == ("pending", False)
        assert counts(stage) == (2, 1)


RESENT: list[tuple[str, dict[str, Any], list[float]]] = [
    ("a refused connection", {"kind": "refuse"}, [0, 0, 0, 0]),
    ("429 in seconds", {"kind": "status", "code": 429, "retry_after": 7}, [0, 7, 14, 21]),
    ("503 in seconds", {"kind": "status", "code": 503, "retry_after": "5"}, [0, 5, 10, 15]),
    ("429 as suggested", {"kind": "status", "code": 429,
     "fallback_suggestion": "retry after 60 seconds"}, [0, 60, 120, 180]),
    ("503 as suggested", {"kind": "status", "code": 503,
     "fallback_suggestion": "retry after 30 seconds"}, [0, 30, 60, 90]),
    ("429 without an envelope", {"kind": "status", "code": 429, "body": {
     "message": "Resource exhausted", "type": "", "param": "", "code": 429}}, [0, 0, 0, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "times"), RESENT, ids=[row[0] for row in RESENT])
async def test_what_certainly_was_not_accepted_is_sent_again_after_the_wait_asked_for(
    name: str, fault: dict[str, Any], times: list[float]
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", times=3, **fault)
        edit = await stage.editor.edit(request(), patience=1000)
        assert (edit.status, edit.charged) == ("pending", "reserved")
        heard = [round(submit.time - T0) for submit in stage.emulator.submits]
        assert heard == (times if fault["kind"] != "refuse" else times[:1])
        assert stage.emulator.ledger.charges == 1


@pytest.mark.parametrize(("name", "fault", "times"), RESENT, ids=[row[0] for row in RESENT])
async def test_after_three_resends_the_edit_ends_uncharged_and_retryable(
    name: str, fault: dict[str, Any], times: list[float]
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", times=0, **fault)
        edit = await stage.editor.edit(request(), patience=1000)
        assert (edit.task_id, edit.status, edit.charged) == (None, "failed", "no")
        assert isinstance(edit.error, Refused | Unreachable)
        assert edit.error.retryable
        heard = [round(submit.time - T0) for submit in stage.emulator.submits]
        assert heard == (times if fault["kind"] != "refuse" else [])
        assert stage.emulator.ledger.charges == 0
        stage.emulator.faults.clear()
        assert (await stage.editor.edit(request())).status == "pending"


async def test_a_wait_given_as_a_date_is_honoured() -> None:
    async with open_stage() as stage:
        date = formatdate(time.time() + 20, usegmt=True)
        stage.emulator.fault(endpoint="submit", kind="status", code=503, retry_after=date)
        await stage.editor.edit(request(), patience=1000)
        first, second = (submit.time for submit in stage.emulator.submits)
        assert second - first == pytest.approx(19, abs=1.5)


async def test_pauses_between_resends_grow_and_are_spread() -> None:
    async with open_stage(chance=0.5) as stage:
        busy = {"code": 503, "message": "Busy", "type": "service_unavailable_error"}
        body = {"error": busy}
        stage.emulator.fault(endpoint="submit", kind="status", code=503, body=body, times=3)
        await stage.editor.edit(request(), patience=1000)
        times = [submit.time for submit in stage.emulator.submits]
        assert [round(b - a, 3) for a, b in pairwise(times)] == pytest.approx([0.5, 1, 2], abs=0.1)


async def test_a_wait_too_long_to_hold_a_call_is_handed_to_the_caller() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=3600)
        edit = await stage.editor.edit(request(), patience=1000)
        assert edit.error is not None
        assert (edit.error.retry_after_seconds, edit.error.retryable) == (3600, True)
        assert counts(stage) == (1, 0)


async def test_a_resend_that_ends_unknown_is_the_last() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=503)
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        edit = await stage.editor.edit(request(), patience=1000)
        assert (edit.status, edit.charged) == ("unknown", "unknown")
        assert counts(stage) == (2, 1)


async def test_resending_outlives_the_call_and_ends_in_a_task() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=30)
        edit = await stage.editor.edit(request())
        assert edit.status == "submitting"
        done = await stage.editor.wait(str(edit.task_id), timeout=300)
        assert done.status == "completed"
        assert counts(stage) == (2, 1)


UNKNOWN: list[tuple[str, dict[str, Any], int]] = [
    ("read timeout", {"kind": "delay", "seconds": 100}, 1),
    ("reset before it was carried out", {"kind": "drop_before"}, 0),
    ("reset after it was carried out", {"kind": "drop_after"}, 1),
    ("500", {"kind": "status", "code": 500}, 0),
    ("500 although accepted", {"kind": "status", "code": 500, "accepted": True}, 1),
    ("502", {"kind": "html", "code": 502}, 0),
    ("504 although accepted", {"kind": "html", "code": 504, "accepted": True}, 1),
    ("a gateway's 503", {"kind": "html", "code": 503}, 0),
    ("a gateway's 503 although accepted", {"kind": "status", "code": 503, "accepted": True,
     "retry_after": 1, "body": "upstream connect error or disconnect/reset before headers"}, 1),
    ("a gateway's 429 although accepted", {"kind": "status", "code": 429, "accepted": True,
     "body": {"message": "API rate limit exceeded"}}, 1),
    ("truncated 200", {"kind": "truncate"}, 1),
    ("HTML 200", {"kind": "html", "code": 200, "accepted": True}, 1),
    ("empty 200", {"kind": "empty"}, 1),
    ("garbage 200", {"kind": "garbage_json"}, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault", "charges"), UNKNOWN, ids=[row[0] for row in UNKNOWN])
async def test_an_unknown_outcome_is_never_sent_again_and_says_so_again(
    name: str, fault: dict[str, Any], charges: int
) -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", times=1, **fault)
        edit = await stage.editor.edit(request(), patience=1000)
        handle = str(edit.task_id)
        assert (edit.status, edit.charged, edit.deduplicated) == ("unknown", "unknown", False)
        assert isinstance(edit.error, OutcomeUnknown)
        assert handle.startswith("edit-")
        again = await stage.editor.edit(request())
        assert (again.task_id, again.status, again.deduplicated) == (handle, "unknown", True)
        for later in (
            again,
            await stage.editor.get(handle),
            await stage.editor.wait(handle, timeout=100),
        ):
            assert later.charged == "unknown"
            assert vars(later.error) == vars(edit.error)
        assert counts(stage) == (1, charges)
        await stage.editor.edit(request(), force_new=True)
        assert counts(stage) == (2, charges + 1)


async def test_a_submit_that_breaks_in_a_way_nobody_foresaw_is_unknown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_stage() as stage:

        async def broken(*_: object) -> None:
            raise ZeroDivisionError("surprise")

        stage.http.event_hooks = {"request": [broken]}
        edit = await stage.editor.edit(request())
        assert (edit.status, edit.charged) == ("unknown", "unknown")
        assert edit.error is not None
        assert "ZeroDivisionError" in edit.error.message
        assert "surprise" not in edit.error.message
        stage.http.event_hooks = {}
        assert (await stage.editor.edit(request("Another"))).status == "pending"


async def answered_with_the_task_of(stage: Stage, task_id: str | None, **fields: Any) -> Edit:
    """An edit that was accepted, and whose answer is another's."""
    body = {"id": task_id, "status": "pending", **fields}
    stage.emulator.fault(endpoint="submit", kind="status", code=200, body=body, accepted=True)
    return await stage.editor.edit(request("mixed up"))


async def test_a_submit_answered_with_the_task_of_another_edit_is_unknown(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        first = await stage.editor.edit(request("first"))
        links = [f"http://emulator.test/results/{first.task_id}_0.png"]
        edit = await answered_with_the_task_of(
            stage, first.task_id, status="completed", results=links
        )
        assert (edit.status, edit.charged, edit.image_urls) == ("unknown", "unknown", ())
        assert edit.task_id is not None
        assert edit.task_id.startswith("edit-")
        assert isinstance(edit.error, OutcomeUnknown)
        assert edit.error.code == "outcome_unknown"
        again = await stage.editor.edit(request("mixed up"))
        later = await stage.editor.wait(edit, timeout=100)
        assert (again.task_id, again.status, again.deduplicated) == (edit.task_id, "unknown", True)
        assert (later.task_id, later.status, later.saved) == (edit.task_id, "unknown", ())
        done = await stage.editor.wait(first, timeout=100)
        assert (done.task_id, done.status, len(done.saved)) == (first.task_id, "completed", 1)
        assert [name for name in names_in(tmp_path / "out") if "mixed" in name] == []
        assert counts(stage) == (2, 2)


async def test_a_submit_answered_with_a_task_of_somebody_else_that_was_asked_about_is_unknown() -> (
    None
):
    async with open_stage() as stage:
        foreign = await stage.client.submit(request(), idempotency_key="elsewhere")
        await stage.editor.get(foreign.id)
        await anyio.sleep(1)
        edit = await answered_with_the_task_of(stage, foreign.id)
        assert (edit.status, edit.charged) == ("unknown", "unknown")
        assert (await stage.editor.get(foreign.id)).status == "pending"


async def test_a_task_that_was_asked_about_while_it_was_being_submitted_is_still_this_edits() -> (
    None
):
    """As an agent may that has a callback of its own, and hears of the id there first."""
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=20)
        edit = await stage.editor.edit(request())
        [task_id] = stage.emulator.tasks
        assert (await stage.editor.get(task_id)).status == "pending"
        await anyio.sleep(20)
        reported = await stage.editor.get(str(edit.task_id))
        assert (reported.task_id, reported.charged) == (task_id, "reserved")


async def test_answers_that_are_mixed_up_stop_submits_as_other_failures_do() -> None:
    async with open_stage() as stage:
        first = await stage.editor.edit(request("first"))
        for _ in range(5):
            body = {"id": first.task_id, "status": "pending"}
            stage.emulator.fault(endpoint="submit", kind="status", code=200, body=body)
            edit = await stage.editor.edit(request("mixed up"), force_new=True)
            assert edit.status == "unknown"
        with pytest.raises(Withheld):
            await stage.editor.edit(request("another"))


async def test_a_poll_answered_with_another_task_is_not_believed_and_saves_nothing(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        other = await stage.editor.edit(request("other"))
        await stage.editor.wait(other, timeout=100)
        edit = await stage.editor.edit(request("mine"))
        body = {
            "id": other.task_id,
            "status": "completed",
            "results": [f"http://emulator.test/results/{other.task_id}_0.png"],
        }
        stage.emulator.fault(endpoint="query", kind="status", code=200, body=body, times=3)
        await anyio.sleep(3)
        looked = await stage.editor.get(edit)
        assert isinstance(looked.error, ReadFailed)
        assert (looked.task_id, looked.status, looked.image_urls, looked.error.code) == (
            edit.task_id,
            "pending",
            (),
            "unreadable_answer",
        )
        assert [name for name in names_in(tmp_path / "out") if "mine" in name] == []
        done = await stage.editor.wait(edit, timeout=200)
        assert done.image_urls == (f"http://emulator.test/results/{edit.task_id}_0.png",)
        assert len([name for name in names_in(tmp_path / "out") if "mine" in name]) == 1


async def test_a_gateway_that_keeps_failing_stops_submits() -> None:
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="html", code=503, accepted=True, times=0)
        for number in range(5):
            assert (await stage.editor.edit(request(f"Number {number}"))).status == "unknown"
        with pytest.raises(Withheld) as withheld:
            await stage.editor.edit(request("Number 5"))
        assert (withheld.value.code, withheld.value.charged) == ("provider_failing", "no")
        assert counts(stage) == (5, 5)


# --- shutdown --------------------------------------------------------------------------------


async def test_a_submit_on_the_wire_gets_its_id_before_the_editor_closes() -> None:
    journal = memory()
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=4.2)
        handle = str((await stage.editor.edit(request())).task_id)
        assert handle.startswith("edit-")
    intent = await kept(journal, handle)
    assert (intent.stage, intent.task_id) == ("accepted", *stage.emulator.tasks)


async def test_a_submit_that_outlives_the_shutdown_is_journaled_as_unknown() -> None:
    journal = memory()
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=40)
        handle = str((await stage.editor.edit(request())).task_id)
        closing = anyio.current_time()
    assert anyio.current_time() - closing < 6
    intent = await kept(journal, handle)
    assert (intent.stage, intent.task_id) == ("unknown", None)
    assert intent.error is not None
    assert (intent.error.code, intent.error.charged) == ("outcome_unknown", "unknown")
    assert not intent.error.retryable
    assert counts(stage) == (1, 1)


@pytest.mark.parametrize(
    ("fault", "stage_then"),
    [
        ({"kind": "delay", "seconds": 40}, "unknown"),
        ({"kind": "status", "code": 503, "retry_after": 50}, "refused"),
    ],
)
async def test_an_editor_that_is_cancelled_says_at_once_what_may_have_been_charged(
    fault: dict[str, Any], stage_then: str
) -> None:
    """Its submits are cancelled with it; the journal need not wait for the end of their lease."""
    journal = memory()
    handle = ""
    with anyio.move_on_after(2):
        async with open_stage(journal=journal) as stage:
            stage.emulator.fault(endpoint="submit", **fault)
            handle = str((await stage.editor.edit(request(), patience=1.0)).task_id)
            await anyio.sleep_forever()
    assert (await kept(journal, handle)).stage == stage_then


async def test_a_shutdown_between_two_sends_is_journaled_as_not_charged() -> None:
    journal = memory()
    async with open_stage(journal=journal) as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=503, retry_after=50)
        handle = str((await stage.editor.edit(request())).task_id)
    intent = await kept(journal, handle)
    assert counts(stage) == (1, 0)
    assert intent.stage == "refused"
    assert intent.error is not None
    assert (intent.error.code, intent.error.charged) == ("never_sent", "no")
    assert intent.error.retryable


async def test_closing_is_not_held_up_by_waiters() -> None:
    began = anyio.current_time()
    async with anyio.create_task_group() as tasks, open_stage() as stage:
        edit = await stage.editor.edit(request())

        async def wait() -> None:
            with anyio.CancelScope() as scope:
                scopes.append(scope)
                await stage.editor.wait(str(edit.task_id), timeout=1000)

        scopes: list[anyio.CancelScope] = []
        tasks.start_soon(wait)
        await anyio.sleep(1)
        scopes[0].cancel()
    assert anyio.current_time() - began < 2


async def test_an_error_inside_the_block_comes_out_as_it_is() -> None:
    async def fail() -> None:
        async with open_stage() as stage:
            await stage.editor.edit(request())
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await fail()


async def test_a_connection_that_cannot_be_opened_is_reported_plainly_and_tried_again() -> None:
    attempts = 0

    async def open_journal() -> Journal:
        return memory()

    async with open_stage() as stage:

        @asynccontextmanager
        async def connect() -> AsyncIterator[Connection]:
            nonlocal attempts
            attempts += 1
            if attempts < 3:
                raise SettingsError("No key.", fix="Set one.")
            yield stage.connection

        async with open_editor(connect, open_journal) as editor:
            for _ in range(2):
                with pytest.raises(SettingsError, match="No key"):
                    await editor.edit(request())
            assert (await editor.edit(request())).status == "pending"
            assert (await editor.get("task-x")).error is not None
    assert attempts == 3


async def test_opening_an_editor_opens_nothing_else() -> None:
    @asynccontextmanager
    async def connect() -> AsyncIterator[Connection]:
        raise AssertionError("connected")
        yield

    async def open_nothing() -> Journal:
        raise AssertionError("opened")

    async with open_editor(connect, open_nothing):
        await anyio.sleep(100)


# --- waiting ---------------------------------------------------------------------------------


async def test_a_wait_that_expires_is_no_error_and_says_how_far_it_is() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        began = anyio.current_time()
        still = await stage.editor.wait(str(edit.task_id), timeout=20)
        assert anyio.current_time() - began == pytest.approx(
            19, abs=0.1
        )  # a margin for the way back
        assert (still.status, still.error, still.charged) == ("processing", None, "reserved")
        assert still.progress
        assert 0 < still.progress < 100


async def test_polls_are_paced_and_the_result_is_seen_soon() -> None:
    async with open_stage(run_seconds=90) as stage:
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(str(edit.task_id), timeout=300)
        assert done.status == "completed"
        looks = stage.looks
        pauses = [b - a for a, b in zip([0.0, *looks], looks, strict=False)]
        assert min(pauses) >= 2
        assert len(looks) <= 9
        assert looks[-1] - 90 <= 0.1 * 90


async def test_however_many_wait_there_is_one_watcher() -> None:
    async with open_stage() as alone:
        edit = await alone.editor.edit(request())
        await alone.editor.wait(str(edit.task_id), timeout=300)
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        done: list[Edit] = []

        async def wait(timeout: float) -> None:
            done.append(await stage.editor.wait(str(edit.task_id), timeout=timeout))

        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(wait, 300 if number % 2 else 10)
        assert [edit.status for edit in done].count("completed") == 25
        assert len(stage.looks) == len(alone.looks)


async def test_when_nobody_waits_polls_are_rare_and_end_with_the_task() -> None:
    async with open_stage(run_seconds=200) as stage:
        edit = await stage.editor.edit(request())
        with anyio.move_on_after(15):
            await stage.editor.wait(str(edit.task_id), timeout=300)
        watched = len(stage.looks)
        await anyio.sleep(10_000)
        later = stage.looks[watched:]
        assert 2 <= len(later) <= 4
        assert min(b - a for a, b in pairwise(later)) >= 60
        done = await stage.editor.get(str(edit.task_id))
        assert (done.status, len(stage.looks)) == ("completed", watched + len(later))


async def test_an_edit_nobody_asks_about_is_noted_before_its_links_expire() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        await anyio.sleep(12 * 3600)
        stage.emulator.forget(str(edit.task_id))
        done = await stage.editor.get(str(edit.task_id))
        assert (done.status, len(done.image_urls)) == ("completed", 1)


async def test_repeated_short_waits_poll_no_more_often_than_one_long_one() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        for _ in range(200):
            edit = await stage.editor.wait(str(edit.task_id), timeout=0.5)
        assert edit.status == "completed"
        pauses = [b - a for a, b in zip(stage.looks, stage.looks[1:], strict=False)]
        assert min(pauses) >= 2


async def test_progress_is_reported_after_each_poll_and_every_five_seconds() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        reported: list[Progress] = []

        async def tell(progress: Progress) -> None:
            reported.append(progress)

        await stage.editor.wait(str(edit.task_id), timeout=300, on_progress=tell)
        looks = [news.edit.progress or 0 for news in reported]
        assert looks == sorted(looks)
        assert len(set(looks)) == len(stage.looks)  # the state at the start, then each but the last
        assert looks[-1] > 50
        moments = [news.elapsed for news in reported]
        pauses = [b - a for a, b in pairwise(moments)]
        assert moments[0] == pytest.approx(0, abs=0.1)
        assert max(pauses) == pytest.approx(5)  # looks or none: some clients else give up
        assert {news.typical for news in reported} == {None}


async def test_a_task_of_somebody_else_can_be_polled_and_waited_for() -> None:
    async with open_stage() as stage:
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        assert (await stage.editor.get(task.id)).status == "pending"
        done = await stage.editor.wait(task.id, timeout=300)
        assert (done.status, done.charged) == ("completed", "yes")


async def test_a_task_that_is_done_is_reported_without_another_poll() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(str(edit.task_id), timeout=300)
        looks = len(stage.looks)
        assert await stage.editor.wait(str(edit.task_id), timeout=300) == done
        assert await stage.editor.get(str(edit.task_id)) == done
        assert len(stage.looks) == looks


async def test_no_wait_at_all_is_one_poll() -> None:
    async with open_stage() as stage:
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        edit = await stage.editor.wait(task.id, timeout=0)
        assert (edit.status, len(stage.looks)) == ("pending", 1)


# --- how tasks end ---------------------------------------------------------------------------


async def ended(**outcome: Any) -> tuple[Edit, Stage]:
    async with open_stage() as stage:
        stage.emulator.outcome(**outcome)
        edit = await stage.editor.edit(request(n=4))
        return await stage.editor.wait(str(edit.task_id), timeout=300), stage


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        ("content_policy_violation", False),
        ("invalid_parameters", False),
        ("image_processing_error", False),
        ("image_dimension_mismatch", False),
        ("generation_failed_no_content", True),
        ("service_error", True),
        ("generation_timeout", True),
        ("resource_exhausted", True),
        ("quota_exceeded", False),
        ("service_unavailable", True),
        ("resource_not_found", True),
        ("unknown_error", True),
        ("a_code_of_next_year", True),
    ],
)
async def test_a_failed_task_costs_nothing_and_says_why(code: str, retryable: bool) -> None:
    edit, stage = await ended(fail=code, message="Because.\nReally")
    assert (edit.status, edit.charged, edit.image_urls) == ("failed", "no", ())
    assert isinstance(edit.error, TaskFailed)
    assert (edit.error.code, edit.error.retryable) == (code, retryable)
    assert edit.error.message.endswith(": Because. Really.")
    assert "edit_image" in edit.error.fix
    assert stage.emulator.ledger.charged_total == 0


async def test_a_cancelled_task_costs_nothing() -> None:
    edit, _ = await ended(cancelled=True)
    assert (edit.status, edit.charged) == ("cancelled", "no")
    assert edit.error is not None
    assert edit.error.code == "request_cancelled"


async def test_fewer_images_than_asked_for_are_a_result_and_cost_less() -> None:
    edit, stage = await ended(images=2)
    assert (edit.status, len(edit.image_urls), edit.error) == ("completed", 2, None)
    assert edit.usage == Usage(credits_used=3)
    assert stage.emulator.ledger.charged_total == 3


async def test_no_image_at_all_is_a_failure_without_a_charge() -> None:
    edit, _ = await ended(images=0)
    assert (edit.status, edit.charged) == ("completed", "no")
    assert edit.error is not None
    assert edit.error.code == "generation_failed_no_content"


async def test_a_stuck_task_keeps_answering_until_patience_ends() -> None:
    async with open_stage() as stage:
        stage.emulator.outcome(stuck_at=40)
        edit = await stage.editor.edit(request())
        still = await stage.editor.wait(str(edit.task_id), timeout=3600)
        assert (still.status, still.progress, still.error) == ("processing", 40, None)
        assert 60 <= len(stage.looks) <= 90
        assert max(b - a for a, b in pairwise(stage.looks)) <= 60


@pytest.mark.parametrize("progress", ["absent", "jumping", "stuck"])
async def test_odd_progress_does_not_hide_the_end(progress: str) -> None:
    async with open_stage() as stage:
        stage.emulator.outcome(progress=progress)
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(str(edit.task_id), timeout=300)
        assert (done.status, done.progress) == ("completed", 100)
        assert stage.looks[-1] <= 70


async def test_a_status_nobody_knows_is_polled_again() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        body = {"id": edit.task_id, "status": "polishing", "progress": 50}
        stage.emulator.fault(endpoint="query", kind="status", code=200, body=body)
        await anyio.sleep(3)
        seen = await stage.editor.get(str(edit.task_id))
        assert (seen.status, seen.progress, seen.error) == ("unknown", 50, None)
        assert (await stage.editor.wait(str(edit.task_id), timeout=300)).status == "completed"


async def test_a_late_contradiction_does_not_bring_a_settled_task_back() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        done = await stage.editor.wait(str(edit.task_id), timeout=300)
        body = {"id": edit.task_id, "status": "processing"}
        stage.emulator.fault(endpoint="query", kind="status", code=200, body=body, times=0)
        assert await stage.editor.get(str(edit.task_id)) == done


# --- looks that fail -------------------------------------------------------------------------

BROKEN: list[dict[str, Any]] = [
    {"kind": "refuse"},
    {"kind": "drop_before"},
    {"kind": "truncate"},
    {"kind": "empty"},
    {"kind": "garbage_json"},
    {"kind": "html", "code": 502},
    {"kind": "html", "code": 200},
    {"kind": "status", "code": 500},
    {"kind": "status", "code": 503, "retry_after": 1},
    {"kind": "status", "code": 429, "retry_after": 20},
    {"kind": "delay", "seconds": 70},
    {"kind": "status", "code": 200, "body": "[" * 900 + "]" * 900},
    {"kind": "status", "code": 200, "body": '{"status": 1e999, "progress": NaN, "created": 1e308}'},
]


@pytest.mark.parametrize("fault", BROKEN, ids=lambda fault: str(fault)[:50])
async def test_a_wait_survives_failed_polls(fault: dict[str, Any]) -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        stage.emulator.fault(endpoint="query", times=3, **fault)
        done = await stage.editor.wait(str(edit.task_id), timeout=600)
        assert (done.status, done.error) == ("completed", None)


async def test_failed_polls_are_spaced_and_never_closer_than_asked() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        stage.emulator.fault(endpoint="query", kind="status", code=429, retry_after=40, times=2)
        await stage.editor.wait(str(edit.task_id), timeout=600)
        first, second, third = stage.looks[:3]
        assert second - first >= 40
        assert third - second >= 40


async def test_the_wait_asked_for_is_kept_by_the_next_wait() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        stage.emulator.fault(endpoint="query", kind="status", code=429, retry_after=40)
        for _ in range(20):
            await stage.editor.wait(str(edit.task_id), timeout=5)
        first, second = stage.looks[:2]
        assert second - first >= 40


async def test_a_wait_that_only_failed_says_why_and_keeps_what_was_known() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        stage.emulator.fault(endpoint="query", kind="html", code=502, times=0)
        still = await stage.editor.wait(str(edit.task_id), timeout=50)
        assert isinstance(still.error, ReadFailed)
        assert (still.task_id, still.status, still.charged) == (
            edit.task_id,
            "pending",
            "reserved",
        )
        assert still.usage == RESERVED
        looked = await stage.editor.get(str(edit.task_id))
        assert isinstance(looked.error, ReadFailed)
        assert looked.task_id == edit.task_id


async def test_a_task_that_was_seen_is_asked_for_three_times_before_it_is_believed_gone() -> None:
    async with open_stage() as stage:
        edit = await stage.editor.edit(request())
        stage.emulator.forget(str(edit.task_id))
        gone = await stage.editor.wait(str(edit.task_id), timeout=600)
        assert isinstance(gone.error, Refused)
        assert (gone.error.code, gone.task_id) == ("not_found", edit.task_id)
        assert len(stage.looks) == 3
        assert stage.looks[-1] < 60


@pytest.mark.parametrize("ask", ["get", "wait"])
@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        ({}, "no"),
        ({"kind": "html", "code": 404}, "unknown"),
        ({"kind": "html", "code": 200}, "unknown"),
    ],
    ids=["the API's own word", "a gateway's", "a page"],
)
async def test_an_id_the_provider_does_not_know_keeps_its_name_and_was_not_charged(
    ask: str, fault: dict[str, Any], charged: str
) -> None:
    """Unless it is not the API that says so."""
    async with open_stage() as stage:
        name = "task-unified-1-abc"
        if fault:
            stage.emulator.fault(endpoint="query", times=0, **fault)
        edit = (
            await stage.editor.get(name)
            if ask == "get"
            else await stage.editor.wait(name, timeout=10)
        )
        assert (edit.task_id, edit.status, edit.charged) == (name, "unknown", charged)
        assert isinstance(edit.error, Refused if fault.get("code", 404) == 404 else ReadFailed)


async def test_a_task_that_was_paid_for_is_not_said_to_be_free_because_the_provider_lost_it() -> (
    None
):
    journal = memory()
    async with open_stage(journal=journal) as stage:
        edit = await stage.editor.edit(request())
        stage.emulator.forget(str(edit.task_id))
        gone = await stage.editor.wait(str(edit.task_id), timeout=600)
        assert isinstance(gone.error, Refused)
        assert (gone.error.code, gone.charged) == ("not_found", "reserved")


@TRIO_IF_THOROUGH
async def test_what_is_older_than_a_month_is_forgotten_also_while_the_editor_is_open() -> None:
    journal = memory()
    async with open_stage(journal=journal, run_seconds=1) as stage:
        for handle, age in (("edit-1", 29.9), ("edit-2", 28.0)):
            ask = ClaimRequest(
                handle=handle, owner=OWNER, fingerprint=handle, n=1, prompt=handle, holder=""
            )
            await journal.claim(ask, now=T0 - age * DAY, window=0, lease=20, allowance=Allowance())
        assert len(await stage.editor.recent()) == 2
        await anyio.sleep(0.9 * DAY)
        assert len(await stage.editor.recent()) == 2
        await anyio.sleep(0.2 * DAY)
        assert [past.prompt for past in await stage.editor.recent()] == ["edit-2"]


@pytest.mark.parametrize("ask", ["get", "wait"])
async def test_a_handle_of_an_earlier_life_is_not_said_to_be_free(ask: str) -> None:
    async with open_stage() as stage:
        with pytest.raises(ReadFailed) as failed:
            await (
                stage.editor.get("edit-0123456789abcdef")
                if ask == "get"
                else stage.editor.wait("edit-0123456789abcdef", timeout=10)
            )
        assert (failed.value.code, failed.value.charged) == ("not_found", "unknown")


# --- when links die --------------------------------------------------------------------------


async def test_links_expire_a_day_after_the_earliest_the_task_can_have_ended() -> None:
    async with open_stage() as stage:
        task = await stage.client.submit(request(), idempotency_key="elsewhere")
        await anyio.sleep(5000)
        edit = await stage.editor.get(task.id)
        assert edit.expires_at == datetime.fromtimestamp(T0 + 60 + 86400, UTC)


@pytest.mark.parametrize(
    ("body", "expires"),
    [
        ({"created": T0 - 100, "duration": 41}, T0 - 59),
        ({"created": T0 - 100}, T0 - 100),
        ({"created": T0 + 10**6, "duration": 9}, T0),
        ({"created": 9e9, "duration": 9e9}, T0),
        ({"duration": 41}, T0),
        ({}, T0),
    ],
)
async def test_an_odd_clock_at_the_provider_does_not_promise_a_longer_life(
    body: dict[str, Any], expires: float
) -> None:
    async with open_stage() as stage:
        whole = {"status": "completed", "results": ["https://a.example/1.png"], **body}
        stage.emulator.fault(endpoint="query", kind="status", code=200, body=whole)
        edit = await stage.editor.get("task-1")
        assert edit.expires_at is not None
        assert edit.expires_at.timestamp() == pytest.approx(expires + 86400, abs=0.5)


async def test_an_edit_nobody_knows_the_end_of_blocks_its_repeat_beyond_the_window() -> None:
    async with open_stage(window=600.0) as stage:
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        assert (await stage.editor.edit(request())).status == "unknown"
        await anyio.sleep(3 * 3600)
        again = await stage.editor.edit(request())
        assert (again.status, again.deduplicated) == ("unknown", True)
        assert stage.emulator.ledger.charges == 1
        meant = await stage.editor.edit(request(), force_new=True)
        assert (meant.status, meant.deduplicated) == ("pending", False)


# --- in real time, with the journal in its file ----------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_no_step_of_an_edit_blocks_the_event_loop(tmp_path: Path, no_blocking: None) -> None:
    journal = SqlJournal(tmp_path / "data" / "journal.sqlite3")
    async with open_stage(journal=journal, is_emulator=True, speed=30.0, run_seconds=45) as stage:
        with anyio.fail_after(20):
            started = await stage.editor.edit(request())
            done = await stage.editor.wait(str(started.task_id), timeout=10)
            assert (await stage.editor.edit(request())).deduplicated
            assert await stage.editor.get(str(started.task_id)) == done
            assert len(await stage.editor.recent()) == 1
    assert done.status == "completed"
    journal.close()
