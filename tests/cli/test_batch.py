"""The same edit of many images: the price of all first, failures that stop nothing, and others."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import signal
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.stage import (
    Environ,
    Playing,
    Terminal,
    as_a_shell_shows,
    at_terminal,
    invoke,
    playing,
)
from tests.stage import environment, started

NIGHT = ["-p", "Make it night", "--yes"]


@pytest.fixture(scope="module")
def played() -> Iterator[Playing]:
    with playing(balance=1e6, speed=60.0) as one:
        yield one


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three photos, no two alike, and not like those of another test."""
    return folder_of(tmp_path, 3)


def folder_of(tmp_path: Path, count: int, name: str = "in") -> Path:
    folder = tmp_path / name
    folder.mkdir()
    for number in range(count):
        colour = (number * 9, hash(str(tmp_path)) % 250, 60)
        Image.new("RGB", (400, 400), colour).save(folder / f"photo-{number}.png")
    return folder


def each(world: Environ, folder: Path, *more: str, **values: str) -> Any:
    return invoke(world, "edit", "--each", str(folder), *NIGHT, *more, **values)


def totals(told: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told.stdout)["totals"]
    return found


# --- what is made ---------------------------------------------------------------------------


def test_each_image_is_edited_and_the_result_named_after_it(
    played: Playing, world: Environ, photos: Path, tmp_path: Path
) -> None:
    before = played.emulator.ledger.charges
    told = each(world, photos)
    assert told.exit_code == 0, told.output
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name[:8] for file in files] == ["photo-0-", "photo-1-", "photo-2-"]
    lines = told.stdout.splitlines()
    assert sorted(lines[:3]) == [f"photo-{n}.png: {files[n]}" for n in range(3)]
    assert lines[3:] == ["3 of 3 edited.", "Charged: 4.5 credits.", f"Saved in: {tmp_path / 'out'}"]
    assert "for 3 edits" in told.stderr
    assert "\x1b" not in told.output
    assert played.emulator.ledger.charges == before + 3


def test_run_again_it_pays_nothing_whatever_the_duplicate_window(
    played: Playing, world: Environ, photos: Path, tmp_path: Path
) -> None:
    first = totals(each(world, photos, "--json"))
    assert (first["edited"], first["edited_before"], first["credits"]) == (3, 0, 4.5)
    before = played.emulator.ledger.charges
    for window in ("0", "600"):
        told = each(world, photos, "--json", WAN25_DUPLICATE_WINDOW_SECONDS=window)
        again = totals(told)
        assert (again["edited"], again["edited_before"], again["credits"]) == (3, 3, 0)
        assert "Nothing to pay: 3 edited" in told.stderr
    assert played.emulator.ledger.charges == before
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert totals(each(world, photos, "--json", "--force-new"))["credits"] == 4.5


def test_only_what_is_not_edited_yet_is_in_the_price(
    played: Playing, world: Environ, photos: Path
) -> None:
    invoke(world, "edit", str(photos / "photo-1.png"), *NIGHT)
    told = each(world, photos)
    assert "3 credits for 2 edits" in told.stderr
    assert "(1 edited or under way)" in told.stderr
    assert "3 of 3 edited (1 of them before)." in told.stdout


def test_one_price_is_asked_for_all(played: Playing, world: Environ, photos: Path) -> None:
    before = len(played.emulator.submits)
    told = invoke(world, "edit", "--each", str(photos), "Dear", WAN25_CONFIRM_CREDITS="4")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "4.5 credits for 3 edits" in told.stderr
    command = ["edit", "--each", str(photos), "Dear"]
    with at_terminal(command, world | {"WAN25_CONFIRM_CREDITS": "4"}) as terminal:
        terminal.until(lambda text: "Edit? [y/N]" in text)
        terminal.type("n\n")
        assert terminal.process.wait(timeout=20) == 1
    assert len(played.emulator.submits) == before


