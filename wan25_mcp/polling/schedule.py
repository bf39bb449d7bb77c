"""When a task is polled next. `benchmarks/waiting.py` measures the effect of the numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wan25_mcp.provider.catalogue import DEFAULT

ESTIMATED_TIME: Final = DEFAULT.estimated_seconds
"""Seconds that the provider estimates for every run. Optimistic: most runs take longer."""

_EARLY, _LIKELY = 0.4, 1.17
"""The first two polls if there are too few past runs, as shares of the estimated time. The early
one is for short runs and early failures."""
_ENOUGH_RUNS: Final = 10

_LEFT: Final = 0.8
"""The share of the time left, estimated from rising progress, that passes before the next poll."""
_RISING_SHARE: Final = 0.22
"""The longest pause while progress rises, as a share of the age: progress may be wrong."""

_JITTER: Final = 0.06
"""The maximum added to a pause, as a share of it, so that tasks are not polled in lockstep."""

_FIRST_BACKOFF: Final = 4.0
_LONGEST_BACKOFF: Final = 60.0


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long to wait between two polls: a share of the task's age, within limits in seconds."""

    share: float
    shortest: float
    longest: float
    follows_progress: bool = False

    def within(self, seconds: float) -> float:
        """The allowed pause that is closest to `seconds`."""
        return min(max(seconds, self.shortest), self.longest)


SOMEBODY_WAITS: Final = Pauses(share=0.08, shortest=2.0, longest=60.0, follows_progress=True)
CALLBACK_EXPECTED: Final = Pauses(share=0.7, shortest=60.0, longest=300.0)
NOBODY_WAITS: Final = Pauses(share=1.0, shortest=60.0, longest=900.0)
"""If nobody waits, the image only has to be saved, and its link is valid for a day."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """The ages of the first two polls: when a run may be done, and when it is likely to be."""

    early: float
    likely: float


def estimate(past: Sequence[float] = (), estimated_time: float | None = None) -> Estimate:
    """When a new run is polled first: at the age by which one in ten past runs was done.

    Args:
        past: Durations of past runs in seconds, in any order.
        estimated_time: The provider's estimate in seconds. It can only make polls earlier.
    """
    seconds = min(estimated_time or ESTIMATED_TIME, ESTIMATED_TIME)
    # Two runs of the usual length are added, so that a single past run has little weight.
    runs = sorted((*past, seconds * _LIKELY, seconds * _LIKELY))
    likely = runs[max(len(past) // 10, 1)]
    return Estimate(likely if len(past) >= _ENOUGH_RUNS else min(seconds * _EARLY, likely), likely)


@dataclass(frozen=True, slots=True)
class Polled:
    """What the last poll of a running task showed.

    Args:
        age: How old the task was; 0 before the first poll.
        progress: The last reported progress, in percent.
        is_rising: Whether it had risen since the poll before.
    """

    age: float = 0.0
    progress: int = 0
    is_rising: bool = False

    def then(self, age: float, progress: int | None) -> Polled:
        """The state after one more poll."""
        known = self.progress if progress is None else progress
        return Polled(age, known, known > self.progress)


def next_poll(
    age: float,
    expected: Estimate,
    last: Polled,
    *,
    pauses: Pauses = SOMEBODY_WAITS,
    not_before: float = 0.0,
    random: float = 0.5,
) -> float:
    """The age at which to poll next; `age` itself if that has passed.

    Args:
        age: Seconds since the submit, on this machine's clock: the provider's `created` has whole
            seconds, and its clock may be off.
        not_before: The age until which the provider asked not to be polled.
        random: In [0, 1), a new one for each poll.
    """
    first = expected.early if last.age < expected.early else expected.likely
    if last.is_rising and pauses.follows_progress:
        left = last.age * (100 - last.progress) / last.progress
        latest = max(first - last.age, pauses.within(_RISING_SHARE * last.age))
        due = last.age + max(min(_LEFT * left, latest), pauses.shortest)
    else:
        due = max(first, last.age + pauses.within(pauses.share * last.age))
    return max(due + _JITTER * random * max(due - age, 0.0), age, not_before)


def pause_after_failure(failures: int, requested: float | None, random: float) -> float:
    """Seconds until the next poll, after `failures` failed polls in a row.

    Args:
        requested: Seconds that the provider asked for; the pause is never shorter.
        random: In [0, 1).
    """
    backoff = min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, 10), _LONGEST_BACKOFF)
    return max(backoff, requested or 0.0) * (1 + _JITTER * random)
