"""What it costs to wait: memory and CPU of 10,000 waiting calls in one process.

    python -m benchmarks.waiters [--quick]

Each row is a process of its own: tasks are submitted within 20 seconds, each is waited for from its
submit to its end by one call that wants to hear of progress, and looks go through the real client
to the emulator in memory and into a journal in an SQLite file. Time is real, 10,000 take about two
minutes to their end; fewer calls are only weighed, once all have begun, and then cancelled. Images
are not saved. Tasks are submitted beside the editor, through the same client and journal; what that
and the emulator's part take (row `none`) is taken off: `net`.

The bars: at most 40 KB net a waiting call, by the memory of the process and by Python's own count,
and no more for many than for few; the event loop at most 50 ms late at the 99th percentile of time,
while calls begin and while they wait; no second with more than half as many looks again as the 15
around it; and 50 calls that wait for one task make no more looks than one. What a call through MCP
takes, both ends of it, is told and has no bar. Exits with 1 above a bar.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import anyio
import httpx2
from anyio.abc import TaskGroup
from mcp.client import Client as McpClient
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from wan25_mcp.editing.account import Account
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Progress
from wan25_mcp.editing.engine import open_editor
from wan25_mcp.editing.options import Connection, Options
from wan25_mcp.hosting.garbage import collect_less_often
from wan25_mcp.journal import Allowance, ClaimRequest, DegradedJournal, Journal
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.polling.queue import POLLS_AT_ONCE
from wan25_mcp.polling.shared_poller import PollingOptions, SharedPoller
from wan25_mcp.provider.client import Client
from wan25_mcp.provider.models import EditRequest
from wan25_mcp.server import create_server
from wan25_mcp.server.tools import Waits

BAR_KB: Final = 40.0
BAR_LAG_MS: Final = 50.0
BAR_LARGEST: Final = 1.5
"""The busiest second against the mean of the 15 around it."""
BAR_LINEAR: Final = 1.25
"""KB a call among the most calls against KB a call among the fewest."""

START_SECONDS: Final = 20.0
"""Within them the most calls begin; fewer calls begin at the same rate."""
TICK: Final = 0.1
BLINK: Final = 0.01
SETTLING: Final = 1.0
LONG: Final = 3600.0
LEAST_MEAN: Final = 20
"""Where fewer looks are made in a second, chance alone makes them uneven."""
CROWD: Final = 50
CROWD_SECONDS: Final = 20.0
MCP_CALLS: Final = 1_000
ROUNDS: Final = 500
OWNER: Final = "benchmark"


async def the_owner() -> str:
    """Whose tasks they are."""
    return OWNER


KEY: Final = "emulator-key"

Kind = Literal["none", "follow", "wait", "mcp", "trace", "trace-none"]
"""Tasks that nobody looks at; tasks followed though nobody waits; waiting calls; the same through
MCP; with Python's own count of memory."""
Call = Callable[[str], Coroutine[Any, Any, None]]
"""Waits for a task, or whatever is measured."""


def run_seconds(chance: random.Random) -> float:
    """Longer than it takes to start all, so that all wait at one time."""
    return chance.uniform(40.0, 90.0)


@dataclass(kw_only=True)
class Result:
    """What one process saw."""

    kind: Kind
    calls: int
    kb_each: float = 0.0
    traced_kb_each: float = 0.0
    cpu_share: float = 0.0
    cpu_ms_each: float = 0.0
    lag_starting: tuple[float, float] = (0.0, 0.0)
    """Milliseconds: the 99th percentile, and the most."""
    lag_waiting: tuple[float, float] = (0.0, 0.0)
    looks_each: float = 0.0
    looks_a_second: list[int] = field(default_factory=list)
    told: int = 0
    """How often a call was told of progress."""
    settled: int = 0


# --- the world --------------------------------------------------------------------------------


