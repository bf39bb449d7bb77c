"""What a journal promises, kept on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
import sqlalchemy

from tests.journal.conftest import empty_place
from tests.stage import T0, inline
from tests.systems import posix
from wan25_mcp.errors import OutcomeUnknown, Refused, Unreachable, Wan25Error
from wan25_mcp.errors.codes import CODES
from wan25_mcp.journal import (
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    JournalUnusable,
    Snapshot,
    Spent,
    Unsaved,
    Upload,
    Withheld,
    fingerprint,
    schema,
)
from wan25_mcp.journal import intents as sql_steps
from wan25_mcp.journal.engine import BUSY_SECONDS, reason
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task

pytestmark = pytest.mark.anyio
Place = str | Path

LEASE: Final = 20.0
WINDOW: Final = 600.0
DAY: Final = 24 * 3600.0
AT_ONCE: Final = 16

NO_CREDIT: Final = Refused(
    "The account does not have enough credits for this edit (HTTP 402).",
    code="insufficient_credits",
    fix="Add credits.",
    retryable=False,
    request_id="r-1",
)
LIMITED: Final = Refused(
    "Too fast.", code="rate_limit", fix="Later.", retryable=True, retry_after_seconds=7.5
)
LOST: Final = OutcomeUnknown(
    "The connection failed.", code="outcome_unknown", fix="Look first.", charged="unknown"
)
NOT_REACHED: Final = Unreachable("No connection.", code="unreachable", fix="Check.", retryable=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Where a journal is, and nothing is yet."""
    if request.param == "sqlite":
        return tmp_path / "data" / "journal.sqlite3"
    url: str = request.getfixturevalue("database")
    return url


@pytest.fixture
def journal(place: Place) -> Iterator[SqlJournal]:
    journal = SqlJournal(place, run=inline)
    yield journal
    journal.close()


def ask(
    handle: str = "edit-1", content: str = "night", owner: str = "me", n: int = 1
) -> ClaimRequest:
    return ClaimRequest(
        handle=handle,
        address="https://api.example.com",
        owner=owner,
        fingerprint=fingerprint({"prompt": content}),
        n=n,
        prompt=content,
        holder="a process",
    )


async def claim(
    journal: SqlJournal,
    wish: ClaimRequest | None = None,
    *,
    now: float = T0,
    window: float = WINDOW,
    allowance: Allowance | None = None,
    refusal: Withheld | None = None,
) -> Claim:
    return await journal.claim(
        wish or ask(),
        now=now,
        window=window,
        lease=LEASE,
        allowance=allowance or Allowance(),
        refusal=refusal,
    )


async def sent(journal: SqlJournal, wish: ClaimRequest | None = None, *, now: float = T0) -> None:
    """Claim and send."""
    wish = wish or ask()
    assert not (await claim(journal, wish, now=now)).deduplicated
    assert await journal.begin(wish.handle, now=now, lease=LEASE)


async def accepted(
    journal: SqlJournal,
    wish: ClaimRequest | None = None,
    *,
    now: float = T0,
    task_id: str = "task-1",
) -> None:
    """Claim, send, and be accepted."""
    wish = wish or ask()
    await sent(journal, wish, now=now)
    await journal.accept("me", wish.handle, task("pending", task_id), now=now)


def task(status: str, task_id: str = "task-1", **said: Any) -> Task:
    """A task as the provider words it."""
    return Task.model_validate({"id": task_id, "status": status, **said})


def reserved(amount: float, task_id: str = "task-1") -> Task:
    return task("pending", task_id, usage={"credits_reserved": amount})


def intent(handle: str = "edit-1", **facts: Any) -> Intent:
    """What is expected of an intent made by `ask` at T0."""
    usual: dict[str, Any] = {
        "owner": "me",
        "created_at": T0,
        "n": 1,
        "prompt": "night",
        "credits": 1.5,
    }
    return Intent(handle=handle, **(usual | facts))


async def found(journal: SqlJournal, name: str = "edit-1", *, now: float = T0) -> Intent | None:
    return await journal.find(name, "me", now=now)


async def kept(journal: SqlJournal, name: str) -> Intent:
    """What is kept of an intent that there must be."""
    intent = await found(journal, name)
    assert intent is not None
    return intent


def reported(error: Wan25Error | None) -> dict[str, Any]:
    """All of an error."""
    return {"kind": type(error).__name__, **(vars(error) if error else {})}


async def stage_and_error(
    journal: SqlJournal, handle: str = "edit-1", *, now: float = T0
) -> tuple[str, str | None]:
    kept = await found(journal, handle, now=now)
    assert kept is not None
    return kept.stage, kept.error.code if kept.error else None


# --- joining ---------------------------------------------------------------------------------


async def test_a_first_claim_makes_an_intent_and_an_identical_one_reuses_it(
    journal: SqlJournal,
) -> None:
    assert await claim(journal) == Claim(intent(), deduplicated=False)
    assert await claim(journal, ask("edit-2"), now=T0 + 5) == Claim(intent(), deduplicated=True)
    assert await found(journal, "edit-2") is None


async def test_what_differs_in_content_is_not_deduplicated(journal: SqlJournal) -> None:
    await claim(journal)
    other = await claim(journal, ask("edit-2", "snow"))
    assert other == Claim(intent("edit-2", prompt="snow"), deduplicated=False)


def test_a_fingerprint_knows_content_and_not_the_order_of_its_keys() -> None:
    content = {"prompt": "nächtlich", "n": 1, "image_urls": ["https://a/1", "https://a/2"]}
    reordered = dict(reversed(content.items()))
    assert fingerprint(content) == fingerprint(reordered)
    others: list[dict[str, Any]] = [
        content | {"n": 2},
        content | {"n": "1"},
        content | {"prompt": "nachtlich"},
        content | {"image_urls": ["https://a/2", "https://a/1"]},
    ]
    assert len({fingerprint(one) for one in (content, *others)}) == 5


async def test_one_owners_edits_are_nobody_elses(journal: SqlJournal) -> None:
    await accepted(journal)
    other = await claim(journal, ask("edit-2", owner="you"))
    assert other == Claim(intent("edit-2", owner="you"), deduplicated=False)
    for name in ("edit-1", "task-1"):
        assert await journal.find(name, "you", now=T0) is None
    assert [i.handle for i, _ in await journal.recent("you", now=T0, limit=9)] == ["edit-2"]
    assert list(await journal.orphaned("you", now=T0 + 99, unseen_for=60)) == []


async def test_what_was_made_at_another_address_is_nobodys_work_here(journal: SqlJournal) -> None:
    await accepted(journal, replace(ask(), address="here"))
    for address, running in ((None, ["task-1"]), ("there", []), ("here", ["task-1"])):
        late = T0 + 99
        found = await journal.orphaned("me", now=late, unseen_for=60, address=address)
        assert list(found) == running
    done = task("completed", results=["https://cdn.example/1"])
    await journal.record("me", done, now=T0)
    for address, unsaved in ((None, ["task-1"]), ("there", []), ("here", ["task-1"])):
        assert list(await journal.unsaved("me", now=T0 + 1, address=address)) == unsaved
    assert not (await claim(journal, replace(ask("edit-2"), address="there"))).deduplicated


@pytest.mark.parametrize(
    ("after", "window", "deduplicated"),
    [(WINDOW - 0.1, WINDOW, True), (WINDOW, WINDOW, False), (0.0, 0.0, False), (5.0, 4.0, False)],
)
async def test_an_identical_claim_is_deduplicated_inside_the_window_only(
    journal: SqlJournal, after: float, window: float, deduplicated: bool
) -> None:
    await accepted(journal)
    again = await claim(journal, ask("edit-2"), now=T0 + after, window=window)
    assert (again.deduplicated, again.intent.handle) == (
        deduplicated,
        "edit-1" if deduplicated else "edit-2",
    )


async def test_of_two_forced_ones_the_later_is_reused(journal: SqlJournal) -> None:
    await claim(journal)
    await claim(journal, ask("edit-2"), now=T0 + 1, window=0.0)
    assert (await claim(journal, ask("edit-3"), now=T0 + 2)).intent.handle == "edit-2"


@pytest.mark.parametrize("error", [NO_CREDIT, LIMITED, NOT_REACHED])
async def test_a_refused_intent_does_not_block_a_new_try(
    journal: SqlJournal, error: Wan25Error
) -> None:
    await sent(journal)
    await journal.refuse("edit-1", error)
    again = await claim(journal, ask("edit-2"), now=T0 + 1)
    assert again == Claim(intent("edit-2", created_at=T0 + 1), deduplicated=False)


@pytest.mark.parametrize(
    ("status", "deduplicated"),
    [
        ("pending", True),
        ("processing", True),
        ("completed", True),
        ("unheard of", True),
        ("failed", False),
        ("cancelled", False),
    ],
)
async def test_only_a_failed_or_cancelled_task_does_not_block_a_new_try(
    journal: SqlJournal, status: str, deduplicated: bool
) -> None:
    await accepted(journal)
    await journal.record("me", task(status), now=T0 + 1)
    again = await claim(journal, ask("edit-2"), now=T0 + 2)
    assert (again.deduplicated, again.intent.handle) == (
        deduplicated,
        "edit-1" if deduplicated else "edit-2",
    )


async def test_an_unknown_outcome_is_reused_with_what_is_known_of_it(journal: SqlJournal) -> None:
    await sent(journal)
    await journal.mark_unknown("edit-1", LOST)
    again = await claim(journal, ask("edit-2"), now=T0 + 1)
    assert (again.deduplicated, again.intent.stage) == (True, "unknown")
    assert reported(again.intent.error) == reported(LOST)


@pytest.mark.parametrize(("after", "deduplicated"), [(-1, True), (1, False)])
async def test_an_unknown_outcome_is_reused_for_a_day_beyond_the_window(
    journal: SqlJournal, after: float, deduplicated: bool
) -> None:
    await sent(journal)
    await journal.mark_unknown("edit-1", LOST)
    later = T0 + DAY + WINDOW + after
    assert (await claim(journal, ask("edit-2"), now=later)).deduplicated is deduplicated


async def test_a_refusal_of_ours_stops_new_intents_and_no_deduplication(
    journal: SqlJournal,
) -> None:
    held = Withheld("Held back.", code="provider_failing", fix="Later.", retryable=True)
    with pytest.raises(Withheld) as caught:
        await claim(journal, refusal=held)
    assert caught.value is held
    assert await found(journal) is None
    await claim(journal)
    assert (await claim(journal, ask("edit-2"), refusal=held)).deduplicated


# --- moving ----------------------------------------------------------------------------------

