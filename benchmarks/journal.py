"""What the journal costs one call: `AccountEditor.edit` with a journal on SQLite, and with none.

    python -m benchmarks.journal [--calls 300]

Both sides run in this process against the emulator in memory, call by call in turn, so that a slow
moment of the machine meets both. The other side's journal keeps its promises in a dictionary, which
costs next to nothing. The bar: less than 5 ms more at the median.
"""

# ruff: noqa: ARG002  a journal that keeps nothing uses little of what it is told
from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from wan25_mcp.editing.engine import open_editor
from wan25_mcp.editing.options import Connection, Options
from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import (
    Claim,
    ClaimRequest,
    Intent,
    Journal,
    KnownKey,
    Snapshot,
    Spent,
    Unsaved,
    Upload,
    observe,
)
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.client import Client
from wan25_mcp.provider.models import EditRequest, Task

BAR_MS: Final = 5.0


class NoJournal:
    """Remembers in memory, for comparison only: nothing of it survives."""

    def __init__(self) -> None:
        self._intents: dict[str, Intent] = {}
        self._sightings: dict[str, Snapshot] = {}

    async def claim(self, request: ClaimRequest, *, now: float, **_: Any) -> Claim:
        intent = Intent(
            handle=request.handle,
            owner=request.owner,
            created_at=now,
            n=request.n,
            prompt=request.prompt,
        )
        self._intents[request.handle] = intent
        return Claim(intent, deduplicated=False)

    async def live(self, owner: str, fingerprints: Collection[str], **_: Any) -> frozenset[str]:
        return frozenset()

    async def known_key(self, key: str, **_: Any) -> KnownKey:
        return KnownKey(key)

    async def join_owners(self, owner: str, keys: Collection[str]) -> str:
        return owner

    async def begin(self, handle: str, *, now: float, lease: float) -> bool:
        return True

    async def pause(self, handle: str, *, now: float, lease: float) -> None: ...
    async def renew(self, handle: str, *, now: float, lease: float) -> None: ...
    async def refuse(self, handle: str, error: Wan25Error) -> None: ...
    async def mark_unknown(self, handle: str, error: Wan25Error) -> None: ...

    async def accept(self, owner: str, handle: str, task: Task, *, now: float) -> bool:
        ended = replace(self._intents[handle], stage="accepted", task_id=task.id)
        self._intents[handle] = self._intents[task.id] = ended
        await self.record(owner, task, now=now)
        return True

    async def find(self, name: str, owner: str, *, now: float) -> Intent | None:
        return self._intents.get(name)

    async def record(self, owner: str, task: Task, *, now: float) -> Snapshot:
        seen = self._sightings[task.id] = observe(self._sightings.get(task.id), task, now)
        return seen

    async def last_seen(self, owner: str, task_id: str) -> Snapshot | None:
        return self._sightings.get(task_id)

    async def snapshots(self, owner: str, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        return {name: self._sightings[name] for name in task_ids if name in self._sightings}

    async def seen_since(self, owner: str, since: float) -> Mapping[str, float]:
        return {n: seen.seen_at for n, seen in self._sightings.items() if seen.seen_at >= since}

    async def acquire_poll(self, owner: str, task_id: str, **_: Any) -> bool:
        return True

    async def acquire_save(self, owner: str, task_id: str, *, now: float, lease: float) -> bool:
        return True

    async def prune(self, *, now: float) -> None: ...
    async def release_poll(self, owner: str, task_id: str) -> None: ...
    async def release_save(self, owner: str, task_id: str) -> None: ...
    async def note_saved(self, owner: str, task_id: str, number: int, path: str) -> None: ...
    async def note_upload(self, owner: str, sha256: str, place: str, upload: Upload) -> None: ...
    async def keep_input(self, *_: Any, **__: Any) -> None: ...
    async def kept_input(self, owner: str, name: str, number: int) -> bytes | None: ...

    async def renew_save(self, owner: str, task_id: str, *, now: float, lease: float) -> None: ...
    async def note_unsaved(
        self, owner: str, task_id: str, number: int, unsaved: Unsaved
    ) -> None: ...

    async def unsaved_images(self, owner: str, task_id: str) -> Mapping[int, Unsaved]:
        return {}

    async def unsaved(self, owner: str, **_: Any) -> Sequence[str]:
        return ()

    async def saved(self, owner: str, task_id: str) -> Mapping[int, str]:
        return {}

    async def uploaded(self, owner: str, sha256: str, place: str, **_: Any) -> Upload | None:
        return None

    async def orphaned(self, owner: str, **_: Any) -> Sequence[str]:
        return ()

    async def past_runs(self, owner: str, **_: Any) -> Sequence[float]:
        return ()

    async def price(self, owner: str, model: str) -> float | None:
        return None

    async def spent(self, owner: str, since: float) -> Spent:
        return Spent(0.0, 0.0)

    async def recent(self, owner: str, **_: Any) -> Sequence[tuple[Intent, Snapshot | None]]:
        return ()


async def measure(calls: int, folder: Path) -> dict[str, list[float]]:
    """Milliseconds of each call, by side."""
    emulator = Emulator(check_images=False, balance=1e9, run_seconds=3600)
    times: dict[str, list[float]] = {"without": [], "with": []}
    async with (
        emulator.running(),
        httpx2.AsyncClient(transport=emulator.transport()) as http,
    ):
        client = Client(http, base_url=emulator.base_url, key=SecretStr("emulator-key"))

        @asynccontextmanager
        async def connect() -> AsyncIterator[Connection]:
            yield Connection(client, "benchmark")

        async def without() -> Journal:
            return NoJournal()

        async def sqlite() -> Journal:
            return SqlJournal(folder / "journal.sqlite3")

        async with (
            open_editor(connect, without, Options()) as bare,
            open_editor(connect, sqlite, Options()) as journaled,
        ):
            for number in range(-10, calls):  # the first ten warm both sides up
                for side, editor in (("without", bare), ("with", journaled)):
                    request = EditRequest(
                        prompt=f"{side} {number}", image_urls=("https://example.com/a.png",)
                    )
                    began = time.perf_counter()
                    edit = await editor.edit(request)
                    took = (time.perf_counter() - began) * 1000
                    if edit.charged != "reserved":
                        raise SystemExit(f"unexpected answer: {edit}")
                    if number >= 0:
                        times[side].append(took)
    return times


def main() -> int:
    """Measure, print, and fail above the bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--calls", type=int, default=300)
    calls = parser.parse_args().calls
    with tempfile.TemporaryDirectory() as folder:
        times = anyio.run(measure, calls, Path(folder))
    medians = {side: statistics.median(taken) for side, taken in times.items()}
    for side, taken in times.items():
        tail = statistics.quantiles(taken, n=20)[-1]
        print(f"{side:>8}: median {medians[side]:6.2f} ms, 95 % within {tail:6.2f} ms")
    cost = medians["with"] - medians["without"]
    print(f"the journal costs {cost:.2f} ms of a call at the median (bar: {BAR_MS:g} ms)")
    return 0 if cost < BAR_MS else 1


if __name__ == "__main__":
    sys.exit(main())
