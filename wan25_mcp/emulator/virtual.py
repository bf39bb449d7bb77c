"""Where slow work runs: in a thread, except under a virtual clock.

A clock that jumps (trio's autojump clock, an asyncio loop of a test's own) does not see threads:
while one works it believes everybody is asleep and jumps to the next deadline, which then strikes
a request that took no time at all. So under it the work (milliseconds of Pillow) is done in place.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

import anyio

T = TypeVar("T")
REAL_LOOPS = ("asyncio.", "uvloop", "winloop")


def time_is_virtual() -> bool:
    """Whether the event loop runs on a clock of its own making."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return type(trio.lowlevel.current_clock()).__name__ != "SystemClock"
    loop = type(asyncio.get_running_loop())
    return not f"{loop.__module__}.".startswith(REAL_LOOPS)


async def in_thread(work: Callable[[], T]) -> T:
    if time_is_virtual():
        return work()
    return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
