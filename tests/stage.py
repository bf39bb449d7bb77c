"""What the core's tests stand on: virtual time on both backends, and the emulator as the world.

The emulator is the only stand-in: everything between the test and it is the real thing.
"""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.lowlevel
import httpx2
import pytest
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from wan25_mcp.editing.account import Account
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.engine import Engine, open_engine
from wan25_mcp.editing.options import Connection, Connector, Options
from wan25_mcp.inputs.discovery import FileServiceSearch
from wan25_mcp.inputs.file_service import FileService
from wan25_mcp.inputs.publisher import FindPublisher
from wan25_mcp.journal import Allowance, Journal
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.outputs.download import open_downloads
from wan25_mcp.provider.client import Client
from wan25_mcp.provider.models import EditRequest
from wan25_mcp.url_safety import origin_of

T = TypeVar("T")
T0: Final = 1_800_000_000
KEY: Final = "emulator-key"
OWNER: Final = "the account"
PICTURE: Final = "https://example.com/cat.png"
TRIO_IF_THOROUGH: Final = pytest.mark.parametrize(
    "anyio_backend", ["asyncio", pytest.param("trio", marks=pytest.mark.thorough)], indirect=True
)
"""For what takes seconds on one backend already."""


class _Jumps(selectors.DefaultSelector):
    """Waits for nothing: when nobody is ready, the clock goes to the next deadline instead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None and timeout > 0:
            self.skipped += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """For asyncio what the autojump clock is for trio. Not for tests with threads or sockets."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        # No real time in it: what a test sees must not depend on how busy the machine is.
        return 1000.0 + self._jumps.skipped


def virtual(backend: str) -> tuple[str, dict[str, Any]]:
    """The options of a backend on which time is virtual."""
    if backend == "asyncio":
        return "asyncio", {"loop_factory": JumpingLoop}
    from trio.testing import MockClock

    return "trio", {"clock": MockClock(autojump_threshold=0)}


def request(prompt: str = "Make it night", **fields: Any) -> EditRequest:
    """A good request."""
    return EditRequest.model_validate({"prompt": prompt, "image_urls": [PICTURE], **fields})


@dataclass
class Stage:
    """An emulator in memory, the client of its API, and an editor over it."""

    emulator: Emulator
    client: Client
    http: httpx2.AsyncClient
    editor: AccountEditor
    another_editor: Callable[..., AbstractAsyncContextManager[AccountEditor]]
    """One more process over the same journal, or with a key, account, address or journal of its
    own."""
    engine: Engine
    account_of: Callable[..., Account]
    """The account of a key in this process, with the limits and folder of the stage."""

    @property
    def connection(self) -> Connection:
        trusted = frozenset(filter(None, [origin_of(self.client._base)]))
        return Connection(self.client, OWNER, trusted)

    @property
    def looks(self) -> list[float]:
        """When the emulator was asked about tasks, in seconds since the start of the test."""
        return [round(read.time - T0, 3) for read in self.emulator.reads]


async def the_owner() -> str:
    """The owner of what a test has in its journal."""
    return OWNER


async def inline(job: Callable[[], T], *, may_abandon: bool = False) -> T:
    """A journal's work on the event loop: a virtual clock does not wait for threads."""
    await anyio.lowlevel.checkpoint()
    return job()


async def inline_run(job: Callable[..., Any], *args: Any) -> Any:
    """Blocking work on the event loop: a virtual clock does not wait for threads."""
    await anyio.lowlevel.checkpoint()
    return job(*args)


