"""The provider, played until this process is ended: prints its base URL, any key opens it.

Runs in the environment under test. Its state can be read (`/_emulator/state`), because only the
far side knows how often an edit was paid.
"""

from __future__ import annotations

import asyncio
import sys

from wan25_mcp.emulator import Emulator

SPEED, RUN_SECONDS = 60.0, 180.0
"""An edit takes 3 s: long enough to be waited for, also by clients that start a process a call."""


async def _play() -> None:
    emulator = Emulator(key=None, speed=SPEED, run_seconds=RUN_SECONDS)
    async with emulator.serving(admin=True):
        sys.stdout.write(f"{emulator.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_play())
