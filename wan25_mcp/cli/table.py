"""The live table of many edits: those under way, and one line of totals, redrawn in place.

Every line is shorter than the narrowest terminal that gets a table. So a terminal that is resized
wraps none of them, and going up by their number always reaches the first. Narrower terminals, dumb
ones and pipes get a plain line from time to time.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import click

from wan25_mcp.cli.console import (
    BAR_WIDTH,
    MIN_COLUMNS,
    is_quiet,
    redrawn,
    say,
    screen_columns,
)

_WIDTH: Final = MIN_COLUMNS - 1
_NAME_WIDTH: Final = 28
_PLAIN_SECONDS: Final = 30.0
"""Without a table, the totals are written at least this often."""


@dataclass(frozen=True, slots=True)
class Row:
    """An edit under way.

    Args:
        since: When it began, by `time.monotonic`.
    """

    name: str
    state: str
    percent: int | None
    since: float


@dataclass(frozen=True, slots=True)
class Totals:
    """How far all of them are.

    Args:
        more: What else is to be known, such as the number of failures.
    """

    done: int
    of: int
    more: str


Look = Callable[[], tuple[Sequence[Row], Totals]]


class Table:
    """What is drawn on stderr now."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._drawn = 0
        self._written_at = time.monotonic()

    def draw(self) -> None:
        """Redraw the table, or write a plain line if one is due."""
        if is_quiet():
            return
        rows, totals = self._look()
        if screen_columns() < MIN_COLUMNS:
            self._drawn = 0  # narrowed: what was drawn has wrapped, and stays where it is
            self._say(rows, totals)
            return
        self.clear()
        most = max(shutil.get_terminal_size().lines - 3, 1)
        lines = [_line(row) for row in rows[:most]]
        if len(rows) > most:
            lines.append(f"  and {len(rows) - most} more under way")
        lines.append(_bar(totals))
        click.echo("".join(f"{line[:_WIDTH]}\n" for line in lines), err=True, nl=False)
        self._drawn = len(lines)

    def clear(self) -> None:
        """Remove the table from the screen, so that other lines can be written."""
        if self._drawn:
            click.echo(f"\x1b[{self._drawn}A\r\x1b[J", err=True, nl=False, color=True)
            self._drawn = 0

    def _say(self, rows: Sequence[Row], totals: Totals) -> None:
        now = time.monotonic()
        if now - self._written_at >= _PLAIN_SECONDS:
            say(f"  {totals.done} of {totals.of} done, {len(rows)} under way{totals.more}")
            self._written_at = now


def shortened(name: str, width: int = _NAME_WIDTH) -> str:
    """A name without its middle, where it is too long; what differs is often at the end."""
    if len(name) <= width:
        return name
    end = width // 2 - 1
    return f"{name[: width - end - 1]}…{name[-end:]}"


def _line(row: Row) -> str:
    percent = f"{row.percent:3} %" if row.percent is not None else "     "
    seconds = f"{time.monotonic() - row.since:.0f} s"
    return f"  {shortened(row.name):<{_NAME_WIDTH}} {percent}  {row.state}, {seconds}"


def _bar(totals: Totals) -> str:
    bar = "#" * (BAR_WIDTH * totals.done // max(totals.of, 1))
    return f"[{bar:-<{BAR_WIDTH}}] {totals.done} of {totals.of}{totals.more}"


@asynccontextmanager
async def live_table(look: Look) -> AsyncIterator[Table]:
    """Show the table until the block ends."""
    table = Table(look)
    async with redrawn(table):
        yield table
