"""How many polls a task costs and how late its end is noticed, by policy, in simulated time.

    python benchmarks/waiting.py [--runs N] [--seed TEXT] [--check]

Rows are run-time distributions, progress as it may be reported, and the journal: cold (empty) or
warm (20 to 200 past runs of the same distribution, in whole seconds, as the provider tells them).
Each cell is polls and lateness, at the median and at the 90th percentile. Polls count every query
to the settled one; the submit's answer is free. Lateness is (noticed − done) / run.

The oracle knows the distribution, but neither the run nor its progress: of the schedules with the
least mean lateness for a price of a poll, it keeps the one with as many polls on average as ours.

With --check, exits with 1 when a bar is missed. The mean of all runs is at most 8.5 polls and 5.3 %
late; with progress that tells the end (linear, curved, stepped) 7 polls and 4 %, with none (absent,
stuck) 10 and 5 %, with progress that misleads 9.5 and 6.5 %. In no row has another policy both
fewer polls and less lateness at the median. Cold journals are held to the bars too.
"""

from __future__ import annotations

import argparse
import math
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Final

from wan25_mcp.polling.schedule import Estimate, Polled, estimate, next_poll

Progress = Callable[[float], int | None]
"""Percent as reported at an age."""
Draw = Callable[[random.Random], float]
"""How long a run is."""
Tell = Callable[[random.Random, float], Progress]
"""What a run of this length reports."""

ESTIMATED: Final = 30.0

# --- runs ---------------------------------------------------------------------------------------


def fixed(_: random.Random) -> float:
    return 70.0


def lognormal(chance: random.Random) -> float:
    """Four of five between 40 and 120 s."""
    return chance.lognormvariate(math.log(69), 0.43)


def bimodal(chance: random.Random) -> float:
    return max(chance.gauss(45, 3) if chance.random() < 0.6 else chance.gauss(140, 12), 20.0)


def heavy(chance: random.Random) -> float:
    """Half under 46 s, one of ten over two minutes, one of a hundred over nine."""
    return 30.0 * float((1.0 - chance.random()) ** (-1 / 1.6))


RUNS: Final = {run.__name__: run for run in (fixed, lognormal, bimodal, heavy)}

# --- progress -----------------------------------------------------------------------------------


def linear(chance: random.Random, run: float) -> Progress:
    """Starts late by up to 15 % of the run."""
    lag = chance.uniform(0.0, 0.15)
    return lambda age: min(99, int(100 * max(0.0, age / run - lag) / (1 - lag)))


def curved(_: random.Random, run: float) -> Progress:
    """As the emulator tells it: quick at first, then slower."""
    return lambda age: 0 if age < 0.06 * run else int(99 * min(1.0, age / run) ** 0.7)


def stepped(chance: random.Random, run: float) -> Progress:
    step, smooth = chance.choice((10, 20, 25)), linear(chance, run)
    return lambda age: (smooth(age) or 0) // step * step


def absent(_: random.Random, __: float) -> Progress:
    return lambda _: None


def stuck(_: random.Random, __: float) -> Progress:
    return lambda _: 0


def freezing(chance: random.Random, run: float) -> Progress:
    """Rises too fast, then stands still for ever."""
    at, smooth = chance.choice((15, 40, 70, 90, 99)), linear(chance, run * chance.uniform(0.5, 1))
    return lambda age: min(at, smooth(age) or 0)


def jumping(chance: random.Random, _: float) -> Progress:
    return lambda _: chance.randint(0, 100)


def falling(_: random.Random, run: float) -> Progress:
    return lambda age: max(0, int(100 - 100 * age / run))


def clockwork(_: random.Random, __: float) -> Progress:
    """Knows the clock only: half after 14 s, nearly done for ever."""
    return lambda age: min(99, int(100 * (1 - math.exp(-age / 20))))


def done_at_once(_: random.Random, __: float) -> Progress:
    return lambda _: 100


