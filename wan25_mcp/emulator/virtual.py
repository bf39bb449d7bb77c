"""Where slow work runs: in a thread, except under a virtual clock.

Trio's autojump clock does not see threads: while one works it believes everybody is asleep and
jumps to the next deadline, which then strikes a request that took no time at all. So under it the
work (milliseconds of Pillow) is done in place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")


def time_is_virtual() -> bool:
    """Whether trio runs this task on a clock of its own making."""
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        return type(trio.lowlevel.current_clock()).__name__ != "SystemClock"
    except RuntimeError:  # not running under trio
        return False


async def in_thread(work: Callable[[], T]) -> T:
    if time_is_virtual():
        return work()
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
