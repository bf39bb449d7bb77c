"""Server processes are killed at every step of a submit, and started again: nothing is paid twice
and nothing paid for is lost.

Each server is killed with SIGKILL in the middle of a call. The next one repeats the equal call, as
a host's user would, and is then killed itself in the middle of another.
"""

from __future__ import annotations

import random
import sqlite3
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import pytest

from tests.emulator_lab import Emulator
from tests.journal.processes import (
    Books,
    Server,
    charges,
    end,
    start,
    submits,
    until,
)
from tests.stage import KEY

pytestmark = pytest.mark.anyio

KILLS: Final = [1, pytest.param(8, marks=pytest.mark.thorough)]
"""At each of the seven steps."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class World:
    """One journal, the provider, and what became of the edits."""

    emulator: Emulator
    folder: Path
    outcomes: Counter[str]

    @property
    def file(self) -> Path:
        return self.folder / "journal.sqlite3"

    @property
    def books(self) -> Books:
        return Books(self.file)

    @property
    def values(self) -> dict[str, str]:
        return {
            "WAN25_BASE_URL": self.emulator.base_url,
            "WAN25_API_KEY": KEY,
            "WAN25_DATA_DIR": str(self.folder),
        }

    def stage(self, prompt: str) -> str | None:
        intents = self.books.intents(prompt)
        return intents[0]["stage"] if intents else None


Step = Callable[[World, Server, str], Awaitable[None]]


async def before_the_intent_is_written(world: World, server: Server, prompt: str) -> None:
    """Another process holds the journal's lock; the server waits for it with the file open."""
    with closing(sqlite3.connect(world.file, timeout=10)) as holder:
        holder.execute("PRAGMA journal_mode=WAL")
        holder.execute("BEGIN IMMEDIATE")
        await server.send_edit(prompt)
        await until("the file is open", lambda: _has_open(server.pid, world.file))
        await anyio.sleep(0.05)
        await server.kill()
        holder.rollback()
    assert world.stage(prompt) is None
    assert submits(world.emulator, prompt) == []


def _has_open(pid: int, file: Path) -> bool:
    if sys.platform != "linux":
        pytest.skip("only Linux shows which files a process has open")
    found: set[Path] = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(link.readlink())
        except FileNotFoundError:
            continue
    return file in found


async def after_the_intent_is_written_before_the_wire(
    world: World, server: Server, prompt: str
) -> None:
    """The provider has asked us to wait, so the submit is back where it was before it was sent."""
    world.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=30)
    await server.send_edit(prompt)
    await until(
        "it waits", lambda: submits(world.emulator, prompt) and world.stage(prompt) == "intent"
    )
    await server.kill()


async def during_the_post_before_acceptance(world: World, server: Server, prompt: str) -> None:
    """The provider has the request and takes it on a little later, when the caller is dead."""
    world.emulator.fault(endpoint="submit", kind="delay", seconds=0.4, accepted=False)
    await server.send_edit(prompt)
    await until("it is heard", lambda: submits(world.emulator, prompt))
    await server.kill()
    assert charges(world.emulator, prompt) == []
    await until("it is taken on", lambda: charges(world.emulator, prompt))


async def after_acceptance_before_the_answer_arrives(
    world: World, server: Server, prompt: str
) -> None:
    world.emulator.fault(endpoint="submit", kind="delay", seconds=5)
    await server.send_edit(prompt)
    await until("it is accepted", lambda: charges(world.emulator, prompt))
    await server.kill()
    assert world.stage(prompt) == "sending"


async def after_acceptance_was_written_before_the_call_is_answered(
    world: World, server: Server, prompt: str
) -> None:
    await server.send_edit(prompt)
    await until("it is written", lambda: world.stage(prompt) == "accepted")
    await server.kill()


async def after_the_call_was_answered(world: World, server: Server, prompt: str) -> None:
    answer = await server.edit(prompt)
    assert [answer["task_id"]] == charges(world.emulator, prompt)
    await server.kill()


async def at_any_moment(world: World, server: Server, prompt: str) -> None:
    chance = random.Random(prompt)
    world.emulator.fault(endpoint="submit", kind="delay", seconds=chance.choice([0.0, 0.05, 0.3]))
    await server.send_edit(prompt)
    await anyio.sleep(chance.uniform(0.0, 1.2))
    await server.kill()


STEPS: Final[dict[Step, set[str]]] = {
    before_the_intent_is_written: {"made anew"},
    after_the_intent_is_written_before_the_wire: {"made anew"},
    during_the_post_before_acceptance: {"unknown, and said so"},
    after_acceptance_before_the_answer_arrives: {"unknown, and said so"},
    after_acceptance_was_written_before_the_call_is_answered: {"the same task"},
    after_the_call_was_answered: {"the same task"},
    at_any_moment: {"made anew", "unknown, and said so", "the same task"},
}
"""What the repeated call may come to after a kill at each step."""


@pytest.mark.parametrize("kills", KILLS)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
async def test_a_server_killed_pays_once_and_loses_nothing(
    step: Step, kills: int, tmp_path: Path
) -> None:
    """Each kill is followed by the equal call in a new process."""
    outcomes: Counter[str] = Counter()
    async with Emulator(check_images=False, run_seconds=600, balance=1e6).serving() as emulator:
        await _chain(World(emulator, tmp_path, outcomes), step, kills)
    assert set(outcomes) <= STEPS[step], outcomes
    assert outcomes.total() == kills, outcomes
    paid = Counter(submit.body["prompt"] for submit in emulator.submits if submit.accepted)
    assert set(paid.values()) == {1}, (paid, outcomes)
    assert len(paid) == emulator.ledger.charges <= kills


async def _chain(world: World, step: Step, kills: int) -> None:
    server = await start(world.values)
    try:
        for kill in range(kills):
            prompt = f"{step.__name__} {kill}"
            async with anyio.create_task_group() as tasks:
                successor: list[Server] = []
                tasks.start_soon(_start_into, successor, world)
                await step(world, server, prompt)
            await end(server)
            [server] = successor
            world.outcomes[await _repeated(world, server, prompt)] += 1
    finally:
        await end(server)


async def _start_into(successor: list[Server], world: World) -> None:
    successor.append(await start(world.values))


async def _repeated(world: World, server: Server, prompt: str) -> str:
    """What the equal call in a new process comes to."""
    world.emulator.faults.clear()  # where the killed one did not come so far
    world.books.let_leases_run_out(prompt)
    made, heard = charges(world.emulator, prompt), len(submits(world.emulator, prompt))
    answer = await server.edit(prompt)
    name, listed = answer["task_id"], await server.resource("wan25://tasks")
    if answer["status"] == "unknown":
        assert (answer["charged"], answer["error"]["code"]) == ("unknown", "outcome_unknown")
        assert "Check recent tasks" in answer["error"]["fix"]
        assert len(submits(world.emulator, prompt)) == heard, "sent again by itself"
        outcome = "unknown, and said so"
    elif answer["duplicate_of_earlier_call"]:
        assert made == [name], "an accepted task was lost"
        assert len(submits(world.emulator, prompt)) == heard, "sent again by itself"
        outcome = "the same task"
    else:
        assert made == [], "paid twice"
        assert charges(world.emulator, prompt) == [name]
        outcome = "made anew"
    assert name in [one["task_id"] for one in listed["tasks"]]
    again = await server.call("get_task", task_id=name)
    assert (again["task_id"], again["status"], again["charged"]) == (
        name,
        answer["status"],
        answer["charged"],
    )
    return outcome