@dataclass(slots=True)
class World:
    """An editor over the emulator, and the way to give it tasks."""

    emulator: Emulator
    client: Client
    editor: AccountEditor
    journal: Journal

    @asynccontextmanager
    async def poller(self) -> AsyncIterator[SharedPoller]:
        """What the editor follows tasks with, without an editor that would wait for them."""
        async with anyio.create_task_group() as tasks:
            poller = SharedPoller(
                self.client,
                DegradedJournal(self.journal, the_owner),
                PollingOptions(
                    tasks=tasks,
                    slots=anyio.Semaphore(POLLS_AT_ONCE),
                    clock=time.time,
                    random=random.random,
                ),
                settled=lambda _: None,
            )
            tasks.start_soon(poller.run)
            yield poller
            tasks.cancel_scope.cancel()

    async def submit(self, numbers: Sequence[int]) -> list[str]:
        """Have tasks made, and the journal know them as ours."""
        made = [""] * len(numbers)
        async with anyio.create_task_group() as submits:
            for place, number in enumerate(numbers):
                submits.start_soon(self._submit, number, made, place)
        return made

    async def _submit(self, number: int, made: list[str], place: int) -> None:
        handle, now = f"edit-{number}", time.time()
        ask = ClaimRequest(
            handle=handle, owner=OWNER, fingerprint=handle, n=1, prompt=handle, holder=OWNER
        )
        await self.journal.claim(ask, now=now, window=600, lease=60, allowance=Allowance())
        await self.journal.begin(handle, now=now, lease=60)
        request = EditRequest(prompt=handle, image_urls=("https://example.com/a.png",))
        task = await self.client.submit(request, idempotency_key=handle)
        await self.journal.accept(OWNER, handle, task, now=time.time())
        made[place] = task.id


@asynccontextmanager
async def open_world(
    path: Path, *, run: float | None = None, chance: Callable[[], float] = random.random
) -> AsyncIterator[World]:
    """The real thing, but for the network; `run`: how long each task takes, if all the same."""
    emulator = Emulator(check_images=False, balance=1e9, run_seconds=run or run_seconds)
    journal = SqlJournal(path)
    async with (
        emulator.running(),
        httpx2.AsyncClient(transport=emulator.transport()) as http,
    ):
        client = Client(http, base_url=emulator.base_url, key=SecretStr(KEY))

        @asynccontextmanager
        async def connect() -> AsyncIterator[Connection]:
            yield Connection(client, OWNER)

        async def open_journal() -> Journal:
            return journal

        options = Options(random=chance)
        async with open_editor(connect, open_journal, options, Account(save=False)) as editor:
            world = World(emulator, client, editor, journal)
            first = await world.submit([-1])
            # Opens, imports and compiles what the first call does.
            await editor.wait(first[0], timeout=2.0, on_progress=_unheard)
            yield world


async def _unheard(_: Progress) -> None:
    """For a call that wants no progress."""


# --- meters -----------------------------------------------------------------------------------


class Lag:
    """How late the event loop comes, in milliseconds."""

    def __init__(self) -> None:
        self._late: list[float] = []

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + BLINK
            await anyio.sleep(BLINK)
            self._late.append((time.perf_counter() - due) * 1000)

    def take(self) -> tuple[float, float]:
        """The 99th percentile and the most since it was last asked."""
        late, self._late = self._late, []
        # Whoever came meanwhile waited for the rest of it: counted, or one long stop were one of
        # thousands.
        step = BLINK * 1000
        late += [rest * step for one in late for rest in range(1, int(one / step))]
        if len(late) < 2:
            return (0.0, 0.0)
        return statistics.quantiles(late, n=100)[-1], max(late)


class Looks:
    """How many looks the emulator met in each second."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self.each_second: list[int] = []

    async def run(self) -> None:
        self._emulator.reads.clear()
        due = anyio.current_time()
        while True:
            due += 1.0
            await anyio.sleep_until(due)
            self.each_second.append(len(self._emulator.reads))
            self._emulator.reads.clear()  # or its memory would count as ours


def resident_kb() -> float:
    """What the process holds of the machine's memory, garbage included."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1024


def traced_kb() -> float:
    """What Python counts of it."""
    return tracemalloc.get_traced_memory()[0] / 1024


# --- one process ------------------------------------------------------------------------------


