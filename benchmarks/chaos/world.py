"""One run: the provider, the proxy, two servers, the clients, the troubles, and the calm after."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from benchmarks.chaos.books import Booked, Books
from benchmarks.chaos.faults import Dice
from benchmarks.chaos.judge import Evidence, Verdict, judge, partial_files, unsaved
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.servers import HttpServer, Server, StdioServer, environment
from benchmarks.chaos.stories import SIDE, Clients, Place, Said, Story, Wanted
from tests.emulator_lab import Emulator
from wan25_mcp.emulator import pictures

_KEY: Final = "emulator-key"
_FAILURES: Final = ("content_policy_violation", "service_error", "generation_timeout")
_FAIL_SHARE: Final = 0.06
_ASKED_WITHIN: Final = 240.0
"""Seconds for every task to be learnt of and saved once somebody asks; a deadline, no bar."""
_ASKERS: Final = 8
_MOST_LISTED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run is to be. Times in seconds.

    Args:
        at_once: How many stories go on at one time.
        pause: Between the starts of two stories, at least.
        faults: The share of exchanges that the proxy breaks.
        kills: For every hundred edits; so are `freezes`.
        freeze: The longest one; a lease of a submit is 12 s.
        calm: How long everything may take to be saved though nobody asks; 0: somebody asks.
        postgres: The URL of an empty database for the journal; None for SQLite.
    """

    seed: int
    edits: int | None
    minutes: float | None
    at_once: int
    pause: float
    faults: float
    kills: float
    freezes: float
    freeze: float
    calm: float
    postgres: str | None


@dataclass(slots=True)
class World:
    """Everything that runs, and what was seen of it."""

    plan: Plan
    folder: Path
    emulator: Emulator
    dice: Dice
    proxy: Proxy
    servers: list[Server]
    clients: Clients
    books: Books
    place: Place
    wanted: list[Wanted] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    """What was not saved though it was calm for long, before anybody asked."""
    asked: dict[str, Said] = field(default_factory=dict)
    listed: str = ""
    began: float = field(default_factory=time.time)

    # --- the storm --------------------------------------------------------------------------

    async def storm(self) -> None:
        """Tell all stories, and make the troubles."""
        chance = random.Random(f"{self.plan.seed} troubles")
        room = anyio.Semaphore(self.plan.at_once)
        async with anyio.create_task_group() as tasks:
            for number in self._numbers():
                await room.acquire()
                if chance.random() < _FAIL_SHARE:
                    self.emulator.outcome(fail=chance.choice(_FAILURES))
                story = Story(self.clients, self.place, self.plan.seed, number)
                self.wanted.append(story.wanted)
                tasks.start_soon(self._tell, story, room)
                self._make_trouble(tasks, number, chance)
                await anyio.sleep(self.plan.pause)

    def _numbers(self) -> Iterator[int]:
        over = self.began + 60 * self.plan.minutes if self.plan.minutes else float("inf")
        for number in count(1):
            is_last = self.plan.edits is not None and number > self.plan.edits
            if is_last or time.time() > over:
                return
            yield number

    async def _tell(self, story: Story, room: anyio.Semaphore) -> None:
        try:
            await story.run()
        finally:
            room.release()

    def _make_trouble(self, tasks: TaskGroup, number: int, chance: random.Random) -> None:
        for _ in range(_due(self.plan.kills, number, 0.5)):
            server = chance.choice(self.servers)
            tasks.start_soon(_later, chance.random(), server.kill)
        for _ in range(_due(self.plan.freezes, number, 0.8)):
            server, seconds = chance.choice(self.servers), chance.uniform(0.5, self.plan.freeze)
            tasks.start_soon(_later, chance.random(), partial(server.freeze, seconds))

    # --- the calm ---------------------------------------------------------------------------

    async def settle(self) -> None:
        """No more faults: let the servers bring everything to its end, then ask for everything."""
        self.dice.share = 0.0
        if self.plan.calm:
            with anyio.move_on_after(self.plan.calm):
                while not await self._is_quiet():  # noqa: ASYNC110  only the journal tells
                    await anyio.sleep(1)
            books = await self.books.read()
            left = unsaved(self.emulator, books.values(), whole=False)
            self.unasked = [f"though nobody asked: {one}" for one in left]
        with anyio.move_on_after(_ASKED_WITHIN):
            while left_over := await self._open_names():
                await self._ask_all(left_over)
                await anyio.sleep(0.5)
        self.listed = await anyio.to_thread.run_sync(self._list)

    async def _is_quiet(self) -> bool:
        books = (await self.books.read()).values()
        running = any(one.is_open or one.status in ("pending", "processing") for one in books)
        return not running and not any(unsaved(self.emulator, books, whole=False))

    async def _open_names(self) -> dict[str, str]:
        """Names that something must be learnt of still, and their prompts."""
        books = await self.books.read()
        names = {_name(booked): booked.prompt for booked in books.values()}
        names.update({said.name: said.prompt for said in self.clients.said if said.name})
        return {name: prompt for name, prompt in names.items() if not self._is_known(name)}

    def _is_known(self, name: str) -> bool:
        said = self.asked.get(name)
        if said is None or said.answer["status"] != "completed":
            return said is not None
        return len(said.answer["saved"]) >= len(said.answer["image_urls"])

    async def _ask_all(self, names: dict[str, str]) -> None:
        chance = random.Random(f"{self.plan.seed} asking {len(names)}")
        room = anyio.Semaphore(_ASKERS)
        async with anyio.create_task_group() as tasks:
            for name, prompt in names.items():
                await room.acquire()
                tasks.start_soon(self._ask, chance, name, prompt, room)

    async def _ask(
        self, chance: random.Random, name: str, prompt: str, room: anyio.Semaphore
    ) -> None:
        try:
            said = await self.clients.call(
                chance, "get_task", {"task_id": name}, prompt=prompt, patience=60
            )
        finally:
            room.release()
        if said is not None and _is_end(said.answer):
            self.asked[name] = said

    def _list(self) -> str:
        """What `wan25-mcp tasks` says."""
        command = [sys.executable, "-m", "wan25_mcp", "tasks", "--limit", str(_MOST_LISTED)]
        values = environment(self.servers[0].values)
        done = subprocess.run(command, env=values, capture_output=True, timeout=120, check=False)
        return done.stdout.decode()

    # --- the end ----------------------------------------------------------------------------

    async def evidence(self) -> Evidence:
        return Evidence(
            emulator=self.emulator,
            proxy=self.proxy,
            wanted=self.wanted,
            said=self.clients.said,
            troubles=[trouble for server in self.servers for trouble in server.troubles],
            books=await self.books.read(),
            asked=self.asked,
            listed=self.listed,
            most_listed=_MOST_LISTED,
        )

    async def verdict(self) -> Verdict:
        found = judge(await self.evidence())
        found["unsaved"] += [*self.unasked, *partial_files(self.folder / "output")]
        found["unexpected"] = [
            *self.proxy.problems,
            *self.clients.problems,
            *(problem for server in self.servers for problem in server.problems),
            *self._in_logs(),
            *(
                f"a key went to {len(self.emulator.leaked_keys)} links"
                for _ in self.emulator.leaked_keys[:1]
            ),
        ]
        return found

    def _in_logs(self) -> Iterator[str]:
        for log in sorted(self.folder.glob("*.log")):
            text = log.read_text(encoding="utf-8", errors="replace")
            for sign in ("Traceback (most recent call last)", "unexpectedly"):
                if sign in text:
                    yield f"{log}: {sign}"


