"""What a person at a terminal sees: a line that moves, or plain lines where none can.

Progress goes to stderr, results to stdout, so that a pipe gets the result alone.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
import click

from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.errors import Wan25Error

BAR_WIDTH: Final = 24
MIN_COLUMNS: Final = 60
"""A narrower terminal would wrap the moving line, and each redraw would leave a copy behind."""

_ECHO: Final = "^C"
"""What a terminal writes where the cursor is when somebody presses Ctrl-C."""

PLAIN_SECONDS: Final = 10.0
"""Without a moving line, one is written at least this often."""


def prepare_streams() -> None:
    """Replace what the terminal's encoding cannot hold: a prompt must not end in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def wants_colour() -> bool | None:
    """False where colour is refused (https://no-color.org); None leaves it to the terminal."""
    refused = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return False if refused else None


def say(line: str) -> None:
    """Write a line about what is happening."""
    click.echo(line, err=True)


def show(line: str) -> None:
    """Write a line of the result."""
    click.echo(line)


def complain(error: Wan25Error) -> None:
    """Write an error: what happened, what to do, and what happened to the money."""
    click.secho(f"Error: {at_terminal(error.message)}", fg="red", err=True)
    say(f"To do: {at_terminal(error.fix)}")
    if error.charged != "no":
        say(f"Charged: {error.charged}")


class ProgressLine:
    """The progress of one edit. Its seconds tick automatically between two reports."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._percent: int | None = None
        self._note: str | None = None
        self._began = self._written_at = time.monotonic()
        self._written: tuple[str, int | None] | None = None
        self._drawn = 0

    def report(
        self,
        state: str,
        percent: int | None = None,
        *,
        elapsed: float | None = None,
        note: str | None = None,
    ) -> None:
        """Show the state, and the percent, which never falls.

        Args:
            elapsed: Seconds since the edit began.
            note: Why it takes longer, written once on a line of its own.
        """
        self._state = state
        if percent is not None:
            self._percent = max(self._percent or 0, min(percent, 100))
        if elapsed is not None:
            self._began = time.monotonic() - elapsed
        if note and note != self._note:
            self.clear()
            say(f"{note[:1].upper()}{note[1:]}")
        self._note = note
        self.draw(is_news=(state, self._percent) != self._written)

    def draw(self, *, is_news: bool = False) -> None:
        """Bring what is on the screen up to date."""
        now = time.monotonic()
        since = f"{self._state}, {now - self._began:.0f} s"
        if (columns := _columns()) >= MIN_COLUMNS:
            percent = self._percent or 0
            bar = "#" * (BAR_WIDTH * percent // 100)
            line = f"[{bar:-<{BAR_WIDTH}}] {percent:3} %  {since}"[: columns - len(_ECHO) - 1]
            click.echo("\r" + line.ljust(self._drawn), err=True, nl=False)
            self._drawn = len(line)
        elif is_news or now - self._written_at >= PLAIN_SECONDS:
            percent_done = "" if self._percent is None else f"{self._percent} %, "
            say(f"  {percent_done}{since}")
            self._written, self._written_at = (self._state, self._percent), now

    def clear(self) -> None:
        """Take the moving line off the screen, so that others can be written."""
        if self._drawn:
            click.echo(f"\r{'':{self._drawn + len(_ECHO)}}\r", err=True, nl=False)
            self._drawn = 0


@asynccontextmanager
async def progress_line(state: str) -> AsyncIterator[ProgressLine]:
    """Show how far an edit is until the block ends."""
    line = ProgressLine(state)

    async def tick() -> None:
        while True:
            line.draw()
            await anyio.sleep(1.0)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        try:
            yield line
        finally:
            tasks.cancel_scope.cancel()
            line.clear()


def _columns() -> int:
    """The width of the terminal at stderr; 0 without one that can redraw a line."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        return 0
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):  # it is one, and does not say how wide
        return 80
