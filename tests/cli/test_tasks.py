"""Edits that were made before: which are listed, what they cost together, how they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.stage import Environ, Playing, at_terminal, invoke, playing
from wan25_mcp.cli.tasks import moment
from wan25_mcp.emulator.pictures import sample

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def played() -> Iterator[Playing]:
    with playing(balance=1e6) as one:
        yield one


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("30m", NOW - timedelta(minutes=30)),
        ("2h", NOW - timedelta(hours=2)),
        ("3d", NOW - timedelta(days=3)),
        (" 2W ", NOW - timedelta(weeks=2)),
        ("2026-11-20T10:00+00:00", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20).astimezone()),
    ],
)
def test_a_moment_is_a_span_ago_or_a_date(text: str, when: datetime) -> None:
    assert moment(text, NOW) == when


@pytest.mark.parametrize("text", ["", "yesterday", "2x", "-2h", "99999999d", "2026-13-01"])
def test_other_texts_are_no_moment_and_are_answered_with_how_to_write_one(
    text: str, world: Environ
) -> None:
    told = invoke(world, "tasks", "--since", text)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "2026-11-20" in told.stderr


def three(played: Playing, world: Environ) -> None:
    """A completed edit of two images, a failed one, and one of unknown outcome."""
    link = played.ask("sample_image_url")
    invoke(world, "edit", link, "Two of them", "-n", "2")
    played.ask("outcome", run_seconds=0.1, fail="content_policy_violation")
    invoke(world, "edit", link, "Forbidden")
    played.ask("fault", endpoint="submit", kind="drop_after")
    invoke(world, "edit", link, "Lost")


def test_edits_are_listed_by_status_and_time_with_their_totals(
    played: Playing, world: Environ
) -> None:
    three(played, world)

    def prompts(*options: str) -> list[str]:
        told = invoke(world, "tasks", "--json", *options)
        assert told.exit_code == 0
        return [task["prompt"] for task in json.loads(told.stdout)["tasks"]]

    assert prompts() == ["Lost", "Forbidden", "Two of them"]
    assert prompts("--status", "completed") == ["Two of them"]
    assert prompts("--status", "failed", "--status", "unknown") == ["Lost", "Forbidden"]
    assert prompts("--status", "failed", "--status", "unknown", "--limit", "1") == ["Lost"]
    assert prompts("--since", "1h") == ["Lost", "Forbidden", "Two of them"]
    assert prompts("--since", (datetime.now(UTC) + timedelta(hours=1)).isoformat()) == []
    totals = json.loads(invoke(world, "tasks", "--json").stdout)["totals"]
    assert totals == {"edits": 3, "credits_charged": 3.0, "credits_pending": 1.5}
    *_, last = invoke(world, "tasks").stdout.splitlines()
    assert last == "3 edits, 3 credits charged, 1.5 more reserved or unknown."
    none = invoke(world, "tasks", "--status", "pending")
    assert (none.exit_code, none.stdout, none.stderr.splitlines()[-1]) == (0, "", "No such edits.")


def test_the_list_tells_photos_apart_and_says_why_one_failed(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    names = ["beach.png", "house.png"]
    paths = [str(tmp_path / name) for name in names]
    for number, path in enumerate(paths):
        Path(path).write_bytes(sample(400, 400, number))
    assert invoke(world, "edit", "--each", *paths, "-p", "Make it night", "--yes").exit_code == 0
    played.ask("outcome", run_seconds=0.1, fail="content_policy_violation")
    invoke(world, "edit", played.ask("sample_image_url"), "Forbidden")
    listed = invoke(world, "tasks").stdout
    assert "beach: Make it night" in listed
    assert "house: Make it night" in listed
    assert "not charged" in listed
    assert "content_policy_violation: Forbidden" in listed
    with at_terminal(["tasks", "--status", "failed"], world, columns=60) as terminal:
        assert terminal.process.wait(timeout=20) == 0
        text = terminal.until(lambda text: "1 edit, " in text)
    assert "policy" in text
    assert max(map(len, text.splitlines())) <= 60


def test_an_unknown_status_is_answered_with_the_known_ones(world: Environ) -> None:
    told = invoke(world, "tasks", "--status", "finished")
    assert told.exit_code == 2
    assert "completed" in told.stderr


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_of_the_list_is_wider_than_the_terminal(
    columns: int, played: Playing, world: Environ
) -> None:
    prompt = "Replace the background with a starry sky, and keep the house as it is"
    invoke(world, "edit", played.ask("sample_image_url"), prompt)
    with at_terminal(["tasks"], world, columns=columns) as terminal:
        assert terminal.process.wait(timeout=20) == 0
        text = terminal.until(lambda text: "1 edit, 1.5 credits charged." in text)
    lines = text.splitlines()
    assert max(map(len, lines)) <= columns
    shown = [line for line in lines if "task-unified-" in line]
    assert len(shown) == 1
    assert "Replace the backg" in shown[0]
