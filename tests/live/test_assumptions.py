"""What nobody could verify when this was written, each against the live service.

A failure is news, not a fault: it says what was assumed, on what ground ([S] specification, [V]
vendor documentation, [R] recorded, [C] vendor client, [I] inferred), and what was observed.
"""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from PIL import Image

from tests.live.conftest import Answer, Observed


def report(assumed: str, observed: Any, *, holds: bool) -> None:
    """Say both; fail when they differ."""
    print(f"\n  assumed:  {assumed}\n  observed: {observed}")
    assert holds, f"assumed: {assumed}; observed: {observed}"


def completed(observed: Observed) -> dict[str, Any]:
    if observed.last.get("status") != "completed":
        pytest.skip(f"the edit ended as {observed.last.get('status')}")
    return observed.last


def test_a_submit_is_answered_with_a_pending_task(observed: Observed) -> None:
    body = observed.submit.body
    report(
        "200 with an id, status pending and progress 0 [S]",
        (observed.submit.status, body),
        holds=observed.submit.status == 200
        and body["id"].startswith("task-")
        and body["status"] in ("pending", "processing")
        and body["progress"] == 0,
    )


def test_a_submit_reserves_credits_for_each_call(observed: Observed) -> None:
    usage = observed.submit.body.get("usage", {})
    report(
        "usage has credits_reserved > 0, billing_rule and user_group [S]",
        usage,
        holds=usage.get("credits_reserved", 0) > 0
        and {"billing_rule", "user_group"} <= usage.keys(),
    )


def test_a_submit_reports_a_request_id(observed: Observed) -> None:
    named = {"x-request-id", "x-oneapi-request-id"} & observed.submit.headers.keys()
    report("a header x-request-id or x-oneapi-request-id [C]", sorted(named), holds=bool(named))


def test_a_task_is_read_at_v1_tasks(observed: Observed) -> None:
    first = observed.looks[0][1]
    report(
        "GET /v1/tasks/{id}: 200, same id, a status, progress 0-100 [V]",
        (first.status, first.body),
        holds=first.status == 200
        and first.body["id"] == observed.submit.body["id"]
        and 0 <= first.body["progress"] <= 100,
    )


def test_statuses_are_of_the_known_set(observed: Observed) -> None:
    statuses = list(dict.fromkeys(look.body.get("status") for _, look in observed.looks))
    known = {"pending", "processing", "completed", "failed", "cancelled"}
    report("pending, processing, then a settled one [S, V]", statuses, holds=set(statuses) <= known)


def test_progress_never_falls(observed: Observed) -> None:
    progress = [look.body.get("progress") for _, look in observed.looks]
    report("progress rises [I]", progress, holds=progress == sorted(progress))


def test_a_running_task_reports_what_is_reserved_and_no_results(observed: Observed) -> None:
    running = [look.body for _, look in observed.looks[:-1]]
    if not running:
        pytest.skip("the edit was settled at the first look")
    report(
        "no results before completion [I]; usage.credits_reserved while running [C]",
        running[0],
        holds=all(not body.get("results") for body in running)
        and "credits_reserved" in running[0].get("usage", {}),
    )


def test_an_edit_takes_40_to_120_seconds(observed: Observed) -> None:
    seconds = observed.looks[-1][0]
    report("40 to 120 s [V]", f"{seconds:.0f} s", holds=20 <= seconds <= 240)


def test_a_completed_task_has_results(observed: Observed) -> None:
    task = completed(observed)
    report(
        "results: a list of https links, as many as n at most [V]",
        task.get("results"),
        holds=isinstance(task.get("results"), list)
        and len(task["results"]) == 1
        and task["results"][0].startswith("https://"),
    )


def test_a_completed_task_reports_what_it_used(observed: Observed) -> None:
    usage = completed(observed).get("usage")
    report("usage.credits_used [R]", usage, holds=(usage or {}).get("credits_used", 0) > 0)


def test_a_completed_task_reports_created_and_duration_and_no_completion_time(
    observed: Observed,
) -> None:
    task = completed(observed)
    report(
        "created and duration, and nothing that tells when it was completed [V]",
        sorted(task),
        holds={"created", "duration"} <= task.keys()
        and not [name for name in task if re.search(r"complete|finish|expire", name)],
    )


def test_the_credits_endpoint_reports_what_is_left(observed: Observed) -> None:
    body = observed.credits_before.body
    report(
        "GET /v1/credits: data.user and data.token with remaining_credits [V]",
        body,
        holds="remaining_credits" in body["data"]["user"]
        and "remaining_credits" in body["data"]["token"],
    )


def test_the_balance_falls_by_what_the_task_used(observed: Observed) -> None:
    task = observed.last
    assert observed.credits_after is not None
    before = observed.credits_before.body["data"]["user"]["remaining_credits"]
    after = observed.credits_after.body["data"]["user"]["remaining_credits"]
    used = task.get("usage", {}).get("credits_used", 0) if task["status"] == "completed" else 0
    report(
        f"{used} credits fewer; a failed task costs nothing [V]",
        f"{before} before, {after} after",
        holds=abs((before - after) - used) < 0.01,
    )


def test_an_unknown_task_is_404_in_an_envelope(observed: Observed) -> None:
    answer = _said(observed.unknown_task)
    report(
        '404 {"error": {code, message, type?}} [V]',
        (answer.status, answer.body),
        holds=answer.status == 404 and "message" in answer.body["error"],
    )


def test_a_wrong_key_is_401(observed: Observed) -> None:
    answer = _said(observed.wrong_key)
    report("401 [S]", (answer.status, answer.body), holds=answer.status == 401)


def test_a_result_downloads_without_the_key(observed: Observed) -> None:
    answer = _said(observed.result)
    kind = answer.headers.get("content-type")
    report(
        "200, image/png [V]",
        (answer.status, kind, len(answer.content)),
        holds=answer.status == 200 and answer.content.startswith(b"\x89PNG"),
    )


def test_a_result_has_about_1_6_megapixels(observed: Observed) -> None:
    answer = _said(observed.result)
    width, height = Image.open(io.BytesIO(answer.content)).size
    report(
        "about 1.6 megapixels [V]",
        f"{width}x{height}",
        holds=1.2e6 <= width * height <= 2.1e6,
    )


def test_the_cdn_refuses_a_librarys_name(observed: Observed) -> None:
    answer = _said(observed.result_for_library)
    report("403 for a default library User-Agent [R]", answer.status, holds=answer.status == 403)


def test_an_idempotency_key_is_honoured(observed: Observed) -> None:
    if observed.replay is None:
        pytest.skip("WAN25_LIVE_REPLAY=1 not given: it may cost another edit")
    report(
        "the same task, with the header idempotency-replayed: true [C]",
        (observed.replay.body.get("id"), observed.replay.headers.get("idempotency-replayed")),
        holds=observed.replay.body.get("id") == observed.submit.body["id"],
    )


def _said(answer: Answer | None) -> Answer:
    if answer is None:
        pytest.skip("the edit did not get that far")
    return answer
