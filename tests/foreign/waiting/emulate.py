"""The provider, played until this process is ended, whose edits take as many seconds as it is told.

Prints its base URL.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

# Last, so that the package under test is the installed one.
sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.emulator_lab import Emulator


async def _play() -> None:
    emulator = Emulator(key=None, admin=True, run_seconds=float(sys.argv[1]))
    async with emulator.serving():
        sys.stdout.write(f"{emulator.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_play())
