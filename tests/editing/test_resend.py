"""Whoever waits for a submit is told what delays it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.stage import open_stage, request
from wan25_mcp.editing.edit import Progress

pytestmark = pytest.mark.anyio


class Reported(list[Progress]):
    """What was reported, in order."""

    async def __call__(self, progress: Progress) -> None:
        self.append(progress)


ASKED = "the provider asks to wait 60 s (attempt 2 of 4)"


async def test_edit_reports_every_second_and_names_the_wait_that_the_provider_asks_for() -> None:
    reported = Reported()
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=60)
        edit = await stage.editor.edit(request(), patience=100.0, on_progress=reported)
    assert edit.status == "pending"
    assert {progress.edit.status for progress in reported} == {"submitting"}
    assert {progress.note for progress in reported} <= {None, ASKED}
    assert len([progress for progress in reported if progress.note == ASKED]) >= 59
    seconds = [progress.elapsed for progress in reported]
    assert max(b - a for a, b in pairwise(seconds)) <= 1.0


async def test_waiting_by_a_handle_names_that_wait_too() -> None:
    reported = Reported()
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=429, retry_after=60)
        started = await stage.editor.edit(request(), patience=3.0)
        assert started.status == "submitting"
        await stage.editor.wait(started, timeout=50.0, on_progress=reported)
    assert {progress.note for progress in reported} == {ASKED}