class Run:
    """So many calls, from their start to their end."""

    def __init__(
        self, world: World, kind: Kind, calls: int, *, a_second: float, whole: bool
    ) -> None:
        self._world = world
        self._a_second = a_second
        self._whole = whole
        self._result = Result(kind=kind, calls=calls)
        self._lag = Lag()
        self._looks = Looks(world.emulator)

    async def measure(self) -> Result:
        """Start them, weigh them, and, if all of it is wanted, see them end."""
        async with self._caller() as call, anyio.create_task_group() as meters:
            gc.collect()  # not at the second weighing: looks would stand still, then catch up
            memory, traced = resident_kb(), traced_kb()
            began, cpu = time.perf_counter(), time.process_time()
            meters.start_soon(self._lag.run)
            meters.start_soon(self._looks.run)
            async with anyio.create_task_group() as calls:
                await self._start(calls, call)
                self._result.lag_starting = self._lag.take()
                await self._weigh(memory, traced)
                if not self._whole:
                    calls.cancel_scope.cancel()
            self._result.lag_waiting = self._lag.take()
            self._count(time.perf_counter() - began, time.process_time() - cpu)
            meters.cancel_scope.cancel()
        return self._result

    async def _weigh(self, memory: float, traced: float) -> None:
        await anyio.sleep(SETTLING)
        result = self._result
        result.kb_each = (resident_kb() - memory) / result.calls
        result.traced_kb_each = (traced_kb() - traced) / result.calls
        await anyio.sleep(SETTLING)
        self._lag.take()  # without how late the weighing made it

    def _count(self, seconds: float, used: float) -> None:
        result, looks = self._result, self._looks.each_second
        result.cpu_share = used / seconds
        result.cpu_ms_each = used / result.calls * 1000
        result.looks_a_second = looks
        result.looks_each = sum(looks) / result.calls

    async def _start(self, calls: TaskGroup, call: Call) -> None:
        """Make tasks and wait for them, at an even rate."""
        total = self._result.calls
        ticks = max(round(total / self._a_second / TICK), 1)
        due = anyio.current_time()
        for tick in range(ticks):
            numbers = range(total * tick // ticks, total * (tick + 1) // ticks)
            for task_id in await self._world.submit(numbers):
                calls.start_soon(call, task_id)
            due += TICK
            await anyio.sleep_until(due)

    # --- what is called -------------------------------------------------------------------------

    @asynccontextmanager
    async def _caller(self) -> AsyncIterator[Call]:
        kind = self._result.kind
        if kind == "none":
            yield _nobody
        elif kind == "follow":
            async with self._world.poller() as poller:
                yield poller.follow
        elif kind == "mcp":
            waits = Waits(default=LONG, limit=LONG)
            async with McpClient(create_server(self._world.editor, waits=waits)) as client:
                yield partial(self._wait_over_mcp, client)
        else:
            yield self._wait

    async def _wait(self, task_id: str) -> None:
        edit = await self._world.editor.wait(task_id, timeout=LONG, on_progress=self._told)
        self._result.settled += edit.status == "completed"

    async def _told(self, _: Progress) -> None:
        self._result.told += 1

    async def _wait_over_mcp(self, client: McpClient, task_id: str) -> None:
        async def told(
            progress: float,  # noqa: ARG001
            total: float | None,  # noqa: ARG001
            message: str | None,  # noqa: ARG001
        ) -> None:
            self._result.told += 1

        await client.call_tool("wait_for_task", {"task_id": task_id}, progress_callback=told)


async def _nobody(_: str) -> None:
    """What the tasks alone take, most of it at the emulator."""


async def measure(kind: Kind, calls: int, *, a_second: float, whole: bool) -> Result:
    """One row."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_world(Path(folder) / "journal.sqlite3") as world:
            return await Run(world, kind, calls, a_second=a_second, whole=whole).measure()


async def crowd() -> tuple[int, int]:
    """How many looks are made for one call that waits for a task to its end, and for a crowd."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite3"
        async with open_world(path, run=CROWD_SECONDS, chance=lambda: 0.5) as world:
            one, many = await world.submit([0, 1])
            async with anyio.create_task_group() as tasks:
                for task_id in (one, *[many] * CROWD):
                    tasks.start_soon(partial(world.editor.wait, task_id, timeout=LONG))
            return world.emulator.queries[one], world.emulator.queries[many]


async def emulator_ms() -> float:
    """The emulator's own part of a look: milliseconds of CPU to answer one, without our client."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_world(Path(folder) / "journal.sqlite3") as world:
            (task_id,) = await world.submit([0])
            address = f"{world.emulator.base_url}/v1/tasks/{task_id}"
            transport = world.emulator.transport()
            began = time.process_time()
            for _ in range(ROUNDS):
                request = httpx2.Request("GET", address, headers={"Authorization": f"Bearer {KEY}"})
                answer = await transport.handle_async_request(request)
                assert answer.status_code == 200
            return (time.process_time() - began) / ROUNDS * 1000


# --- the table --------------------------------------------------------------------------------


def row(kind: Kind, calls: int, most: int, *, whole: bool = False) -> Result:
    """One row, from a process of its own: what others have allocated would hide what it takes."""
    command = [sys.executable, __file__, "--row", kind, "--calls", str(calls)]
    command += ["--a-second", str(most / START_SECONDS)]
    told = subprocess.run(
        [*command, *(["--whole"] if whole else [])], stdout=subprocess.PIPE, check=True, text=True
    )
    return Result(**json.loads(told.stdout))


def unevenness(looks: Sequence[int]) -> tuple[float, float]:
    """Looks in each second as a share of the mean of the 15 around it: deviation, and the most."""
    around = 7
    shares = []
    for second in range(around, len(looks) - around):
        mean = statistics.fmean(looks[second - around : second + around + 1])
        if min(looks[second - around : second + around + 1]) > 0 and mean >= LEAST_MEAN:
            shares.append(looks[second] / mean)
    return (statistics.pstdev(shares), max(shares)) if shares else (0.0, 0.0)


def show(result: Result, tasks_kb: float) -> None:
    print(
        f"{result.kind:>7} {result.calls:>6} {result.kb_each:>7.1f} "
        f"{result.kb_each - tasks_kb:>7.1f} {result.cpu_ms_each:>7.2f} {result.cpu_share:>6.0%} "
        f"{result.lag_starting[0]:>7.1f} {result.lag_starting[1]:>7.1f} "
        f"{result.lag_waiting[0]:>7.1f} {result.lag_waiting[1]:>7.1f}",
        flush=True,
    )


HEAD: Final = """\
                     KB      KB     CPU        lag at start, ms  lag waiting, ms
   kind  calls     each     net ms each  share     99 %    most    99 %    most"""


def report(most: int) -> list[str]:
    """Measure and print; what is above its bar, in words."""
    sizes = (most // 10, most * 3 // 10, most)
    load = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores with a load of {load:.1f} before: what others take is told as lag."
    )
    look = anyio.run(emulator_ms)
    print(
        f"{most / START_SECONDS:.0f} calls begin a second; runs of 40 to 90 s, "
        "as the emulator reports them."
    )
    print(f"Of each look {look:.2f} ms of CPU are the emulator's own.\n\n{HEAD}")
    tasks = row("none", most, most)
    show(tasks, 0.0)
    follow = row("follow", most, most)
    show(follow, tasks.kb_each)
    waits = [row("wait", size, most, whole=size == most) for size in sizes]
    for wait in waits:
        show(wait, tasks.kb_each)
    mcp = row("mcp", min(MCP_CALLS, most), most)
    show(mcp, tasks.kb_each)
    few = sizes[1]
    traced, traced_tasks = row("trace", few, most), row("trace-none", few, most)
    python_kb = traced.traced_kb_each - traced_tasks.traced_kb_each
    print(f"\nPython's own count: {python_kb:.1f} KB a waiting call, net")
    whole = waits[-1]
    deviation, largest = unevenness(whole.looks_a_second)
    cpu = (whole.cpu_ms_each - tasks.cpu_ms_each) / whole.looks_each
    print(f"{whole.looks_each:.1f} looks a task, {whole.told / most:.0f} times told of progress;")
    print(f"{cpu:.2f} ms of CPU for each look and all that goes with it")
    print(f"looks a second: at most {max(whole.looks_a_second)}; around their mean, they deviate")
    print(f"by {deviation:.0%}, the busiest second is {largest:.2f} of it")
    alone, many = anyio.run(crowd)
    print(f"{CROWD} calls that wait for one task make {many} looks, one makes {alone}")
    nets = [wait.kb_each - tasks.kb_each for wait in waits]
    checks = (
        (f"a waiting call takes {max(nets):.1f} KB", max(nets) <= BAR_KB),
        (f"Python counts {python_kb:.1f} KB a waiting call", python_kb <= BAR_KB),
        ("memory grows faster than calls", nets[-1] <= nets[0] * BAR_LINEAR),
        ("the event loop is late while calls begin", whole.lag_starting[0] <= BAR_LAG_MS),
        ("the event loop is late while calls wait", whole.lag_waiting[0] <= BAR_LAG_MS),
        ("looks come in bursts", largest <= BAR_LARGEST),
        (f"only {whole.settled} calls saw their edit end", whole.settled == most),
        ("a crowd makes more looks than one", many <= alone),
    )
    return [words for words, is_met in checks if not is_met]


def main() -> int:
    """Print the table, and fail above a bar."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="1,000 calls at most")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--calls", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--a-second", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    collect_less_often()  # as the server over HTTP does
    if args.row:
        if args.row.startswith("trace"):
            tracemalloc.start()
        kind: Kind = {"trace": "wait", "trace-none": "none"}.get(args.row, args.row)
        asked = partial(measure, kind, args.calls, a_second=args.a_second, whole=args.whole)
        result = anyio.run(asked)
        print(json.dumps(asdict(result)))
        return 0
    missed = report(1_000 if args.quick else 10_000)
    print("\n" + "\n".join(f"above the bar: {words}" for words in missed or ["nothing"]))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
