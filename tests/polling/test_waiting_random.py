"""Waiting at random: two processes over one journal, people who come and go, and a rough world.

For four minutes the provider refuses, stumbles and hangs, callbacks are lost or lie, and the
journal's disk is slow or broken; then all is well, and people still come and go. On asyncio a seed
plays the same each time; trio shuffles whoever is ready.
"""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio
import httpx2
import pytest

from tests.stage import T0, Stage, open_stage, request
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit, Progress
from wan25_mcp.editing.waiting import OnProgress, margin
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.statuses import is_settled

T = TypeVar("T")
BASE: Final = "https://edits.example.com/callbacks"
NO_TASK: Final = "task-that-never-was"
"""Waited for only: to ask about it once would hide that no look at it is planned."""

PEOPLE: Final = 10
ROUGH_UNTIL: Final = 240.0
PEOPLE_UNTIL: Final = 340.0
RUNS: Final = (3, 20, 60, 90, 200)
TIMEOUTS: Final = (0.5, 4.0, 25.0, 50.0, 600.0)

SLOW_STEP: Final = 0.3
"""Seconds that one step of a slow disk takes at most."""
LAST_STEPS: Final = 6
"""Steps of the disk that an answer may need after its time is up."""
LOOK_SECONDS: Final = 10.0
NOTICE_SECONDS: Final = 130.0
"""The most between the end of a run, or of the trouble, and the answers of all who wait: a look
that hangs to its end, the longest pause after it, a full line, and some to spare."""


@dataclass
class Disk:
    """What the journal is on: slow or broken for a while."""

    chance: random.Random
    is_slow: bool = False
    is_broken: bool = False

    async def run(self, job: Callable[[], T], *, may_abandon: bool = False) -> T:
        await anyio.sleep(self.chance.uniform(0, SLOW_STEP) if self.is_slow else 0)
        if self.is_broken and self.chance.random() < 0.7:
            raise JournalUnusable("the disk is full")
        return job()


@dataclass(frozen=True)
class Answer:
    """What somebody was told of a task. Moments are seconds since the start."""

    task_id: str
    asked: float
    timeout: float
    """How long they would wait; 0 asked for one look."""
    answered: float
    edit: Edit

    @property
    def is_final(self) -> bool:
        """Whether asking on would tell no more: it is settled, or the provider knows no such."""
        is_refused = self.edit.error is not None and not self.edit.error.retryable
        return is_settled(self.edit.status) or is_refused


@dataclass
class Trial:
    """One example, and what came of it."""

    seed: str
    stage: Stage
    editors: tuple[AccountEditor, AccountEditor]
    disk: Disk
    chance: random.Random
    task_ids: list[str] = field(default_factory=list)
    """All that people ask about."""
    accepted: set[str] = field(default_factory=set)
    answers: list[Answer] = field(default_factory=list)

    @property
    def now(self) -> float:
        return self.stage.emulator.clock() - T0

    async def submit(self, editor: AccountEditor, prompt: str) -> None:
        """Edit, or join who did; while the disk is broken, nothing may be sent."""
        with suppress(JournalUnusable):
            edit = await editor.edit(request(prompt))
            if edit.task_id in self.stage.emulator.tasks:
                self.accepted.add(edit.task_id)
                self.task_ids.append(edit.task_id)

    async def submit_elsewhere(self, number: int) -> None:
        """A task that no journal of ours knows."""
        task = await self.stage.client.submit(request(), idempotency_key=f"elsewhere {number}")
        self.accepted.add(task.id)
        self.task_ids.append(task.id)

    async def wait(
        self,
        editor: AccountEditor,
        task_id: str,
        timeout: float,
        listener: OnProgress | None = None,
    ) -> None:
        asked = self.now
        edit = await editor.wait(task_id, timeout=timeout, on_progress=listener)
        self.answers.append(Answer(task_id, asked, timeout, self.now, edit))

    async def call_back(self, url: str, hint: str | None) -> bool:
        """Post to the address of a submit, at either process; False: to come again, if it is."""
        handle, secret = url.removeprefix(f"{BASE}/").split("/")
        with suppress(JournalUnusable):
            return await self.chance.choice(self.editors).called_back(handle, secret, hint)
        return False


@asynccontextmanager
async def on_trial(seed: str, *, has_callbacks: bool) -> AsyncIterator[Trial]:
    """Two processes and the tasks that people will ask about."""
    chance = random.Random(seed)
    disk = Disk(chance)

    async def receive(posted: httpx2.Request) -> httpx2.Response:
        is_lost = chance.random() < 0.2
        hint = json.loads(posted.content)["id"]
        is_true = is_lost or await trial.call_back(str(posted.url), hint)
        return httpx2.Response(204 if is_true else 404)

    receiver: dict[str, Any] = {
        "callback_url": BASE,
        "outside": httpx2.MockTransport(receive),
    }
    async with (
        open_stage(
            journal=SqlJournal("sqlite://", run=disk.run),
            run_seconds=lambda runs: runs.choice(RUNS),
            chance=chance.random(),
            **(receiver if has_callbacks else {}),
        ) as stage,
        stage.another_editor() as other,
    ):
        trial = Trial(seed, stage, (stage.editor, other), disk, chance)
        await _submit_some(trial)
        yield trial


async def _submit_some(trial: Trial) -> None:
    for number in range(4):
        trial.stage.emulator.outcome(
            fail=trial.chance.choice([None, None, "service_error"]),
            progress=trial.chance.choice(["plausible", "absent", "jumping", "stuck"]),
        )
        await trial.submit(trial.chance.choice(trial.editors), str(number))
    for number in range(2):
        await trial.submit_elsewhere(number)
    trial.task_ids.append(NO_TASK)


