"""Decides what the API answers: submits, task reads, credits. Knows bodies and keys, no HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio

from wan25_mcp.emulator.fates import Fate
from wan25_mcp.emulator.ledger import TooLittle
from wan25_mcp.emulator.limits import Gauge, RateLimit
from wan25_mcp.emulator.records import Submit
from wan25_mcp.emulator.refusals import Generation, Refusal, unknown_task
from wan25_mcp.emulator.rules import Order, read_json, read_order
from wan25_mcp.emulator.tasks import ESTIMATED_SECONDS, Task, progress, reading

if TYPE_CHECKING:
    from wan25_mcp.emulator.emulator import Emulator

# What a credit costs, for the later generation's `usage.cost`. Round numbers, nobody's price.
USD_PER_CREDIT, CNY_PER_CREDIT = 0.02, 0.14


@dataclass(frozen=True)
class Terms:
    """The switches a submit is judged by."""

    allow_loopback: bool
    default_n: int
    idempotency: bool
    user_group: str
    generation: Generation


class Gateway:
    def __init__(self, emulator: Emulator, terms: Terms, limit: RateLimit | None) -> None:
        self._emulator = emulator
        self._terms = terms
        self._gauge = Gauge(limit)
        self._replays: dict[tuple[str, str], str] = {}
        self.tasks: dict[str, Task] = {}

    def submit(self, key: str, raw: bytes, record: Submit) -> dict[str, Any]:
        """Accept a task or raise the Refusal; the record says which. Never awaits."""
        self._gauge.pass_or_refuse(key, self._emulator.clock())
        body = read_json(raw)
        order = read_order(
            body, allow_loopback=self._terms.allow_loopback, default_n=self._terms.default_n
        )
        if key in self._emulator.denied_keys:
            raise Refusal(403, param="model")
        task = self._replayed(key, record) or self._accept(key, order, record)
        return self.read(task)

    def _replayed(self, key: str, record: Submit) -> Task | None:
        name = record.headers.get("idempotency-key", "")
        task = self.tasks.get(self._replays.get((self._account(key), name), ""))
        if not self._terms.idempotency or task is None:
            return None
        record.replayed, record.task_id = True, task.id
        return task

    def _accept(self, key: str, order: Order, record: Submit) -> Task:
        try:
            self._emulator.ledger.afford(order.n)
        except TooLittle as error:
            raise Refusal(402) from error
        task = self._new_task(key, order)
        self._emulator.ledger.reserve(task.id, order.n)
        self.tasks[task.id] = task
        if name := record.headers.get("idempotency-key"):
            self._replays[self._account(key), name] = task.id
        self._emulator.start(task)
        record.accepted, record.task_id = True, task.id
        return task

    def _new_task(self, key: str, order: Order) -> Task:
        now = int(self._emulator.clock())
        fate = self._emulator.fates.take("task") or Fate()
        return Task(
            id=f"task-unified-{now}-{self._emulator.new_id(8)}",
            key=key,
            order=order,
            created=now,
            run_seconds=self._emulator.run_seconds(fate),
            fate=fate,
            started=anyio.current_time(),
            estimated_seconds=max(1, round(ESTIMATED_SECONDS / self._emulator.speed)),
        )

    def query(self, key: str, task_id: str) -> dict[str, Any]:
        """A task as its owner reads it. Another's task is as unknown as none."""
        if self._terms.generation == "later" and not task_id.startswith("task-"):
            raise Refusal(400, "Invalid task ID", later_code="invalid_task_id")
        task = self.tasks.get(task_id)
        if task is None or self._account(task.key) != self._account(key):
            raise unknown_task()
        return self.read(task)

    def _account(self, key: str) -> str:
        return self._emulator.accounts.get(key, key)

    def read(self, task: Task) -> dict[str, Any]:
        elapsed = (anyio.current_time() - (task.started or 0.0)) * self._emulator.speed
        links = [
            f"{self._emulator.public_url}/results/{task.id}_{i}.png" for i in range(task.images)
        ]
        return reading(task, shown=progress(task, elapsed), links=links, usage=self._usage(task))

    def _usage(self, task: Task) -> dict[str, Any]:
        entry = self._emulator.ledger[task.id]
        if not task.is_settled:
            return {
                "billing_rule": "per_call",
                "credits_reserved": entry.reserved,
                "user_group": self._terms.user_group,
            }
        used: dict[str, Any] = {"credits_used": entry.charged}
        if self._terms.generation == "later":
            used["cost"] = _cost(entry.charged)
        return used

    def credits(self) -> dict[str, Any]:
        """What is left to spend and what was charged; what is held is in neither."""
        ledger = self._emulator.ledger
        left, used = ledger.balance, ledger.charged_total
        return {
            "data": {
                "token": {
                    "remaining_credits": left,
                    "unlimited_credits": False,
                    "used_credits": used,
                },
                "user": {"remaining_credits": left, "used_credits": used},
            },
            "message": "",
            "success": True,
        }


def _cost(amount: float) -> dict[str, float]:
    return {
        "credits": amount,
        "usd": round(amount * USD_PER_CREDIT, 6),
        "cny": round(amount * CNY_PER_CREDIT, 6),
    }