MOVES: Final[dict[str, Callable[[SqlJournal], Awaitable[Any]]]] = {
    "begin": lambda journal: journal.begin("edit-1", now=T0, lease=LEASE),
    "pause": lambda journal: journal.pause("edit-1", now=T0, lease=LEASE),
    "accept": lambda journal: journal.accept("me", "edit-1", task("pending"), now=T0),
    "refuse": lambda journal: journal.refuse("edit-1", NO_CREDIT),
    "mark_unknown": lambda journal: journal.mark_unknown("edit-1", LOST),
}
WAYS_TO: Final = {
    "intent": [],
    "sending": ["begin"],
    "accepted": ["begin", "accept"],
    "refused": ["begin", "refuse"],
    "unknown": ["begin", "mark_unknown"],
}
ALLOWED: Final = {
    ("intent", "begin"): "sending",
    ("intent", "refuse"): "refused",
    ("sending", "pause"): "intent",
    ("sending", "accept"): "accepted",
    ("sending", "refuse"): "refused",
    ("sending", "mark_unknown"): "unknown",
    ("unknown", "accept"): "accepted",
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("origin", WAYS_TO)
async def test_a_move_is_made_from_where_it_may_be_and_changes_nothing_elsewhere(
    journal: SqlJournal, origin: str, move: str
) -> None:
    await claim(journal)
    for step in WAYS_TO[origin]:
        await MOVES[step](journal)
    before = await found(journal)
    assert before is not None
    assert before.stage == origin
    moved = await MOVES[move](journal)
    after = await found(journal)
    assert after is not None
    assert after.stage == ALLOWED.get((origin, move), origin)
    if move == "begin":
        assert moved is (origin == "intent")
    if (origin, move) not in ALLOWED:
        assert replace(after, error=None) == replace(before, error=None)
        assert reported(after.error) == reported(before.error)


async def test_of_two_who_begin_one_is_told_to_send(journal: SqlJournal) -> None:
    await claim(journal)
    outcomes = [await journal.begin("edit-1", now=T0, lease=LEASE) for _ in range(3)]
    assert outcomes == [True, False, False]


async def test_begin_of_an_intent_nobody_made_is_false(journal: SqlJournal) -> None:
    assert await journal.begin("edit-9", now=T0, lease=LEASE) is False


async def test_a_paused_submit_can_be_begun_again(journal: SqlJournal) -> None:
    await sent(journal)
    await journal.pause("edit-1", now=T0, lease=LEASE)
    assert await journal.begin("edit-1", now=T0 + 5, lease=LEASE) is True


async def test_an_unknown_one_that_turns_out_accepted_has_its_task_and_no_error(
    journal: SqlJournal,
) -> None:
    await sent(journal)
    await journal.mark_unknown("edit-1", LOST)
    await journal.accept("me", "edit-1", reserved(1.8), now=T0 + 9)
    expected = intent(stage="accepted", task_id="task-1", credits=1.8)
    assert await found(journal) == expected
    assert await found(journal, "task-1") == expected
    assert await journal.last_seen("me", "task-1") == Snapshot(
        reserved(1.8), seen_at=T0 + 9, unfinished_at=T0 + 9
    )


async def test_an_edit_is_found_by_handle_and_by_task_id_and_by_nothing_else(
    journal: SqlJournal,
) -> None:
    await accepted(journal)
    expected = intent(stage="accepted", task_id="task-1")
    assert await found(journal, "edit-1") == expected
    assert await found(journal, "task-1") == expected
    for name in ("edit-2", "task-2", "", "%", "edit-_"):
        assert await found(journal, name) is None


# --- leases ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "stage", "code", "charged", "counted"),
    [
        ([], "refused", "never_sent", "no", 0.0),
        (["begin"], "unknown", "outcome_unknown", "unknown", 1.5),
        (["begin", "pause"], "refused", "never_sent", "no", 0.0),
    ],
)
async def test_of_a_dead_process_only_what_was_sending_is_unknown(
    journal: SqlJournal, steps: list[str], stage: str, code: str, charged: str, counted: float
) -> None:
    await claim(journal)
    for step in steps:
        await MOVES[step](journal)
    alive = await found(journal, now=T0 + LEASE)
    assert alive is not None
    assert alive.error is None
    dead = await found(journal, now=T0 + LEASE + 0.1)
    assert dead is not None
    assert dead.error is not None
    assert (dead.stage, dead.error.code, dead.error.charged, dead.credits) == (
        stage,
        code,
        charged,
        counted,
    )
    assert dead.error.fix


async def test_the_end_of_a_lease_is_noticed_by_a_claim_and_by_a_list_as_well(
    journal: SqlJournal,
) -> None:
    await claim(journal)
    assert not (await claim(journal, ask("edit-2"), now=T0 + LEASE + 1)).deduplicated
    await journal.begin("edit-2", now=T0 + LEASE + 1, lease=LEASE)
    listed = await journal.recent("me", now=T0 + 2 * LEASE + 2, limit=9)
    assert [(one.handle, one.stage) for one, _ in listed] == [
        ("edit-2", "unknown"),
        ("edit-1", "refused"),
    ]


@pytest.mark.parametrize(
    ("moves", "is_overdue"),
    [
        ([], True),
        (["begin"], True),
        (["begin", "pause"], True),
        (["begin", "accept"], False),
        (["begin", "mark_unknown"], False),
        (["refuse"], False),
    ],
)
async def test_reading_has_something_to_note_only_of_submits_whose_process_has_died(
    journal: SqlJournal, place: Place, moves: list[str], is_overdue: bool
) -> None:
    """Else every read of an old journal would have to write, and to wait for those who do."""
    await claim(journal)
    for move in moves:
        await MOVES[move](journal)
    engine = engine_of(place)
    with engine.connect() as connection:
        later = [
            sql_steps.overdue(connection, T0 + after) for after in (LEASE, LEASE + 1, 9 * LEASE)
        ]
    engine.dispose()
    assert later == [False, is_overdue, is_overdue]


async def test_who_was_taken_for_dead_may_not_send(journal: SqlJournal) -> None:
    await claim(journal)
    await found(journal, now=T0 + LEASE + 1)
    assert await journal.begin("edit-1", now=T0 + LEASE + 1, lease=LEASE) is False
    assert await stage_and_error(journal) == ("refused", "never_sent")


async def test_who_was_taken_for_dead_while_sending_may_still_report_its_outcome(
    journal: SqlJournal,
) -> None:
    await sent(journal)
    assert await stage_and_error(journal, now=T0 + LEASE + 1) == ("unknown", "outcome_unknown")
    await journal.refuse("edit-1", NO_CREDIT)
    assert await stage_and_error(journal) == ("unknown", "outcome_unknown")
    await journal.accept("me", "edit-1", task("pending"), now=T0 + LEASE + 2)
    assert await stage_and_error(journal) == ("accepted", None)


@pytest.mark.parametrize("steps", [[], ["begin"]])
async def test_a_renewed_lease_keeps_a_submit_alive(journal: SqlJournal, steps: list[str]) -> None:
    await claim(journal)
    for step in steps:
        await MOVES[step](journal)
    await journal.renew("edit-1", now=T0 + 15, lease=LEASE)
    assert (await stage_and_error(journal, now=T0 + 35))[1] is None
    assert (await stage_and_error(journal, now=T0 + 35.1))[1] is not None


async def test_a_lease_cannot_be_renewed_after_its_end_was_noticed(journal: SqlJournal) -> None:
    await sent(journal)
    await found(journal, now=T0 + LEASE + 1)
    await journal.renew("edit-1", now=T0 + LEASE + 1, lease=LEASE)
    assert await stage_and_error(journal) == ("unknown", "outcome_unknown")


# --- tasks -----------------------------------------------------------------------------------

WHOLE: Final = {
    "id": "task-1",
    "status": "completed",
    "progress": 100,
    "created": 1782914405,
    "duration": 41,
    "model": "wan2.5-image-to-image",
    "usage": {"credits_used": 3.0, "billing_rule": "per_call", "user_group": "vip"},
    "task_info": {"can_cancel": False, "estimated_time": 30},
    "results": ["https://cdn.example/x_0.png?sig=a%2Fb&x=1", "https://cdn.example/ü_1.png"],
}


@pytest.mark.parametrize(
    "said",
    [
        WHOLE,
        {"id": "task-1", "status": "pending"},
        {"id": "task-1", "status": "something new", "progress": 3},
        {"id": "task-1", "status": "failed", "error": {"code": "service_error", "message": "ü"}},
        {"id": "task-1", "status": "completed", "results": []},
        {"id": "task-1", "status": "completed", "result_data": {"url": "https://cdn.example/1"}},
    ],
)
async def test_a_task_is_read_back_as_it_was_seen(
    journal: SqlJournal, place: Place, said: dict[str, Any]
) -> None:
    seen = Task.model_validate(said)
    noted = await journal.record("me", seen, now=T0)
    assert noted.task == seen
    assert await journal.last_seen("me", "task-1") == noted
    another = SqlJournal(place, run=inline)
    assert await another.last_seen("me", "task-1") == noted
    another.close()


async def test_a_poll_notes_when_the_task_was_seen_unfinished_and_when_settled(
    journal: SqlJournal,
) -> None:
    pending, done = task("pending"), Task.model_validate(WHOLE)
    assert await journal.last_seen("me", "task-1") is None
    assert await journal.record("me", pending, now=T0) == Snapshot(
        pending, seen_at=T0, unfinished_at=T0
    )
    assert await journal.record("me", pending, now=T0 + 5) == Snapshot(
        pending, seen_at=T0 + 5, unfinished_at=T0 + 5
    )
    settled = Snapshot(done, seen_at=T0 + 9, unfinished_at=T0 + 5, settled_at=T0 + 9)
    assert await journal.record("me", done, now=T0 + 9) == settled
    assert await journal.last_seen("me", "task-1") == settled


@pytest.mark.parametrize("later", ["pending", "failed", "something new"])
async def test_a_settled_task_stays_what_it_was(journal: SqlJournal, later: str) -> None:
    await accepted(journal)
    settled = await journal.record("me", Task.model_validate(WHOLE), now=T0 + 9)
    assert await journal.record("me", task(later), now=T0 + 99) == settled
    assert await journal.last_seen("me", "task-1") == settled
    kept = await found(journal)
    assert kept is not None
    assert kept.credits == 3.0


async def test_a_task_settled_on_acceptance_is_noted_as_such(journal: SqlJournal) -> None:
    await sent(journal)
    await journal.accept("me", "edit-1", Task.model_validate(WHOLE), now=T0)
    assert await journal.last_seen("me", "task-1") == Snapshot(
        Task.model_validate(WHOLE), seen_at=T0, settled_at=T0
    )
    assert list(await journal.orphaned("me", now=T0 + 999, unseen_for=60)) == []


async def test_a_task_of_another_intent_is_not_accepted_again(journal: SqlJournal) -> None:
    """A submit resolved late may name a task that is known by then."""
    await accepted(journal)
    await sent(journal, ask("edit-2", "b"))
    await journal.mark_unknown("edit-2", LOST)
    assert await journal.accept("me", "edit-2", task("processing"), now=T0 + 9) is False
    assert reported((await kept(journal, "edit-2")).error) == reported(LOST)
    assert await found(journal, "task-1") == intent(stage="accepted", task_id="task-1")
    assert await journal.last_seen("me", "task-1") == Snapshot(
        task("pending"), seen_at=T0, unfinished_at=T0
    )
    assert await journal.accept("me", "edit-2", task("pending", "task-2"), now=T0 + 10) is True
    assert await stage_and_error(journal, "edit-2") == ("accepted", None)


@pytest.mark.parametrize("owner", ["me", "you"])
async def test_a_submit_answered_with_the_task_of_another_is_unknown_and_still_counted(
    journal: SqlJournal, owner: str
) -> None:
    await accepted(journal, ask(owner=owner))
    await sent(journal, ask("edit-2", "b", n=2), now=T0 + 5)
    done = task("completed", results=["https://a/1"], usage={"credits_used": 0})
    assert await journal.accept("me", "edit-2", done, now=T0 + 6) is False
    mixed_up = await kept(journal, "edit-2")
    assert (mixed_up.stage, mixed_up.task_id, mixed_up.credits) == ("unknown", None, 3.0)
    assert isinstance(mixed_up.error, OutcomeUnknown)
    assert (mixed_up.error.code, mixed_up.error.charged) == ("outcome_unknown", "unknown")
    assert "task-1" in mixed_up.error.message
    seen = await journal.last_seen("me", "task-1")
    assert seen == Snapshot(task("pending"), seen_at=T0, unfinished_at=T0)
    again = await claim(journal, ask("edit-3", "b", n=2), now=T0 + 7)
    assert (again.deduplicated, again.intent.handle) == (True, "edit-2")


