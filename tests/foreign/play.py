"""The provider, played until this process is ended: prints its base URL, any key opens it.

    play.py [SECONDS]     how long an edit takes

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

SPEED = 60.0
USUAL_SECONDS = 3.0
"""Long enough to be waited for, also by clients that start a process a call."""


async def _play(seconds: float) -> None:
    emulator = Emulator(key=None, admin=True, speed=SPEED, run_seconds=seconds * SPEED)
    async with emulator.serving():
        sys.stdout.write(f"{emulator.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_play(float(sys.argv[1]) if sys.argv[1:] else USUAL_SECONDS))
