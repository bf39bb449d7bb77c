"""A task's life from pending to settled, on a virtual clock."""

from __future__ import annotations

import statistics
from typing import Any

import anyio
import httpx2
import pytest
from trio.testing import MockClock

from tests.emulator_lab import EmulatorOptions, Fault, Outcome
from tests.emulator_lab.outcomes import TASK_CODES
from wan25_mcp.emulator.model import Model

pytestmark = pytest.mark.anyio
T0 = 1_800_000_000


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


async def test_a_task_waits_its_turn_then_runs_then_is_completed(play: Any) -> None:
    async with play(run_seconds=100) as p:
        task_id = await p.accepted(n=2)
        seen = []
        for _ in range(11):
            task = await p.query(task_id)
            seen.append((task["status"], task["progress"]))
            await anyio.sleep(10)
        assert [status for status, _ in seen] == ["pending"] + ["processing"] * 9 + ["completed"]
        shown = [progress for _, progress in seen]
        assert shown == sorted(shown)
        assert (shown[0], shown[-1]) == (0, 100)
        assert all(0 < progress < 100 for progress in shown[1:-1])
        assert p.emulator.queries == {task_id: 11}


async def test_a_running_task_reads_as_the_submit_did(play: Any) -> None:
    async with play(run_seconds=100) as p:
        submitted = (await p.submit()).json()
        await anyio.sleep(50)
        running = await p.query(submitted["id"])
        assert running == submitted | {"status": "processing", "progress": running["progress"]}


async def test_a_completed_task_has_its_links_its_price_and_no_finish_time(play: Any) -> None:
    async with play(run_seconds=41, public_url="https://cdn.example") as p:
        task_id = await p.accepted(n=2)
        links = [f"https://cdn.example/results/{task_id}_{i}.png" for i in range(2)]
        created = p.emulator.tasks[task_id].created
        assert await p.settled(task_id) == {
            "created": created,
            "duration": 41,
            "id": task_id,
            "model": "wan2.5-image-to-image",
            "object": "image.generation.task",
            "progress": 100,
            "results": links,
            "result_data": [{"url": link} for link in links],
            "status": "completed",
            "task_info": {"can_cancel": False},
            "type": "image",
            "usage": {"credits_used": 3},
        }


async def test_the_later_generation_also_reports_the_cost(play: Any) -> None:
    async with play(run_seconds=1, generation="later") as p:
        task = await p.settled(await p.accepted())
        assert task["usage"] == {
            "credits_used": 1.5,
            "cost": {"credits": 1.5, "usd": 0.03, "cny": 0.21},
        }


@pytest.mark.parametrize("code", [*TASK_CODES, "a_code_nobody_knows"])
async def test_a_failed_task_says_why_and_costs_nothing(play: Any, code: str) -> None:
    async with play(run_seconds=10) as p:
        p.emulator.outcome(fail=code)
        task_id = await p.accepted(n=4)
        task = await p.settled(task_id)
        assert (task["status"], task["progress"]) == ("failed", 0)
        assert task["error"] == {
            "code": code,
            "message": TASK_CODES.get(code, "The task failed."),
            "type": "task_error",
        }
        assert "results" not in task
        assert task["usage"] == {"credits_used": 0}
        assert p.emulator.ledger.balance == 100
        entry = p.emulator.ledger[task_id]
        assert (entry.reserved, entry.charged, entry.released) == (6, 0, 6)


async def test_a_cancelled_task_costs_nothing_either(play: Any) -> None:
    async with play(run_seconds=10) as p:
        p.emulator.outcome(Outcome(cancelled=True))
        task = await p.settled(await p.accepted())
        assert (task["status"], task["error"]["code"]) == ("cancelled", "request_cancelled")
        assert p.emulator.ledger.balance == 100


@pytest.mark.parametrize(("made", "charged"), [(0, 0), (1, 1.2), (3, 3.6), (9, 4.8)])
async def test_only_the_images_made_are_charged(play: Any, made: int, charged: float) -> None:
    async with play(run_seconds=10, price=1.2) as p:
        p.emulator.outcome(images=made)
        task_id = await p.accepted(n=4)
        assert (p.emulator.ledger.held, p.emulator.ledger.balance) == (4.8, 95.2)
        task = await p.settled(task_id)
        assert len(task["results"]) == min(made, 4)
        assert task["usage"] == {"credits_used": charged}
        assert p.emulator.ledger.charged_total == charged
        assert p.emulator.ledger.held == 0
        purse = (await p.client.get("v1/credits")).json()
        left = pytest.approx(100 - charged)
        assert purse == {
            "data": {
                "token": {
                    "remaining_credits": left,
                    "unlimited_credits": False,
                    "used_credits": charged,
                },
                "user": {"remaining_credits": left, "used_credits": charged},
            },
            "message": "",
            "success": True,
        }


async def test_a_balance_runs_out_and_comes_back_when_a_task_fails(play: Any) -> None:
    async with play(run_seconds=10, balance=6) as p:
        p.emulator.outcome(fail="service_error")
        first = await p.accepted(n=4)
        assert (await p.submit()).status_code == 402
        await p.settled(first)
        assert (await p.submit()).status_code == 200


