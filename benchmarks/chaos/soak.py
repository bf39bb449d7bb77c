"""What servers hold while a steady load runs: memory, descriptors, threads, and the journal."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio

from benchmarks.chaos.world import World

_WARM: Final = 60.0
"""Seconds of load after which the first sample is taken: imports, pools and caches are there."""
_SAMPLES: Final = 15
_QUIET: Final = 30.0
"""Seconds without a call before the last sample."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One server at one moment."""

    server: str
    rss_mb: float
    descriptors: int
    threads: int


def sample(server: str, pid: int) -> Sample:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    facts = dict(line.split(":\t", 1) for line in status.splitlines())
    rss_kb = int(facts["VmRSS"].removesuffix(" kB"))
    descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
    return Sample(server, rss_kb / 1024, descriptors, int(facts["Threads"]))


class Soak:
    """The samples of one run."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def measure(self, load: Callable[[], Awaitable[None]]) -> None:
        """Sample now and then while a load runs."""
        print(f"{'minute':>8}{'edits':>7}  {'server':<6}{'RSS MB':>8}{'fds':>6}{'threads':>9}"
              f"{'journal MB':>12}{'WAL MB':>8}{'files':>7}")  # fmt: skip
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._sample_often)
            await load()
            tasks.cancel_scope.cancel()

    async def end(self) -> None:
        """The last sample, when nothing has been asked for a while."""
        await anyio.sleep(_QUIET)
        self._tell("after")

    async def _sample_often(self) -> None:
        minutes = self._world.plan.minutes or 1.0
        self._tell("start")
        await anyio.sleep(min(_WARM, 6 * minutes))
        self._tell("before")
        while True:
            await anyio.sleep(60 * minutes / _SAMPLES)
            self._tell(f"{(time.time() - self._world.began) / 60:.1f}")

    def _tell(self, when: str) -> None:
        world = self._world
        data = world.folder / "data"
        journal, wal = (_mb(data / f"journal.sqlite3{part}") for part in ("", "-wal"))
        files = sum(1 for _ in (world.folder / "output").glob("*.png"))
        for server in world.servers:
            seen = sample(server.name, server.pid)
            print(
                f"{when:>8}{len(world.wanted):>7}  {seen.server:<6}{seen.rss_mb:>8.1f}"
                f"{seen.descriptors:>6}{seen.threads:>9}{journal:>12.2f}{wal:>8.2f}{files:>7}",
                flush=True,
            )


def _mb(path: Path) -> float:
    return path.stat().st_size / 1e6 if path.exists() else 0.0
