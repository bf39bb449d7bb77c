"""What an edit costs is said before it is paid for, and what was spent can be asked."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.stage import Environ, Playing, at_terminal, invoke, playing


@pytest.fixture(scope="module")
def played() -> Iterator[Playing]:
    with playing(balance=100.0) as one:
        yield one


def price_in(told: str) -> str:
    [line] = [line for line in told.splitlines() if line.startswith("Price: ")]
    return line.removeprefix("Price: ")


def test_the_price_is_assumed_then_known_with_what_is_left(played: Playing, world: Environ) -> None:
    link, left = played.ask("sample_image_url"), played.emulator.balance
    values = {"WAN25_CREDITS_PER_IMAGE": "2"}
    first = invoke(world, "edit", link, "--prompt", "First", **values)
    assert price_in(first.stderr) == f"about 2 credits, {left - 2:g} left afterwards"
    second = invoke(world, "edit", link, "--prompt", "Second", "-n", "2", **values)
    assert price_in(second.stderr) == f"3 credits, {left - 4.5:g} left afterwards"


def test_a_slow_or_failing_balance_neither_delays_nor_fails_the_edit(
    played: Playing, world: Environ
) -> None:
    link = played.ask("sample_image_url")
    faults: list[dict[str, Any]] = [
        {"kind": "delay", "seconds": 30},
        {"kind": "status", "code": 503},
    ]
    for number, fault in enumerate(faults):
        played.ask("fault", endpoint="credits", **fault)
        began = time.monotonic()
        told = invoke(world, "edit", link, "--prompt", f"Slow {number}")
        assert time.monotonic() - began < 20
        assert told.exit_code == 0
        assert "left" not in price_in(told.stderr)


def test_a_balance_that_is_too_small_is_said(environ: Environ) -> None:
    with playing(balance=1.0) as poor:
        link = poor.ask("sample_image_url")
        told = invoke(
            environ, "edit", link, "--prompt", "Poor", WAN25_EMULATOR=poor.emulator.base_url
        )
    assert price_in(told.stderr) == "about 1.5 credits, but only 1 left"
    assert told.exit_code == 1


def test_above_the_limit_nobody_to_ask_means_no_edit_and_yes_answers(
    played: Playing, world: Environ
) -> None:
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Dear"]
    before = len(played.emulator.submits)
    told = invoke(world, *command, WAN25_CONFIRM_CREDITS="1")
    assert (told.exit_code, told.stdout) == (2, "")
    assert "WAN25_CONFIRM_CREDITS" in told.stderr
    assert "--yes" in told.stderr
    assert len(played.emulator.submits) == before
    assert invoke(world, *command, WAN25_CONFIRM_CREDITS="1.5").exit_code == 0
    yes = invoke(world, *command, "--force-new", "--yes", WAN25_CONFIRM_CREDITS="0")
    assert yes.exit_code == 0
    assert len(played.emulator.submits) == before + 2


@pytest.mark.parametrize(("answer", "status"), [("n\n", 1), ("\n", 1), ("y\n", 0), ("", 130)])
def test_above_the_limit_a_person_is_asked(
    answer: str, status: int, played: Playing, world: Environ
) -> None:
    command = ["edit", played.ask("sample_image_url"), "--prompt", f"Asked {answer!r}"]
    before = len(played.emulator.submits)
    with at_terminal(command, world | {"WAN25_CONFIRM_CREDITS": "0"}) as terminal:
        terminal.until(lambda text: "Edit? [y/N]" in text)
        assert len(played.emulator.submits) == before
        if answer:
            terminal.type(answer)
            assert terminal.process.wait(timeout=30) == status
        else:
            assert terminal.interrupt() == status
        told = terminal.until(lambda text: "Saved:" in text or "Nothing was sent" in text)
    assert "Traceback" not in told
    assert len(played.emulator.submits) == before + (status == 0)


def test_a_reused_edit_says_that_it_was_charged_earlier(played: Playing, world: Environ) -> None:
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Again"]
    assert "Charged: yes (1.5 credits)" in invoke(world, *command).stdout
    again = invoke(world, *command)
    assert again.stdout.splitlines()[-1] == "Charged earlier: 1.5 credits"
    assert "Charged: yes" not in again.stdout


def test_nobody_is_asked_about_an_edit_that_is_paid_already(
    played: Playing, world: Environ
) -> None:
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Paid already"]
    before = len(played.emulator.submits)
    assert invoke(world, *command).exit_code == 0
    dear = {"WAN25_CONFIRM_CREDITS": "0"}
    again = invoke(world, *command, **dear)
    assert (again.exit_code, "Price: " in again.stderr) == (0, False)
    assert len(played.emulator.submits) == before + 1
    for more in ({"WAN25_DUPLICATE_WINDOW_SECONDS": "0"}, {}):
        flags = [] if more else ["--force-new"]
        asked = invoke(world, *command, *flags, **dear, **more)
        assert (asked.exit_code, "Price: " in asked.stderr) == (2, True)
    assert len(played.emulator.submits) == before + 1


def test_a_declined_price_leaves_no_folder(played: Playing, world: Environ, tmp_path: Path) -> None:
    command = ["edit", played.ask("sample_image_url"), "Declined"]
    for output in ("new", "new/deep", "new/a.png"):
        told = invoke(world, *command, "-o", str(tmp_path / output), WAN25_CONFIRM_CREDITS="0")
        assert told.exit_code == 2
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "out").exists()


# --- credits ---------------------------------------------------------------------------------


def test_credits_shows_the_balance_and_what_was_spent(played: Playing, world: Environ) -> None:
    nothing = invoke(world, "credits")
    assert nothing.exit_code == 0
    assert nothing.stdout.splitlines()[1:] == [
        "Last 24 hours: 0 credits",
        "Last 30 days: 0 credits",
    ]
    invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Spend", "-n", "2")
    played.ask("fault", endpoint="submit", kind="drop_after")
    invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Lost")
    shown = invoke(world, "credits")
    left = played.emulator.balance
    first, *spent = shown.stdout.splitlines()
    assert re.fullmatch(rf"{left:g} credits are left\.", first)
    more = "(1.5 more reserved or of unknown outcome)"
    assert spent == [f"Last 24 hours: 3 credits {more}", f"Last 30 days: 3 credits {more}"]
    found = json.loads(invoke(world, "credits", "--json").stdout)
    costs = {"charged": 3.0, "pending": 1.5}
    assert found == {"credits_left": left, "last_24_hours": costs, "last_30_days": costs}


def test_credits_shows_what_was_spent_when_the_provider_does_not_answer(
    played: Playing, world: Environ
) -> None:
    played.ask("fault", endpoint="credits", kind="status", code=503)
    shown = invoke(world, "credits")
    assert shown.exit_code == 1
    assert "Last 30 days: 0 credits" in shown.stdout
    assert "Error: " in shown.stderr


def test_credits_needs_a_key(environ: Environ) -> None:
    shown = invoke(environ, "credits")
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "wan25-mcp key set" in shown.stderr