@pytest.mark.parametrize("polled_at", [None, T0 + 6])
@pytest.mark.parametrize("status", ["processing", "completed"])
async def test_a_submit_answered_with_a_task_that_was_seen_before_it_was_sent_is_unknown(
    journal: SqlJournal, status: str, polled_at: float | None
) -> None:
    """Somebody polls a task made elsewhere, and the answers are mixed up."""
    await journal.record("me", task(status), now=T0)
    await sent(journal, now=T0 + 5)
    if polled_at is not None:
        await journal.record("me", task(status), now=polled_at)
    assert await journal.accept("me", "edit-1", task("pending"), now=T0 + 7) is False
    assert await stage_and_error(journal, "edit-1") == ("unknown", "outcome_unknown")
    assert await found(journal, "task-1") is None


async def test_a_task_that_an_older_version_saw_before_is_known_as_well(
    place: Place, journal: SqlJournal
) -> None:
    make_older(place, VERSION_2 + OLD_TASK.format(name="task-1", now=T0))
    await sent(journal, now=T0 + 5)
    assert await journal.accept("me", "edit-1", task("pending"), now=T0 + 7) is False


async def test_a_task_accepted_again_by_its_own_intent_is_polled(journal: SqlJournal) -> None:
    await accepted(journal)
    assert await journal.accept("me", "edit-1", task("processing"), now=T0 + 9) is True
    assert await found(journal) == intent(stage="accepted", task_id="task-1")
    assert await journal.last_seen("me", "task-1") == Snapshot(
        task("processing"), seen_at=T0 + 9, unfinished_at=T0 + 9
    )


async def test_a_task_seen_before_it_was_accepted_keeps_what_was_seen(journal: SqlJournal) -> None:
    """A callback may tell of a task, even of its end, before the submit is answered."""
    await sent(journal)
    done = Task.model_validate(WHOLE)
    settled = await journal.record("me", done, now=T0 + 1)
    assert await journal.accept("me", "edit-1", task("pending"), now=T0 + 2) is True
    assert await journal.last_seen("me", "task-1") == settled
    assert await found(journal) == intent(stage="accepted", task_id="task-1", credits=3.0)


async def test_the_hash_of_a_callbacks_secret_is_kept_with_its_intent(journal: SqlJournal) -> None:
    wish = replace(ask(), callback="c" * 64)
    assert (await claim(journal, wish)).intent.callback == "c" * 64
    kept = await found(journal)
    assert kept == intent(callback="c" * 64)
    again = await claim(journal, replace(ask("edit-2"), callback="d" * 64), now=T0 + 1)
    assert again == Claim(intent(callback="c" * 64), deduplicated=True)


# --- who looks -------------------------------------------------------------------------------


async def test_one_at_a_time_polls_until_it_has_seen_or_failed_or_is_dead(
    journal: SqlJournal,
) -> None:
    await accepted(journal)
    take = partial(journal.acquire_poll, "me", "task-1", lease=20.0)
    assert [await take(seen_at=T0, now=T0 + 1) for _ in range(2)] == [True, False]
    assert await take(seen_at=T0, now=T0 + 21) is False
    assert await take(seen_at=T0, now=T0 + 21.1) is True  # who had it is dead
    await journal.release_poll("me", "task-1")
    assert await take(seen_at=T0, now=T0 + 22) is True  # it had failed
    await journal.record("me", task("processing"), now=T0 + 23)
    assert await take(seen_at=T0, now=T0 + 24) is False  # seen since
    assert await take(seen_at=T0 + 23, now=T0 + 24) is True
    await journal.record("me", task("processing"), now=T0 + 25)
    assert await take(seen_at=None, now=T0 + 26) is True  # whatever was seen


async def test_a_clock_set_back_leaves_no_lease_that_nobody_can_outlive(
    journal: SqlJournal,
) -> None:
    await accepted(journal)
    assert await journal.acquire_poll("me", "task-1", seen_at=None, now=T0 + 10 * DAY, lease=LEASE)
    assert await journal.acquire_poll("me", "task-1", seen_at=None, now=T0, lease=LEASE)
    assert not await journal.acquire_poll("me", "task-1", seen_at=None, now=T0 + 1, lease=LEASE)
    assert await journal.acquire_save("me", "task-1", now=T0 + 10 * DAY, lease=LEASE)
    assert await journal.acquire_save("me", "task-1", now=T0, lease=LEASE)
    assert not await journal.acquire_save("me", "task-1", now=T0 + 1, lease=LEASE)


async def test_a_poll_of_a_settled_task_ends_as_well(journal: SqlJournal) -> None:
    await completed(journal)
    for moment in (T0 + 1, T0 + 2):
        assert (
            await journal.acquire_poll("me", "task-1", seen_at=T0, now=moment, lease=20.0) is True
        )
        await journal.record("me", task("pending"), now=moment)


async def test_anybody_may_poll_what_was_never_seen(journal: SqlJournal) -> None:
    for seen_at in (None, T0):
        assert (
            await journal.acquire_poll("me", "task-9", seen_at=seen_at, now=T0, lease=20.0) is True
        )
    await journal.release_poll("me", "task-9")
    assert await journal.last_seen("me", "task-9") is None


async def test_what_was_seen_lately_is_told_by_task(journal: SqlJournal) -> None:
    assert await journal.seen_since("me", 0.0) == {}
    for number in range(4):
        await journal.record("me", task("pending", f"task-{number}"), now=T0 + number)
    await journal.record("me", task("completed", "task-0"), now=T0 + 9)
    assert await journal.seen_since("me", T0 + 2) == {
        "task-0": T0 + 9,
        "task-2": T0 + 2,
        "task-3": T0 + 3,
    }
    assert await journal.seen_since("me", T0 + 10) == {}


async def test_many_snapshots_are_read_at_once(journal: SqlJournal) -> None:
    assert await journal.snapshots("me", []) == {}
    first = await journal.record("me", task("pending", "task-0"), now=T0)
    last = await journal.record("me", Task.model_validate(WHOLE | {"id": "task-1999"}), now=T0 + 1)
    names = [f"task-{number}" for number in range(2000)]
    assert await journal.snapshots("me", [*names, "task-0"]) == {"task-0": first, "task-1999": last}


async def run_once(
    journal: SqlJournal, number: int, *, seen: Sequence[float], end: Task | None = None, n: int = 1
) -> None:
    """An edit sent at T0 + 1000 * number, seen unfinished and in the end settled at `seen` s."""
    began, name = T0 + 1000.0 * number, f"task-{number}"
    await sent(journal, ask(f"edit-{number}", str(number), n=n), now=began)
    await journal.accept("me", f"edit-{number}", task("pending", name), now=began + seen[0])
    for after in seen[1:-1]:
        await journal.record("me", task("processing", name), now=began + after)
    if len(seen) > 1:
        await journal.record("me", end or task("completed", name), now=began + seen[-1])


async def test_how_long_runs_took_is_reported_newest_first_where_it_is_known(
    journal: SqlJournal,
) -> None:
    assert list(await journal.past_runs("me")) == []
    await run_once(journal, 1, seen=[0.5, 48, 52])
    await run_once(journal, 2, seen=[0.5, 45, 55], end=task("failed", "task-2"))  # a fifth
    await run_once(journal, 3, seen=[0.5, 44, 55])  # known too vaguely
    await run_once(journal, 4, seen=[0.5, 300], end=task("completed", "task-4", duration=41))
    await run_once(journal, 5, seen=[0.5, 49, 50], end=task("completed", "task-5", duration=0))
    await run_once(journal, 6, seen=[0.5, 60, 61], n=2)
    for number in (7, 8, 9):
        await run_once(journal, number, seen=[0.5])  # not settled
    await journal.record("me", task("completed", "task-of-another", duration=7), now=T0)
    assert list(await journal.past_runs("me")) == [60.5, 49.5, 41.0, 50.0, 50.0]
    assert list(await journal.past_runs("me", n=1, limit=3)) == [49.5, 41.0, 50.0]
    assert list(await journal.past_runs("me", n=2)) == [60.5]
    assert list(await journal.past_runs("me", limit=1)) == [60.5]
    assert list(await journal.past_runs("you")) == []


async def test_a_run_that_was_never_seen_unfinished_is_known_only_if_the_provider_reports(
    journal: SqlJournal,
) -> None:
    await sent(journal)
    await journal.accept("me", "edit-1", task("completed"), now=T0 + 30)
    await sent(journal, ask("edit-2", "b"))
    await journal.accept("me", "edit-2", task("completed", "task-2", duration=12.5), now=T0 + 30)
    assert list(await journal.past_runs("me")) == [12.5]


@pytest.mark.parametrize(
    ("reported", "taken"), [(41, 41.0), (41_000, 52.0), (0.041, 48.0), (1, 48.0)]
)
async def test_what_the_provider_reports_of_a_run_is_believed_within_what_was_seen(
    journal: SqlJournal, reported: float, taken: float
) -> None:
    seen = [0.5, 52] if reported == 41 else [0.5, 48, 52]
    end = task("completed", "task-1", duration=reported)
    await run_once(journal, 1, seen=seen, end=end)
    assert list(await journal.past_runs("me")) == [taken]


# --- money -----------------------------------------------------------------------------------


async def credits_of(journal: SqlJournal, handle: str = "edit-1") -> float:
    kept = await found(journal, handle)
    assert kept is not None
    return kept.credits


@pytest.mark.parametrize(("held", "counted"), [(7.2, 7.2), (3.6, 6.0), (0.0, 6.0)])
async def test_an_edit_is_counted_as_the_larger_of_estimated_and_reserved_until_it_is_used(
    journal: SqlJournal, held: float, counted: float
) -> None:
    estimate = Allowance(credits_per_image=2.0)
    await claim(journal, ask(n=3), allowance=estimate)
    assert await credits_of(journal) == 6.0
    await journal.begin("edit-1", now=T0, lease=LEASE)
    await journal.accept("me", "edit-1", reserved(held), now=T0)
    assert await credits_of(journal) == counted
    await journal.record("me", task("processing"), now=T0 + 1)
    assert await credits_of(journal) == counted
    used = task("completed", usage={"credits_used": 2.4}, results=["https://a/1", "https://a/2"])
    await journal.record("me", used, now=T0 + 2)
    assert await credits_of(journal) == 2.4


@pytest.mark.parametrize(
    ("end", "counted"),
    [
        (task("failed"), 0.0),
        (task("cancelled"), 0.0),
        (task("failed", usage={"credits_used": 0.5}), 0.5),
        (task("completed", usage={"credits_used": 0}), 0.0),
        (task("completed"), 1.8),
        (task("something new"), 1.8),
        (task("processing", usage={"credits_used": 0}), 1.8),
        (task("processing", usage={"credits_used": 2.5}), 2.5),
        (task("processing", usage={"credits_reserved": 0}), 1.8),
    ],
)
async def test_an_end_is_counted_as_the_provider_says_or_as_reserved(
    journal: SqlJournal, end: Task, counted: float
) -> None:
    await sent(journal)
    await journal.accept("me", "edit-1", reserved(1.8), now=T0)
    await journal.record("me", end, now=T0 + 1)
    assert await credits_of(journal) == counted


@pytest.mark.parametrize(
    ("move", "counted"), [("refuse", 0.0), ("mark_unknown", 1.5), ("pause", 1.5)]
)
async def test_what_was_refused_is_not_counted_and_what_may_be_charged_is(
    journal: SqlJournal, move: str, counted: float
) -> None:
    await sent(journal)
    await MOVES[move](journal)
    assert await credits_of(journal) == counted


