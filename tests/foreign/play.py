"""The provider, played until this process is ended: prints its base URL, any key opens it.

Runs in the environment under test. Its state can be read (`/_emulator/state`), because only the
provider knows how often an edit was paid.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

# Last, so that the package under test is the installed one.
sys.path.append(str(Path(__file__).resolve().parents[2]))

from tests.emulator_lab import Emulator

SPEED, RUN_SECONDS = 60.0, 180.0
"""An edit takes 3 s: long enough to be waited for, also by clients that start a process a call."""


async def _play() -> None:
    emulator = Emulator(key=None, admin=True, speed=SPEED, run_seconds=RUN_SECONDS)
    async with emulator.serving():
        sys.stdout.write(f"{emulator.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_play())
