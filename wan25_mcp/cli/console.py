"""What a person at a terminal sees: a bar that moves, or plain lines where there is no terminal.

What happens goes to stderr, what came of it to stdout, so that a pipe gets the result alone.
"""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import Any, Self

import click

from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.errors import Wan25Error


def say(line: str) -> None:
    """One line about what is happening."""
    click.echo(line, err=True)


def show(line: str) -> None:
    """One line of the result."""
    click.echo(line)


def show_json(value: Any) -> None:
    """A structured result."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def complain(error: Wan25Error) -> None:
    """An error: what happened, what to do, and what happened to the money."""
    click.secho(f"Error: {at_terminal(error.message)}", fg="red", err=True)
    click.echo(f"To do: {at_terminal(error.fix)}", err=True)
    if error.charged != "no":
        click.echo(f"Charged: {error.charged}", err=True)


class Progress:
    """The progress of one edit, in percent."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._percent = 0
        self._state = ""

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bar = click.progressbar(
                length=100,
                label="editing",
                file=sys.stderr,
                show_eta=False,
                item_show_func=lambda item: item or "",
            )
            self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)

    def tell(self, state: str, percent: int | None, elapsed: float | None = None) -> None:
        """Show how far it is, after how many seconds; the percent never falls."""
        percent = max(self._percent, min(percent or 0, 100))
        if self._bar is not None:
            since = "" if elapsed is None else f", {elapsed:.0f} s"
            self._bar.update(percent - self._percent, state + since)
        elif (state, percent) != (self._state, self._percent):
            say(f"  {state} {percent} %")
        self._percent, self._state = percent, state