@pytest.mark.parametrize(
    ("answers", "n", "expected"),
    [
        ([reserved(3.6)], 2, 2.4),  # 3 images asked for: 1.2 each
        ([task("pending")], 2, 3.0),  # nothing said: the estimate stands
        ([reserved(3.0)], 1, 1.0),
        (
            [
                reserved(3.6),
                task("completed", usage={"credits_used": 2.6},
                     results=["https://a/1", "https://a/2"]),
            ],
            1,
            1.3,
        ),
        ([reserved(3.6), task("failed", usage={"credits_used": 0})], 1, 1.2),
        ([reserved(0)], 2, 3.0),  # nothing is held, which is no price
        ([task("processing", usage={"credits_used": 0})], 2, 3.0),
        (
            [
                reserved(0),
                task("completed", usage={"credits_used": 12},
                     results=["https://a/1", "https://a/2"]),
            ],
            3,
            18.0,
        ),
        ([task("pending"), task("completed", usage={"credits_used": 6})], 1, 1.5),  # of no image
    ],
)  # fmt: skip
async def test_the_price_is_learnt_from_answers(
    journal: SqlJournal, answers: Sequence[Task], n: int, expected: float
) -> None:
    await sent(journal, ask(n=3))
    await journal.accept("me", "edit-1", answers[0], now=T0)
    for answer in answers[1:]:
        await journal.record("me", answer, now=T0 + 1)
    again = await claim(journal, ask("edit-2", "snow", n=n), now=T0 + 2)
    assert again.intent.credits == pytest.approx(expected)
    other = await claim(journal, ask("edit-3", owner="you", n=n), now=T0 + 2)
    assert other.intent.credits == 1.5 * n


async def refused(journal: SqlJournal, wish: ClaimRequest, **given: Any) -> dict[str, Any]:
    """The refusal of a claim, whole, and no trace of the intent."""
    with pytest.raises(Withheld) as caught:
        await claim(journal, wish, **given)
    assert await found(journal, wish.handle) is None
    return reported(caught.value)


async def test_over_the_limit_a_claim_is_refused_with_what_was_spent_and_when_room_returns(
    journal: SqlJournal,
) -> None:
    limit = Allowance(credit_limit=3.0)
    await accepted(journal, ask("edit-1", "a"), now=T0, task_id="task-1")
    await journal.record("me", reserved(1.5), now=T0 + 1)
    await accepted(journal, ask("edit-2", "b"), now=T0 + 3600, task_id="task-2")
    assert await refused(
        journal, ask("edit-3", "c"), now=T0 + 7200, allowance=limit
    ) == {
        "kind": "Withheld",
        "message": "This edit needs about 1.5 credits. WAN25_CREDIT_LIMIT allows 3 in 24 hours, "
        "and 3 are spent or reserved; enough are free again in 22 hours; nothing was sent.",
        "code": "credit_limit",
        "fix": "Call again in 22 hours, or raise WAN25_CREDIT_LIMIT.",
        "retryable": True,
        "retry_after_seconds": DAY - 7200,
        "request_id": None,
        "charged": "no",
    }  # fmt: skip
    two = await refused(journal, ask("edit-3", "c", n=2), now=T0 + 7200, allowance=limit)
    assert two["retry_after_seconds"] == DAY - 3600
    deduplicated = await claim(journal, ask("edit-3", "b"), now=T0 + 3605, allowance=limit)
    assert (deduplicated.deduplicated, deduplicated.intent.handle) == (True, "edit-2")


async def test_room_returns_when_it_was_said_to(journal: SqlJournal) -> None:
    limit = Allowance(credit_limit=1.5)
    await accepted(journal)
    said = await refused(journal, ask("edit-2", "b"), now=T0 + 100, allowance=limit)
    later = T0 + 100 + said["retry_after_seconds"]
    await refused(journal, ask("edit-2", "b"), now=later - 1, allowance=limit)
    assert not (await claim(journal, ask("edit-2", "b"), now=later, allowance=limit)).deduplicated


async def test_an_edit_that_alone_is_over_the_limit_is_never_said_to_find_room(
    journal: SqlJournal,
) -> None:
    limit = Allowance(credit_limit=3.0)
    assert await refused(journal, ask(n=4), allowance=limit) == {
        "kind": "Withheld",
        "message": "This edit needs about 6 credits. WAN25_CREDIT_LIMIT allows 3 in 24 hours, "
        "and 0 are spent or reserved; this edit alone needs more than the limit; nothing was "
        "sent.",
        "code": "credit_limit",
        "fix": "Ask for fewer images (n), or raise WAN25_CREDIT_LIMIT.",
        "retryable": False,
        "retry_after_seconds": None,
        "request_id": None,
        "charged": "no",
    }


async def test_a_limit_of_nothing_lets_nothing_pass(journal: SqlJournal) -> None:
    said = await refused(journal, ask(), allowance=Allowance(credit_limit=0.0))
    assert (said["code"], said["retryable"]) == ("credit_limit", False)


async def settled(journal: SqlJournal, number: int, used: float, *, now: float) -> None:
    """Edit number so-and-so, of one image, made and paid for."""
    name = f"task-{number}"
    await accepted(journal, ask(f"edit-{number}", str(number)), now=now, task_id=name)
    usage = {"credits_used": used}
    done = task("completed", name, usage=usage, results=["https://a/1"])
    await journal.record("me", done, now=now + 1)


async def test_it_tells_which_identical_edits_a_claim_would_return(
    journal: SqlJournal, place: Place
) -> None:
    """What `live` says is what `claim` does, whose return of an earlier intent costs nothing."""
    words = ("night", "lost", "no", "old", "new", "unsent")
    names = {word: fingerprint({"prompt": word}) for word in words}

    async def live(owner: str = "me", window: float = WINDOW, now: float = T0 + 700) -> set[str]:
        address = "https://api.example.com"
        found = await journal.live(owner, names.values(), address=address, now=now, window=window)
        return {word for word, name in names.items() if name in found}

    assert await live() == set()
    if isinstance(place, Path):
        assert not place.exists()  # asking does not make a journal
    await accepted(journal, ask("edit-0", "old"), now=T0, task_id="task-0")
    await accepted(journal, ask("edit-1", "night"), now=T0 + 600, task_id="task-1")
    await sent(journal, ask("edit-2", "lost"), now=T0)
    await journal.mark_unknown("edit-2", LOST)
    await sent(journal, ask("edit-3", "no"), now=T0 + 600)
    await journal.refuse("edit-3", NO_CREDIT)
    await claim(journal, ask("edit-4", "unsent"), now=T0 + 690)
    assert await live() == {"night", "lost"}
    assert await live(window=30 * DAY) == {"night", "lost", "old"}
    assert await live("another") == set()
    for word in ("night", "lost", "no", "old", "new"):
        would = word in await live()
        claimed = await claim(journal, ask(f"edit-of-{word}", word), now=T0 + 700)
        assert claimed.deduplicated is would


async def price_of_the_next(journal: SqlJournal) -> float:
    return (await claim(journal, ask("edit-9", "next"), now=T0 + 99)).intent.credits


async def test_a_price_that_rises_is_known_from_the_next_answer(journal: SqlJournal) -> None:
    await settled(journal, 1, 1.5, now=T0)
    await sent(journal, ask("edit-2", "b", n=2), now=T0 + 5)
    await journal.accept("me", "edit-2", reserved(12.0, "task-2"), now=T0 + 5)
    assert await credits_of(journal, "edit-2") == 12.0
    assert await price_of_the_next(journal) == 6.0


@pytest.mark.parametrize("held", [0.0, 0.5, None])
async def test_what_is_held_is_no_price_where_more_is_charged_in_the_end(
    journal: SqlJournal, held: float | None
) -> None:
    await settled(journal, 1, 6.0, now=T0)
    await accepted(journal, ask("edit-2", "b"), now=T0 + 5, task_id="task-2")
    if held is not None:
        await journal.record("me", reserved(held, "task-2"), now=T0 + 6)
    assert await credits_of(journal, "edit-2") == 6.0
    assert await price_of_the_next(journal) == 6.0


async def test_what_was_held_for_a_failure_is_no_price_where_more_is_charged_in_the_end(
    journal: SqlJournal,
) -> None:
    await settled(journal, 1, 6.0, now=T0)
    await accepted(journal, ask("edit-2", "b"), now=T0 + 5, task_id="task-2")
    await journal.record("me", reserved(0.5, "task-2"), now=T0 + 6)
    await journal.record("me", task("failed", "task-2"), now=T0 + 7)
    assert await price_of_the_next(journal) == 6.0


async def test_a_price_that_falls_is_known_once_an_edit_was_charged(journal: SqlJournal) -> None:
    await settled(journal, 1, 6.0, now=T0)
    await settled(journal, 2, 1.5, now=T0 + 10)
    assert await price_of_the_next(journal) == 1.5


async def test_a_price_of_nothing_that_an_older_version_learnt_is_none(
    place: Place, journal: SqlJournal
) -> None:
    await accepted(journal)
    execute(place, "UPDATE wan25_account_intents SET price = 0")
    assert await price_of_the_next(journal) == 1.5
    limit = Allowance(credit_limit=15.0)
    assert (await refused(journal, ask("edit-2", "b"), allowance=limit))["code"] == "price_unknown"


def unpriced(**more: Any) -> dict[str, Any]:
    """What is said while the price is unknown and another edit is under way."""
    return {"code": "price_unknown", "charged": "no", "retryable": True} | more


@pytest.mark.parametrize("stage", ["intent", "sending", "accepted", "reserved nothing", "unknown"])
async def test_with_a_limit_and_no_price_one_edit_at_a_time_is_under_way(
    journal: SqlJournal, stage: str
) -> None:
    limit = Allowance(credit_limit=15.0)
    await claim(journal, allowance=limit)
    for step in WAYS_TO.get(stage, ["begin", "accept"]):
        await MOVES[step](journal)
    if stage == "reserved nothing":
        await journal.record("me", reserved(0), now=T0 + 1)
    said = await refused(journal, ask("edit-2", "b"), now=T0 + 2, allowance=limit)
    assert said | unpriced() == said
    assert said["retry_after_seconds"] == (3598 if stage == "unknown" else None)
    assert "WAN25_CREDIT_LIMIT" in said["message"]
    assert (await claim(journal, now=T0 + 2, allowance=limit)).deduplicated
    unlimited = Allowance(max_in_flight=9)
    assert not (
        await claim(journal, ask("edit-2", "b"), now=T0 + 2, allowance=unlimited)
    ).deduplicated


@pytest.mark.parametrize(
    "end",
    [
        reserved(6.0),
        task("completed", usage={"credits_used": 6}, results=["https://a/1"]),
        task("completed"),
        task("failed"),
        task("cancelled", usage={"credits_used": 0}),
    ],
    ids=["price told", "charged", "nothing told", "failed", "cancelled"],
)
async def test_an_edit_stands_in_nobodys_way_once_its_price_is_told_or_it_is_over(
    journal: SqlJournal, end: Task
) -> None:
    limit = Allowance(credit_limit=15.0)
    await accepted(journal)
    await refused(journal, ask("edit-2", "b"), allowance=limit)
    await journal.record("me", end, now=T0 + 60)
    assert not (await claim(journal, ask("edit-2", "b"), now=T0 + 61, allowance=limit)).deduplicated


async def test_one_that_is_refused_and_one_of_another_account_stand_in_nobodys_way(
    journal: SqlJournal,
) -> None:
    limit = Allowance(credit_limit=15.0)
    await sent(journal)
    await journal.refuse("edit-1", NO_CREDIT)
    await sent(journal, ask("edit-2", "b", owner="you"))
    assert not (await claim(journal, ask("edit-3", "c"), allowance=limit)).deduplicated


@pytest.mark.parametrize("end", ["mark_unknown", "accept"])
async def test_one_whose_end_nobody_learns_stands_in_the_way_for_an_hour_and_stays_counted(
    journal: SqlJournal, end: str
) -> None:
    limit = Allowance(credit_limit=3.0)
    await sent(journal)
    await MOVES[end](journal)
    await refused(journal, ask("edit-2", "b"), now=T0 + 3599, allowance=limit)
    assert not (
        await claim(journal, ask("edit-2", "b"), now=T0 + 3600, allowance=limit)
    ).deduplicated
    await journal.refuse("edit-2", NO_CREDIT)
    two = await refused(journal, ask("edit-3", "c", n=2), now=T0 + 3601, allowance=limit)
    assert two["code"] == "credit_limit"


