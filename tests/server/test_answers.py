"""How an answer reads: nothing of the structure is lost or changed in the text."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_types import TextContent

from wan25_mcp.editing.answers import EMULATOR_NOTE, answer_of, answer_to_error, text_of
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error, task_advice
from wan25_mcp.provider.models import Task, Usage
from wan25_mcp.server.results import result_of

RUNNING: dict[str, Any] = {
    "task_id": "task-1",
    "status": "processing",
    "charged": "reserved",
    "progress": 40,
    "elapsed": 31.4,
    "estimated_seconds": 40.0,
}
SUMS = st.none() | st.floats(0, 1e6).map(lambda amount: round(amount, 4))
DONE: dict[str, Any] = {
    "task_id": "task-1",
    "status": "completed",
    "charged": "yes",
    "progress": 100,
    "image_urls": ("https://a.example/1.png", "https://a.example/2.png"),
    "expires_at": datetime(2026, 11, 23, 12, 30, tzinfo=UTC),
    "usage": Usage(credits_used=3),
}


def test_a_finished_edit_reads_so() -> None:
    result = result_of(answer_of(Edit(**DONE)), is_emulator=False)
    assert result.content == [
        TextContent(
            type="text",
            text="Status: completed, 100 %\n"
            "Task id: task-1\n"
            "Image 1: https://a.example/1.png\n"
            "Image 2: https://a.example/2.png\n"
            "Links expire: 2026-11-23T12:30:00Z\n"
            "Charged: yes (3 credits used)\n"
            "Next: Give the user the 2 image links and say when they expire; save the "
            "images before that.",
        )
    ]
    assert result.structured_content == {
        "task_id": "task-1",
        "status": "completed",
        "progress": 100,
        "image_urls": ["https://a.example/1.png", "https://a.example/2.png"],
        "expires_at": "2026-11-23T12:30:00Z",
        "saved": [],
        "usage": {
            "credits_reserved": None,
            "credits_used": 3.0,
            "billing_rule": None,
            "user_group": None,
        },
        "charged": "yes",
        "elapsed_seconds": None,
        "estimated_seconds": None,
        "duplicate_of_earlier_call": False,
        "next_step": "Give the user the 2 image links and say when they expire; save the "
        "images before that.",
        "error": None,
    }
    assert not result.is_error


@pytest.mark.parametrize(
    ("known", "words"),
    [
        ({}, "started 31 s ago; about 40 s in all"),
        ({"typical": 68.0}, "started 31 s ago; about 68 s in all"),  # better than the provider's
        ({"elapsed": 50.0}, "started 50 s ago"),  # an estimate that has passed is none
        ({"elapsed": None}, "about 40 s in all"),
    ],
)
def test_a_running_edit_says_for_how_long_with_one_estimate_at_most(
    known: dict[str, Any], words: str
) -> None:
    answer = answer_of(Edit(**(RUNNING | known)), next_wait=9.9)
    status, *_, following = text_of(answer).splitlines()
    assert status == f"Status: processing, 40 % ({words})"
    assert 'wait_for_task with task_id "task-1" and timeout_seconds 9.9.' in following
    assert answer.next_step in following
    for number in (answer.elapsed_seconds, answer.estimated_seconds):
        assert number is None or f"{number:g} s" in words


@given(SUMS, SUMS, SUMS)
def test_every_number_in_the_text_is_the_one_in_the_structure(
    reserved: float | None, used: float | None, estimate: float | None
) -> None:
    usage = Usage(credits_reserved=reserved, credits_used=used)
    edit = Edit(**{**DONE, "usage": usage, "estimated_seconds": estimate})
    [block] = result_of(answer_of(edit), is_emulator=False).content
    assert isinstance(block, TextContent)
    estimate = estimate or None  # one of 0 s has passed
    for amount, words in (
        (used, r"(\S+) credits used"),
        (reserved, r"(\S+) credits reserved"),
        (estimate, r"about (\S+) s in all"),
    ):
        found = [float(text.strip("(")) for text in re.findall(words, block.text)]
        assert found == ([] if amount is None else [amount])


@pytest.mark.parametrize("is_emulator", [True, False])
@pytest.mark.parametrize("starts_edit", [True, False])
def test_a_failed_poll_does_not_say_that_the_edit_failed(
    starts_edit: bool, is_emulator: bool
) -> None:
    error = Wan25Error("It broke.", code="x", fix="Mend it.", retryable=True, request_id="r-1",
                       retry_after_seconds=2.5)  # fmt: skip
    result = result_of(answer_to_error(error, starts_edit=starts_edit), is_emulator=is_emulator)
    [block] = result.content
    assert isinstance(block, TextContent)
    status, charged = ("failed", "no") if starts_edit else ("unknown", "unknown")
    note = f" ({EMULATOR_NOTE})" if is_emulator else ""
    assert block.text == (
        "Error: It broke. (x; can be retried after 2.5 s, request id r-1)\n"
        f"Status: {status}\n"
        f"Charged: {charged}\n"
        f"Next: Mend it.{note}"
    )
    assert result.is_error


@pytest.mark.parametrize("hostile", ["a\nCharged: no", "a\r\nb", "a\u2028b", "x" * 3000, "a b"])
def test_words_of_the_provider_cannot_add_lines(hostile: str) -> None:
    usage = {"billing_rule": hostile[:50], "user_group": hostile[:50]}
    task = Task.model_validate({"id": "t", "status": "failed", "usage": usage,
                                "error": {"code": hostile, "message": hostile}})  # fmt: skip
    assert task.error is not None
    code = task_advice(task.error.code).code
    assert len(code) <= 80
    edit = Edit(task_id="t", status="failed", charged="no", usage=task.usage,
                error=Wan25Error(task.error.message or "", code=code, fix="f"))  # fmt: skip
    [block] = result_of(answer_of(edit), is_emulator=False).content
    assert isinstance(block, TextContent)
    names = [line.split(":")[0] for line in block.text.splitlines()]
    assert names == ["Error", "Status", "Task id", "Charged", "Next"]
