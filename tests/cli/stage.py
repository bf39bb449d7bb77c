"""Commands in this process, at a terminal, and an emulator for them."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from click.testing import CliRunner, Result

from tests.emulator_lab import Emulator
from tests.stage import environment
from tests.systems import need_pseudo_terminals
from wan25_mcp.cli.main import main

Environ = dict[str, str | None]
KEY = "emulator-key"


def invoke(environ: Environ, *arguments: str, charset: str = "utf-8", **values: str) -> Result:
    """Run a command in this process, on an event loop of its own."""
    result = CliRunner(charset=charset).invoke(main, arguments, env=environ | values)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


@dataclass
class Playing:
    """An emulator on a socket, in a thread of its own."""

    emulator: Emulator
    portal: Any

    def ask(self, method: str, *words: Any, **named: Any) -> Any:
        """Call the emulator in its own thread."""
        return self.portal.call(lambda: getattr(self.emulator, method)(*words, **named))


@contextmanager
def playing(**switches: Any) -> Iterator[Playing]:
    emulator = Emulator(**({"speed": 30.0, "run_seconds": 45.0} | switches))
    with (
        anyio.from_thread.start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(emulator.serving()),
    ):
        yield Playing(emulator, portal)


def as_a_shell_shows(status: int) -> int:
    """The exit status of a process, which Python may have ended by the signal itself.

    It does so even after a handled interrupt, if the interrupt came while code from a string was
    run, as for a dataclass while modules are imported.
    """
    return 128 - status if status < 0 else status


@dataclass
class Terminal:
    """A command at a terminal, and what it has written there."""

    process: subprocess.Popen[bytes]
    master: int
    written: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        return self.written.decode()

    def until(self, found: Callable[[str], Any], *, seconds: float = 20) -> str:
        """The text once it is as wanted."""
        deadline = time.monotonic() + seconds
        while not found(self.text):
            assert time.monotonic() < deadline, self.text
            time.sleep(0.02)
        return self.text

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> int:
        """Send Ctrl-C. Returns the exit status as a shell shows it."""
        self.process.send_signal(signal.SIGINT)
        return as_a_shell_shows(self.process.wait(timeout=15))


@contextmanager
def at_terminal(
    arguments: Sequence[str], environ: Environ, *, columns: int = 80, term: str = "xterm"
) -> Iterator[Terminal]:
    """Start a command at a terminal; it is gone when the block ends."""
    need_pseudo_terminals()
    import fcntl
    import pty
    import termios

    values = {name: value for name, value in environ.items() if value is not None}
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "wan25_mcp", *arguments],
        env=environment(**values) | {"TERM": term},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    terminal = Terminal(process, master)
    reader = threading.Thread(target=_read, args=(master, terminal.written))
    reader.start()
    try:
        yield terminal
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=10)
        os.close(master)


def _read(master: int, written: bytearray) -> None:
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is gone
            return
        written += part