async def test_the_limit_is_reported_before_the_price_is_asked_for(journal: SqlJournal) -> None:
    await claim(journal, allowance=Allowance(credit_limit=1.5))
    said = await refused(journal, ask("edit-2", "b"), allowance=Allowance(credit_limit=1.5))
    assert said["code"] == "credit_limit"


@pytest.mark.parametrize("move", ["refuse", "failed"])
async def test_a_refusal_and_a_failure_give_the_credits_back(
    journal: SqlJournal, move: str
) -> None:
    limit = Allowance(credit_limit=1.5)
    await sent(journal)
    if move == "refuse":
        await journal.refuse("edit-1", NO_CREDIT)
    else:
        await journal.accept("me", "edit-1", reserved(1.5), now=T0)
        await refused(journal, ask("edit-2", "b"), allowance=limit)
        await journal.record("me", task("failed"), now=T0)
    assert not (await claim(journal, ask("edit-2", "b"), allowance=limit)).deduplicated


async def test_the_limit_of_one_owner_is_not_anothers(journal: SqlJournal) -> None:
    limit = Allowance(credit_limit=1.5)
    await claim(journal, allowance=limit)
    assert not (await claim(journal, ask("edit-2", owner="you"), allowance=limit)).deduplicated


async def test_edits_in_flight_are_counted_until_they_settle(journal: SqlJournal) -> None:
    two = Allowance(max_in_flight=2)
    await claim(journal, ask("edit-1", "a"), allowance=two)
    await claim(journal, ask("edit-2", "b"), allowance=two)
    assert await refused(journal, ask("edit-3", "c"), allowance=two) == {
        "kind": "Withheld",
        "message": "2 edits are running, and WAN25_MAX_IN_FLIGHT allows 2; nothing was sent.",
        "code": "too_many_in_flight",
        "fix": "Wait for one of the running edits (wait_for_task), then call edit_image again.",
        "retryable": True,
        "retry_after_seconds": None,
        "request_id": None,
        "charged": "no",
    }
    await journal.begin("edit-1", now=T0, lease=LEASE)
    await journal.accept("me", "edit-1", task("pending"), now=T0)
    await refused(journal, ask("edit-3", "c"), allowance=two)
    await journal.record("me", task("completed"), now=T0 + 1)
    assert not (await claim(journal, ask("edit-3", "c"), allowance=two)).deduplicated
    assert not (await claim(journal, ask("edit-4", owner="you"), allowance=two)).deduplicated


async def test_an_unknown_edit_is_in_flight_for_an_hour_and_no_longer(journal: SqlJournal) -> None:
    one = Allowance(max_in_flight=1)
    await sent(journal)
    await journal.mark_unknown("edit-1", LOST)
    await refused(journal, ask("edit-2", "b"), now=T0 + 3599, allowance=one)
    assert not (await claim(journal, ask("edit-2", "b"), now=T0 + 3600, allowance=one)).deduplicated


# --- what nobody looks at --------------------------------------------------------------------


async def test_what_nobody_polled_is_named_until_somebody_polls(journal: SqlJournal) -> None:
    await accepted(journal)
    await accepted(journal, ask("edit-2", "b"), now=T0 + 5, task_id="task-2")
    named = partial(journal.orphaned, "me", unseen_for=60.0)
    assert list(await named(now=T0 + 60)) == []
    assert list(await named(now=T0 + 60.1)) == ["task-1"]
    assert await journal.acquire_save(
        "me", "task-1", now=T0 + 60, lease=600.0
    )  # to save: not to look
    assert await journal.acquire_poll("me", "task-1", seen_at=None, now=T0 + 60, lease=600.0)
    assert list(await named(now=T0 + 66)) == ["task-1", "task-2"]
    await journal.record("me", task("processing"), now=T0 + 200)
    assert list(await named(now=T0 + 250)) == ["task-2"]
    await journal.record("me", task("completed"), now=T0 + 251)
    assert list(await named(now=T0 + 999)) == ["task-2"]


async def test_what_has_not_settled_in_a_day_is_not_polled_unasked(journal: SqlJournal) -> None:
    await accepted(journal)
    late = T0 + DAY
    assert list(await journal.orphaned("me", now=late, unseen_for=60)) == []
    assert list(await journal.orphaned("me", now=late - 1, unseen_for=60)) == ["task-1"]


async def test_a_task_that_is_only_polled_is_nobodys_to_follow(journal: SqlJournal) -> None:
    await journal.record("me", task("pending", "task-of-another-server"), now=T0)
    assert list(await journal.orphaned("me", now=T0 + 99, unseen_for=60)) == []


async def test_recent_edits_come_newest_first_with_what_was_last_seen(journal: SqlJournal) -> None:
    assert list(await journal.recent("me", now=T0, limit=9)) == []
    await accepted(journal, ask("edit-1", "a"))
    await claim(journal, ask("edit-2", "b", owner="you"), now=T0 + 1)
    await claim(journal, ask("edit-3", "c"), now=T0 + 2)
    newest = (intent("edit-3", prompt="c", created_at=T0 + 2), None)
    oldest = (
        intent("edit-1", prompt="a", stage="accepted", task_id="task-1"),
        Snapshot(task("pending"), seen_at=T0, unfinished_at=T0),
    )
    assert list(await journal.recent("me", now=T0 + 3, limit=9)) == [newest, oldest]
    assert list(await journal.recent("me", now=T0 + 3, limit=1)) == [newest]


# --- files -----------------------------------------------------------------------------------


async def completed(journal: SqlJournal, images: int = 2, *, now: float = T0) -> None:
    await accepted(journal, now=now)
    links = [f"https://cdn.example/{number}" for number in range(images)]
    await journal.record("me", task("completed", results=links), now=now)


async def test_completed_tasks_are_unsaved_until_each_image_is_on_the_disk(
    journal: SqlJournal,
) -> None:
    assert list(await journal.unsaved("me", now=T0)) == []
    await completed(journal)
    assert await journal.saved("me", "task-1") == {}
    assert list(await journal.unsaved("me", now=T0 + 1)) == ["task-1"]
    assert list(await journal.unsaved("you", now=T0 + 1)) == []
    await journal.note_saved("me", "task-1", 2, "/pictures/ü 2.png")
    assert list(await journal.unsaved("me", now=T0 + 1)) == ["task-1"]
    await journal.note_saved("me", "task-1", 1, "/pictures/1.png")
    await journal.note_saved("me", "task-1", 1, "/pictures/1-again.png")
    assert list(await journal.unsaved("me", now=T0 + 1)) == []
    assert await journal.saved("me", "task-1") == {
        1: "/pictures/1-again.png",
        2: "/pictures/ü 2.png",
    }


async def test_images_whose_links_have_expired_are_not_saved_any_more(journal: SqlJournal) -> None:
    await completed(journal)
    assert list(await journal.unsaved("me", now=T0 + DAY - 1)) == ["task-1"]
    assert list(await journal.unsaved("me", now=T0 + DAY)) == []


@pytest.mark.parametrize("status", ["pending", "failed", "cancelled"])
async def test_only_a_completed_task_has_images_to_save(journal: SqlJournal, status: str) -> None:
    await accepted(journal)
    await journal.record("me", task(status), now=T0)
    assert list(await journal.unsaved("me", now=T0 + 1)) == []


async def saved_later(
    journal: SqlJournal, number: int, *, images: int = 1, n: int = 1, at: float = T0
) -> None:
    """An edit that was completed at a time."""
    name = f"task-{number}"
    await accepted(journal, ask(f"edit-{number}", name, n=n), now=at, task_id=name)
    links = [f"https://cdn.example/{name}/{image}" for image in range(images)]
    await journal.record("me", task("completed", name, results=links), now=at)


async def test_what_was_saved_before_hides_nothing_that_was_not(journal: SqlJournal) -> None:
    for number in range(130):
        await saved_later(journal, number, at=T0 + number)
        if number < 120:
            await journal.note_saved("me", f"task-{number}", 1, f"/pictures/{number}.png")
    due = list(await journal.unsaved("me", now=T0 + 200))
    assert due == [f"task-{number}" for number in range(120, 130)]
    assert list(await journal.unsaved("me", now=T0 + 200, limit=3)) == due[:3]


async def test_the_links_that_expire_first_come_first_whenever_they_were_seen(
    journal: SqlJournal,
) -> None:
    for number, created in enumerate((50, 10, 30)):
        name = f"task-{number}"
        await accepted(journal, ask(f"edit-{number}", name), task_id=name)
        reported = {"results": ["https://cdn.example/0"], "created": T0 + created, "duration": 5}
        await journal.record("me", task("completed", name, **reported), now=T0 + 100 + number)
    assert list(await journal.unsaved("me", now=T0 + 200)) == ["task-1", "task-2", "task-0"]
    late = T0 + DAY + 20
    assert list(await journal.unsaved("me", now=late)) == ["task-2", "task-0"]


async def test_what_failed_waits_for_its_next_try_and_comes_after_what_was_never_tried(
    journal: SqlJournal, place: Place
) -> None:
    for number in range(3):
        await saved_later(journal, number, at=T0 + number)
    why = Unsaved("The disk is full.", 1, T0 + 10, T0 + 40)
    await journal.note_unsaved("me", "task-0", 1, why)
    assert list(await journal.unsaved("me", now=T0 + 39)) == ["task-1", "task-2"]
    assert list(await journal.unsaved("me", now=T0 + 40)) == ["task-1", "task-2", "task-0"]
    again = Unsaved("The disk is fuller.", 2, T0 + 41, T0 + 101)
    await journal.note_unsaved("me", "task-0", 1, again)
    another = SqlJournal(place, run=inline)
    assert await another.unsaved_images("me", "task-0") == {1: again}
    assert list(await another.unsaved("me", now=T0 + 100)) == ["task-1", "task-2"]
    another.close()
    await journal.note_saved("me", "task-0", 1, "/pictures/0.png")
    assert await journal.unsaved_images("me", "task-0") == {}
    assert list(await journal.unsaved("me", now=T0 + 999)) == ["task-1", "task-2"]


async def test_an_image_that_no_try_can_bring_does_not_make_its_task_due_and_hides_no_other(
    journal: SqlJournal,
) -> None:
    await saved_later(journal, 1, images=2, n=2)
    await journal.note_unsaved("me", "task-1", 1, Unsaved("Too large.", 1, T0 + 1, None))
    assert list(await journal.unsaved("me", now=T0 + 2)) == ["task-1"]
    await journal.note_saved("me", "task-1", 2, "/pictures/2.png")
    assert list(await journal.unsaved("me", now=T0 + DAY - 1)) == []


async def test_no_more_images_are_due_than_were_asked_for(journal: SqlJournal) -> None:
    await saved_later(journal, 1, images=500, n=2)
    await journal.note_saved("me", "task-1", 1, "/pictures/1.png")
    assert list(await journal.unsaved("me", now=T0 + 1)) == ["task-1"]
    await journal.note_saved("me", "task-1", 2, "/pictures/2.png")
    assert list(await journal.unsaved("me", now=T0 + 1)) == []


async def test_more_links_than_were_asked_for_do_not_make_an_image_seem_cheap(
    journal: SqlJournal,
) -> None:
    links = [f"https://cdn.example/{number}" for number in range(500)]
    await accepted(journal)
    done = task("completed", results=links, usage={"credits_used": 1.5})
    await journal.record("me", done, now=T0 + 60)
    next_one = await claim(journal, ask("edit-2", "b", n=2), now=T0 + 61)
    assert next_one.intent.credits == 3.0


