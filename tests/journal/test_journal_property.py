"""Whatever happens to calls, processes, clocks and connections: one intent, one charge.

A state machine drives two processes' worth of editors over one journal file, in virtual time,
against the emulator's ledger. Killing a process is played by cutting its journal and its network at
once, so that nothing it does while it unwinds is seen by anybody, as with SIGKILL.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from tests.stage import KEY, OWNER, T0, JumpingLoop, inline, request
from wan25_mcp.editing.account import Account
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.editing.engine import open_editor
from wan25_mcp.editing.options import Connection, Options
from wan25_mcp.journal import Allowance, Journal, JournalUnusable, Withheld
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.client import Client

pytestmark = pytest.mark.deadline(400)  # it takes a tenth of that unless it finds something

WINDOW: Final = 600.0
DAY: Final = 24 * 3600.0
PRICE: Final = 1.5
LIMIT: Final = 12.0

T = TypeVar("T")

FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"kind": "refuse"},
    {"kind": "drop_before"},
    {"kind": "drop_after"},
    {"kind": "truncate"},
    {"kind": "html", "code": 200},
    {"kind": "html", "code": 502},
    {"kind": "garbage_json"},
    {"kind": "empty"},
    {"kind": "delay", "seconds": 8.0},
    {"kind": "delay", "seconds": 200.0},
    {"kind": "status", "code": 429},
    {"kind": "status", "code": 429, "retry_after": 7},
    {"kind": "status", "code": 429, "retry_after": 7200},
    {"kind": "status", "code": 503, "fallback_suggestion": "retry after 30 seconds"},
    {"kind": "status", "code": 503, "times": 4},
    *({"kind": "status", "code": code} for code in (400, 401, 402, 403, 404, 413, 422)),
    *({"kind": "status", "code": code} for code in (500, 502, 504, 408)),
    {"kind": "status", "code": 502, "accepted": True},
    {"kind": "status", "code": 500, "accepted": True},
)
OUTCOMES: Final[tuple[dict[str, Any], ...]] = (
    {"fail": "content_policy_violation"},
    {"fail": "service_error"},
    {"images": 0},
    {"images": 1},
    {"cancelled": True},
)


class _Wire(httpx2.AsyncBaseTransport):
    """A process's network, until it is killed."""

    def __init__(self, emulator: Emulator) -> None:
        self._inner = emulator.transport()
        self.cut = False

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        if self.cut:
            raise httpx2.ConnectError("killed", request=request)
        return await self._inner.handle_async_request(request)


class _CutJournal(SqlJournal):
    """A process's journal, until it is killed; notes which intents were wanted anew."""

    def __init__(self, path: Path, forced: set[str], claimed: dict[str, float]) -> None:
        super().__init__(path, run=inline)
        self.cut = False
        self._forced = forced
        self._claimed = claimed

    def _transact(self, kind: Any, step: Any, *, before_sending: bool) -> Any:
        if self.cut:
            raise JournalUnusable("the process was killed")
        return super()._transact(kind, step, before_sending=before_sending)

    async def claim(self, request: Any, *, window: float, **rest: Any) -> Any:
        if window == 0:
            self._forced.add(request.handle)
        self._claimed[request.handle] = rest["now"]
        return await super().claim(request, window=window, **rest)


class _Process:
    """One server process: an editor over the shared journal."""

    def __init__(self, machine: OneIntentOneCharge) -> None:
        self._machine = machine
        self._stop = asyncio.Event()
        self.wire = _Wire(machine.emulator)
        self.journal = _CutJournal(
            machine.folder / "journal.sqlite3", machine.forced, machine.claimed
        )
        self.editor: AccountEditor | None = None
        self._task = machine.loop.create_task(self._live())

    async def _live(self) -> None:
        machine = self._machine

        @asynccontextmanager
        async def connect() -> AsyncIterator[Connection]:
            async with httpx2.AsyncClient(transport=self.wire, timeout=60) as http:
                client = Client(http, base_url=machine.emulator.base_url, key=SecretStr(KEY))
                yield Connection(client, OWNER)

        async def open_journal() -> Journal:
            return self.journal

        rules = Options(
            duplicate_window=WINDOW,
            clock=machine.clock,
            random=lambda: 0.5,
        )
        account = Account(allowance=Allowance(credit_limit=LIMIT, credits_per_image=PRICE))
        async with open_editor(connect, open_journal, rules, account) as self.editor:
            await self._stop.wait()
        self.journal.close()

    async def stop(self) -> None:
        self._stop.set()
        await self._task

    async def kill(self) -> None:
        self.wire.cut = self.journal.cut = True
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self.journal.close()


