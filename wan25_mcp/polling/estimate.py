"""How long a run is likely to be, before anything is seen of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

TYPICAL: Final = math.log(69.0)
TYPICAL_SPREAD: Final = 0.43
"""Such edits take 40 to 120 s, read as: four of five, lognormal around 69 s."""

TOLD_SECONDS: Final = 30.0
"""What the provider says of every run."""
_OPTIMISM: Final = math.log(69.0 / TOLD_SECONDS)
"""It says so where runs take the typical time."""

_ANYWHERE: Final = ((0.77, 0.0, TYPICAL_SPREAD), (0.2, -0.3, 1.0), (0.03, -2.0, 0.7))
"""As usual; anything else, as the provider hopes or much longer; refused early.

Each is a weight, a shift of the middle and a spread.
"""

_DOUBT: Final = 4.0
"""How many past runs it takes to be believed as much as what such edits take anywhere."""
_LEAST_DOUBT: Final = 0.07
"""The next edit may be of a kind that the past runs are not."""

_MOST_LUMPS: Final = 10


@dataclass(frozen=True, slots=True)
class Guess:
    """One opinion on how long a run is: lognormal.

    Args:
        middle: Natural logarithm of the median, in seconds.
        spread: Standard deviation of the logarithm.
    """

    weight: float
    middle: float
    spread: float

    def beyond(self, log_age: float) -> float:
        """The probability that a run is longer, times the weight."""
        return self.weight * above((log_age - self.middle) / self.spread)


Belief = tuple[Guess, ...]


def expected(past: Sequence[float] = (), estimated: float | None = None) -> Belief:
    """How long a new run is likely to be. Depends on no task: made once for many.

    Args:
        past: How long edits took before, in any order; whole seconds will do. The latest hundred
            of the same `n` are better than all.
        estimated: What the provider says of the whole run. Half believed: it hardly ever varies.
    """
    runs = sorted(math.log(run) for run in past if 0.5 <= run < 1e6)
    doubt = max(_DOUBT / (_DOUBT + len(runs)), _LEAST_DOUBT)
    middle = TYPICAL + _shift(estimated)
    anywhere = [Guess(doubt * weight, middle + by, wide) for weight, by, wide in _ANYWHERE]
    return (*anywhere, *_lumps(runs, 1.0 - doubt))


def _shift(estimated: float | None) -> float:
    if not estimated or not 0 < estimated < math.inf:
        return 0.0
    return min(max((math.log(estimated) + _OPTIMISM - TYPICAL) / 2, -1.0), 1.0)


def _lumps(runs: Sequence[float], weight: float) -> Iterator[Guess]:
    """Neighbouring runs as one guess each, as wide as they and the gap to the nearer neighbour."""
    count = min(len(runs), _MOST_LUMPS)
    cuts = [len(runs) * part // count for part in range(count + 1)] if count else []
    groups = [runs[start:end] for start, end in pairwise(cuts)]
    middles = [sum(group) / len(group) for group in groups]
    for group, middle, gap in zip(groups, middles, _gaps(middles), strict=True):
        variance = sum((run - middle) ** 2 for run in group) / len(group) + gap * gap / 2
        spread = math.sqrt(variance + grain(middle) ** 2)
        yield Guess(weight * len(group) / len(runs), middle, spread)


def _gaps(middles: Sequence[float]) -> list[float]:
    """From each to the nearer neighbour, so that two distant modes stay two."""
    between = [right - left for left, right in pairwise(middles)]
    around = zip([math.inf, *between], [*between, math.inf], strict=True)
    return [min(left, right, TYPICAL_SPREAD) for left, right in around if middles]


def grain(log_run: float) -> float:
    """No run is known better than to a second or to one percent; as a share of it."""
    return math.hypot(0.01, 0.6 * math.exp(-max(log_run, 0.0)))


def above(z: float) -> float:
    """The share of a normal distribution above `z`."""
    return 0.5 * math.erfc(z * math.sqrt(0.5))
