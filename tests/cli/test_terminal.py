"""What a person sees at a terminal: a line that ticks, plain lines, no colour, any encoding."""

from __future__ import annotations

import re
import signal
import time
import uuid
from pathlib import Path

import pytest

from tests.cli.stage import Environ, Playing, as_a_shell_shows, at_terminal, invoke
from tests.stage import environment, started, until


def edit(played: Playing, prompt: str) -> list[str]:
    return ["edit", played.ask("sample_image_url"), "--prompt", prompt]


LINK = r"\x1b\]8;;file:///[^\x1b]+\x1b\\([^\x1b]+)\x1b\]8;;\x1b\\"
"""A path that a terminal can open."""

# --- the line that moves ---------------------------------------------------------------------


def test_the_seconds_tick_before_the_first_poll_and_ctrl_c_stops_them(
    played: Playing, world: Environ
) -> None:
    played.ask("outcome", run_seconds=3000)
    with at_terminal(edit(played, "At a terminal"), world) as terminal:
        terminal.until(lambda text: re.search(r"pending, 3 s", text))
        assert terminal.interrupt() == 130
    ticked = re.findall(r"\r\[-{24}\]   0 %  pending, (\d) s", terminal.text)
    assert list(dict.fromkeys(ticked))[:4] == ["0", "1", "2", "3"]
    assert "--wait" in terminal.text
    assert "Traceback" not in terminal.text


def test_the_wait_that_the_provider_asks_for_is_named_with_the_attempt(
    played: Playing, world: Environ
) -> None:
    played.ask("fault", endpoint="submit", kind="status", code=429, retry_after=1)
    result = invoke(world, *edit(played, "Not so fast"))
    assert result.exit_code == 0
    assert "asks to wait 1 s (attempt 2 of 4)" in result.stderr


@pytest.mark.parametrize(("columns", "term"), [(59, "xterm"), (80, "dumb")])
def test_no_line_moves_on_a_narrow_or_a_dumb_terminal(
    columns: int, term: str, played: Playing, world: Environ
) -> None:
    prompt = f"At {columns} columns of {term}"
    with at_terminal(edit(played, prompt), world, columns=columns, term=term) as terminal:
        assert terminal.process.wait(timeout=20) == 0
        terminal.until(lambda text: "Charged: yes" in text)
    assert not re.search(r"\r[^\n\r]", terminal.text)
    assert "  0 %, pending" in terminal.text
    assert "\x1b" not in re.sub(LINK, r"\1", terminal.text)


@pytest.mark.parametrize(
    ("refusal", "term", "is_coloured"),
    [("", "xterm", True), ("1", "xterm", False), ("", "dumb", False)],
)
def test_colour_is_left_out_where_it_is_refused(
    refusal: str, term: str, is_coloured: bool, environ: Environ
) -> None:
    with at_terminal(["task", "t"], environ | {"NO_COLOR": refusal}, term=term) as terminal:
        assert terminal.process.wait(timeout=20) == 2
        terminal.until(lambda text: "To do: " in text)
    assert ("\x1b[31m" in terminal.text) == is_coloured
    assert ("\x1b" in terminal.text) == is_coloured


def test_serve_at_a_terminal_says_what_it_waits_for_and_what_to_try(environ: Environ) -> None:
    with at_terminal(["serve"], environ) as terminal:
        told = terminal.until(lambda text: text.count("\n") == 2)
        assert "stdin" in told
        for command in ("wan25-mcp demo", "wan25-mcp doctor", "Ctrl-C"):
            assert command in told
        assert terminal.interrupt() == 130


# --- encodings -------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["iso-8859-1", "cp1252"])
def test_a_prompt_that_the_terminal_cannot_write_does_not_end_in_a_traceback(
    encoding: str, played: Playing, world: Environ, tmp_path: Path
) -> None:
    output = tmp_path / "雪"
    command = [*edit(played, f"Snow ☃ 雪 {encoding}"), "--output", str(output)]
    made = invoke(world, *command, charset=encoding)
    assert (made.exit_code, len(list(output.iterdir()))) == (0, 1)
    assert f"Saved: {tmp_path}/?/" in made.stdout
    for _ in range(2):
        listed = invoke(world, "tasks", charset=encoding)
        assert (listed.exit_code, f"Snow ? ? {encoding}" in listed.stdout) == (0, True)


def test_a_prompt_of_bytes_that_are_no_text_is_refused_before_it_costs(
    played: Playing, world: Environ
) -> None:
    """As a shell passes them on when its terminal has another encoding than its locale."""
    before = len(played.emulator.submits)
    result = invoke(world, *edit(played, "n\udce4chts"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "prompt" in result.stderr
    assert len(played.emulator.submits) == before


# --- Ctrl-C in the demo ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "moment",
    [
        "The emulator plays",
        pytest.param("1. Emulator", marks=pytest.mark.thorough),
        pytest.param("2. MCP", marks=pytest.mark.thorough),
        "3. edit_image",
    ],
)
def test_ctrl_c_at_any_moment_of_the_demo_is_130_and_leaves_no_process(
    moment: str, tmp_path: Path
) -> None:
    mark = f"MARK={uuid.uuid4().hex}"
    values = environment(**dict([mark.split("=")]))
    with started(["demo", "--output", str(tmp_path / "out")], values) as process:
        until(process.stderr, lambda text: moment in text)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
    assert as_a_shell_shows(process.returncode) == 130
    assert "Traceback" not in err.decode()
    deadline = time.monotonic() + 30
    while found := _processes_with(mark):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def _processes_with(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environ = (folder / "environ").read_bytes()
        except OSError:  # it has ended, or is another user's
            continue
        if mark.encode() in environ.split(b"\0"):
            found.append(int(folder.name))
    return found


def test_nothing_is_drawn_for_what_is_done_at_once(played: Playing, world: Environ) -> None:
    """Else the result would be written into the line that was drawn last."""
    played.ask("fault", endpoint="submit", kind="status", code=402)
    with at_terminal(edit(played, "Drawn over"), world) as terminal:
        assert terminal.process.wait(timeout=20) == 1
        text = terminal.until(lambda text: "To do: " in text)
    assert re.search(r"[\r\n]Status: failed", text)