async def test_a_stuck_task_never_gets_further(play: Any) -> None:
    async with play(run_seconds=60) as p:
        p.emulator.outcome(stuck_at=40)
        task_id = await p.accepted()
        await anyio.sleep(24 * 3600)
        task = await p.query(task_id)
        assert (task["status"], task["progress"]) == ("processing", 40)
        assert p.emulator.ledger.held == 1.5


async def test_progress_may_be_absent_jump_or_stand_still(play: Any) -> None:
    async with play(run_seconds=100) as p:
        seen: dict[str, list[Any]] = {}
        for manner in ("absent", "jumping", "stuck"):
            p.emulator.outcome(progress=manner)
            task_id = await p.accepted()
            await anyio.sleep(9.5)
            seen[manner] = []
            for _ in range(9):
                seen[manner].append((await p.query(task_id)).get("progress"))
                await anyio.sleep(10)
        assert seen["absent"] == [None] * 9
        assert seen["stuck"] == [0] * 9
        assert seen["jumping"] != sorted(seen["jumping"])
        assert all(0 <= progress <= 100 for progress in seen["jumping"])


async def test_outcomes_apply_to_tasks_in_order(play: Any) -> None:
    async with play(run_seconds=1) as p:
        p.emulator.outcome(fail="service_error", skip=1, times=2)
        p.emulator.outcome(cancelled=True)
        ends = [(await p.settled(await p.accepted()))["status"] for _ in range(5)]
        assert ends == ["cancelled", "failed", "failed", "completed", "completed"]


async def test_a_refused_submit_uses_up_no_outcome(play: Any) -> None:
    async with play(run_seconds=1, balance=1) as p:
        p.emulator.outcome(fail="service_error")
        assert (await p.submit()).status_code == 402
        p.emulator.ledger.deposit(10)
        assert (await p.settled(await p.accepted()))["status"] == "failed"


@pytest.mark.parametrize("generation", ["specification", "later"])
async def test_an_unknown_or_foreign_or_forgotten_task_is_not_found(
    play: Any, generation: str
) -> None:
    async with play(key=["emulator-key", "another"], generation=generation) as p:
        task_id = await p.accepted()
        foreign = {"authorization": "Bearer another"}
        answers = [
            await p.client.get("v1/tasks/task-unified-1-abcdefgh"),
            await p.client.get(f"v1/tasks/{task_id}", headers=foreign),
        ]
        p.emulator.forget(task_id)
        answers.append(await p.client.get(f"v1/tasks/{task_id}"))
        for answer in answers:
            assert answer.status_code == 404
            assert answer.json()["error"] == {
                "code": 404 if generation == "specification" else "task_not_found",
                "message": "Task not found or expired",
                "type": "not_found_error",
            }


async def test_the_later_generation_refuses_impossible_ids(play: Any) -> None:
    async with play(generation="later") as p:
        answer = await p.client.get("v1/tasks/nonsense")
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "invalid_task_id"


def test_run_times_are_those_of_the_model() -> None:
    times = [Model(EmulatorOptions(seed=seed)).schedule("task") for seed in range(400)]
    assert 60 < statistics.median(times) < 80
    within = sum(40 <= seconds <= 120 for seconds in times)
    assert within > 340


async def test_speed_divides_the_waits(play: Any) -> None:
    async with play(run_seconds=100, speed=20) as p:
        task_id = await p.accepted()
        await anyio.sleep(5.001)
        task = await p.query(task_id)
        assert (task["status"], task["duration"]) == ("completed", 5)


async def test_closing_ends_the_tasks_and_refuses_requests(play: Any) -> None:
    async with play() as p:
        await p.accepted()
    with pytest.raises(Exception, match="not running"):
        await p.emulator.transport().handle_async_request(p.client.build_request("GET", "v1"))


async def test_a_request_under_way_when_it_closes_is_cut_off(play: Any) -> None:
    caught: list[Exception] = []

    async def ask(client: httpx2.AsyncClient) -> None:
        try:
            await client.get("v1/credits", timeout=None)
        except httpx2.ReadError as error:
            caught.append(error)

    async with anyio.create_task_group() as group, play() as p:
        p.emulator.fault(Fault("credits", "delay", seconds=3600))
        group.start_soon(ask, p.client)
        await anyio.sleep(1)
    assert [str(error) for error in caught] == ["The emulator stopped."]


async def test_a_hundred_tasks_run_side_by_side(play: Any) -> None:
    async with play(balance=150, run_seconds=lambda random: random.uniform(40, 120)) as p:
        started = anyio.current_time()
        ids = [await p.accepted() for _ in range(100)]
        assert (await p.submit()).status_code == 402
        for task_id in ids:
            assert (await p.settled(task_id))["status"] == "completed"
        assert anyio.current_time() - started < 130
        assert p.emulator.balance == 0
        assert p.emulator.ledger.charged_total == 150


async def test_what_is_raised_while_running_comes_out_unwrapped(play: Any) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with play():
            raise KeyError("mine")
