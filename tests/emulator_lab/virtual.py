"""Whether time is virtual.

A clock that jumps (trio's autojump clock, an asyncio loop of a test's own) does not see threads:
while one works, every task seems to sleep, and the clock jumps to the next deadline, which then
ends a request that took no time at all.
"""

from __future__ import annotations

import asyncio
import sys

REAL_LOOPS = ("asyncio.", "uvloop", "winloop")


def time_is_virtual() -> bool:
    """Whether the event loop runs on a clock of its own making."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return type(trio.lowlevel.current_clock()).__name__ != "SystemClock"
    loop = type(asyncio.get_running_loop())
    return not f"{loop.__module__}.".startswith(REAL_LOOPS)
