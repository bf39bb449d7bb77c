"""The law of an intent's stages."""

from __future__ import annotations

from typing import get_args

import pytest

from wan25_mcp.journal.records import Stage
from wan25_mcp.journal.stages import ABANDONED, STAGES, before


def test_every_stage_has_its_row_and_two_are_final() -> None:
    assert set(STAGES) == set(get_args(Stage))
    assert {stage for stage, following in STAGES.items() if not following} == {
        "accepted", "refused"
    }  # fmt: skip


def test_only_an_intent_is_sent_and_what_may_have_been_accepted_never_again() -> None:
    assert before("sending") == ("intent",)
    assert "sending" not in STAGES["unknown"]
    assert "intent" not in STAGES["unknown"]


@pytest.mark.parametrize(
    ("stage", "origins"),
    [
        ("intent", {"sending"}),
        ("accepted", {"sending", "unknown"}),
        ("refused", {"intent", "sending"}),
        ("unknown", {"sending"}),
    ],
)
def test_a_stage_is_reached_from_those_that_name_it(stage: Stage, origins: set[Stage]) -> None:
    assert set(before(stage)) == origins


def test_what_a_dead_process_leaves_moves_by_the_same_law() -> None:
    assert all(end in STAGES[stage] for stage, end in ABANDONED.items())
