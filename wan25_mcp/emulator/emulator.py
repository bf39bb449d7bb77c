"""The emulator as its users hold it: switches in, app and records out.

Keeps the state of the played API and decides submits; the wire, the rules, the money and the
running of tasks are modules of their own.
"""

from __future__ import annotations

import random
import string
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.emulator.callbacks import Callbacks
from wan25_mcp.emulator.fates import Fate
from wan25_mcp.emulator.faults import Fault, Script
from wan25_mcp.emulator.files import Shelf
from wan25_mcp.emulator.gateway import Gateway, Terms
from wan25_mcp.emulator.ledger import Ledger
from wan25_mcp.emulator.limits import RateLimit
from wan25_mcp.emulator.reach import Reach
from wan25_mcp.emulator.records import Delivery, Read, Submit
from wan25_mcp.emulator.refusals import Generation
from wan25_mcp.emulator.studio import Studio
from wan25_mcp.emulator.tasks import Task
from wan25_mcp.emulator.virtual import in_thread

if TYPE_CHECKING:
    import httpx2
    from starlette.types import ASGIApp

RunSeconds = float | Callable[[random.Random], float] | None
DAY = 24 * 3600.0


class Emulator:
    """The API `wan2.5-image-to-image`, played.

    `key`: the accepted bearer key or keys; None accepts any. `denied_keys` are known and not
    allowed this model (403). `accounts` names the account of each key
    that shares one. `balance` and `price` are credits. `speed` divides every wait of its
    own (run times, callback retries), never network timeouts. `clock` gives epoch seconds for
    stamps, link expiry and rate limits. `run_seconds` fixes how long a task runs, before `speed`.
    `outside` is the world it downloads from and calls back to; None is the real network.
    `check_images=False` downloads nothing and edits a picture of its own.
    `refuse_library_agents` gives a 403 on result links to default library User-Agents.
    """

    def __init__(
        self,
        key: str | Collection[str] | None = "emulator-key",
        *,
        balance: float = 100.0,
        price: float = 1.5,
        speed: float = 1.0,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        generation: Generation = "specification",
        allow_loopback: bool = False,
        run_seconds: RunSeconds = None,
        public_url: str | None = None,
        rate_limit: RateLimit | int | None = None,
        idempotency: bool = False,
        denied_keys: Collection[str] = (),
        accounts: Mapping[str, str] | None = None,
        check_images: bool = True,
        default_n: int = 4,
        user_group: str = "default",
        link_seconds: float = DAY,
        refuse_library_agents: bool = True,
        admin: bool = False,
        outside: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self.keys = {key} if isinstance(key, str) else None if key is None else set(key)
        self.denied_keys = frozenset(denied_keys)
        self.accounts = dict(accounts or {})
        self.clock, self.speed, self.generation = clock, speed, generation
        self.link_seconds, self.refuse_library_agents = link_seconds, refuse_library_agents
        self.admin = admin
        self._fixed_url = public_url is not None
        self.public_url = (public_url or "http://emulator.test").rstrip("/")
        self._ids = random.Random(f"ids {seed}")
        self._seed, self._run_seconds = seed, run_seconds

        self.submits: list[Submit] = []
        self.reads: list[Read] = []
        self.queries: Counter[str] = Counter()
        self.leaked_keys: list[str] = []
        self.faults: Script[Fault] = Script()
        self.fates: Script[Fate] = Script()
        self.ledger = Ledger(balance, price)
        self.shelf = Shelf()
        self.reach = Reach(self.transport, outside, lambda: self.public_url, allow_loopback)
        self._callbacks = Callbacks(self.reach, self.faults, clock, self.wait)
        self._studio = Studio(self.reach, self.ledger, clock, self.wait, check_images)
        limit = RateLimit(rate_limit) if isinstance(rate_limit, int) else rate_limit
        terms = Terms(allow_loopback, default_n, idempotency, user_group, generation)
        self.gateway = Gateway(self, terms, limit)
        self._task_group: TaskGroup | None = None
        self._app: ASGIApp | None = None

    # Where it is

    @property
    def base_url(self) -> str:
        return f"{self.public_url}/apiv1"

    @property
    def files_url(self) -> str:
        return self.public_url

    @property
    def app(self) -> ASGIApp:
        if self._app is None:
            from wan25_mcp.emulator.app import build

            self._app = build(self)
        return self._app

    def transport(self) -> httpx2.AsyncBaseTransport:
        """For `httpx2.AsyncClient(transport=…)`: the app in memory, connection faults included."""
        from wan25_mcp.emulator.memory import MemoryTransport

        return MemoryTransport(lambda: self.app, lambda: self._task_group)

    # What will happen

    def fault(self, fault: Fault | None = None, /, **words: Any) -> None:
        """Script a fault, given whole or by its words."""
        self.faults.add(fault or Fault(**words))

    def fate(self, fate: Fate | None = None, /, **words: Any) -> None:
        """Script the end of the next task not yet spoken for, given whole or by its words."""
        self.fates.add(fate or Fate(**words))

    def host(self, content: bytes, name: str = "image.png", mime_type: str = "image/png") -> str:
        """Put any file on its own origin, without an upload; returns the link."""
        stored = self.shelf.put_anything(self.new_id(12), content, name, mime_type, self.clock())
        return str(stored.described(self.public_url)["file_url"])

    def sample_image_url(self, width: int = 640, height: int = 480, seed: int = 0) -> str:
        """A link to an acceptable picture on its own origin."""
        from wan25_mcp.emulator.pictures import sample

        return self.host(sample(width, height, seed), f"sample_{width}x{height}.png")

    def forget(self, task_id: str) -> None:
        """From now on the task is unknown (404), its money as it was."""
        self.gateway.tasks.pop(task_id, None)

    # What happened

    @property
    def tasks(self) -> dict[str, Task]:
        return self.gateway.tasks

    @property
    def balance(self) -> float:
        """What is left to spend."""
        return self.ledger.balance

    @property
    def callbacks(self) -> list[Delivery]:
        return self._callbacks.deliveries

    def state(self) -> dict[str, Any]:
        """All of it as JSON, without keys."""
        return {
            "submits": [submit.summary() for submit in self.submits],
            "submits_count": len(self.submits),
            "balance": self.ledger.balance,
            "ledger": self.ledger.summary(),
            "tasks": [self.gateway.read(task) for task in self.tasks.values()],
            "queries": dict(self.queries),
            "callbacks": [vars(delivery).copy() for delivery in self.callbacks],
            "leaked_keys": len(self.leaked_keys),
            "faults_pending": len(self.faults),
            "fates_pending": len(self.fates),
        }

    # Running it

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Emulator, None]:
        """Open it: tasks live in here, and die when it closes."""
        failure: Exception | None = None
        async with anyio.create_task_group() as self._task_group:
            try:
                yield self
            except Exception as error:  # noqa: BLE001 - raised below, outside the group's wrapping
                failure = error
            finally:
                group, self._task_group = self._task_group, None
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self.reach.aclose()
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def serving(
        self, host: str = "127.0.0.1", port: int = 0, *, admin: bool | None = None
    ) -> AsyncGenerator[Emulator, None]:
        """The same on a real socket (asyncio only)."""
        # uvicorn touches the disk when first imported: in a thread, then it is at hand.
        await in_thread(lambda: import_module("wan25_mcp.emulator.sockets"))
        from wan25_mcp.emulator.sockets import bound, listening, url_of

        self.admin = self.admin if admin is None else admin
        with bound(host, port) as listener:
            if not self._fixed_url:
                self.public_url = url_of(listener)
            async with self.running(), listening(self.app, listener):
                yield self

    async def wait(self, seconds: float) -> None:
        await anyio.sleep(seconds / self.speed)

    def start(self, task: Task) -> None:
        """Let an accepted task run its course."""
        if self._task_group is None:
            raise RuntimeError("enter Emulator.running() before making requests")
        self._task_group.start_soon(self._live, task)

    async def _live(self, task: Task) -> None:
        await self._studio.carry_out(task)
        if task.order.callback_url:
            body = self.gateway.read(task)
            await self._callbacks.deliver(task.id, task.order.callback_url, body)

    # Chance, always the same for one seed

    def new_id(self, length: int) -> str:
        return "".join(self._ids.choices(string.ascii_lowercase + string.digits, k=length))

    def run_seconds(self, fate: Fate) -> float:
        """How long the next task runs: 40 to 120 s for nine in ten, as the model does."""
        chance = random.Random(f"run {self._seed} {len(self.tasks)}")
        if fate.run_seconds is not None:
            return fate.run_seconds
        if callable(self._run_seconds):
            return self._run_seconds(chance)
        if self._run_seconds is not None:
            return self._run_seconds
        return chance.lognormvariate(4.25, 0.33)