def test_results_of_before_are_copied_into_the_folder_that_is_asked_for(
    played: Playing, world: Environ, photos: Path, tmp_path: Path
) -> None:
    each(world, photos, "-o", str(tmp_path / "one"))
    (photos / "photo-1.png").unlink()
    Image.new("RGB", (400, 400), (9, hash(str(tmp_path)) % 250, 99)).save(photos / "photo-9.png")
    told = each(world, photos, "-o", str(tmp_path / "two"))
    assert told.exit_code == 0
    assert "3 of 3 edited (2 of them before)." in told.stdout
    assert told.stdout.splitlines()[-1] == f"Saved in: {tmp_path / 'two'}"
    assert sorted(path.name[:7] for path in (tmp_path / "two").iterdir()) == [
        "photo-0", "photo-2", "photo-9"
    ]  # fmt: skip
    each(world, photos, "-o", str(tmp_path / "two"))
    assert len(list((tmp_path / "two").iterdir())) == 3


def test_too_few_credits_for_all_are_asked_about(environ: Environ, photos: Path) -> None:
    with playing(balance=4.0, speed=60.0) as poor:
        world = environ | {"WAN25_EMULATOR": poor.emulator.base_url}
        told = invoke(world, "edit", "--each", str(photos), "Poor")
        assert (told.exit_code, told.stdout) == (2, "")
        assert "--yes" in told.stderr
        with at_terminal(["edit", "--each", str(photos), "Poor"], world) as terminal:
            terminal.until(lambda text: "Edit? [y/N]" in text)
            terminal.type("n\n")
            assert terminal.process.wait(timeout=20) == 1
        assert len(poor.emulator.submits) == 0
        assert "2 of 3 edited" in each(world, photos).stdout


# --- what fails -----------------------------------------------------------------------------


def test_a_failure_stops_nothing_and_is_status_1(
    played: Playing, world: Environ, photos: Path
) -> None:
    (photos / "broken.png").write_bytes(b"no image")
    played.ask("outcome", run_seconds=0.1, fail="content_policy_violation", message="Not this")
    told = each(world, photos)
    assert told.exit_code == 1
    assert "2 of 4 edited, 2 failed." in told.stdout
    assert "Charged: 3 credits." in told.stdout
    assert re.search(r"^To do: broken\.png: ", told.stderr, re.M)
    assert "charged" not in told.stderr.rpartition("To do: broken.png")[2]  # "Charged: 3" is above
    assert "Not this" in told.stderr
    assert "1 cannot be edited" in told.stderr
    assert "3 of 4 edited (2 of them before), 1 failed." in each(world, photos).stdout


def test_an_unknown_outcome_is_said_and_never_sent_again(
    played: Playing, world: Environ, photos: Path
) -> None:
    played.ask("fault", endpoint="submit", kind="drop_after")
    told = each(world, photos)
    assert told.exit_code == 1
    assert "2 of 3 edited, 1 of unknown outcome." in told.stdout
    assert "unknown for 1" in told.stdout
    assert "--force-new" in told.stderr
    before = len(played.emulator.submits)
    again = each(world, photos)
    assert "1 of unknown outcome" in again.stdout
    assert len(played.emulator.submits) == before


@pytest.mark.parametrize("status", [401, 402, 403])
def test_what_every_other_edit_would_meet_stops_all_with_one_sentence(
    status: int, played: Playing, world: Environ, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, 8)
    before = len(played.emulator.submits)
    played.ask("fault", endpoint="submit", kind="status", code=status, times=99)
    told = each(world, folder, "--jobs", "2")
    assert told.exit_code == 1
    assert len(played.emulator.submits) <= before + 2
    assert "0 of 8 edited, 8 not begun." in told.stdout
    assert told.stderr.count("Stopped: ") == 1
    assert "run the same command again" in told.stderr
    played.emulator.faults.clear()
    assert "8 of 8 edited." in each(world, folder, "--jobs", "8").stdout


