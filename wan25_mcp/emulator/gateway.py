"""The API's answers to submits, task queries and credit queries. Bodies and keys, no HTTP."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from wan25_mcp.emulator.ledger import InsufficientBalance, Ledger
from wan25_mcp.emulator.limits import Limiter
from wan25_mcp.emulator.model import Model
from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.refusals import Refusal, unknown_task
from wan25_mcp.emulator.rules import Order, read_json, read_order
from wan25_mcp.emulator.tasks import ESTIMATED_SECONDS, Task, reading

# The price of a credit, for the later generation's `usage.cost`. Invented round numbers.
USD_PER_CREDIT, CNY_PER_CREDIT = 0.02, 0.14


class Gateway:
    """Holds the tasks. `accounts` maps each key that shares an account to that account.

    Args:
        origin: Returns the origin of the links in answers.
        start: Starts an accepted task.
    """

    def __init__(
        self,
        options: EmulatorOptions,
        ledger: Ledger,
        model: Model,
        *,
        new_id: Callable[[int], str],
        origin: Callable[[], str],
        start: Callable[[Task], None],
    ) -> None:
        self._options = options
        self._ledger = ledger
        self._model = model
        self._new_id = new_id
        self._origin = origin
        self._start = start
        self._limiter = Limiter(options.rate_limit)
        self._replays: dict[tuple[str, str], str] = {}
        self.accounts: dict[str, str] = dict(options.accounts)
        self.tasks: dict[str, Task] = {}

    def submit(self, key: str, raw: bytes, idempotency_key: str) -> tuple[Task, bool]:
        """Return the accepted task, and whether an earlier submit created it. Never awaits.

        Raises: Refusal.
        """
        self._limiter.count(key, self._options.clock())
        order = read_order(read_json(raw), allow_loopback=self._options.allow_loopback)
        if key in self._options.denied_keys:
            raise Refusal(403, param="model")
        name = (self._account(key), idempotency_key)
        earlier = self.tasks.get(self._replays.get(name, ""))
        if earlier is not None and self._options.idempotency:
            return earlier, True
        task = self._accept(key, order)
        if idempotency_key:
            self._replays[name] = task.id
        return task, False

    def _accept(self, key: str, order: Order) -> Task:
        now = int(self._options.clock())
        task_id = f"task-unified-{now}-{self._new_id(8)}"
        try:
            self._ledger.reserve(task_id, order.n)
        except InsufficientBalance as error:
            raise Refusal(402) from error
        task = self.tasks[task_id] = Task(
            id=task_id,
            key=key,
            order=order,
            created=now,
            started=anyio.current_time(),
            run_seconds=self._model.schedule(task_id),
            estimated_seconds=max(1, round(ESTIMATED_SECONDS / self._options.speed)),
        )
        self._start(task)
        return task

    def query(self, key: str, task_id: str) -> dict[str, Any]:
        """A task's JSON, if it is the caller's. Otherwise the task is unknown. Raises: Refusal."""
        if self._options.generation == "later" and not task_id.startswith("task-"):
            raise Refusal(400, "Invalid task ID", later_code="invalid_task_id")
        task = self.tasks.get(task_id)
        if task is None or self._account(task.key) != self._account(key):
            raise unknown_task()
        return self.read(task)

    def _account(self, key: str) -> str:
        return self.accounts.get(key, key)

    def read(self, task: Task) -> dict[str, Any]:
        """A task's JSON now."""
        elapsed = (anyio.current_time() - task.started) * self._options.speed
        origin = self._origin()
        return reading(
            task,
            progress=self._model.progress(task, elapsed),
            links=[f"{origin}/results/{task.id}_{i}.png" for i in range(task.images)],
            usage=self._usage(task),
        )

    def _usage(self, task: Task) -> dict[str, Any]:
        entry = self._ledger[task.id]
        if not task.is_settled:
            return {
                "billing_rule": "per_call",
                "credits_reserved": entry.reserved,
                "user_group": "default",
            }
        used: dict[str, Any] = {"credits_used": entry.charged}
        if self._options.generation == "later":
            used["cost"] = {
                "credits": entry.charged,
                "usd": round(entry.charged * USD_PER_CREDIT, 6),
                "cny": round(entry.charged * CNY_PER_CREDIT, 6),
            }
        return used

    def credits(self) -> dict[str, Any]:
        """The credits left and the credits charged. Reserved credits are in neither."""
        user = {
            "remaining_credits": self._ledger.balance,
            "used_credits": self._ledger.charged_total,
        }
        token = user | {"unlimited_credits": False}
        return {"data": {"token": token, "user": user}, "message": "", "success": True}