class OneIntentOneCharge(RuleBasedStateMachine):
    """The machine: rules are what the world does, invariants what must stay true."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="wan25-journal-"))
        self.loop = JumpingLoop()
        self._began = self.loop.time()
        self.jumped = 0.0
        self.went_back = 0.0
        self.forced: set[str] = set()
        self.claimed: dict[str, float] = {}
        self.handles: list[str] = []
        self.withheld: list[str] = []
        self.emulator = Emulator(
            check_images=False, clock=self.clock, price=PRICE, balance=1e6, run_seconds=60.0
        )
        self.reader = SqlJournal(self.folder / "journal.sqlite3", run=inline)
        self._closed = asyncio.Event()
        self._world = self.loop.create_task(self._live())
        self.processes = [_Process(self), _Process(self)]
        self.run(asyncio.sleep(0.01))

    async def _live(self) -> None:
        async with self.emulator.running():
            await self._closed.wait()

    def clock(self) -> float:
        return T0 + self.loop.time() - self._began + self.jumped

    def run(self, job: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(job)

    def editor(self, which: int) -> AccountEditor:
        editor = self.processes[which].editor
        assert editor is not None
        return editor

    def teardown(self) -> None:
        for process in self.processes:
            self.run(process.stop())
        self.reader.close()
        self._closed.set()
        self.run(self._world)  # type: ignore[arg-type]  # a task can be awaited as well
        self.loop.close()
        shutil.rmtree(self.folder)

    # --- what the world does ----------------------------------------------------------------

    which = st.integers(0, 1)
    prompts = st.sampled_from(["night", "snow", "sea"])
    counts = st.sampled_from([1, 1, 1, 2, 4])

    @initialize()
    def begin(self) -> None:
        self.run(anyio.sleep(1))

    async def _edit(self, which: int, prompt: str, n: int, *, force_new: bool) -> Edit | None:
        try:
            edit = await self.editor(which).edit(request(prompt, n=n), force_new=force_new)
        except (Withheld, JournalUnusable) as error:
            self.withheld.append(error.charged)
            return None
        self._judge(edit)
        return edit

    @rule(which=which, prompt=prompts, n=counts, force_new=st.sampled_from([False, False, True]))
    def call(self, which: int, prompt: str, n: int, force_new: bool) -> None:
        began, quiet = self.loop.time(), not self.emulator.faults
        edit = self.run(self._edit(which, prompt, n, force_new=force_new))
        assert self.loop.time() - began < 4
        if quiet and edit and not edit.deduplicated:
            assert edit.task_id == self.emulator.submits[-1].task_id

    @rule(which=which, prompt=prompts, n=counts, outcome=st.sampled_from((None, *OUTCOMES)))
    def an_edit_from_beginning_to_end(
        self, which: int, prompt: str, n: int, outcome: dict[str, Any] | None
    ) -> None:
        if outcome:
            self.emulator.outcome(**outcome)
        edit = self.run(self._edit(which, prompt, n, force_new=True))
        if edit and edit.task_id:
            self._judge(self.run(self.editor(which).wait(edit.task_id, timeout=120)))

    @rule(prompt=prompts, n=counts)
    def the_same_call_in_both_processes_at_once(self, prompt: str, n: int) -> None:
        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                for which in (0, 1, 0):
                    tasks.start_soon(lambda w: self._edit(w, prompt, n, force_new=False), which)

        self.run(both())

    @rule(which=which, prompt=prompts, after=st.sampled_from([0.0, 0.001, 0.5, 2.0]))
    def a_call_that_is_cancelled(self, which: int, prompt: str, after: float) -> None:
        async def cancelled() -> None:
            with anyio.move_on_after(after):
                await self._edit(which, prompt, 1, force_new=False)

        self.run(cancelled())

    @rule(fault=st.sampled_from(FAULTS))
    def the_next_submit_meets_a_fault(self, fault: dict[str, Any]) -> None:
        self.emulator.fault(endpoint="submit", **fault)

    @rule(kind=st.sampled_from(["refuse", "drop_before", "html"]))
    def the_next_look_meets_a_fault(self, kind: str) -> None:
        self.emulator.fault(endpoint="query", kind=kind)

    @rule(outcome=st.sampled_from(OUTCOMES))
    def the_next_task_ends_badly(self, outcome: dict[str, Any]) -> None:
        self.emulator.outcome(**outcome)

    @rule(seconds=st.sampled_from([0.5, 5.0, 25.0, 100.0, 700.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(anyio.sleep(seconds))

    @rule(jump=st.sampled_from([-1800.0, -5.0, 30.0, 700.0, DAY + 60]))
    def the_clock_jumps(self, jump: float) -> None:
        self.jumped += jump
        self.went_back += max(-jump, 0.0)

    @rule(which=which)
    def a_process_is_killed_and_started_again(self, which: int) -> None:
        self.run(self.processes[which].kill())
        self.processes[which] = _Process(self)
        self.run(asyncio.sleep(0.01))

    @rule(
        which=which,
        prompt=prompts,
        after=st.sampled_from([0.0, 0.001, 0.3, 1.0]),
        slow=st.sampled_from([0.0, 4.0, 200.0]),
        kill=st.booleans(),
    )
    def a_process_ends_during_a_call(
        self, which: int, prompt: str, after: float, slow: float, kill: bool
    ) -> None:
        async def ended() -> None:
            process = self.processes[which]
            call = asyncio.ensure_future(self._edit(which, prompt, 1, force_new=True))
            await asyncio.sleep(after)
            await (process.kill() if kill else process.stop())
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)

        if slow:
            self.emulator.fault(endpoint="submit", kind="delay", seconds=slow)
        self.run(ended())
        self.processes[which] = _Process(self)
        self.run(asyncio.sleep(0.01))

    @rule(which=which)
    def a_process_is_stopped_and_started_again(self, which: int) -> None:
        self.run(self.processes[which].stop())
        self.processes[which] = _Process(self)
        self.run(asyncio.sleep(0.01))

    @rule(which=which, back=st.integers(1, 8), patience=st.sampled_from([None, 0.0, 30.0, 120.0]))
    def somebody_asks(self, which: int, back: int, patience: float | None) -> None:
        if back > len(self.handles):
            return
        name = self.handles[-back]
        asked = (
            self.editor(which).get(name)
            if patience is None
            else self.editor(which).wait(name, timeout=patience)
        )
        self._judge(self.run(asked))

    # --- what must stay true ----------------------------------------------------------------

    def _judge(self, edit: Edit) -> None:
        """What an answer says about the money is what the ledger says, or `unknown`."""
        if edit.task_id and edit.task_id not in self.handles:
            self.handles.append(edit.task_id)
        entry = self.emulator.ledger.get(edit.task_id or "")
        if edit.charged == "yes":
            assert entry is not None
            assert entry.charged > 0
        elif edit.charged == "reserved":
            assert entry is not None
        elif edit.charged == "no" and edit.task_id:
            assert entry is None or (entry.settled and entry.charged == 0)
        if edit.usage and edit.usage.credits_used is not None:
            assert entry is not None
            assert edit.usage.credits_used == float(entry.charged)

    @invariant()
    def no_intent_is_accepted_twice_or_sent_again_after_it(self) -> None:
        accepted: set[str] = set()
        for submit in self.emulator.submits:
            handle = submit.headers["idempotency-key"]
            assert handle not in accepted, "sent again after it had been accepted"
            if submit.accepted:
                accepted.add(handle)

    @invariant()
    def equal_calls_are_charged_once(self) -> None:
        latest: dict[Any, Any] = {}
        for submit in self.emulator.submits:
            if not submit.accepted:
                continue
            content = (submit.body["prompt"], submit.body["n"])
            before = latest.get(content)
            latest[content] = submit
            handle = submit.headers["idempotency-key"]
            if before is None or handle in self.forced:
                continue
            if self.claimed[handle] < before.time:
                continue  # an older wish, resent when the provider let it; the newer one was forced
            ended = before.task_id or ""
            entry = self.emulator.ledger[ended]
            ended_badly = entry.settled and self.emulator.tasks[ended].status in (
                "failed",
                "cancelled",
            )
            assert ended_badly or submit.time - before.time >= WINDOW - 15, "charged twice"

    @invariant()
    def what_is_withheld_costs_nothing(self) -> None:
        assert set(self.withheld) <= {"no"}

    @invariant()
    def the_limit_holds(self) -> None:
        since = self.clock() - DAY + self.went_back
        held = [
            self.emulator.ledger[submit.task_id or ""]
            for submit in self.emulator.submits
            if submit.accepted and submit.time > since
        ]
        assert sum(float(e.charged if e.settled else e.reserved) for e in held) <= LIMIT

    @invariant()
    def every_accepted_task_can_be_reached(self) -> None:
        for submit in self.emulator.submits:
            if submit.accepted:
                handle = submit.headers["idempotency-key"]
                intent = self.run(self.reader.find(handle, OWNER, now=self.clock()))
                assert intent is not None
                assert intent.stage in ("sending", "accepted", "unknown")
                assert intent.task_id in (None, submit.task_id)


class InManyLives(OneIntentOneCharge):
    """The same machine, for five times as many examples."""


TestOneIntentOneCharge = OneIntentOneCharge.TestCase
TestOneIntentOneCharge.settings = settings(
    max_examples=12,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestOneIntentOneChargeInManyLives = pytest.mark.thorough(InManyLives.TestCase)
TestOneIntentOneChargeInManyLives.settings = settings(
    TestOneIntentOneCharge.settings, max_examples=60
)