async def test_who_saves_and_lives_is_not_taken_for_dead(journal: SqlJournal) -> None:
    await completed(journal)
    take = partial(journal.acquire_save, "me", "task-1", lease=12.0)
    assert await take(now=T0 + 1)
    await journal.renew_save("me", "task-1", now=T0 + 9, lease=12.0)
    assert not await take(now=T0 + 20)
    assert await take(now=T0 + 22)
    await journal.release_save("me", "task-1")
    await journal.renew_save("me", "task-1", now=T0 + 23, lease=12.0)  # it had ended
    assert list(await journal.unsaved("me", now=T0 + 24)) == ["task-1"]


async def test_one_at_a_time_takes_a_task_on_until_it_lets_go_or_is_dead(
    journal: SqlJournal,
) -> None:
    await completed(journal)
    take = partial(journal.acquire_save, "me", "task-1", lease=60.0)
    assert [await take(now=T0 + 1), await take(now=T0 + 1)] == [True, False]
    assert list(await journal.unsaved("me", now=T0 + 2)) == []
    await journal.release_save("me", "task-1")
    assert list(await journal.unsaved("me", now=T0 + 2)) == ["task-1"]
    assert [await take(now=T0 + 3), await take(now=T0 + 62)] == [True, False]
    assert list(await journal.unsaved("me", now=T0 + 64)) == ["task-1"]
    assert await take(now=T0 + 64) is True
    assert await journal.acquire_save("me", "task-9", now=T0, lease=60.0) is False


async def test_an_upload_is_known_by_content_and_place_until_its_address_expires(
    journal: SqlJournal, place: Place
) -> None:
    upload = Upload("https://files.example/1?sig=a%2Fb", T0 + 100, ("scaled to 5000 px", "ü"))
    assert await journal.uploaded("me", "a" * 64, "here", now=T0) is None
    await journal.note_upload("me", "a" * 64, "here", upload)
    another = SqlJournal(place, run=inline)
    assert await another.uploaded("me", "a" * 64, "here", now=T0 + 99) == upload
    another.close()
    assert await journal.uploaded("me", "a" * 64, "here", now=T0 + 100) is None
    assert await journal.uploaded("me", "a" * 64, "there", now=T0) is None
    assert await journal.uploaded("me", "b" * 64, "here", now=T0) is None
    newer = Upload("https://files.example/2", T0 + 200)
    await journal.note_upload("me", "a" * 64, "here", newer)
    assert await journal.uploaded("me", "a" * 64, "here", now=T0 + 150) == newer


@pytest.mark.parametrize(
    "error",
    [
        NO_CREDIT,
        LIMITED,
        NOT_REACHED,
        Withheld("Held – “back”.", code="credit_limit", fix="Später.", retryable=True),
    ],
)
async def test_an_error_is_read_back_as_it_was(
    journal: SqlJournal, place: Place, error: Wan25Error
) -> None:
    await sent(journal)
    await journal.refuse("edit-1", error)
    another = SqlJournal(place, run=inline)
    kept = await found(another)
    another.close()
    assert kept is not None
    assert (kept.stage, reported(kept.error)) == ("refused", reported(error))


@pytest.mark.parametrize(
    "prompt", ["ü \u4e2d \U0001f3a8", "a\0b", "'; DROP TABLE x; --", "%s :x {y}"]
)
async def test_a_prompt_of_any_characters_is_kept(journal: SqlJournal, prompt: str) -> None:
    await claim(journal, ask(content=prompt))
    kept = await found(journal)
    assert kept is not None
    assert kept.prompt == prompt.replace("\0", " ")


async def test_why_the_journal_failed_is_read_back_word_for_word(journal: SqlJournal) -> None:
    error = JournalUnusable("the disk is full")
    await claim(journal)
    await journal.refuse("edit-1", error)
    kept = await found(journal)
    assert kept is not None
    assert kept.error is not None
    assert vars(kept.error) == vars(error)


