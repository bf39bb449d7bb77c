"""One engine, many accounts: each has its own key, limits, polls, files and list."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.stage import KEY, OWNER, TRIO_IF_THOROUGH, Stage, inline, names_in, open_stage, request
from wan25_mcp.editing.account import Account
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal import Allowance
from wan25_mcp.journal.sql import SqlJournal

pytestmark = pytest.mark.anyio

ACCOUNTS: Final = 50
EDITS: Final = 2
PRICE: Final = 1.5
KEYS: Final = tuple(f"key-{number}" for number in range(ACCOUNTS))
MANY: Final[dict[str, Any]] = {"key": {KEY, *KEYS}, "balance": 1e6, "price": PRICE}


@dataclass
class Customer:
    """An account, the editor it uses, and how many edits its credit limit has room for."""

    number: int
    editor: AccountEditor
    folder: Path
    affords: int

    def prompts(self) -> list[str]:
        return [f"{self.number} wants {edit}" for edit in range(EDITS)]


def customers(stage: Stage, folder: Path) -> list[Customer]:
    """Fifty accounts of one process. Every second one can pay for half of what it wants."""
    made = []
    for number, key in enumerate(KEYS):
        affords = 1 + number % EDITS
        allowance = Allowance(credit_limit=affords * PRICE)
        own = folder / f"customer-{number}"
        account = replace(stage.account_of(key), allowance=allowance, output_dir=own)
        made.append(Customer(number, stage.engine.editor(account), own, affords))
    return made


async def edit_all(customer: Customer, edits: list[Edit], codes: list[str]) -> None:
    for prompt in customer.prompts():
        try:
            edits.append(await customer.editor.edit(request(prompt)))
        except Wan25Error as error:
            codes.append(error.code)


async def wait_all(customer: Customer, edits: list[Edit]) -> None:
    for place, edit in enumerate(edits):
        edits[place] = await customer.editor.wait(edit, timeout=600)


@pytest.mark.deadline(240)  # where branches are counted
@TRIO_IF_THOROUGH
async def test_fifty_accounts_edit_at_once_and_nothing_of_one_touches_another(
    tmp_path: Path,
) -> None:
    journal = SqlJournal("sqlite://", run=inline)
    async with open_stage(journal=journal, folder=tmp_path, chance=0.5, **MANY) as stage:
        every = customers(stage, tmp_path)
        edits: dict[int, list[Edit]] = {customer.number: [] for customer in every}
        refused: dict[int, list[str]] = {customer.number: [] for customer in every}
        async with anyio.create_task_group() as tasks:
            for one in every:
                tasks.start_soon(edit_all, one, edits[one.number], refused[one.number])
        async with anyio.create_task_group() as tasks:
            for one in every:
                tasks.start_soon(wait_all, one, edits[one.number])

        for one in every:
            mine = edits[one.number]
            assert [edit.status for edit in mine] == ["completed"] * one.affords
            assert refused[one.number] == ["credit_limit"] * (EDITS - one.affords)
            listed = [(past.prompt, past.edit.task_id) for past in await one.editor.recent(100)]
            expected = zip(
                one.prompts()[: one.affords], (edit.task_id for edit in mine), strict=True
            )
            assert listed == list(reversed(list(expected)))
            saved = [Path(path) for edit in mine for path in edit.saved]
            assert [path.parent for path in saved] == [one.folder] * one.affords
            assert names_in(one.folder) == sorted(path.name for path in saved)
        paid = Counter(submit.headers["authorization"] for submit in stage.emulator.submits)
        assert paid == {f"Bearer {KEYS[one.number]}": one.affords for one in every}
        assert stage.emulator.ledger.charged_total == PRICE * sum(one.affords for one in every)
        await see_nothing_of_each_other(every, edits)


async def see_nothing_of_each_other(every: list[Customer], edits: dict[int, list[Edit]]) -> None:
    for one, other in zip(every, [*every[1:], every[0]], strict=True):
        theirs = str(edits[other.number][0].task_id)
        found = await one.editor.get(theirs)
        assert found.error is not None
        assert (found.status, found.error.code, found.charged) == ("unknown", "not_found", "no")
        assert (found.image_urls, found.saved) == ((), ())


async def test_an_account_whose_polls_are_limited_does_not_hold_up_another() -> None:
    async with open_stage(**MANY) as stage:
        first, second = (stage.engine.editor(stage.account_of(key)) for key in KEYS[:2])
        made = [await editor.edit(request()) for editor in (first, second)]
        await anyio.sleep(5)
        stage.emulator.fault(endpoint="query", kind="status", code=429, retry_after=120)
        limited = await first.get(made[0])
        assert limited.error is not None
        assert (limited.error.code, limited.error.retry_after_seconds) == ("rate_limit", 120)
        assert (await second.get(made[1])).error is None
        settled = await second.wait(made[1], timeout=100)
        assert settled.status == "completed"


async def test_an_account_whose_submits_are_paused_does_not_pause_another() -> None:
    async with open_stage(**MANY) as stage:
        first, second = (stage.engine.editor(stage.account_of(key)) for key in KEYS[:2])
        await second.edit(request("before"))
        stage.emulator.fault(endpoint="submit", kind="status", code=500, times=5)
        for number in range(5):
            assert (await first.edit(request(f"fails {number}"))).charged == "unknown"
        with pytest.raises(Wan25Error) as paused:
            await first.edit(request("paused"))
        assert (paused.value.code, paused.value.charged) == ("provider_failing", "no")
        assert (await second.edit(request("after"))).status == "pending"


async def test_one_identical_edit_is_paid_for_once_by_each_account() -> None:
    async with open_stage(**MANY) as stage:
        first, second = (stage.engine.editor(stage.account_of(key)) for key in KEYS[:2])
        made = [await editor.edit(request()) for editor in (first, second, first)]
        assert made[0].task_id == made[2].task_id != made[1].task_id
        assert [edit.deduplicated for edit in made] == [False, False, True]


async def test_equal_accounts_of_an_engine_are_one() -> None:
    async with open_stage(**MANY) as stage:
        one, same = (stage.engine.editor(stage.account_of(KEYS[0])) for _ in range(2))
        edit = await one.edit(request())
        assert await same.connection() is await one.connection()
        assert [past.edit.task_id for past in await same.recent()] == [edit.task_id]


async def test_an_account_without_a_usable_key_leaves_the_others_in_peace() -> None:
    async with open_stage(**MANY) as stage:
        refused = stage.engine.editor(stage.account_of("a key that nobody gave out"))
        edit = await refused.edit(request())
        assert edit.error is not None
        assert (edit.status, edit.error.code, edit.charged) == ("failed", "authentication", "no")
        assert (await stage.engine.editor(stage.account_of(KEYS[0])).edit(request())).task_id


async def test_the_tasks_of_every_account_are_saved_though_nobody_waits(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path, **MANY) as stage:
        every = customers(stage, tmp_path)[:5]
        for one in every:
            await one.editor.edit(request(one.prompts()[0]))
        await anyio.sleep(180)
        assert [len(names_in(one.folder)) for one in every] == [1] * 5


async def test_an_account_says_nothing_of_its_key() -> None:
    async with open_stage() as stage:
        account: Account = stage.account_of("a-secret-key")
        assert "a-secret-key" not in repr(account)
        assert OWNER not in repr(account)
