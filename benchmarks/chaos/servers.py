"""Server processes that are killed, frozen and started again, and how a client comes to each."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import anyio
from mcp import StdioServerParameters, stdio_client
from mcp.client import Client

Era = Literal["auto", "legacy"]
ERAS: Final[tuple[Era, ...]] = ("auto", "legacy")

_STARTS_WITHIN: Final = 120.0
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_OURS: Final = [sys.executable, "-m", "wan25_mcp", "serve"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """A time in which a server was killed or stood still. Epoch seconds."""

    kind: Literal["kill", "freeze"]
    server: str
    began: float
    ended: float


@dataclass(eq=False)
class Server(ABC):
    """One that is started again whenever it has ended.

    Args:
        values: Its settings.
        folder: Where its logs are written, one for each life.
        chance: For its pauses, and what it speaks.
    """

    name: str
    values: Mapping[str, str]
    folder: Path
    chance: random.Random
    pid: int = 0
    lives: int = 0
    troubles: list[Trouble] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _up: anyio.Event = field(default_factory=anyio.Event)
    _killed: int = 0
    _steady: anyio.Lock = field(default_factory=anyio.Lock)
    """Held by whoever kills or freezes it."""

    async def run(self) -> None:
        """Keep it running until cancelled."""
        while True:
            self.lives += 1
            await self._live(self.folder / f"{self.name}-{self.lives}.log")
            self._up = anyio.Event()
            if self._killed != self.pid:
                self.problems.append(f"{self.name} ended by itself (life {self.lives})")
            await anyio.sleep(self.chance.uniform(_SHORTEST_PAUSE, _LONGEST_PAUSE))

    async def is_up(self) -> None:
        """Wait until it can be called."""
        await self._up.wait()

    @abstractmethod
    async def _live(self, log: Path) -> None:
        """Start it, call `_started`, and return when it has ended."""

    @abstractmethod
    def client(self, era: Era) -> AbstractAsyncContextManager[Client]:
        """A client of it, while the block runs. May fail in any way while it is killed."""

    def _started(self, pid: int) -> None:
        self.pid = pid
        self._up.set()

    async def kill(self) -> None:
        """With signal 9."""
        await self.is_up()
        async with self._steady:
            self._killed = self.pid
            os.kill(self.pid, signal.SIGKILL)
            now = time.time()
            self.troubles.append(Trouble("kill", self.name, now, now))

    async def freeze(self, seconds: float) -> None:
        """It stands still for a while and then goes on as if nothing had happened."""
        await self.is_up()
        async with self._steady:
            pid, began = self.pid, time.time()
            os.kill(pid, signal.SIGSTOP)
            try:
                await anyio.sleep(seconds)
            finally:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
                self.troubles.append(Trouble("freeze", self.name, began, time.time()))


class HttpServer(Server):
    """Over Streamable HTTP: each client has a connection of its own."""

    url = ""

    async def _live(self, log: Path) -> None:
        command = [*_OURS, "--transport", "streamable-http", "--port", "0"]
        with log.open("wb") as stderr:
            process = await anyio.open_process(
                command,
                env=environment(self.values),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        try:
            self.url = await _address(log)
            self._started(process.pid)
            await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                with suppress(ProcessLookupError):
                    process.kill()
                await process.aclose()

    @asynccontextmanager
    async def client(self, era: Era) -> AsyncIterator[Client]:
        await self.is_up()
        async with Client(self.url, mode=era) as client:
            yield client


class StdioServer(Server):
    """Over stdio: one client for all, as an assistant has it; each life speaks another era."""

    _client: Client | None = None

    async def _live(self, log: Path) -> None:
        known = log.with_suffix(".pid")
        server = StdioServerParameters(
            command="sh",  # the SDK does not tell the id of the process it starts
            args=["-c", 'echo $$ >"$0"; exec "$@"', str(known), *_OURS],
            env=environment(self.values),
        )
        with log.open("w", encoding="utf-8") as stderr:
            try:
                transport = stdio_client(server, errlog=stderr)
                async with Client(transport, mode=ERAS[self.lives % 2]) as self._client:
                    self._started(int(known.read_text(encoding="ascii")))
                    await _death(self.pid)
            except Exception as error:  # noqa: BLE001  a killed server breaks its client anyhow
                if self._killed != self.pid:
                    self.problems.append(f"{self.name}: its client broke: {error!r}")

    @asynccontextmanager
    async def client(self, era: Era) -> AsyncIterator[Client]:  # noqa: ARG002  its life has one
        await self.is_up()
        assert self._client is not None
        yield self._client


def is_alive(pid: int) -> bool:
    """Whether a process runs, or stands still; a dead one that nobody has buried does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def _death(pid: int) -> None:
    while is_alive(pid):  # noqa: ASYNC110  nobody tells of another's child
        await anyio.sleep(0.1)


async def _address(log: Path) -> str:
    """Where a server says that it listens."""
    with anyio.fail_after(_STARTS_WITHIN):
        while True:
            told = await anyio.Path(log).read_text(encoding="utf-8")
            if found := re.search(r"Serving MCP at (\S+)\n", told):
                return found.group(1)
            await anyio.sleep(0.05)


def environment(values: Mapping[str, str]) -> dict[str, str]:
    """This process's own, with nothing of ours but what is meant."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WAN25_")}
    return {**ours, **values}