async def test_what_is_older_than_a_month_is_forgotten_at_the_next_opening(
    journal: SqlJournal, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    await accepted(journal, ask("edit-1", "a"), now=T0, task_id="task-1")
    await accepted(journal, ask("edit-2", "b"), now=T0 + 60, task_id="task-2")
    for task_id in ("task-1", "task-2"):
        await journal.note_saved("me", task_id, 1, f"/{task_id}.png")
    for sha256, lives_for in (("old", 30 * DAY), ("new", 31 * DAY)):
        upload = Upload("https://a.b/c", T0 + lives_for)
        await journal.note_upload("me", sha256, "a place", upload)
    await journal.note_unsaved("me", "task-1", 2, Unsaved("The disk is full.", 1, T0, T0 + 30))
    for handle in ("edit-1", "edit-2"):
        await journal.keep_input("me", handle, 1, b"small", now=T0 + 60)
    journal.close()
    monkeypatch.setattr("wan25_mcp.journal.transactions.time.time", lambda: T0 + 30 * DAY + 30)
    listed = await journal.recent("me", now=T0 + 61, limit=9)
    assert [one.handle for one, _ in listed] == ["edit-2"]
    assert await journal.last_seen("me", "task-1") is None
    assert await journal.last_seen("me", "task-2") is not None
    assert await journal.unsaved_images("me", "task-1") == {}
    assert [await journal.saved("me", task_id) for task_id in ("task-1", "task-2")] == [
        {},
        {1: "/task-2.png"},
    ]
    assert await journal.uploaded("me", "old", "a place", now=T0) is None
    assert await journal.uploaded("me", "new", "a place", now=T0) is not None
    assert execute(place, "SELECT handle FROM wan25_account_inputs") == [("edit-2",)]


async def test_what_is_older_than_a_month_is_forgotten_when_asked_to(
    journal: SqlJournal, place: Place
) -> None:
    await journal.prune(now=T0)
    assert not (isinstance(place, Path) and place.exists())  # nothing made for nothing
    await accepted(journal, ask("edit-1", "a"), now=T0, task_id="task-1")
    await accepted(journal, ask("edit-2", "b"), now=T0 + 60, task_id="task-2")
    await journal.note_saved("me", "task-1", 1, "/images/1.png")
    await journal.prune(now=T0 + 30 * DAY + 30)
    listed = await journal.recent("me", now=T0 + 61, limit=9)
    assert [one.handle for one, _ in listed] == ["edit-2"]
    assert await journal.last_seen("me", "task-1") is None
    assert await journal.saved("me", "task-1") == {}


# --- the tables ------------------------------------------------------------------------------


def engine_of(place: Place) -> sqlalchemy.Engine:
    url = (
        f"sqlite:///{place}" if isinstance(place, Path) else place.replace("://", "+psycopg://", 1)
    )
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def execute(place: Place, statement: str) -> Sequence[Any]:
    engine = engine_of(place)
    with engine.begin() as connection:
        result = connection.execute(sqlalchemy.text(statement))
        rows = result.all() if result.returns_rows else []
    engine.dispose()
    return rows


async def test_a_fresh_journal_has_its_tables_and_their_version(
    journal: SqlJournal, place: Place
) -> None:
    await claim(journal)
    engine = engine_of(place)
    names = sqlalchemy.inspect(engine).get_table_names()
    engine.dispose()
    assert sorted(names) == sorted(schema.metadata.tables)
    assert execute(place, "SELECT version FROM wan25_version") == [(schema.VERSION,)]


async def test_a_journal_of_this_version_is_opened_with_all_it_holds(
    journal: SqlJournal, place: Place
) -> None:
    await accepted(journal)
    journal.close()
    assert await found(journal) == intent(stage="accepted", task_id="task-1")
    assert execute(place, "SELECT version FROM wan25_version") == [(schema.VERSION,)]


async def test_a_journal_of_before_the_model_was_noted_is_of_the_one_model_there_was(
    journal: SqlJournal, place: Place
) -> None:
    await accepted(journal)
    journal.close()
    execute(place, "ALTER TABLE wan25_account_intents DROP COLUMN model")
    execute(place, "UPDATE wan25_version SET version = 5")
    assert await found(journal) == intent(stage="accepted", task_id="task-1")
    assert not (await claim(journal, replace(ask("edit-2", "b"), model="another"))).deduplicated
    assert (await found(journal, "edit-2") or intent()).model == "another"
    assert execute(place, "SELECT max(version) FROM wan25_version") == [(schema.VERSION,)]


async def test_a_journal_of_before_inputs_were_kept_keeps_its_edits_and_those_of_new_ones(
    journal: SqlJournal, place: Place
) -> None:
    await accepted(journal)
    journal.close()
    execute(place, "DROP TABLE wan25_account_inputs")
    execute(place, "UPDATE wan25_version SET version = 6")
    assert await journal.kept_input("me", "task-1", 1) is None
    await journal.keep_input("me", "edit-1", 1, b"\xff\xd8\0small", now=T0)
    assert await journal.kept_input("me", "task-1", 1) == b"\xff\xd8\0small"
    assert execute(place, "SELECT max(version) FROM wan25_version") == [(schema.VERSION,)]


async def test_a_kept_input_is_found_by_handle_and_task_id_by_its_owner_alone(
    journal: SqlJournal,
) -> None:
    await accepted(journal)
    await journal.keep_input("me", "edit-1", 2, b"first", now=T0)
    await journal.keep_input("me", "edit-1", 2, b"second", now=T0 + 1)
    for name in ("edit-1", "task-1"):
        assert await journal.kept_input("me", name, 2) == b"second"
        assert await journal.kept_input("me", name, 1) is None
        assert await journal.kept_input("you", name, 2) is None


async def test_of_many_kept_inputs_the_oldest_make_room(
    journal: SqlJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wan25_mcp.journal.files.MAX_INPUTS", 2)
    for number in (1, 2, 3):
        await claim(journal, ask(f"edit-{number}", str(number)), now=T0 + number)
        await journal.keep_input("me", f"edit-{number}", 1, b"small", now=T0 + number)
    await journal.keep_input("you", "edit-4", 1, b"small", now=T0)
    kept = [await journal.kept_input("me", f"edit-{number}", 1) for number in (1, 2, 3)]
    assert kept == [None, b"small", b"small"]


async def test_each_model_has_its_own_price_and_its_own_run_times(journal: SqlJournal) -> None:
    await accepted(journal)
    links, usage = ["https://cdn.example/1"], {"credits_used": 4.0}
    await journal.record("me", task("processing"), now=T0 + 38)
    await journal.record("me", task("completed", results=links, usage=usage), now=T0 + 40)
    priced = await claim(journal, ask("edit-2", "b"), now=T0 + 50)
    other = await claim(journal, replace(ask("edit-3", "c"), model="another"), now=T0 + 50)
    assert (priced.intent.credits, other.intent.credits) == (4.0, 1.5)
    assert len(await journal.past_runs("me", model=MODEL)) == 1
    assert list(await journal.past_runs("me", model="another")) == []


async def test_what_was_spent_is_what_was_charged_and_what_is_still_open(
    journal: SqlJournal,
) -> None:
    assert await journal.spent("me", T0 - 1) == Spent(0.0, 0.0)
    assert await journal.price("me", MODEL) is None
    await settled(journal, 1, 3.0, now=T0)
    await sent(journal, ask("edit-2", "b"), now=T0 + 5)  # for as much as the last
    await sent(journal, ask("edit-3", "c"), now=T0 + 6)
    await journal.refuse("edit-3", Refused(code="permission"))
    assert await journal.spent("me", T0 - 1) == Spent(3.0, 3.0)
    assert await journal.spent("me", T0 + 1) == Spent(0.0, 3.0)
    assert await journal.spent("you", T0 - 1) == Spent(0.0, 0.0)
    assert (await journal.price("me", MODEL), await journal.price("you", MODEL)) == (3.0, None)


VERSION_1: Final = """
CREATE TABLE wan25_version (version INTEGER NOT NULL, PRIMARY KEY (version));
CREATE TABLE wan25_intents (
  handle VARCHAR(64) NOT NULL, owner VARCHAR(64) NOT NULL, fingerprint VARCHAR(64) NOT NULL,
  stage VARCHAR(16) NOT NULL, created_at FLOAT(53) NOT NULL, sent_at FLOAT(53),
  lease_until FLOAT(53) NOT NULL, holder VARCHAR(64) NOT NULL, n INTEGER NOT NULL, prompt TEXT,
  credits FLOAT(53) NOT NULL, price FLOAT(53), task_id VARCHAR(255), error TEXT,
  PRIMARY KEY (handle), UNIQUE (task_id));
CREATE INDEX wan25_intents_equal ON wan25_intents (owner, fingerprint, created_at);
CREATE INDEX wan25_intents_stage ON wan25_intents (stage, lease_until);
CREATE INDEX wan25_intents_latest ON wan25_intents (owner, created_at);
CREATE TABLE wan25_tasks (
  task_id VARCHAR(255) NOT NULL, settled INTEGER NOT NULL, status VARCHAR(16) NOT NULL,
  answer TEXT NOT NULL, seen_at FLOAT(53) NOT NULL, unfinished_at FLOAT(53),
  settled_at FLOAT(53), followed_until FLOAT(53) NOT NULL, PRIMARY KEY (task_id));
CREATE INDEX wan25_tasks_unsettled ON wan25_tasks (settled, seen_at);
INSERT INTO wan25_version VALUES (1);
"""
VERSION_2: Final = (
    VERSION_1
    + """
CREATE TABLE wan25_files (
  task_id VARCHAR(255) NOT NULL, number INTEGER NOT NULL, path TEXT NOT NULL,
  PRIMARY KEY (task_id, number));
CREATE TABLE wan25_uploads (
  sha256 VARCHAR(64) NOT NULL, place VARCHAR(255) NOT NULL, url TEXT NOT NULL,
  expires_at FLOAT(53) NOT NULL, changes TEXT NOT NULL, PRIMARY KEY (sha256, place));
INSERT INTO wan25_version VALUES (2);
"""
)
TO_VERSION_3: Final = """
ALTER TABLE wan25_intents ADD COLUMN callback VARCHAR(64);
ALTER TABLE wan25_tasks ADD COLUMN looking_until FLOAT(53) DEFAULT '0' NOT NULL;
CREATE INDEX wan25_tasks_seen ON wan25_tasks (seen_at, task_id);
INSERT INTO wan25_version VALUES (3);
"""
HELD: Final = """
INSERT INTO wan25_intents (handle, owner, fingerprint, stage, created_at, sent_at,
  lease_until, holder, n, prompt, credits, price, task_id, error) VALUES ('edit-1', 'me',
  '{equal}', 'accepted', {now}, {now},
  {now}, 'a process', 1, 'night', 1.5, NULL, 'task-1', NULL);
"""
OLD_TASK: Final = """
INSERT INTO wan25_tasks (task_id, settled, status,
  answer, seen_at, unfinished_at, settled_at, followed_until) VALUES ('{name}', 0, 'pending',
  '{{"id": "{name}", "status": "pending", "results": []}}', {now}, {now}, NULL, 0.0);
"""


def held() -> str:
    """An accepted intent, as an older version kept it."""
    return HELD.format(equal=fingerprint({"prompt": "night"}), now=T0)


def make_older(place: Place, statements: str) -> None:
    """Tables as an older version made them, and what it kept."""
    if isinstance(place, Path):
        place.parent.mkdir()
    for statement in filter(str.strip, statements.split(";")):
        execute(place, statement.replace(":", "\\:"))


def shape(place: Place) -> dict[str, Any]:
    """The columns and indexes of each table, in any order."""
    engine = engine_of(place)
    inspector = sqlalchemy.inspect(engine)
    found = {}
    for table in set(inspector.get_table_names()) - {"wan25_version"}:
        columns = inspector.get_columns(table)
        indexes = inspector.get_indexes(table)
        found[table] = (
            sorted((c["name"], str(c["type"]), c["nullable"], c["default"]) for c in columns),
            sorted((str(index["name"]), index["column_names"]) for index in indexes),
        )
    engine.dispose()
    return found


@pytest.mark.parametrize(
    ("older", "then"),
    [(VERSION_1, ""), (VERSION_2, ""), (VERSION_2, TO_VERSION_3)],
    ids=["1", "2", "3"],
)
async def test_an_older_journal_is_brought_forward_with_all_it_holds(
    place: Place,
    journal: SqlJournal,
    older: str,
    then: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    make_older(place, older + held() + OLD_TASK.format(name="task-1", now=T0) + then)
    assert await found(journal) == intent(stage="accepted", task_id="task-1")
    assert await journal.seen_since("me", T0) == {"task-1": T0}
    for taken in (True, False):
        look = journal.acquire_poll("me", "task-1", seen_at=T0, now=T0 + 1, lease=20.0)
        assert await look is taken
    again = await claim(journal, replace(ask("edit-2", "b"), callback="c" * 64))
    assert again.intent.callback == "c" * 64
    await journal.note_saved("me", "task-1", 1, "/pictures/1.png")
    assert await journal.saved("me", "task-1") == {1: "/pictures/1.png"}
    assert execute(place, "SELECT max(version) FROM wan25_version") == [(schema.VERSION,)]
    if isinstance(place, Path):
        fresh: Place = tmp_path / "fresh.sqlite3"
    else:
        fresh = empty_place(request.getfixturevalue("postgres"))
    another = SqlJournal(fresh, run=inline)
    await claim(another)
    another.close()
    assert shape(place) == shape(fresh)


OLD_FILE: Final = "INSERT INTO wan25_files VALUES ('{name}', 1, '/{name}.png');"
OLD_UPLOAD: Final = """
INSERT INTO wan25_uploads VALUES ('hash', 'shelf', 'https://cdn/1', {until}, '[]');
"""


async def test_tasks_of_an_older_journal_stay_readable_by_the_account_that_made_them(
    place: Place, journal: SqlJournal
) -> None:
    others = held().replace("'edit-1', 'me'", "'edit-2', 'they'").replace("'task-1'", "'task-2'")
    names = ("task-1", "task-2", "of whom nobody knows")
    seen = "".join(OLD_TASK.format(name=name, now=T0) for name in names)
    files = "".join(OLD_FILE.format(name=name) for name in names)
    upload = OLD_UPLOAD.format(until=T0 + DAY)
    make_older(place, VERSION_2 + held() + others + seen + files + upload)
    for owner, task_id in (("me", "task-1"), ("they", "task-2")):
        assert await journal.seen_since(owner, T0) == {task_id: T0}
        assert [list(await journal.snapshots(owner, names))] == [[task_id]]
        for name in names:
            known = {1: f"/{name}.png"} if name == task_id else {}
            assert await journal.saved(owner, name) == known
        assert await journal.uploaded(owner, "hash", "shelf", now=T0) is None


OLD_CLAIM: Final = HELD.replace("edit-1", "edit-2").replace("task-1", "task-2")


async def test_an_older_program_that_had_the_journal_open_can_send_nothing_any_more(
    place: Place, journal: SqlJournal
) -> None:
    """Its rows would have no owner. It learns it before the wire: it can claim nothing."""
    make_older(place, VERSION_2 + held())
    assert await found(journal) == intent(stage="accepted", task_id="task-1")
    claims = OLD_CLAIM.format(equal="another", now=T0)
    for statement in (claims, "UPDATE wan25_intents SET stage = 'sending'", "TABLE wan25_tasks"):
        statement = statement.replace("TABLE", "SELECT * FROM")
        with pytest.raises(sqlalchemy.exc.DBAPIError) as failed:
            execute(place, statement.strip().rstrip(";"))
        assert (
            reason(failed.value)
            == "a newer wan25-mcp has migrated it; upgrade and restart this one"
        )
    assert [past.handle for past, _ in await journal.recent("me", now=T0, limit=9)] == ["edit-1"]


OLD_RESULT: Final = """
INSERT INTO wan25_tasks (task_id, settled, status, answer, seen_at, unfinished_at, settled_at,
  followed_until) VALUES ('task-1', 1, 'completed', '{answer}', {at}, {at}, {at}, 0.0);
"""


@pytest.mark.parametrize(
    ("answer", "due"),
    [
        ({"id": "task-1", "status": "completed", "results": ["https://cdn.example/0"]}, ["task-1"]),
        ({"id": "task-1", "status": "completed", "results": []}, []),
        ({"status": "what was cut"}, []),
    ],
)
async def test_what_an_older_program_saw_completed_is_saved_once_the_journal_is_opened(
    place: Place, journal: SqlJournal, monkeypatch: pytest.MonkeyPatch, answer: Any, due: list[str]
) -> None:
    monkeypatch.setattr("wan25_mcp.journal.transactions.time.time", lambda: T0 + 60)
    older = VERSION_2 + TO_VERSION_3 + held()
    make_older(place, older + OLD_RESULT.format(answer=json.dumps(answer), at=T0))
    assert list(await journal.unsaved("me", now=T0 + 60)) == due
    assert list(await journal.unsaved("me", now=T0 + DAY)) == []


async def test_a_journal_of_a_newer_version_is_refused_with_a_sentence_and_left_alone(
    journal: SqlJournal, place: Place
) -> None:
    await accepted(journal)
    journal.close()
    execute(place, "INSERT INTO wan25_version VALUES (99)")
    for step in (partial(claim, wish=ask("edit-2", "b")), found):
        with pytest.raises(JournalUnusable) as caught:
            await step(journal)
        assert reported(caught.value) == {
            "kind": "JournalUnusable",
            "message": "The journal, which prevents paying twice, is unavailable: "
            "it was written by a newer wan25-mcp (journal version 99; this program knows "
            f"{schema.VERSION}), so upgrade this one. Nothing was sent.",
            "code": "journal_unusable",
            "fix": CODES["journal_unusable"].fix,
            "retryable": True,
            "retry_after_seconds": None,
            "request_id": None,
            "charged": "no",
        }
    assert execute(place, "SELECT handle FROM wan25_account_intents") == [("edit-1",)]


async def test_reading_a_journal_that_was_never_written_creates_nothing(tmp_path: Path) -> None:
    journal = SqlJournal(tmp_path / "data" / "journal.sqlite3", run=inline)
    assert await found(journal) is None
    assert await journal.last_seen("me", "task-1") is None
    assert await journal.snapshots("me", ["task-1"]) == {}
    assert await journal.seen_since("me", 0.0) == {}
    assert list(await journal.past_runs("me")) == []
    assert list(await journal.recent("me", now=T0, limit=9)) == []
    assert list(await journal.orphaned("me", now=T0, unseen_for=1)) == []
    assert names_in(tmp_path) == []


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022])
async def test_nobody_else_may_read_the_folder_or_the_files(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        journal = SqlJournal(tmp_path / "data" / "journal.sqlite3", run=inline)
        await claim(journal)
    finally:
        os.umask(before)
    modes = {
        path.name: oct(stat.S_IMODE(path.stat().st_mode))
        for path in (tmp_path / "data", *(tmp_path / "data").iterdir())
    }
    journal.close()
    assert modes == {
        "data": "0o700",
        "journal.sqlite3": "0o600",
        "journal.sqlite3-wal": "0o600",
        "journal.sqlite3-shm": "0o600",
    }


@pytest.mark.parametrize("name", ["a?b=c", "100%", "a b", "ü", "a#b", "%41"])
async def test_a_folder_of_any_name_can_hold_the_journal(tmp_path: Path, name: str) -> None:
    path = tmp_path / name / "journal.sqlite3"
    journal = SqlJournal(path, run=inline)
    await claim(journal)
    journal.close()
    assert names_in(tmp_path) == [name]
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT handle FROM wan25_account_intents").fetchall() == [
            ("edit-1",)
        ]
    connection.close()


async def test_every_step_is_on_the_disk_before_the_next(tmp_path: Path) -> None:
    """WAL with synchronous=FULL: a commit is synced before it returns."""
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    await claim(journal)
    assert journal._engine is not None
    with journal._engine.connect() as connection:
        modes = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        ]
    journal.close()
    assert modes == ["wal", 2]


