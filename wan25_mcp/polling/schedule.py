"""The next look: what lateness costs against what a look costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Final

from wan25_mcp.polling.estimate import Belief
from wan25_mcp.polling.trend import Report, believed


@dataclass(frozen=True, slots=True)
class Haste:
    """What a look is worth.

    Args:
        price: The lateness, as a share of the run, that one look must save.
        shortest: The least time from the last look to the next.
        longest: The most.
    """

    price: float
    shortest: float
    longest: float


SOMEBODY_WAITS: Final = Haste(price=0.007, shortest=2.0, longest=60.0)
A_CALLBACK_WILL_TELL: Final = Haste(price=0.6, shortest=60.0, longest=300.0)
NOBODY_WAITS: Final = Haste(price=0.5, shortest=60.0, longest=900.0)
"""An image nobody waits for must only be saved, and its link lives for a day."""

_ENDS: Final = 24
"""Into how many equally likely stretches the belief is cut."""
_WHOLE: Final = 20.0
"""Of shorter runs lateness counts as if they took so long: 2 s more on 5 annoy nobody."""
_JITTER: Final = 0.06
"""The range of the jitter, as a share of the pause."""
_EARLIEST_MARK: Final = 4.0
_LATEST_AGE: Final = 1e9

_FIRST_BACKOFF: Final = 4.0
_LONGEST_BACKOFF: Final = 60.0


def next_look(
    age: float,
    prior: Belief,
    reports: Sequence[Report] = (),
    *,
    haste: Haste = SOMEBODY_WAITS,
    not_before: float = 0.0,
    chance: float = 0.5,
) -> float:
    """The age at which to look again; `age` itself, if the task may well be done by now.

    Args:
        age: How old the task is now. Count from the submit on a clock of ours: the provider's
            `created` has whole seconds, and may be of a clock that is off.
        prior: From `expected`.
        reports: What looks said while the task ran, oldest first; those without progress tell
            that it ran. The latest dozen are enough.
        not_before: The age until which the provider wants to be left alone.
        chance: In [0, 1), another for each look; keeps tasks of one moment apart.
    """
    age = min(max(age, 0.0), _LATEST_AGE)
    seen = min(reports[-1].age, age) if reports else 0.0
    earliest = max(age, seen + haste.shortest, not_before)
    best = _best(_ends(believed(prior, reports), seen), earliest, haste.price)
    jittered = age + (best - age) * (1 + _JITTER * (chance - 0.5))
    return max(min(jittered, seen + haste.longest), earliest)


def pause_after_failure(failures: int, asked: float | None, chance: float) -> float:
    """How long to leave the provider alone after `failures` looks in a row that failed.

    Args:
        asked: What the provider asked for; never undercut.
        chance: In [0, 1).
    """
    backoff = min(_FIRST_BACKOFF * 2.0 ** min(failures - 1, 10), _LONGEST_BACKOFF)
    return max(backoff, asked or 0.0) * (1 + _JITTER * chance)


def _ends(belief: Belief, seen: float) -> list[float]:
    """The belief, given that the task ran at `seen`, as equally likely stretches: their ends."""
    ages = _marks(belief, seen)
    alive = more = _alive(belief, ages[0])
    ends: list[float] = []
    for left, right in pairwise(ages):
        less = _alive(belief, right)
        while less <= (level := alive * (1 - (len(ends) + 1) / _ENDS)) < more:
            ends.append(left + (right - left) * (more - level) / (more - less))
        if len(ends) >= _ENDS - 1:
            break
        more = less
    return [*ends, ends[-1] * 1.3 if ends else ages[-1]]


def _alive(belief: Belief, age: float) -> float:
    log_age = math.log(age)
    return sum([guess.beyond(log_age) for guess in belief])


def _marks(belief: Belief, seen: float) -> list[float]:
    """The ages at which the belief is read: evenly, and closer where a guess is sharp."""
    start = max(seen, _EARLIEST_MARK)
    marks = {start * 1.12**power for power in range(1, 45)}
    for guess in belief:
        if guess.spread < 0.3:
            marks.update(math.exp(guess.middle + z * guess.spread) for z in (-2, -1, 0, 1, 2))
    return [start, *sorted(mark for mark in marks if mark > start)]


def _best(ends: Sequence[float], earliest: float, price: float) -> float:
    """The first of those looks, each at an end, that cost least with the lateness they leave.

    `cost[i]` is the least expected cost once the first `i` stretches are known to be past, times
    the number of those that are left.
    """
    middles = [(left + right) / 2 for left, right in pairwise([ends[0] * 0.9, *ends])]
    shares = [0.0, *accumulate(1 / max(middle, _WHOLE) for middle in middles)]
    means = [0.0, *accumulate(middle / max(middle, _WHOLE) for middle in middles)]
    count = len(ends)
    cost = [0.0] * (count + 1)
    for known in range(count - 1, 0, -1):
        cost[known] = (count - known) * price + means[known]
        cost[known] += min(
            ends[look - 1] * (shares[look] - shares[known]) - means[look] + cost[look]
            for look in range(known + 1, count + 1)
        )
    passed = sum(end <= earliest for end in ends)
    looks = [max(ends[look - 1], earliest) for look in range(max(passed, 1), count + 1)]
    costs = [
        when * shares[look] - means[look] + cost[look]
        for look, when in enumerate(looks, count + 1 - len(looks))
    ]
    return looks[costs.index(min(costs))]
