"""When to look again: numbers in, a moment out; and whether it is as few looks as it could be."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import waiting as simulation
from wan25_mcp.polling.estimate import Belief, Guess, expected
from wan25_mcp.polling.rate_limit import Pace
from wan25_mcp.polling.schedule import (
    A_CALLBACK_WILL_TELL,
    NOBODY_WAITS,
    SOMEBODY_WAITS,
    Haste,
    next_look,
    pause_after_failure,
)
from wan25_mcp.polling.trend import Report

COLD = expected()
HASTES = (SOMEBODY_WAITS, A_CALLBACK_WILL_TELL, NOBODY_WAITS)

seconds = st.floats(0, 1e10)
chances = st.floats(0, 1, exclude_max=True)
percents = st.none() | st.integers(0, 100)
reports = st.lists(st.builds(Report, seconds, percents), max_size=12)
journals = st.lists(seconds, max_size=30)


def beyond(belief: Belief, seconds: float) -> float:
    """The share of runs believed to be longer."""
    longer = sum(guess.beyond(math.log(seconds)) for guess in belief)
    return longer / sum(guess.weight for guess in belief)


def told(*seen: tuple[float, int | None]) -> list[Report]:
    return [Report(age, progress) for age, progress in seen]


def pause(*seen: tuple[float, int | None], prior: Belief = COLD) -> float:
    """From the last report to the next look."""
    return next_look(seen[-1][0], prior, told(*seen)) - seen[-1][0]


# --- what is expected -----------------------------------------------------------------------------


def test_without_past_runs_most_take_40_to_120_seconds() -> None:
    assert 0.65 < beyond(COLD, 40) - beyond(COLD, 120) < 0.8


@given(journals, st.none() | seconds)
def test_a_belief_weighs_one_in_all_and_is_never_certain(
    past: list[float], estimated: float | None
) -> None:
    belief = expected(past, estimated)
    assert sum(guess.weight for guess in belief) == pytest.approx(1)
    assert all(guess.spread >= 0.01 for guess in belief)
    assert beyond(belief, 1200) > 0
    assert beyond(belief, 5) < 1


@given(st.permutations([40.0, 60.0, 61.0, 90.0, 200.0]))
def test_the_order_of_past_runs_means_nothing(past: list[float]) -> None:
    assert expected(past) == expected([40.0, 60.0, 61.0, 90.0, 200.0])


def test_the_more_past_runs_agree_the_more_they_are_believed() -> None:
    near = [beyond(expected([30.0] * n), 28) - beyond(expected([30.0] * n), 33) for n in (0, 2, 20)]
    assert near == sorted(near)
    assert near[2] > 0.8


def test_two_kinds_of_past_runs_stay_two() -> None:
    belief = expected([45.0, 46, 44, 47, 45] * 8 + [140.0, 138, 143, 141, 140] * 8)
    assert beyond(belief, 60) - beyond(belief, 120) < 0.06


def test_an_estimate_moves_the_expectation_half_way_and_nonsense_moves_it_not_far() -> None:
    assert expected(estimated=30) == COLD
    assert expected(estimated=0) == expected(estimated=math.inf) == COLD
    assert (
        beyond(COLD, 69) < beyond(expected(estimated=60), 69) < beyond(expected(estimated=1e9), 69)
    )
    assert beyond(expected(estimated=1e9), 600) < 0.2


# --- the next look --------------------------------------------------------------------------------


@given(
    st.floats(0, 300),
    st.lists(st.builds(Report, st.floats(0, 300), st.integers(0, 100)), max_size=8),
    chances,
)
def test_reports_in_any_order_give_a_look_to_come(
    age: float, seen: list[Report], chance: float
) -> None:
    assert age <= next_look(age, COLD, seen, chance=chance) <= max(age + 2, 360)


@given(seconds, reports, journals, st.sampled_from(HASTES), seconds, chances)
def test_a_look_keeps_its_bounds_whatever_was_seen(
    age: float,
    seen: list[Report],
    past: list[float],
    haste: Haste,
    not_before: float,
    chance: float,
) -> None:
    age, not_before = min(age, 1e9), min(not_before, 1e9)
    look = next_look(age, expected(past), seen, haste=haste, not_before=not_before, chance=chance)
    last = min(seen[-1].age, age) if seen else 0.0
    earliest = max(age, last + haste.shortest, not_before)
    assert earliest <= look <= max(earliest, last + haste.longest)


def test_the_provider_is_left_alone_for_as_long_as_it_asked() -> None:
    free = next_look(30, COLD, told((30, 90)))
    assert free < 60
    assert next_look(30, COLD, told((30, 90)), not_before=90) == 90
    assert next_look(30, COLD, told((30, 90)), not_before=31) == pytest.approx(free, rel=0.02)


def test_the_first_look_comes_when_the_first_runs_are_likely_to_be_done() -> None:
    assert 15 < next_look(0, COLD) < 45
    look = next_look(60, expected([70] * 100), told((60, None)))
    assert 69.5 < look < 73


def test_who_comes_late_to_a_task_looks_at_once() -> None:
    assert next_look(90, COLD) == 90
    assert next_look(90, COLD, told((20, 0))) == 90


def test_when_nothing_is_told_pauses_grow_with_the_age() -> None:
    pauses = [pause((age, None)) for age in (100, 200, 400, 800, 1600)]
    assert pauses == sorted(pauses)
    assert pauses[0] > 3
    assert pauses[-1] == SOMEBODY_WAITS.longest


def test_the_further_the_progress_the_sooner_the_next_look() -> None:
    pauses = [pause((20, share * 2 // 3), (30, share)) for share in (30, 45, 60, 75, 90)]
    assert pauses == sorted(pauses, reverse=True)


@given(st.floats(25, 400), st.integers(0, 5))
def test_steady_progress_is_followed_to_its_end(run: float, lag: int) -> None:
    """From three steady reports on, the next look is never more than a fifth late."""
    seen = told(
        *((run * at, int(100 * (at - lag / 100) / (1 - lag / 100))) for at in (0.3, 0.5, 0.7))
    )
    assert next_look(run * 0.7, COLD, seen) < max(run * 1.2, run * 0.7 + 2)


@pytest.mark.parametrize(
    "lie",
    [
        [(20, 99), (22, 99), (24, 99), (27, 99), (30, 99), (35, 99), (40, 99)],
        [(20, 100), (22, 100), (24, 100), (27, 100), (30, 100), (35, 100), (40, 100)],
        [(20, 80), (25, 60), (30, 40), (35, 20), (40, 0)],
        [(20, 90), (25, 3), (30, 77), (35, 12), (40, 12)],
        [(20, 1), (25, 1), (30, 1), (35, 1), (40, 1)],
    ],
    ids=["99 for ever", "100 before the end", "falling", "jumping", "1 for ever"],
)
def test_progress_that_lies_is_soon_not_believed(lie: list[tuple[float, int]]) -> None:
    honest = pause((40, None))
    assert honest / 2.5 < pause(*lie) < honest * 2.5


def test_progress_that_lies_about_the_end_does_not_cause_looks_without_end() -> None:
    seen: list[Report] = []
    age = 0.0
    while age < 600:
        age = next_look(age, COLD, seen[-12:])
        seen.append(Report(age, 99))
    assert len(seen) < 45


def test_jitter_keeps_tasks_of_one_moment_apart_without_moving_them_far() -> None:
    chance = random.Random(7)
    looks = [next_look(0, COLD, chance=chance.random()) for _ in range(200)]
    middle = next_look(0, COLD)
    assert len({round(look, 3) for look in looks}) > 150
    assert max(looks) - min(looks) > 0.05 * middle
    assert all(abs(look - middle) <= 0.0301 * middle for look in looks)


@given(seconds, reports, journals, chances)
def test_the_same_knowledge_gives_the_same_look(
    age: float, seen: list[Report], past: list[float], chance: float
) -> None:
    first = next_look(age, expected(past), seen, chance=chance)
    assert first == next_look(age, expected(past), seen, chance=chance)


def test_the_less_a_look_is_worth_the_fewer_are_made() -> None:
    def looks(haste: Haste) -> int:
        seen: list[Report] = []
        age = 0.0
        while age < 200:
            age = next_look(age, COLD, seen, haste=haste)
            seen.append(Report(age))
        return len(seen)

    waited, called, left = (looks(haste) for haste in HASTES)
    assert waited > 2 * called
    assert waited > 2 * left
    assert max(called, left) <= 4


# --- refusals -------------------------------------------------------------------------------------


@given(st.integers(1, 10_000), st.none() | st.floats(0, 1e6), chances)
def test_after_failures_the_pause_grows_and_is_never_shorter_than_asked(
    failures: int, asked: float | None, chance: float
) -> None:
    pause = pause_after_failure(failures, asked, chance)
    assert pause >= max(asked or 0, 4)
    assert pause <= 1.06 * max(60, asked or 0)
    assert pause_after_failure(failures + 1, asked, chance) >= pause


def line(pace: Pace, count: int, wanted: float) -> tuple[Pace, list[float]]:
    """When so many looks are made that are all wanted at one moment."""
    moments = []
    for _ in range(count):
        pace, moment = pace.admit(wanted)
        moments.append(moment)
    return pace, moments


def test_a_pace_is_free_until_the_provider_refuses() -> None:
    assert line(Pace(), 100, 5.0)[1] == [5.0] * 100


def test_after_a_refusal_all_tasks_stand_in_one_line_evenly() -> None:
    pace = replace(Pace(), usual=0.5).limited(10.0, asked=30.0)
    _, moments = line(pace, 50, 12.0)
    assert moments[0] == 40.0
    gaps = [after - before for before, after in pairwise(moments)]
    assert gaps == pytest.approx([1.0] * 49)


def test_looks_refused_together_slow_the_pace_once() -> None:
    once = Pace().limited(10.0)
    assert once.limited(10.1).limited(10.2).gap == once.gap
    assert once.limited(10.1, asked=60).closed_until == pytest.approx(70.1)


def test_a_pace_refused_again_and_again_has_a_limit_and_answers_free_it() -> None:
    pace = Pace()
    for moment in range(0, 1000, 20):
        pace = pace.limited(float(moment))
    assert pace.gap == 10.0
    gaps = []
    while pace.gap:
        pace = pace.answered()
        gaps.append(pace.gap)
    assert gaps == sorted(gaps, reverse=True)
    assert len(gaps) > 1000


def test_a_refusal_halves_the_pace_of_late() -> None:
    pace = Pace()
    for tick in range(400):
        pace, _ = pace.admit(tick * 0.1)
    assert pace.limited(40.0).gap == pytest.approx(0.2, rel=0.1)


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.sampled_from(["look", "refused", "answered"])), max_size=60
    )
)
def test_no_look_comes_before_it_is_wanted_or_while_closed(steps: list[tuple[float, str]]) -> None:
    pace, now = Pace(), 0.0
    for passed, what in steps:
        now += passed
        if what == "look":
            pace, moment = pace.admit(now)
            assert moment >= max(now, pace.closed_until)
        elif what == "refused":
            pace = pace.limited(now, passed)
            assert pace.closed_until >= now + passed
        else:
            pace = pace.answered()
        assert 0 <= pace.gap <= 10


# --- how well it does -----------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(
    "tell", [*simulation.USEFUL, *simulation.NONE], ids=lambda one: one.__name__
)
def test_over_all_run_times_looks_are_few_and_the_end_is_noticed_soon(
    tell: simulation.Tell, *, warm: bool
) -> None:
    """A small benchmark, of seeds of its own; single rows are the benchmark's to judge."""
    rows = [
        simulation.row(draw, tell, warm=warm, runs=40, seed="test")
        for draw in simulation.RUNS.values()
    ]
    looks = sum(row.middle["ours"].looks for row in rows) / len(rows)
    late = sum(row.middle["ours"].late for row in rows) / len(rows)
    most_looks, most_late = (5.5, 0.037) if tell in simulation.USEFUL else (8.5, 0.055)
    assert looks <= most_looks
    assert late <= most_late


@pytest.mark.parametrize("tell", simulation.MISLEADING, ids=lambda one: one.__name__)
def test_misleading_progress_costs_little(tell: simulation.Tell) -> None:
    row = simulation.row(simulation.lognormal, tell, warm=True, runs=60, seed="test")
    assert row.middle["ours"].looks <= 12
    assert row.middle["ours"].late <= 0.08


def test_a_guess_is_a_share_of_runs() -> None:
    assert Guess(0.5, math.log(60), 0.3).beyond(math.log(60)) == pytest.approx(0.25)