def test_nothing_more_is_paid_for_while_no_result_can_be_saved(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    folder, out = folder_of(tmp_path, 8), tmp_path / "out"
    values = {name: value for name, value in world.items() if value is not None}
    before = played.emulator.ledger.charges
    command = ["edit", "--each", str(folder), *NIGHT, "--jobs", "1"]
    with started(command, environment(**values)) as process:
        deadline = time.monotonic() + 30
        while played.emulator.ledger.charges == before and time.monotonic() < deadline:
            time.sleep(0.01)
        shutil.rmtree(out, ignore_errors=True)  # it is made with the first result
        out.touch()
        told, errors = (each_.decode() for each_ in process.communicate(timeout=30))
    assert process.returncode == 1
    assert "not begun" in told
    assert f"Stopped: Images cannot be saved in {out}" in errors
    assert played.emulator.ledger.charges < before + 4
    out.unlink()
    assert totals(each(world, folder, "--json"))["edited"] == 8
    assert played.emulator.ledger.charges == before + 8


def test_the_credit_limit_stops_what_it_does_not_allow(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    link = played.ask("sample_image_url")
    invoke(world, "edit", link, "So that the price is known")
    told = each(world, folder_of(tmp_path, 4), WAN25_CREDIT_LIMIT="4.5")
    assert told.exit_code == 1
    assert "2 of 4 edited, 2 not begun." in told.stdout
    assert "WAN25_CREDIT_LIMIT" in told.stderr


@pytest.mark.thorough
def test_a_limit_on_running_edits_is_waited_for(
    played: Playing, world: Environ, photos: Path
) -> None:
    told = each(world, photos, WAN25_MAX_IN_FLIGHT="1")
    assert told.exit_code == 0
    assert "3 of 3 edited." in told.stdout


@pytest.mark.thorough
def test_a_rate_limit_is_waited_for(played: Playing, world: Environ, photos: Path) -> None:
    before = played.emulator.ledger.charges
    played.ask("fault", endpoint="submit", kind="status", code=429, retry_after=1, times=4)
    told = each(world, photos, "--jobs", "1")
    assert told.exit_code == 0
    assert "3 of 3 edited." in told.stdout
    assert played.emulator.ledger.charges == before + 3


def test_results_among_the_images_are_refused_as_they_would_be_edited_next(
    played: Playing, world: Environ, photos: Path, tmp_path: Path
) -> None:
    before = len(played.emulator.submits)
    (tmp_path / "alias").symlink_to(photos)
    for output in (photos, tmp_path / "alias", tmp_path / "one.png"):
        told = each(world, photos, "-o", str(output))
        assert (told.exit_code, told.stdout) == (2, "")
        assert "--output" in told.stderr
    assert len(played.emulator.submits) == before


def test_jobs_are_of_many_images(world: Environ, photos: Path) -> None:
    told = invoke(world, "edit", str(photos / "photo-0.png"), "Night", "--jobs", "4")
    assert (told.exit_code, "--each" in told.stderr) == (2, True)


# --- Ctrl-C ---------------------------------------------------------------------------------


def test_ctrl_c_names_what_is_under_way_and_the_same_command_continues(
    played: Playing, world: Environ, photos: Path
) -> None:
    values = {name: value for name, value in world.items() if value is not None}
    before = played.emulator.ledger.charges
    command = ["edit", "--each", str(photos), *NIGHT, "--jobs", "2"]
    with started(command, environment(**values)) as process:
        deadline = time.monotonic() + 30
        while played.emulator.ledger.charges < before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    told = err.decode()
    assert as_a_shell_shows(process.returncode) == 130
    assert "Traceback" not in told
    assert "run the same command again" in told
    assert len(re.findall(r"Under way: photo-\d\.png: (task|edit)-", told)) == 2
    again = each(world, photos, "--json")
    assert totals(again)["edited"] == 3
    assert played.emulator.ledger.charges == before + 3


def test_nobody_is_told_to_pay_again_for_what_a_forced_batch_has_made(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, 4)
    played.ask("fault", endpoint="submit", kind="status", code=402, times=99)
    told = each(world, folder, "--force-new", "--jobs", "1")
    assert told.exit_code == 1
    assert "4 not begun" in told.stdout
    assert "same command" not in told.stderr
    assert "only the images" in told.stderr

    played.emulator.faults.clear()
    values = {name: value for name, value in world.items() if value is not None}
    before = played.emulator.ledger.charges
    played.ask("outcome", run_seconds=0.1, fail="content_policy_violation", message="Not this")
    command = ["edit", "--each", str(folder), *NIGHT, "--force-new", "--jobs", "1"]
    with started(command, environment(**values)) as process:
        deadline = time.monotonic() + 30
        while played.emulator.ledger.charges < before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=20)[1].decode()
    assert "same command" not in err
    assert "only the images" in err
    assert "0 of 4 are done" in err  # one has failed


def test_an_edit_that_is_still_running_is_not_edited(
    world: Environ, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wan25_mcp.cli.queue.PATIENCE", 2.0)
    with playing(balance=1e6, speed=1.0) as slow:
        told = each(world, photos, WAN25_EMULATOR=slow.emulator.base_url)
        ids = [entry.task_id for entry in slow.emulator.ledger.entries]
    assert told.exit_code == 1
    assert "0 of 3 edited, 3 still running." in told.stdout
    assert len(ids) == 3
    assert all(f"task {one} --wait" in told.stderr for one in ids)


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away_ends_it_without_a_traceback(
    more: list[str], played: Playing, world: Environ, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, 3)
    values = {name: value for name, value in world.items() if value is not None}
    before = played.emulator.ledger.charges
    with started(["edit", "--each", str(folder), *NIGHT, *more], environment(**values)) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        told = process.stderr.read().decode()
        assert process.wait(timeout=20) == 1
    assert "Traceback" not in told
    assert totals(each(world, folder, "--json"))["edited"] == 3
    assert played.emulator.ledger.charges == before + 3


# --- the live table -------------------------------------------------------------------------


def resize(terminal: Terminal, columns: int) -> None:
    size = struct.pack("HHHH", 24, columns, 0, 0)
    fcntl.ioctl(terminal.master, termios.TIOCSWINSZ, size)
    terminal.process.send_signal(signal.SIGWINCH)


def screen(written: str) -> list[str]:
    """What a terminal of enough columns shows of it in the end."""
    rows, row = [""], 0
    text = re.sub(r"\x1b\]8;;[^\x1b]*\x1b\\|\x1b\[\d*m", "", written)
    for part in re.findall(r"\x1b\[\d+A|\x1b\[J|\r|\n|[^\x1b\r\n]+", text):
        if up := re.fullmatch(r"\x1b\[(\d+)A", part):
            row = max(row - int(up[1]), 0)
        elif part == "\x1b[J":
            rows = [*rows[:row], ""]
        elif part == "\n":
            row += 1
            rows += [""] * (row + 1 - len(rows))
        elif part != "\r":
            rows[row] = part  # every line is written whole, from its beginning
    return [line for line in rows if line.strip()]


@pytest.mark.parametrize("columns", [60, 120])
def test_the_table_is_redrawn_in_place_and_gone_in_the_end(
    columns: int, played: Playing, world: Environ, tmp_path: Path
) -> None:
    folder = folder_of(tmp_path, 4, "a folder")
    (folder / "photo-0.png").rename(folder / f"{'a very long name ' * 8}.png")
    command = ["edit", "--each", str(folder), *NIGHT, "--jobs", "2"]
    with at_terminal(command, world, columns=columns) as terminal:
        terminal.until(lambda text: "1 of 4" in text)
        resize(terminal, 60 if columns == 120 else 120)
        assert terminal.process.wait(timeout=40) == 0
        text = terminal.until(lambda text: "Saved in: " in text)
    drawn = re.findall(r"^(?:\x1b\[J)?(  .* s|\[[#-]{24}\] .*)\r?$", text, re.M)
    assert len(drawn) > 6
    assert max(map(len, drawn)) < 60
    shown = screen(text.replace("\r\n", "\n"))
    assert [line for line in shown if line.startswith(("  ", "["))] == []
    assert sum(": /" in line and ".png" in line for line in shown) == 4
    assert "4 of 4 edited." in shown


@pytest.mark.parametrize(("columns", "term"), [(40, "xterm"), (80, "dumb")])
def test_a_narrow_or_dumb_terminal_gets_plain_lines(
    columns: int, term: str, played: Playing, world: Environ, photos: Path
) -> None:
    command = ["edit", "--each", str(photos), *NIGHT]
    with at_terminal(command, world, columns=columns, term=term) as terminal:
        assert terminal.process.wait(timeout=40) == 0
        text = terminal.until(lambda text: "Saved in: " in text)
    assert "\x1b[" not in text
    assert len(re.findall(r"^photo-\d\.png: ", text, re.M)) == 3


def test_the_table_needs_no_colour(played: Playing, world: Environ, photos: Path) -> None:
    command = ["edit", "--each", str(photos), *NIGHT]
    with at_terminal(command, world | {"NO_COLOR": "1"}) as terminal:
        assert terminal.process.wait(timeout=40) == 0
        text = terminal.until(lambda text: "Saved in: " in text)
    assert "] 1 of 3" in text
    assert not re.search(r"\x1b\[\d*m", text)
    assert "3 of 3 edited." in text
