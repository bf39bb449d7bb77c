"""Output for a person at a terminal: a progress line, or plain lines where none can be redrawn.

Progress goes to stderr, results to stdout, so that a pipe gets only the result. `--json` replaces
the results by one object, and `-q` leaves out what is neither a result nor an error.
"""

from __future__ import annotations

import json
import os
import re
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import anyio
import anyio.lowlevel
import click

from wan25_mcp.cli import logs
from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.errors import Wan25Error

BAR_WIDTH: Final = 24
MIN_COLUMNS: Final = 60
"""A narrower terminal would wrap the progress line, and each redraw would leave a copy behind."""

_MIN_WRAPPED: Final = 40

_ECHO: Final = "^C"
"""What a terminal writes at the cursor when somebody presses Ctrl-C."""

PLAIN_SECONDS: Final = 10.0
"""Without a progress line, a plain line is written at least this often."""


def prepare_streams() -> None:
    """Replace characters that the terminal's encoding lacks, so that writing one cannot fail.

    A stream that was closed before the start, as by `>&-`, leads nowhere.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(nowhere, mode, encoding="utf-8", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")


def wants_colour() -> bool | None:
    """False if colour is disabled (https://no-color.org); None leaves it to the terminal."""
    is_disabled = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return False if is_disabled else None


def _is_chosen(option: str) -> bool:
    """Whether an option of `options` was given to the command that runs."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(f"wan25_mcp.{option}"))


def is_json() -> bool:
    """Whether the result is to be one JSON object."""
    return _is_chosen("json")


def is_quiet() -> bool:
    """Whether only results and errors are to be written."""
    return _is_chosen("quiet")


def wrapped(text: str, stream: TextIO, indent: int = 0) -> str:
    """A text broken between words where a terminal would break it anywhere.

    A command in `these` marks stays in one piece. Programs, and terminals too narrow for it, get
    the text in one line.
    """
    columns = _width_of(stream)
    if columns < _MIN_WRAPPED or len(text) < columns:
        return text
    lines = textwrap.wrap(
        re.sub(r"`[^`]*`", lambda command: command[0].replace(" ", "\xa0"), text),
        columns - 1,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines).replace("\xa0", " ")


def say(line: str) -> None:
    """Write a line about what is happening."""
    if not is_quiet():
        click.echo(wrapped(line, sys.stderr), err=True)


def warn(line: str) -> None:
    """Write what `-q` must not leave out, such as a command to copy: it is not wrapped."""
    click.echo(line, err=True)


def show(line: str) -> None:
    """Write a line of the result."""
    if not is_json():
        click.echo(line)


def show_json(result: Any) -> None:
    """Write the result, or the error, as the one JSON object of the command."""
    click.echo(json.dumps(result, indent=2 if sys.stdout.isatty() else None, ensure_ascii=False))


def show_error(error: Wan25Error) -> None:
    """Write an error: what happened, what to do, and what was charged."""
    show_failure(f"Error: {at_terminal(error.message)}")
    show_remedy(error.fix)
    if error.charged != "no":
        warn(f"Charged: {error.charged}")


def show_failure(line: str) -> None:
    """Write a line about something that failed."""
    click.secho(wrapped(line, sys.stderr, len("Error: ")), fg="red", err=True)


def show_remedy(text: str) -> None:
    """Write what to do about it."""
    warn(wrapped(f"To do: {at_terminal(text)}", sys.stderr, len("To do: ")))


_NO_LINKS: Final = ("dumb", "linux")
"""Values of TERM for which a terminal may write the address of a link as text."""


def linked(path: str | Path) -> str:
    """A path as text, which opens the file where the terminal can (OSC 8)."""
    text = str(path)
    is_old_windows = os.name == "nt" and "WT_SESSION" not in os.environ
    can = sys.stdout.isatty() and os.environ.get("TERM") not in _NO_LINKS and not is_old_windows
    if not can or not text.isprintable():
        return text
    return f"\x1b]8;;{Path(text).absolute().as_uri()}\x1b\\{text}\x1b]8;;\x1b\\"


class ProgressLine:
    """The progress of one edit. Between two reports it counts the seconds."""

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
            note: Why it takes longer; written once, on its own line.
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
        """Redraw the progress line, or write a plain line if one is due."""
        if is_quiet():
            return
        now = time.monotonic()
        since = f"{self._state}, {now - self._began:.0f} s"
        if (columns := screen_columns()) >= MIN_COLUMNS:
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
        """Remove the progress line from the screen, so that other lines can be written."""
        if self._drawn:
            click.echo(f"\r{'':{self._drawn + len(_ECHO)}}\r", err=True, nl=False)
            self._drawn = 0


@asynccontextmanager
async def progress_line(state: str) -> AsyncIterator[ProgressLine]:
    """Show the progress of an edit until the block ends."""
    line = ProgressLine(state)
    async with redrawn(line):
        yield line


class Drawing(Protocol):
    """What is drawn over itself."""

    def draw(self) -> None: ...
    def clear(self) -> None: ...


@asynccontextmanager
async def redrawn(drawing: Drawing) -> AsyncIterator[None]:
    """Redraw it every second until the block ends, which clears it."""

    async def tick() -> None:
        await anyio.lowlevel.checkpoint()  # so that a block that is done at once draws nothing
        while True:
            drawing.draw()
            await anyio.sleep(1.0)

    logs.CLEARED.append(drawing.clear)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            try:
                yield
            finally:
                tasks.cancel_scope.cancel()
    finally:  # after the last tick
        logs.CLEARED.remove(drawing.clear)
        drawing.clear()


def is_narrow(columns: int) -> bool:
    """Whether a terminal at stdout has fewer columns."""
    return 0 < _width_of(sys.stdout) < columns


def screen_columns() -> int:
    """The width of the terminal at stderr; 0 without one that can redraw a line."""
    return 0 if os.environ.get("TERM") == "dumb" else _width_of(sys.stderr)


def _width_of(stream: TextIO) -> int:
    """The width of the terminal at a stream; 0 without one."""
    if not stream.isatty():
        return 0
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):  # a terminal that does not report its width
        return 80