USEFUL: Final = (linear, curved, stepped)
NONE: Final = (absent, stuck)
MISLEADING: Final = (freezing, jumping, falling, clockwork, done_at_once)

# --- policies -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run, or summed up."""

    polls: float
    late: float


def ours(run: float, progress: Progress, expected: Estimate, chance: random.Random) -> Outcome:
    polls, age, last = 0, 0.0, Polled()
    while True:
        age = next_poll(age, expected, last, random=chance.random())
        polls += 1
        if age >= run:
            return Outcome(polls, (age - run) / run)
        last = last.then(age, progress(age))


def paced(run: float, pause: float, factor: float = 1.0, longest: float = math.inf) -> Outcome:
    polls, age = 0, 0.0
    while age < run:
        age, polls, pause = age + pause, polls + 1, min(pause * factor, longest)
    return Outcome(polls, (age - run) / run)


OTHERS: Final[dict[str, Callable[[float], Outcome]]] = {
    "3 s": lambda run: paced(run, 3.0),
    "5 s": lambda run: paced(run, 5.0),
    "20 s": lambda run: paced(run, 20.0),
    "×1.3": lambda run: paced(run, 3.0, 1.3, 10.0),
}

Schedule = tuple[float, ...]


def oracles(draw: Draw, seed: str) -> list[Schedule]:
    """The best schedules for a distribution, from few polls to many."""
    chance = random.Random(f"oracle {seed}")
    runs = sorted(draw(chance) for _ in range(6000))
    ends = [runs[6000 * (part + 1) // 150 - 1] for part in range(150)]
    prices = [0.3 * 0.75**power for power in range(20)]
    return [_best_schedule(ends, price) for price in prices]


def _best_schedule(ends: Sequence[float], price: float) -> Schedule:
    """Least mean of lateness and priced polls over equally likely runs, by dynamic programming."""
    count = len(ends)
    shares = [0.0, *accumulate(1 / end for end in ends)]
    cost, poller = [0.0] * (count + 1), [count] * (count + 1)
    for known in range(count - 1, -1, -1):
        cost[known], poller[known] = min(
            (
                price * (count - known)
                + ends[poll - 1] * (shares[poll] - shares[known])
                - (poll - known)
                + cost[poll],
                poll,
            )
            for poll in range(known + 1, count + 1)
        )
    schedule, known = [], 0
    while known < count:
        known = poller[known]
        schedule.append(ends[known - 1])
    return tuple(schedule)


def scheduled(run: float, schedule: Schedule) -> Outcome:
    """Past the end of the schedule, each pause is a tenth of the age."""
    polls, age = 0, 0.0
    while age < run:
        age = schedule[polls] if polls < len(schedule) else age * 1.1
        polls += 1
    return Outcome(polls, (age - run) / run)


# --- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table: each policy at the median, and at the 90th percentile; our mean."""

    runs: str
    progress: str
    journal: str
    middle: dict[str, Outcome]
    tenth: dict[str, Outcome]
    mean: Outcome

    def missed(self) -> list[str]:
        """The bars this row misses."""
        mine = self.middle["ours"]
        return [
            f"{name} is better"
            for name in OTHERS
            if self.middle[name].polls < mine.polls and self.middle[name].late < mine.late
        ]


BARS: Final = {
    "all": ((*USEFUL, *NONE, *MISLEADING), Outcome(8.5, 0.053)),
    "useful": (USEFUL, Outcome(7.0, 0.04)),
    "none": (NONE, Outcome(10.0, 0.05)),
    "misleading": (MISLEADING, Outcome(9.5, 0.065)),
}
"""Of all rows with such progress: the most that our mean may be."""


def mean(outcomes: Sequence[Outcome]) -> Outcome:
    """Of runs, or of rows with as many runs each."""
    return Outcome(
        statistics.mean(one.polls for one in outcomes),
        statistics.mean(one.late for one in outcomes),
    )


def row(
    draw: Draw,
    tell: Tell,
    *,
    warm: bool,
    runs: int,
    seed: str,
    schedules: Sequence[Schedule] = (),
) -> Row:
    """Play `runs` runs under every policy."""
    names = (draw.__name__, tell.__name__, "warm" if warm else "cold")
    chance = random.Random(" ".join((seed, *names)))
    played: dict[str, list[Outcome]] = {"ours": [], **{name: [] for name in OTHERS}}
    lengths = [draw(chance) for _ in range(runs)]
    for run in lengths:
        past = [int(draw(chance)) for _ in range(chance.randint(20, 200))] if warm else []
        expected = estimate(past, ESTIMATED)
        played["ours"].append(ours(run, tell(chance, run), expected, chance))
        for name, other in OTHERS.items():
            played[name].append(other(run))
    if schedules:
        played["oracle"] = _oracle(lengths, played["ours"], schedules)
    middle = {name: _quantile(outcomes, 0.5) for name, outcomes in played.items()}
    tenth = {name: _quantile(outcomes, 0.9) for name, outcomes in played.items()}
    return Row(*names, middle, tenth, mean(played["ours"]))


def _oracle(
    lengths: Sequence[float], mine: Sequence[Outcome], schedules: Sequence[Schedule]
) -> list[Outcome]:
    allowed = statistics.mean(outcome.polls for outcome in mine)
    tried = [[scheduled(run, schedule) for run in lengths] for schedule in schedules]
    return min(
        tried, key=lambda outcomes: abs(statistics.mean(one.polls for one in outcomes) - allowed)
    )


def _quantile(outcomes: Sequence[Outcome], share: float) -> Outcome:
    polls = sorted(outcome.polls for outcome in outcomes)
    late = sorted(outcome.late for outcome in outcomes)
    place = share * (len(outcomes) - 1)
    low, high = math.floor(place), math.ceil(place)
    part = place - low
    return Outcome(
        polls[low] + part * (polls[high] - polls[low]), late[low] + part * (late[high] - late[low])
    )


# --- the table ----------------------------------------------------------------------------------


def _cell(row: Row, name: str) -> str:
    middle, tenth = row.middle[name], row.tenth[name]
    return f"{middle.polls:4.4g} {middle.late:6.1%} │{tenth.polls:3.0f} {tenth.late:5.0%}"


def _judge(rows: Sequence[Row]) -> int:
    """Print our means; returns how many are above their bars."""
    missed = 0
    for name, (tells, bar) in BARS.items():
        among = {tell.__name__ for tell in tells}
        ours = mean([row.mean for row in rows if row.progress in among])
        is_over = ours.polls > bar.polls or ours.late > bar.late
        missed += is_over
        limits = f"at most {bar.polls:g} and {bar.late:.1%}"
        verdict = "  MISSED" if is_over else ""
        print(f"mean, {name:11}{ours.polls:5.2f} polls {ours.late:5.2%} late; {limits}{verdict}")
    return missed


def main(runs: int, seed: str, *, check: bool) -> int:
    policies = ("ours", "oracle", *OTHERS)
    print("polls and lateness at the median │ at the 90th percentile")
    print(f"{'':24}" + "".join(f"{name:>24}" for name in policies))
    missed, rows = 0, []
    for draw in RUNS.values():
        schedules = oracles(draw, seed)
        for tell in (*USEFUL, *NONE, *MISLEADING):
            for warm in (True, False):
                one = row(draw, tell, warm=warm, runs=runs, seed=seed, schedules=schedules)
                name = f"{one.runs:10}{one.progress:13}{one.journal:5}"
                verdict = "; ".join(one.missed())
                missed += bool(verdict)
                rows.append(one)
                cells = "".join(f"{_cell(one, policy):>24}" for policy in policies)
                print(f"{name}{cells}  {verdict and 'MISSED: ' + verdict}".rstrip(), flush=True)
    missed += _judge(rows)
    print(f"{missed} bars missed" if missed else "all within the bars")
    return 1 if missed and check else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--seed", default="wan25")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    sys.exit(main(options.runs, options.seed, check=options.check))
