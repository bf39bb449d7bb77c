"""When to poll again: numbers in, a moment out; and whether it is as few polls as it could be."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import waiting as simulation
from wan25_mcp.polling.rate_limit import RateLimit
from wan25_mcp.polling.schedule import (
    CALLBACK_EXPECTED,
    NOBODY_WAITS,
    SOMEBODY_WAITS,
    Estimate,
    Pauses,
    Polled,
    estimate,
    next_poll,
    pause_after_failure,
)

COLD = estimate()
PAUSES = (SOMEBODY_WAITS, CALLBACK_EXPECTED, NOBODY_WAITS)

seconds = st.floats(0, 1e10)
chances = st.floats(0, 1, exclude_max=True)
percents = st.none() | st.integers(0, 100)
polls = st.lists(st.tuples(seconds, percents), max_size=12)
journals = st.lists(seconds, max_size=30)

Shown = tuple[float, int | None]
"""What a poll shows: the age of the task, and percent."""


def after(*shown: Shown) -> Polled:
    """What is known after these polls."""
    last = Polled()
    for age, progress in shown:
        last = last.then(age, progress)
    return last


def pause(*shown: Shown, expected: Estimate = COLD) -> float:
    """From the last of these polls to the next."""
    return next_poll(shown[-1][0], expected, after(*shown), random=0.0) - shown[-1][0]


def polled(
    run: float,
    progress: simulation.Progress = lambda _: None,
    *,
    expected: Estimate = COLD,
    pauses: Pauses = SOMEBODY_WAITS,
) -> list[float]:
    """The ages at which a run of this length is polled."""
    ages, last = [0.0], Polled()
    while ages[-1] < run:
        ages.append(next_poll(ages[-1], expected, last, pauses=pauses))
        last = last.then(ages[-1], progress(ages[-1]))
    return ages[1:]


# --- the first poll -------------------------------------------------------------------------------


def test_without_past_runs_there_is_one_early_poll_and_then_one_when_the_first_are_done() -> None:
    early, likely, *_ = polled(70)
    assert 8 < early < 15
    assert 30 < likely < 40


def test_with_past_runs_the_first_poll_comes_when_one_in_ten_was_done() -> None:
    past = [40.0 + number for number in range(100)]
    first = polled(200, expected=estimate(past))[0]
    assert 45 < first < 55


@given(st.permutations([40.0, 60.0, 61.0, 90.0, 200.0]))
def test_the_order_of_past_runs_means_nothing(past: list[float]) -> None:
    assert estimate(past) == estimate([40.0, 60.0, 61.0, 90.0, 200.0])


@pytest.mark.parametrize("odd", [2.0, 300.0])
def test_one_past_run_alone_decides_nothing(odd: float) -> None:
    assert estimate([odd]) == COLD


def test_a_few_past_runs_make_polls_earlier_and_only_many_make_them_later() -> None:
    assert estimate([20.0] * 3).likely == 20
    assert estimate([300.0] * 9) == COLD
    assert estimate([300.0] * 30) == Estimate(300, 300)


@pytest.mark.parametrize("run", [2.0, 5.0, 10.0])
def test_short_runs_are_noticed_soon_where_past_runs_or_the_provider_say_so(run: float) -> None:
    for expected in (estimate([run] * 3), estimate(estimated_time=run)):
        ages = polled(run, expected=expected)
        assert ages[-1] - run <= 2.2
        assert len(ages) <= 4


@given(seconds)
def test_the_providers_estimate_makes_polls_earlier_and_never_later(reported: float) -> None:
    expected = estimate(estimated_time=reported)
    assert expected.early <= COLD.early
    assert expected.likely <= COLD.likely


def test_an_estimate_that_is_too_short_costs_a_few_polls() -> None:
    assert len(polled(70, expected=estimate(estimated_time=1))) <= len(polled(70)) + 15


# --- the next poll --------------------------------------------------------------------------------


@given(seconds, polls, journals, st.sampled_from(PAUSES), seconds, chances)
def test_a_poll_keeps_its_bounds_whatever_was_seen(
    age: float,
    shown: list[Shown],
    past: list[float],
    pauses: Pauses,
    not_before: float,
    chance: float,
) -> None:
    expected, last = estimate(past), after(*shown)
    poll = next_poll(age, expected, last, pauses=pauses, not_before=not_before, random=chance)
    earliest = max(age, last.age + pauses.shortest, not_before)
    latest = max(earliest, expected.likely, last.age + pauses.longest)
    assert earliest <= poll <= latest * 1.06 + 1e-6


@given(st.floats(0, 300), polls, chances)
def test_without_past_runs_no_pause_is_longer_than_the_longest(
    age: float, shown: list[Shown], chance: float
) -> None:
    last = after(*sorted(shown, key=lambda one: one[0]))
    poll = next_poll(max(age, last.age), COLD, last, random=chance)
    longest = max(SOMEBODY_WAITS.longest, COLD.likely)
    assert poll - max(age, last.age) <= longest * 1.06 + last.age * 1e-9


def test_the_provider_is_not_polled_for_as_long_as_it_asked() -> None:
    free = next_poll(30, COLD, after((30, 90)))
    assert free < 60
    assert next_poll(30, COLD, after((30, 90)), not_before=90) == 90
    assert next_poll(30, COLD, after((30, 90)), not_before=31) == pytest.approx(free, rel=0.02)


def test_who_comes_late_to_a_task_polls_at_once() -> None:
    assert next_poll(90, COLD, Polled()) == 90
    assert next_poll(90, COLD, after((20, 0))) == 90


def test_who_asks_early_does_not_change_when_the_first_are_likely_to_be_done() -> None:
    assert next_poll(5, COLD, after((5, None)), random=0) == COLD.early
    assert next_poll(20, COLD, after((20, None)), random=0) == COLD.likely


def test_when_nothing_is_told_pauses_grow_with_the_age() -> None:
    pauses = [pause((age, None)) for age in (100, 200, 400, 800, 1600)]
    assert pauses == sorted(pauses)
    assert pauses[0] > 3
    assert pauses[-1] == SOMEBODY_WAITS.longest


def test_the_further_the_progress_the_sooner_the_next_poll() -> None:
    pauses = [pause((30, share * 2 // 3), (40, share)) for share in (30, 45, 60, 75, 90)]
    assert pauses == sorted(pauses, reverse=True)
    assert pauses[0] > 2 * pauses[-1]


@given(st.floats(25, 400), st.integers(0, 5))
def test_steady_progress_is_followed_to_its_end(run: float, lag: int) -> None:
    """From three steady reports on, the next poll is never more than a fifth late."""
    shown = after(
        *((run * at, int(100 * (at - lag / 100) / (1 - lag / 100))) for at in (0.3, 0.5, 0.7))
    )
    assert next_poll(run * 0.7, COLD, shown) < max(run * 1.2, run * 0.7 + 2)


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
def test_progress_that_lies_is_soon_not_believed(lie: list[Shown]) -> None:
    assert pause(*lie) == pause((40, None))


@pytest.mark.parametrize("percent", [0, 1, 50, 99, 100])
def test_progress_that_stands_still_costs_a_few_polls(percent: int) -> None:
    silent = polled(600)
    assert len(silent) < 40
    assert len(polled(600, lambda _: percent)) <= len(silent) + 4


@given(st.lists(st.integers(0, 100), min_size=100, max_size=100))
def test_whatever_progress_says_polls_stay_few_and_the_end_is_noticed(said: list[int]) -> None:
    reported = iter(said)
    ages = polled(300, lambda _: next(reported))
    assert len(ages) <= 60
    assert ages[-1] <= 300 * 1.23


def test_jitter_keeps_tasks_of_one_moment_apart_without_moving_them_far() -> None:
    chance = random.Random(7)
    ages = [next_poll(0, COLD, Polled(), random=chance.random()) for _ in range(200)]
    earliest = next_poll(0, COLD, Polled(), random=0.0)
    assert len({round(age, 3) for age in ages}) > 150
    assert max(ages) - min(ages) > 0.05 * earliest
    assert all(0 <= age - earliest <= 0.0601 * earliest for age in ages)


def test_the_less_a_poll_is_worth_the_fewer_are_made() -> None:
    waited, called, left = (len(polled(200, pauses=pauses)) for pauses in PAUSES)
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


def line(pace: RateLimit, count: int, wanted: float) -> tuple[RateLimit, list[float]]:
    """When so many looks are made that are all wanted at one moment."""
    moments = []
    for _ in range(count):
        pace, moment = pace.admit(wanted)
        moments.append(moment)
    return pace, moments


def test_a_pace_is_free_until_the_provider_refuses() -> None:
    assert line(RateLimit(), 100, 5.0)[1] == [5.0] * 100


def test_after_a_refusal_all_tasks_stand_in_one_line_evenly() -> None:
    pace = replace(RateLimit(), usual=0.5).limited(10.0, requested=30.0)
    _, moments = line(pace, 50, 12.0)
    assert moments[0] == 40.0
    gaps = [after - before for before, after in pairwise(moments)]
    assert gaps == pytest.approx([1.0] * 49)


def test_polls_refused_together_slow_the_pace_once() -> None:
    once = RateLimit().limited(10.0)
    assert once.limited(10.1).limited(10.2).gap == once.gap
    assert once.limited(10.1, requested=60).closed_until == pytest.approx(70.1)


def test_a_pace_refused_again_and_again_has_a_limit_and_answers_free_it() -> None:
    pace = RateLimit()
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
    pace = RateLimit()
    for tick in range(400):
        pace, _ = pace.admit(tick * 0.1)
    assert pace.limited(40.0).gap == pytest.approx(0.2, rel=0.1)


@given(
    st.lists(
        st.tuples(st.floats(0, 50), st.sampled_from(["look", "refused", "answered"])), max_size=60
    )
)
def test_no_poll_comes_before_it_is_wanted_or_while_closed(steps: list[tuple[float, str]]) -> None:
    pace, now = RateLimit(), 0.0
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


@pytest.mark.parametrize("name", simulation.BARS)
def test_over_all_run_times_polls_are_few_and_the_end_is_noticed_soon(name: str) -> None:
    """A small benchmark, of seeds of its own; single rows are the benchmark's to judge."""
    tells, bar = simulation.BARS[name]
    ours = simulation.mean(
        [
            simulation.row(draw, notify, warm=warm, runs=40, seed="test").mean
            for draw in simulation.RUNS.values()
            for notify in tells
            for warm in (True, False)
        ]
    )
    assert ours.polls <= bar.polls
    assert ours.late <= bar.late


@pytest.mark.parametrize("notify", simulation.MISLEADING, ids=lambda one: one.__name__)
def test_misleading_progress_costs_little(notify: simulation.Tell) -> None:
    row = simulation.row(simulation.lognormal, notify, warm=True, runs=60, seed="test")
    assert row.middle["ours"].polls <= 12
    assert row.middle["ours"].late <= 0.08
