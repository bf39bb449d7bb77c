"""Records what a command writes to a terminal: the screen after each write, with its time.

It knows what our commands write: text, line ends and a return to the start of the line. Colours and
links are left out. Anything else that moves the cursor is an error, so that no picture is wrong.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Screen:
    """What the terminal showed from a moment on."""

    seconds: float
    """Since the first line."""
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Shown:
    """The text of one row, from `begins` until `ends`, in seconds. None: until the end."""

    text: str
    begins: float
    ends: float | None


def record(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    replace: tuple[str, str],
    columns: int,
) -> list[Screen]:
    """Run a command in a terminal of its own.

    Args:
        replace: A text that is not to be shown, and what is shown in its place.
        columns: The width of the terminal. Longer lines are folded as terminals do, but after the
            replacement.

    Raises:
        SystemExit: The command failed, or wrote what a picture cannot show.
    """
    chunks = _output(command, environment, columns)
    began = chunks[0][0] if chunks else 0.0
    written = ""
    screens = []
    for at, chunk in chunks:
        written += chunk
        screens.append(Screen(at - began, _rows(written.replace(*replace), columns)))
    return screens


def _output(
    command: Sequence[str], environment: Mapping[str, str], columns: int
) -> list[tuple[float, str]]:
    """What the command writes, with the time of each part."""
    import fcntl
    import pty
    import struct
    import termios

    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    process = subprocess.Popen(  # noqa: S603  our own command
        command, stdin=subprocess.DEVNULL, stdout=its, stderr=its, env=dict(environment)
    )
    os.close(its)
    decoder = codecs.getincrementaldecoder("utf-8")()
    chunks = []
    with os.fdopen(ours, "rb", buffering=0) as terminal, contextlib.suppress(OSError):  # its end
        while chunk := terminal.read(65536):
            chunks.append((time.monotonic(), decoder.decode(chunk)))
    if process.wait():
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}.")
    return chunks


_INVISIBLE: Final = re.compile(r"\x1b\[[\d;]*m|\x1b\]8;.*?(?:\x1b\\|\x07)")
"""Colours and links."""


def _rows(written: str, columns: int) -> tuple[str, ...]:
    text = _INVISIBLE.sub("", written)
    if unknown := re.search(r"[\x00-\x09\x0b\x0c\x0e-\x1f]", text):
        raise SystemExit(f"A picture cannot show {text[unknown.start() :][:12]!r}.")
    rows: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        row = ""
        for part in line.split("\r"):
            row = part + row[len(part) :]
        row = row.rstrip()
        rows += _folded(row, columns)
    return tuple(rows)


def _folded(row: str, columns: int) -> list[str]:
    return [row[start : start + columns] for start in range(0, len(row), columns)] or [""]


def rows_over_time(screens: Sequence[Screen]) -> list[list[Shown]]:
    """For each row of the last screen, what it showed one after the other."""
    height = len(screens[-1].rows)
    while height and not screens[-1].rows[height - 1]:
        height -= 1
    return [_row_over_time(screens, number) for number in range(height)]


def _row_over_time(screens: Sequence[Screen], number: int) -> list[Shown]:
    shown: list[Shown] = []
    for screen in screens:
        text = screen.rows[number] if number < len(screen.rows) else ""
        if not shown or shown[-1].text != text:
            if shown:
                shown[-1] = Shown(shown[-1].text, shown[-1].begins, screen.seconds)
            shown.append(Shown(text, screen.seconds, None))
    return shown