@asynccontextmanager
async def open_world(plan: Plan, folder: Path) -> AsyncIterator[World]:
    """A run's world, with its servers up."""
    pictures.AREA = SIDE * SIDE  # a run draws thousands
    (folder / "input").mkdir(parents=True)
    emulator = Emulator(balance=1e9, seed=plan.seed, run_seconds=_run_seconds)
    dice = Dice(plan.seed, plan.faults)
    async with emulator.serving():
        proxy = Proxy(urlsplit(emulator.public_url).port or 0, dice)
        async with proxy.listening():
            emulator.public_url = proxy.url  # so that links lead through it, too
            values = _values(proxy.url, folder, plan.postgres)
            servers: list[Server] = [
                kind(name, values, folder, random.Random(f"{plan.seed} {name}"))
                for name, kind in (("http", HttpServer), ("stdio", StdioServer))
            ]
            books = Books(plan.postgres or folder / "data" / "journal.sqlite3")
            place = Place(emulator.sample_image_url(SIDE, SIDE), folder / "input")
            async with anyio.create_task_group() as tasks:
                for server in servers:
                    tasks.start_soon(server.run)
                for server in servers:
                    await server.is_up()
                yield World(
                    plan, folder, emulator, dice, proxy, servers, Clients(servers), books, place
                )
                for server in servers:
                    await server.kill()  # what is judged is on disk
                tasks.cancel_scope.cancel()
            books.close()


def _values(url: str, folder: Path, postgres: str | None) -> dict[str, str]:
    values = {
        "WAN25_API_KEY": _KEY,
        "WAN25_BASE_URL": f"{url}/apiv1",
        "WAN25_FILES_URL": url,
        "WAN25_DATA_DIR": str(folder / "data"),
        "WAN25_OUTPUT_DIR": str(folder / "output"),
        "WAN25_INPUT_DIRS": str(folder / "input"),
        # What a client repeats soon must be identical however slow this machine is.
        "WAN25_DUPLICATE_WINDOW_SECONDS": "86400",
    }
    return values | ({"WAN25_DATABASE_URL": postgres} if postgres else {})


def _run_seconds(chance: random.Random) -> float:
    return chance.uniform(0.3, 5.0)


def _due(rate: float, number: int, start: float) -> int:
    """How many of `rate` for each hundred are due with this number, evenly.

    Args:
        start: How much of the first is due before any.
    """
    return int(start + rate * number / 100) - int(start + rate * (number - 1) / 100)


async def _later(seconds: float, act: Callable[[], Awaitable[None]]) -> None:
    await anyio.sleep(seconds)
    await act()


def _name(booked: Booked) -> str:
    return booked.task_id or booked.handle


def _is_end(answer: dict[str, Any]) -> bool:
    """Whether an answer says what became of an edit, for good."""
    if answer["status"] in ("completed", "failed", "cancelled"):
        return True
    error = answer["error"]
    return error is not None and error["code"] in ("outcome_unknown", "unreadable_answer")
