"""The emulator: puts the parts together and runs them."""

from __future__ import annotations

import random
import string
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Final, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

from wan25_mcp.emulator.callbacks import deliver
from wan25_mcp.emulator.file_store import FileStore
from wan25_mcp.emulator.gateway import Gateway
from wan25_mcp.emulator.ledger import Ledger
from wan25_mcp.emulator.model import Model
from wan25_mcp.emulator.network import Network
from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.runner import Runner
from wan25_mcp.emulator.tasks import Task

if TYPE_CHECKING:
    import socket

    import httpx2
    from starlette.types import ASGIApp

T = TypeVar("T")


class Emulator:
    """Plays the API of `wan2.5-image-to-image`.

    Tests extend it: they override `make_app`, `transport`, `listening`, `post` and `in_thread` to
    break connections and to run on virtual time, and replace `model` to choose how tasks end.
    """

    def __init__(
        self, options: EmulatorOptions | None = None, *, model: Model | None = None
    ) -> None:
        self.options: EmulatorOptions = options or EmulatorOptions()
        self.public_url: str = (self.options.public_url or "http://emulator.test").rstrip("/")
        self.ledger: Final = Ledger(self.options.balance, self.options.price)
        self.files: Final = FileStore(self.options.clock, self.new_id, lambda: self.public_url)
        self._ids = random.Random(f"ids {self.options.seed}")
        model = model or Model(self.options)
        self.gateway: Final = Gateway(
            self.options,
            self.ledger,
            model,
            new_id=self.new_id,
            origin=lambda: self.public_url,
            start=self._start,
        )
        self._network = Network(
            self.options, lambda: self.public_url, self.transport, self.in_thread
        )
        self._runner = Runner(
            self.options,
            self.ledger,
            model,
            wait=self.wait,
            download=self._network.download,
            in_thread=self.in_thread,
        )
        self._task_group: TaskGroup | None = None
        self._app: ASGIApp | None = None

    @property
    def base_url(self) -> str:
        return f"{self.public_url}/apiv1"

    @property
    def files_url(self) -> str:
        return self.public_url

    @property
    def app(self) -> ASGIApp:
        if self._app is None:
            self._app = self.make_app()
        return self._app

    @property
    def tasks(self) -> dict[str, Task]:
        return self.gateway.tasks

    @property
    def balance(self) -> float:
        """The credits left to spend."""
        return self.ledger.balance

    def host(self, content: bytes, name: str = "image.png", mime_type: str = "image/png") -> str:
        """Store any file at its own origin, without an upload; returns the link."""
        return self.files.put(content, name, mime_type).link

    def sample_image_url(self, width: int = 640, height: int = 480, seed: int = 0) -> str:
        """A link at its own origin to an acceptable picture."""
        from wan25_mcp.emulator.pictures import sample

        return self.host(sample(width, height, seed), f"sample_{width}x{height}.png")

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Run it without a socket. Its tasks end with the block."""
        failure: Exception | None = None
        async with anyio.create_task_group() as self._task_group:
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised below, not in an exception group
                failure = error
            finally:
                group, self._task_group = self._task_group, None
                group.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await self._network.aclose()
        if failure is not None:
            raise failure

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncGenerator[Self, None]:
        """Run it on a real socket (asyncio only)."""
        # uvicorn reads files when it is first imported, which blocks.
        sockets = await self.in_thread(lambda: import_module("wan25_mcp.emulator.sockets"))
        with sockets.bound(host, port) as listener:
            if self.options.public_url is None:
                self.public_url = sockets.url_of(listener)
            async with self.running(), self.listening(listener):
                yield self

    def make_app(self) -> ASGIApp:
        """The ASGI app that is served."""
        from wan25_mcp.emulator.app import build, with_request_ids
        from wan25_mcp.emulator.results import Results

        results = Results(self.options, self.tasks, self.in_thread)
        app = build(self.options, self.gateway, self.files, results)
        return with_request_ids(app, self.new_id)

    def transport(self) -> httpx2.AsyncBaseTransport:
        """A transport to the app in memory."""
        import httpx2

        return httpx2.ASGITransport(self.app)

    def listening(self, listener: socket.socket) -> AbstractAsyncContextManager[None]:
        """Serve the app at a bound socket."""
        from wan25_mcp.emulator.sockets import listening

        return listening(self.app, listener)

    async def post(self, url: str, body: bytes) -> int:
        """Make one attempt to call back; return the status of the answer."""
        return await self._network.post(url, body)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)

    async def wait(self, seconds: float) -> None:
        """Wait for a number of seconds of the provider's time."""
        await anyio.sleep(seconds / self.options.speed)

    def new_id(self, length: int) -> str:
        return "".join(self._ids.choices(string.ascii_lowercase + string.digits, k=length))

    def _start(self, task: Task) -> None:
        if self._task_group is None:
            raise RuntimeError("enter Emulator.running() before making requests")
        self._task_group.start_soon(self._live, task)

    async def _live(self, task: Task) -> None:
        await self._runner.run(task)
        if task.order.callback_url:
            body = self.gateway.read(task)
            await deliver(self.post, self.wait, task.order.callback_url, body)
