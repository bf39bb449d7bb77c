"""The emulator with scripted faults and outcomes, and with records of everything."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from tests.emulator_lab.faults import Fault, Script
from tests.emulator_lab.outcomes import Outcome, ScriptedModel
from tests.emulator_lab.records import Delivery, Read, Records, Submit
from tests.emulator_lab.virtual import time_is_virtual
from wan25_mcp import emulator as shipped

if TYPE_CHECKING:
    import socket

    import httpx2
    from starlette.types import ASGIApp

T = TypeVar("T")


class Emulator(shipped.Emulator):
    """The shipped emulator, scripted and recorded.

    Args:
        admin: Whether other processes can read and script it under `/_emulator/`.
        options: The fields of `EmulatorOptions`.
    """

    def __init__(self, *, admin: bool = False, **options: Any) -> None:
        played = shipped.EmulatorOptions(**options)
        model = ScriptedModel(played)
        self.admin = admin
        self.faults: Script[Fault] = Script()
        self.outcomes: Script[Outcome] = model.outcomes
        self.records = Records(played.clock)
        super().__init__(played, model=model)

    @property
    def clock(self) -> Callable[[], float]:
        return self.options.clock

    @property
    def accounts(self) -> Mapping[str, str]:
        """The account of each key that shares one. May be replaced while it runs."""
        return self.gateway.accounts

    @accounts.setter
    def accounts(self, accounts: Mapping[str, str]) -> None:
        self.gateway.accounts = dict(accounts)

    def fault(self, fault: Fault | None = None, /, **fields: Any) -> None:
        """Script a fault, given whole or by its fields."""
        self.faults.add(fault or Fault(**fields))

    def outcome(self, outcome: Outcome | None = None, /, **fields: Any) -> None:
        """Script how the next unscripted task runs and ends, given whole or by its fields."""
        self.outcomes.add(outcome or Outcome(**fields))

    def forget(self, task_id: str) -> None:
        """From now on the task is unknown (404), its money as it was."""
        self.tasks.pop(task_id, None)

    @property
    def submits(self) -> list[Submit]:
        return self.records.submits

    @property
    def reads(self) -> list[Read]:
        return self.records.reads

    @property
    def queries(self) -> Counter[str]:
        """How many times each task was read."""
        return self.records.queries

    @property
    def callbacks(self) -> list[Delivery]:
        return self.records.deliveries

    @property
    def leaked_keys(self) -> list[str]:
        """The credentials that were sent to result links."""
        return self.records.leaked_keys

    def state(self) -> dict[str, Any]:
        """All of it as JSON, without keys."""
        return {
            "submits": [submit.summary() for submit in self.submits],
            "submits_count": len(self.submits),
            "balance": self.ledger.balance,
            "ledger": {
                "charges": self.ledger.charges,
                "charged_total": self.ledger.charged_total,
                "reserved_total": self.ledger.reserved_total,
                "released_total": self.ledger.released_total,
                "held": self.ledger.held,
                "entries": [vars(entry).copy() for entry in self.ledger.entries],
            },
            "tasks": [self.gateway.read(task) for task in self.tasks.values()],
            "queries": dict(self.queries),
            "callbacks": [vars(delivery).copy() for delivery in self.callbacks],
            "leaked_keys": len(self.leaked_keys),
            "faults_pending": len(self.faults),
            "outcomes_pending": len(self.outcomes),
        }

    def make_app(self) -> ASGIApp:
        from tests.emulator_lab.admin import with_admin
        from tests.emulator_lab.wire import Wire

        app = with_admin(super().make_app(), self)
        return Wire(app, self.faults, self.records, self.options)

    def transport(self) -> httpx2.AsyncBaseTransport:
        """For `httpx2.AsyncClient(transport=…)`: the app in memory, connection faults included."""
        from tests.emulator_lab.memory import MemoryTransport

        return MemoryTransport(lambda: self.app, lambda: self._task_group)

    def listening(self, listener: socket.socket) -> AbstractAsyncContextManager[None]:
        from tests.emulator_lab.sockets import AbortableProtocol
        from wan25_mcp.emulator.sockets import listening

        return listening(self.app, listener, AbortableProtocol)

    async def post(self, url: str, body: bytes) -> int:
        from tests.emulator_lab.callbacks import post_with

        delivery = self.records.delivery(url, json.loads(body))
        return await post_with(self.faults.take("callback"), super().post, delivery, body)

    async def in_thread(self, work: Callable[[], T]) -> T:
        # A virtual clock does not wait for threads: milliseconds of work are done in place.
        return work() if time_is_virtual() else await super().in_thread(work)