def synchronous_of(journal: SqlJournal) -> list[str]:
    """How each change of a journal is brought to the disk, noted where its transaction begins."""
    seen: list[str] = []
    assert journal._engine is not None

    def note(connection: sqlalchemy.Connection) -> None:
        name = "synchronous" if connection.dialect.name == "sqlite" else "synchronous_commit"
        show = "PRAGMA" if connection.dialect.name == "sqlite" else "SHOW"
        seen.append(str(connection.exec_driver_sql(f"{show} {name}").scalar()))

    sqlalchemy.event.listen(journal._engine, "commit", note)
    return seen


async def test_only_what_the_next_poll_says_again_does_not_wait_for_the_disk(
    journal: SqlJournal,
) -> None:
    await claim(journal)
    seen = synchronous_of(journal)
    await journal.begin("edit-1", now=T0, lease=LEASE)
    await journal.accept("me", "edit-1", task("pending"), now=T0)
    await journal.acquire_poll("me", "task-1", seen_at=T0, now=T0 + 1, lease=20.0)
    await journal.record("me", task("processing"), now=T0 + 2)
    await journal.release_poll("me", "task-1")
    await journal.record("me", task("completed"), now=T0 + 3)
    await journal.note_saved("me", "task-1", 1, "/pictures/1.png")
    on, off = ("2", "1") if journal._engine and journal._engine.name == "sqlite" else ("on", "off")
    assert seen == [on, on, off, off, off, on, on]


# --- at once ---------------------------------------------------------------------------------


def at_once(jobs: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Run each job in a thread of its own, all released together; what came of each."""
    outcomes: list[Any] = [None] * len(jobs)
    gate = threading.Barrier(len(jobs))

    def work(number: int) -> None:
        gate.wait(timeout=20)
        try:
            outcomes[number] = anyio.run(jobs[number])
        except Wan25Error as error:
            outcomes[number] = error

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=50)
    assert not any(thread.is_alive() for thread in threads)
    return outcomes


@pytest.fixture
def two(place: Place) -> Iterator[tuple[SqlJournal, SqlJournal]]:
    """Two journals over the same place, as two processes have them; not opened yet."""
    journals = SqlJournal(place, run=inline), SqlJournal(place, run=inline)
    yield journals
    for journal in journals:
        journal.close()


def test_identical_claims_at_once_make_one_intent(two: tuple[SqlJournal, SqlJournal]) -> None:
    outcomes = at_once(
        [partial(claim, two[i % 2], ask(f"edit-{i}"), now=T0 + i / 100) for i in range(AT_ONCE)]
    )
    assert all(isinstance(outcome, Claim) for outcome in outcomes), outcomes
    assert sorted(outcome.deduplicated for outcome in outcomes) == [False] + [True] * (AT_ONCE - 1)
    assert len({outcome.intent.handle for outcome in outcomes}) == 1


def test_a_database_set_to_another_isolation_changes_nothing(database: str) -> None:
    """Under serializable, who waited for its turn would still see what was there before."""
    place = f"{database}%20-cdefault_transaction_isolation%3Dserializable"
    assert execute(place, "SHOW transaction_isolation") == [("serializable",)]
    journals = [SqlJournal(place, run=inline) for _ in range(2)]
    outcomes = at_once([partial(claim, journals[i % 2], ask(f"edit-{i}")) for i in range(AT_ONCE)])
    for journal in journals:
        journal.close()
    assert all(isinstance(outcome, Claim) for outcome in outcomes), outcomes
    assert sorted(outcome.deduplicated for outcome in outcomes) == [False] + [True] * (AT_ONCE - 1)


def test_different_claims_at_once_never_pass_the_credit_limit(
    two: tuple[SqlJournal, SqlJournal],
) -> None:
    limit = Allowance(credit_limit=9.0)
    anyio.run(partial(settled, two[0], 99, 1.5, now=T0))
    outcomes = at_once(
        [partial(claim, two[i % 2], ask(f"edit-{i}", str(i)), allowance=limit)
         for i in range(AT_ONCE)]
    )  # fmt: skip
    codes = [o.code if isinstance(o, Wan25Error) else "made" for o in outcomes]
    assert sorted(codes) == ["credit_limit"] * (AT_ONCE - 5) + ["made"] * 5


def test_of_different_claims_at_once_one_is_made_while_the_price_is_unknown(
    two: tuple[SqlJournal, SqlJournal],
) -> None:
    limit = Allowance(credit_limit=15.0)
    outcomes = at_once(
        [partial(claim, two[i % 2], ask(f"edit-{i}", str(i)), allowance=limit)
         for i in range(AT_ONCE)]
    )  # fmt: skip
    codes = [o.code if isinstance(o, Wan25Error) else "made" for o in outcomes]
    assert sorted(codes) == ["made"] + ["price_unknown"] * (AT_ONCE - 1)


async def test_of_claims_that_share_a_transaction_only_those_without_room_are_withheld(
    journal: SqlJournal,
) -> None:
    limit, outcomes = Allowance(credit_limit=9.0), dict[int, Claim | Withheld]()
    await settled(journal, 99, 1.5, now=T0)

    async def work(number: int) -> None:
        try:
            wish = ask(f"edit-{number}", str(number))
            outcomes[number] = await claim(journal, wish, allowance=limit)
        except Withheld as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        for number in range(AT_ONCE):
            tasks.start_soon(work, number)
    made = {number for number, outcome in outcomes.items() if isinstance(outcome, Claim)}
    assert (len(outcomes), len(made)) == (AT_ONCE, 5)
    for number in range(AT_ONCE):
        found = await journal.find(f"edit-{number}", "me", now=T0)
        assert (found is not None) == (number in made)


def test_different_claims_at_once_never_pass_the_limit_in_flight(
    two: tuple[SqlJournal, SqlJournal],
) -> None:
    limit = Allowance(max_in_flight=3)
    outcomes = at_once(
        [partial(claim, two[i % 2], ask(f"edit-{i}", str(i)), allowance=limit)
         for i in range(AT_ONCE)]
    )  # fmt: skip
    codes = [o.code if isinstance(o, Wan25Error) else "made" for o in outcomes]
    assert sorted(codes) == ["made"] * 3 + ["too_many_in_flight"] * (AT_ONCE - 3)


def test_of_many_who_begin_at_once_one_is_told_to_send(two: tuple[SqlJournal, SqlJournal]) -> None:
    anyio.run(claim, two[0])
    outcomes = at_once(
        [partial(two[i % 2].begin, "edit-1", now=T0, lease=LEASE) for i in range(AT_ONCE)]
    )
    assert sorted(outcomes) == [False] * (AT_ONCE - 1) + [True]


def test_of_many_who_would_save_the_same_images_at_once_one_may(
    two: tuple[SqlJournal, SqlJournal],
) -> None:
    anyio.run(completed, two[0])
    outcomes = at_once(
        [
            partial(two[i % 2].acquire_save, "me", "task-1", now=T0 + 1, lease=60.0)
            for i in range(AT_ONCE)
        ]
    )
    assert sorted(outcomes) == [False] * (AT_ONCE - 1) + [True]


@pytest.mark.parametrize("seen_at", [T0, None])
def test_of_many_who_would_poll_at_once_one_may(
    two: tuple[SqlJournal, SqlJournal], seen_at: float | None
) -> None:
    anyio.run(accepted, two[0])
    outcomes = at_once(
        [partial(two[i % 2].acquire_poll, "me", "task-1", seen_at=seen_at, now=T0 + 1, lease=20.0)
         for i in range(AT_ONCE)]
    )  # fmt: skip
    assert sorted(outcomes) == [False] * (AT_ONCE - 1) + [True]


@pytest.mark.parametrize("files", [5, pytest.param(30, marks=pytest.mark.thorough)])
def test_threads_that_open_new_files_at_once_are_all_let_in(files: int, tmp_path: Path) -> None:
    """Often: SQLite tells all but one of those who make a file's WAL that it is locked. On a busy
    machine one may wait for its turn in vain, but then it has waited."""

    async def refused_early(journal: SqlJournal) -> JournalUnusable | None:
        began = time.monotonic()
        try:
            await claim(journal, ask())
        except JournalUnusable as error:
            return error if time.monotonic() - began < BUSY_SECONDS else None
        return None

    for number in range(files):
        path = tmp_path / str(number) / "journal.sqlite3"
        journals = [SqlJournal(path, run=inline) for _ in range(6)]
        outcomes = at_once([partial(refused_early, journal) for journal in journals])
        for journal in journals:
            journal.close()
        assert outcomes == [None] * 6


def open_first(place: Place, handle: str, gate: Any, said: Any) -> None:
    """In a process of its own: open the journal at the same moment as others, and claim."""
    journal = SqlJournal(place, run=inline)
    gate.wait(timeout=30)
    try:
        outcome: Claim = anyio.run(partial(claim, journal, ask(handle)))
        said.put(("deduplicated" if outcome.deduplicated else "made", outcome.intent.handle))
    except Wan25Error as error:
        said.put((error.message, handle))
    journal.close()


@pytest.mark.parametrize(
    "place", ["sqlite", pytest.param("postgresql", marks=pytest.mark.thorough)], indirect=True
)
def test_processes_that_open_a_new_journal_at_once_share_it(place: Place) -> None:
    context = multiprocessing.get_context("spawn")
    gate, said = context.Barrier(3), context.Queue()
    processes = [
        context.Process(target=open_first, args=(place, f"edit-{i}", gate, said)) for i in range(3)
    ]
    for process in processes:
        process.start()
    outcomes = [said.get(timeout=40) for _ in processes]
    for process in processes:
        process.join(timeout=10)
    assert sorted(outcome for outcome, _ in outcomes) == ["deduplicated"] * 2 + ["made"]
    assert len({handle for _, handle in outcomes}) == 1


def test_an_intent_keeps_no_key_and_no_more_than_it_says(place: Place) -> None:
    """What is in the tables is what the README says is kept."""
    journal = SqlJournal(place, run=inline)
    anyio.run(accepted, journal)
    journal.close()
    [row] = execute(place, "SELECT * FROM wan25_account_intents")
    assert row._asdict() == {
        "handle": "edit-1",
        "owner": "me",
        "fingerprint": fingerprint({"prompt": "night"}),
        "model": MODEL,
        "stage": "accepted",
        "created_at": T0,
        "sent_at": T0,
        "lease_until": T0 + LEASE,
        "holder": "a process",
        "n": 1,
        "prompt": "night",
        "credits": 1.5,
        "price": None,
        "task_id": "task-1",
        "error": None,
        "callback": None,
        "address": "https://api.example.com",
    }
    [row] = execute(place, "SELECT * FROM wan25_account_tasks")
    assert row._asdict() | {"answer": json.loads(row.answer)} == {
        "owner": "me",
        "task_id": "task-1",
        "settled": 0,
        "status": "pending",
        "answer": {"id": "task-1", "status": "pending", "results": []},
        "seen_at": T0,
        "first_seen_at": T0,
        "unfinished_at": T0,
        "settled_at": None,
        "followed_until": 0.0,
        "looking_until": 0.0,
        "links": 0,
        "expires_at": None,
    }
