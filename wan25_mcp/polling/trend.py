"""What progress says about the end of a run, and how far it can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from wan25_mcp.polling.estimate import Belief, Guess, above, grain

_FORGETTING: Final = 0.5
"""The weight of a report relative to the one after it: the rate may change during a run."""
_STEPS: Final = (25, 20, 10, 5)

_FIRST_ODDS: Final = 1.5
_MOST_ODDS: Final = 50.0
"""Progress that told the truth so far can still stop telling it."""
_ANY_END: Final = 0.25
"""How likely any end is, per unit of its logarithm, where progress says nothing."""
_SAME_UNTOLD: Final = 0.3
_OTHER_UNTOLD: Final = 0.01
"""How likely the same percent again, and any other, is where progress says nothing."""
_FAR: Final = 1e12
_IDLE_HAZARD: Final = 1.5
"""Where progress says nothing, running on from age a to b has the chance (a/b) to this power."""


@dataclass(frozen=True, slots=True)
class Report:
    """What one look said of a task that still ran: its age at the look, and percent if any."""

    age: float
    progress: int | None = None


@dataclass(frozen=True, slots=True)
class _Trend:
    """Where progress points.

    Args:
        rate: Percent a second.
        end: Logarithm of the age at which it will be 100.
        spread: Standard deviation of that.
    """

    rate: float
    end: float
    spread: float


def believed(prior: Belief, reports: Sequence[Report]) -> Belief:
    """What is believed after these reports, except that the task still ran at the last of them."""
    told = [(report.age, report.progress) for report in reports if report.progress is not None]
    trend, odds = _heard(told)
    if trend is None:
        return prior
    sharper = [_sharpened(guess, trend, odds / _ANY_END) for guess in prior]
    heaviest = max(guess.weight for guess in sharper)
    return (*prior, *(guess for guess in sharper if guess.weight > heaviest / 100))


def _sharpened(guess: Guess, trend: _Trend, odds: float) -> Guess:
    """The guess after Bayes' rule; both are normal in the logarithm."""
    variance = guess.spread**2 + trend.spread**2
    off = trend.end - guess.middle
    fit = math.exp(-off * off / (2 * variance)) / math.sqrt(2 * math.pi * variance)
    middle = guess.middle + off * guess.spread**2 / variance
    return Guess(guess.weight * fit * odds, middle, guess.spread * trend.spread / variance**0.5)


_Told = tuple[float, int]
"""Age and percent."""


def _heard(told: Sequence[_Told]) -> tuple[_Trend | None, float]:
    """The trend at the last report, and the odds that progress tells the end at all."""
    step = _step(told)
    trend: _Trend | None = None
    odds, held, last = _FIRST_ODDS, 0, (0.0, 0)
    weight, ages, percents = 1.0, 0.0, 0.0  # the start counts as a report of 0
    for age, percent in told:
        likely = min(percent + step / 2, 99.5) if percent else 0.0
        if trend is not None:
            ratio = _foretold(trend, step, last, (age, percent))
            odds = min(max(odds * ratio, 1 / _MOST_ODDS), _MOST_ODDS)
            held += ratio > 1
        rise, time = weight * likely - percents, weight * age - ages
        trend = _trend(age, likely, rise / time, step, held) if rise > 0 and time > 0 else None
        weight = weight * _FORGETTING + 1
        ages, percents = ages * _FORGETTING + age, percents * _FORGETTING + likely
        last = (age, percent)
    return trend, odds


def _step(told: Sequence[_Told]) -> int:
    """The step progress moves in: the largest usual one that fits; 99 stands for nearly done."""
    rounded = [percent for _, percent in told if percent < 99]
    return next((step for step in _STEPS if not any(p % step for p in rounded)), 1)


def _trend(age: float, percent: float, rate: float, step: int, held: int) -> _Trend:
    """Low percents are vague, as the start may have been late; coarse ones always are."""
    left = (100.0 - percent) / rate
    end = min(age + left, _FAR)
    vague = (0.2 + 5.0 / percent) / math.sqrt(1 + held) * left / end
    rounding = 0.4 * step / rate / end
    return _Trend(rate, math.log(end), math.hypot(vague, rounding, grain(math.log(end))))


def _foretold(trend: _Trend, step: int, last: _Told, now: _Told) -> float:
    """How much likelier this report, and a task that still runs, is if progress tells the end."""
    due = min(trend.rate * max(now[0] - last[0], 0.0), max(99.0 - last[1], 0.0))
    rise = now[1] - last[1]
    tolerance = 3.0 + step / 2 + 0.3 * due
    told = math.exp(-abs(rise - due) / tolerance) / (2 * tolerance)
    # The fewer percents a step leaves to report, the likelier each; the same again is one anyway.
    ratio = told / _OTHER_UNTOLD if rise else told * step / _SAME_UNTOLD
    return ratio * _outlived(trend, last[0], now[0])


def _outlived(trend: _Trend, before: float, now: float) -> float:
    """How much likelier it is to run on from one age to another if the trend tells the end."""
    start, stop = math.log(max(before, 1.0)), math.log(max(now, 1.0))
    alive = above((start - trend.end) / trend.spread)
    if alive < 1e-300:
        return 0.0
    share = above((stop - trend.end) / trend.spread) / alive
    return share * math.exp(min(_IDLE_HAZARD * (stop - start), 50.0))