@asynccontextmanager
async def open_stage(
    *,
    journal: Journal | None = None,
    chance: float = 0.0,
    window: float = 600.0,
    allowance: Allowance | None = None,
    folder: Path | None = None,
    save: bool = True,
    run: Callable[..., Awaitable[Any]] | None = None,
    callback_url: str | None = None,
    is_emulator: bool = False,
    search: bool = False,
    **switches: Any,
) -> AsyncIterator[Stage]:
    """Everything in memory, on a clock that begins at `T0` with the test.

    With a `folder`, local images may be read from it and results are saved in `folder/out`. With
    `search`, the emulator's file service is found and not configured.
    """
    began = anyio.current_time()

    def clock() -> float:
        return T0 + anyio.current_time() - began

    usual: dict[str, Any] = {"check_images": False, "clock": clock, "run_seconds": 60.0}
    emulator = Emulator(**(usual | switches))
    async with (
        emulator.running(),
        httpx2.AsyncClient(transport=emulator.transport(), timeout=60) as http,
        open_downloads(emulator.transport()) as downloads,
    ):
        client = Client(http, base_url=emulator.base_url, key=SecretStr(KEY))
        files = FileService(http, url=emulator.files_url, key=SecretStr(KEY), clock=clock)

        def found_at(key: SecretStr) -> FindPublisher:
            def at(url: str) -> FileService:
                return FileService(http, url=url, key=key, clock=clock)

            return FileServiceSearch(
                http, base_url=emulator.base_url, key=key, publisher_at=at
            ).find

        def connector(address: str | None, account: Account) -> Connection:
            key = account.key.get_secret_value() if account.key else KEY
            return Connection(
                client
                if key == KEY
                else Client(http, base_url=emulator.base_url, key=SecretStr(key)),
                OWNER if key == KEY else f"the owner of {key}",
                frozenset(filter(None, [origin_of(emulator.base_url)])),
                files if folder and not search else None,
                downloads if folder else None,
                address,
                found_at(SecretStr(key)) if search else None,
            )

        @asynccontextmanager
        async def connect(address: str | None) -> AsyncIterator[Connector]:
            yield partial(connector, address)

        async def open_journal(journal: Journal | None) -> Journal:
            # In memory and on the event loop: a virtual clock does not wait for threads.
            return journal or SqlJournal("sqlite://", run=inline)

        options = Options(
            is_emulator=is_emulator,
            duplicate_window=window,
            input_dirs=(folder,) if folder else (),
            run=run or inline_run,
            callback_url=callback_url,
            clock=clock,
            random=lambda: chance,
        )

        def account_of(key: str = KEY, name: str | None = None) -> Account:
            return Account(
                key=SecretStr(key),
                name=name,
                allowance=allowance or Allowance(),
                output_dir=folder / "out" if folder else None,
                save=save,
            )

        @asynccontextmanager
        async def another(
            key: str = KEY,
            account: str | None = None,
            address: str | None = "the provider",
            journal: Journal | None = journal,
        ) -> AsyncIterator[AccountEditor]:
            opening = partial(open_journal, journal)
            async with open_engine(partial(connect, address), opening, options) as engine:
                yield engine.editor(account_of(key, account))

        opening = partial(open_journal, journal)
        async with open_engine(partial(connect, "the provider"), opening, options) as engine:
            editor = engine.editor(account_of())
            yield Stage(emulator, client, http, editor, another, engine, account_of)


def names_in(directory: Path) -> list[str]:
    """The names in a directory, which may not exist; for tests that run on an event loop."""
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


# --- promises about real time -----------------------------------------------------------------


class TooSlow(AssertionError):
    """Something took longer than is promised, at least this time."""


def within(seconds: float, took: float) -> None:
    """In a test with `tries`: something took no longer than is promised."""
    if took > seconds:
        raise TooSlow(f"{took:.2f} s where {seconds:.2f} s are promised")


def tries(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A busy machine makes one run or two of a test too slow, a broken promise all of them. What
    fails for another reason fails at once."""

    @wraps(test)
    async def tried(*args: Any, **given: Any) -> None:
        for is_last in (False, False, False, False, True):
            try:
                return await test(*args, **given)
            except TooSlow:
                if is_last:
                    raise
            except ExceptionGroup as failed:  # in a task group
                if is_last or failed.split(TooSlow)[1] is not None:
                    raise
            await anyio.sleep(1)
        return None

    return tried


# --- processes ------------------------------------------------------------------------------


def environment(**values: str) -> dict[str, str]:
    """The environment of a server process, without the developer's settings.

    Runners of tests set the size of a terminal, which a process has to ask its own terminal for.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("WAN25_") and name not in ("COLUMNS", "LINES")
    }
    return kept | values


def run(
    arguments: Sequence[str],
    environ: Mapping[str, str],
    *,
    cwd: Path | None = None,
    stdin: bytes | None = b"",
    seconds: float = 20,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "wan25_mcp", *arguments],
        env=dict(environ),
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=seconds,
        check=False,
    )


@contextmanager
def started(
    arguments: Sequence[str], environ: Mapping[str, str], *, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command; it is gone when the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "wan25_mcp", *arguments],
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def until(stream: Any, found: Callable[[str], bool], *, seconds: float = 15) -> str:
    """Read lines until one is it; the text read so far."""
    text = ""
    with _alarm(seconds):
        for line in stream:
            text += line.decode() if isinstance(line, bytes) else line
            if found(text):
                return text
    raise AssertionError(f"the process ended without it: {text}")


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """A shorter deadline inside the test's own."""

    def too_late(*_: object) -> None:
        raise TimeoutError(f"nothing for {seconds} s")

    if not hasattr(signal, "SIGALRM"):  # Windows
        yield
        return
    previous = signal.signal(signal.SIGALRM, too_late)
    left = signal.alarm(int(seconds) or 1)
    try:
        yield
    finally:
        signal.alarm(left)
        signal.signal(signal.SIGALRM, previous)
