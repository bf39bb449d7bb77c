"""Many images, and a command that is killed on the way: every image once, every charge once."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.stage import Environ, Playing, playing
from tests.stage import environment, run, started


def pictures(folder: Path, count: int) -> None:
    """That many pictures, no two alike."""
    folder.mkdir()
    for number in range(count):
        colour = (number, 255 - number, 60)
        Image.new("RGB", (400, 400), colour).save(folder / f"photo-{number}.png")


def killed(command: Sequence[str], environ: dict[str, str], played: Playing, charges: int) -> None:
    """Run the command until the provider has accepted that many edits, then kill it."""
    with started(command, environ) as process:
        deadline = time.monotonic() + 60
        while played.emulator.ledger.charges < charges:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.kill()


def finished(command: Sequence[str], environ: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    ran = run(command, environ, seconds=200)
    assert b"Traceback" not in ran.stderr
    return ran


@pytest.mark.deadline(240)
@pytest.mark.thorough
def test_a_batch_that_is_killed_twice_ends_with_every_image_and_no_charge_twice(
    environ: Environ, tmp_path: Path
) -> None:
    count, jobs = 200, 24
    pictures(tmp_path / "in", count)
    with playing(balance=1e6, speed=100.0) as played:
        values = {name: value for name, value in environ.items() if value is not None}
        processes = environment(**values, WAN25_EMULATOR=played.emulator.base_url)
        command = ["edit", "--each", str(tmp_path / "in"), "-p", "Make it night", "--yes"]
        command += ["--jobs", str(jobs), "--json"]
        for share in (3, 2):
            killed(command, processes, played, count // share)
        last = json.loads(finished(command, processes).stdout)
        again = finished(command, processes)
        entries = played.emulator.ledger.entries
        sent = [tuple(submit.body["image_urls"]) for submit in played.emulator.submits]

    edits = last["edits"]
    files = [path for edit in edits for path in edit["saved"]]
    unknown = [edit for edit in edits if edit["charged"] == "unknown"]
    print(f"{len(files)} files, {len(unknown)} unknown, {len(entries)} charges")  # noqa: T201  a record
    # A submit on the wire when the command is killed may be accepted. It is never sent again.
    assert len(set(files)) == len(files)
    assert len(files) + len(unknown) == count
    assert all(edit["error"]["code"] == "outcome_unknown" for edit in unknown)
    assert len(set(sent)) == len(sent), "an image was sent twice"
    assert len(files) <= len(entries) <= count
    assert {entry.charged for entry in entries} == {1.5}
    assert last["totals"]["edited"] == len(files)
    assert sorted(map(str, (tmp_path / "out").iterdir())) == sorted(files)
    assert json.loads(again.stdout)["totals"]["credits"] == 0
    assert again.returncode == (1 if unknown else 0)
