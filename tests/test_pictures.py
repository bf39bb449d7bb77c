"""The recording of a terminal, from which the README's picture is drawn."""

from __future__ import annotations

import os
import sys

import pytest

from scripts.pictures import said, terminal
from scripts.recording import Screen, record, rows_over_time
from tests.systems import need_pseudo_terminals


def recorded(written: str, *, columns: int = 40, status: int = 0) -> list[Screen]:
    """What a program leaves on the screen that writes this to its terminal, in two parts."""
    need_pseudo_terminals()
    program = (
        "import sys, time\n"
        f"for part in {written!r}.split('|'):\n"
        "    sys.stdout.write(part); sys.stdout.flush(); time.sleep(0.2)\n"
        f"sys.exit({status})"
    )
    command = [sys.executable, "-c", program]
    return record(command, os.environ, replace=("/secret/home", "/home/me"), columns=columns)


def test_a_line_that_is_redrawn_is_shown_one_text_after_the_other() -> None:
    (first, second) = rows_over_time(recorded("10 %  busy|\r          \rdone\nbye\n"))
    assert [shown.text for shown in first] == ["10 %  busy", "done"]
    assert first[0].ends == first[1].begins
    assert first[1].ends is None
    assert [shown.text for shown in second] == ["", "bye"]


def test_colours_and_links_are_left_out_and_the_folder_is_replaced_before_lines_are_folded() -> (
    None
):
    written = (
        "\x1b[31mred\x1b[0m \x1b]8;;file:///x\x1b\\link\x1b]8;;\x1b\\\n/secret/home/Pictures\n"
    )
    last = recorded(written, columns=10)[-1]
    assert last.rows == ("red link", "/home/me/P", "ictures", "")


@pytest.mark.parametrize("written", ["\x1b[2J", "\x1b[1A", "a\tb", "a\x08b"])
def test_what_a_picture_cannot_show_is_an_error_and_no_wrong_picture(written: str) -> None:
    with pytest.raises(SystemExit, match="cannot show"):
        recorded(written)


def test_a_command_that_fails_makes_no_picture() -> None:
    with pytest.raises(SystemExit, match="status 3"):
        recorded("sorry\n", status=3)


def test_the_picture_shows_the_last_screen_and_two_runs_of_the_same_are_equal() -> None:
    def run(number: int) -> list[Screen]:
        return [Screen(0, ("busy",)), Screen(number, (f"<task-{number}> & done", "bye"))]

    svg = terminal(run(1))
    assert "&lt;task-1&gt; &amp; done" in svg
    assert said(svg) == said(terminal(run(2)))
    assert said(svg)[-1] == "bye"
    assert said(svg) != said(terminal([Screen(0, ("something else",))]))
