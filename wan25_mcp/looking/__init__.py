"""When to look at a task again. No I/O, no clock, no chance of its own; all times in seconds.

What is believed of a run's length is a handful of lognormal guesses. Before anything is seen they
come from past runs (never believed alone: they may be few, or of other kinds of edits) and from
what such edits take anywhere. That a task was seen running rules out what is past. If progress
moves, its trend says when it will reach 100; Bayes' rule sharpens the guesses with it, and weighs
the outcome against "progress says nothing" by how well the trend foretold each later report.
Missing, stuck, jumping or lying progress thus costs a few looks, then the past runs stand. The
belief is cut into equally likely ends, and dynamic programming finds the looks that minimise
*price of a look* + *expected lateness as a share of the run*. Only the first is taken: it may
change the belief. A callback to come, or nobody waiting, is but a higher price (`Haste`).
What the provider refuses slows all tasks of a process together (`Pace`).
"""

from wan25_mcp.looking.belief import TOLD_SECONDS, Belief, Guess, expected
from wan25_mcp.looking.pace import Pace
from wan25_mcp.looking.schedule import (
    A_CALLBACK_WILL_TELL,
    NOBODY_WAITS,
    SOMEBODY_WAITS,
    Haste,
    next_look,
    pause_after_failure,
)
from wan25_mcp.looking.trend import Report

__all__ = [
    "A_CALLBACK_WILL_TELL",
    "NOBODY_WAITS",
    "SOMEBODY_WAITS",
    "TOLD_SECONDS",
    "Belief",
    "Guess",
    "Haste",
    "Pace",
    "Report",
    "expected",
    "next_look",
    "pause_after_failure",
]