# --- people ----------------------------------------------------------------------------------


async def come_and_go(trial: Trial, number: int) -> None:
    """One of the people: asks something, leaves, and comes back later."""
    chance = random.Random(f"{trial.seed} {number}")
    while trial.now < PEOPLE_UNTIL:
        await anyio.sleep(chance.choice([0, 0.01, 0.5, 2, 7, 30]))
        editor, task_id = chance.choice(trial.editors), chance.choice(trial.task_ids)
        match chance.choices(["wait", "leave", "get", "edit", "call back"], [50, 20, 20, 3, 7])[0]:
            case "wait":
                timeout = chance.choice(TIMEOUTS)
                await trial.wait(editor, task_id, timeout, listener_of(chance))
            case "leave":
                with anyio.move_on_after(chance.choice([0, 0.3, 5, 40])):
                    await editor.wait(task_id, timeout=50, on_progress=listener_of(chance))
            case "get" if task_id != NO_TASK:
                await trial.wait(editor, task_id, 0)
            case "edit":
                await trial.submit(editor, str(chance.randrange(4)))
            case "call back":
                await call_back_untruly(trial, chance)
            case _:
                pass


def listener_of(chance: random.Random) -> OnProgress | None:
    """Who hears how it stands, some of them slowly."""
    seconds = chance.choice([None, 0, 0.1, 1.5, 4])

    async def receive(_: Progress) -> None:
        await anyio.sleep(seconds or 0)

    return receive if seconds is not None else None


async def call_back_untruly(trial: Trial, chance: random.Random) -> None:
    """Somebody knows an address and says that its task is settled, or another one."""
    submit = chance.choice(trial.stage.emulator.submits)
    if (url := submit.body.get("callback_url")) is not None:
        await trial.call_back(url, chance.choice([submit.task_id, NO_TASK, None]))


# --- the world -------------------------------------------------------------------------------


async def trouble(trial: Trial) -> None:
    """What goes wrong, until all is well."""
    chance, disk = trial.chance, trial.disk
    with anyio.move_on_after(ROUGH_UNTIL - trial.now):
        while True:
            await anyio.sleep(chance.expovariate(1 / 4))
            disk.is_slow = disk.is_broken = False
            match chance.choices(["provider", "slow disk", "broken disk"], [80, 10, 10])[0]:
                case "provider":
                    trial.stage.emulator.fault(endpoint="query", **a_fault(chance))
                case "slow disk":
                    disk.is_slow = True
                case _:
                    disk.is_broken = True
    disk.is_slow = disk.is_broken = False
    trial.stage.emulator.faults.clear()


def a_fault(chance: random.Random) -> dict[str, Any]:
    """Something that goes wrong with a look, or with several in a row."""
    times = chance.choice([1, 1, 5])
    return chance.choice(
        [
            {"kind": "status", "code": 429, "retry_after": chance.choice([None, 1, 20])},
            {"kind": "html", "code": 502, "times": times},
            {"kind": "status", "code": 404, "times": times},
            {"kind": "garbage_json", "times": times},
            {"kind": "delay", "seconds": chance.choice([1, 9, 14, 40]), "times": times},
        ]
    )


async def play(trial: Trial) -> None:
    async with anyio.create_task_group() as world:
        world.start_soon(trouble, trial)
        for number in range(PEOPLE):
            world.start_soon(come_and_go, trial, number)
    async with anyio.create_task_group() as last_ones:
        for editor in trial.editors:
            for task_id in trial.task_ids:
                last_ones.start_soon(trial.wait, editor, task_id, 600.0)


# --- what must be true of it -----------------------------------------------------------------


def problems(trial: Trial) -> Iterator[tuple[str, Answer]]:
    """What is wrong with an answer."""
    for answer in trial.answers:
        took, left = answer.answered - answer.asked, answer.timeout - margin(answer.timeout)
        if took > (left or LOOK_SECONDS) + LAST_STEPS * SLOW_STEP:
            yield "it came late", answer
        if took < left - 0.01 and not answer.is_final:
            yield "it came before its time, with nothing new", answer
        if answer.timeout and answer.answered > _noticeable(trial, answer) + NOTICE_SECONDS:
            yield "what had happened was noticed late", answer


def _noticeable(trial: Trial, answer: Answer) -> float:
    """When there was something to notice, and nothing in its way."""
    task = trial.stage.emulator.tasks.get(answer.task_id)
    settled = (task.settled_at or 0.0) - T0 if task else 0.0
    return max(answer.asked, settled, ROUGH_UNTIL)


@pytest.mark.anyio
@pytest.mark.parametrize("has_callbacks", [False, True], ids=["looking", "called back"])
@pytest.mark.parametrize(
    "number", [0, 1, *(pytest.param(n, marks=pytest.mark.thorough) for n in range(2, 10))]
)
async def test_whatever_goes_wrong_every_wait_ends_in_time_and_every_end_is_noticed(
    number: int, has_callbacks: bool
) -> None:
    seed = f"seed {number}"
    async with on_trial(seed, has_callbacks=has_callbacks) as trial:
        await play(trial)
        assert list(problems(trial)) == [], seed
        assert trial.stage.emulator.ledger.charges == len(trial.accepted), seed
        last = trial.answers[-2 * len(trial.task_ids) :]
        assert all(answer.is_final for answer in last), seed
