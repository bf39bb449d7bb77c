"""The law of statuses, and what they say about the money."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.errors.rows import Charged
from wan25_mcp.provider.statuses import (
    SETTLED,
    SPELLINGS,
    STATUSES,
    Status,
    charged_for,
    is_settled,
    read_status,
)


def test_every_status_has_its_row_and_none_becomes_a_submit_again() -> None:
    assert set(STATUSES) == set(get_args(Status))
    assert not any("submitting" in following for following in STATUSES.values())


def test_three_statuses_are_settled_and_no_other() -> None:
    assert {status for status in get_args(Status) if is_settled(status)} == {
        "completed",
        "failed",
        "cancelled",
    }
    assert {"completed", "failed", "cancelled"} == SETTLED


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("pending", "pending"),
        ("processing", "processing"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("cancelled", "cancelled"),
        ("canceled", "cancelled"),
        ("Completed", "completed"),
        (" SUCCEEDED ", "completed"),
        ("success", "completed"),
        ("queued", "pending"),
        ("in_progress", "processing"),
        ("archived", "unknown"),
        ("submitting", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
        (3, "unknown"),
        (True, "unknown"),
        (["completed"], "unknown"),
        ({"completed": 1}, "unknown"),
    ],
)
def test_a_word_of_the_provider_is_read_as_one_of_our_statuses(word: object, status: str) -> None:
    assert read_status(word) == status


@given(st.text())
def test_any_word_reads_as_a_status_and_only_known_spellings_settle_a_task(word: str) -> None:
    status = read_status(word)
    assert status in get_args(Status)
    assert is_settled(status) == (SPELLINGS.get(word.strip().lower()) in SETTLED)


@pytest.mark.parametrize(
    ("status", "reserved", "used", "charged"),
    [
        ("pending", 1.5, None, "reserved"),
        ("pending", None, None, "reserved"),
        ("processing", None, None, "reserved"),
        ("processing", 1.5, 1.5, "reserved"),
        ("completed", None, 1.5, "yes"),
        ("completed", 1.5, None, "yes"),
        ("completed", None, None, "yes"),
        ("completed", 1.5, 0.0, "no"),
        ("failed", None, None, "no"),
        ("failed", 1.5, None, "no"),
        ("failed", None, 0.0, "no"),
        ("failed", None, 1.5, "yes"),
        ("cancelled", None, None, "no"),
        ("cancelled", 1.5, 0.5, "yes"),
        ("unknown", None, None, "unknown"),
        ("unknown", 0.0, None, "unknown"),
        ("unknown", 1.5, None, "reserved"),
        ("submitting", None, None, "unknown"),
    ],
)
def test_what_was_charged_follows_from_status_and_usage(
    status: Status, reserved: float | None, used: float | None, charged: Charged
) -> None:
    assert charged_for(status, credits_reserved=reserved, credits_used=used) == charged
