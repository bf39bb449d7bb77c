"""A server that is started again after a kill -9, and goes on without being called."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread
import pytest

from tests.emulator_lab import Emulator
from tests.journal.processes import Books, serving, until
from tests.stage import environment, names_in, started

pytestmark = pytest.mark.anyio

TAKEN_UP_WITHIN: Final = 15.0
"""Seconds from the start of the server's work to the first sign of it; it is at work every 30 s."""
STARTED_WITHIN: Final = 20.0
"""Seconds that a process may take to start on a busy machine."""
LEASE: Final = 12.0
"""Seconds for which a dead process is believed to live."""

API: Final = "the API"
ANOTHER_EMULATOR: Final = "an emulator of its own"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(check_images=False, run_seconds=3.0).serving() as emulator:
        yield emulator


def values_for(emulator: Emulator, folder: Path, far_side: str = API) -> dict[str, str]:
    where = {"WAN25_BASE_URL": emulator.base_url, "WAN25_API_KEY": "emulator-key"}
    if far_side != API:
        where = {"WAN25_EMULATOR": emulator.base_url}
    return {
        "WAN25_DATA_DIR": str(folder / "data"),
        "WAN25_OUTPUT_DIR": str(folder / "out"),
        **where,
    }


def served(transport: str, values: dict[str, str]) -> Any:
    return started(["serve", "--transport", transport, "--port", "0"], environment(**values))


@pytest.mark.parametrize(
    ("transport", "far_side"),
    [
        ("streamable-http", API),
        pytest.param("streamable-http", ANOTHER_EMULATOR, marks=pytest.mark.thorough),
        pytest.param("sse", API, marks=pytest.mark.thorough),
        pytest.param("sse", ANOTHER_EMULATOR, marks=pytest.mark.thorough),
    ],
)
async def test_an_edit_whose_server_was_killed_is_polled_and_saved_without_a_call(
    transport: str, far_side: str, emulator: Emulator, tmp_path: Path
) -> None:
    values = values_for(emulator, tmp_path, far_side)
    async with serving(values) as dying:
        edit = await dying.edit("Make it night")
        await dying.kill()
    assert edit["status"] in ("pending", "processing")
    before = len(emulator.reads)
    await until("settled", lambda: emulator.tasks[edit["task_id"]].is_settled, seconds=10)
    with served(transport, values):
        within = STARTED_WITHIN + TAKEN_UP_WITHIN
        await until("polled", lambda: len(emulator.reads) > before, seconds=within)
        await until("saved", lambda: len(names_in(tmp_path / "out")) == 1, seconds=TAKEN_UP_WITHIN)
    assert len(emulator.reads) == before + 1
    assert (emulator.ledger.charges, len(emulator.submits)) == (1, 1)


@pytest.mark.parametrize("lease", [0.0, pytest.param(LEASE, marks=pytest.mark.thorough)])
async def test_a_submit_whose_server_was_killed_is_said_to_be_unknown_without_a_call(
    lease: float, emulator: Emulator, tmp_path: Path
) -> None:
    """The rest of its lease passes in the journal only, or in real time."""
    emulator.fault(endpoint="submit", kind="delay", seconds=60)
    values = values_for(emulator, tmp_path)
    async with serving(values) as dying:
        await dying.send_edit("Make it night")
        await until("sent", lambda: len(emulator.submits) == 1, seconds=10)
        await dying.kill()

    def stages() -> list[str]:
        with closing(sqlite3.connect(tmp_path / "data" / "journal.sqlite3", timeout=5)) as journal:
            return [
                stage for (stage,) in journal.execute("SELECT stage FROM wan25_account_intents")
            ]

    assert await anyio.to_thread.run_sync(stages) == ["sending"]
    if not lease:
        Books(tmp_path / "data" / "journal.sqlite3").let_leases_run_out("Make it night")
    with served("streamable-http", values):
        within = STARTED_WITHIN + lease + TAKEN_UP_WITHIN
        await until("unknown", lambda: stages() == ["unknown"], seconds=within, every=0.1)
    assert len(emulator.submits) == 1


@pytest.mark.thorough
async def test_a_save_whose_server_was_killed_is_made_again_soon_after_its_lease(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault(endpoint="result", kind="delay", seconds=60)
    values = values_for(emulator, tmp_path)
    async with serving(values) as dying:
        edit = await dying.edit("Make it night")
        await until("settled", lambda: emulator.tasks[edit["task_id"]].is_settled, seconds=10)
        await dying.send_call("get_task", task_id=edit["task_id"])
        await until("downloading", lambda: len(emulator.faults) == 0)
        await dying.kill()
    with served("streamable-http", values):
        within = STARTED_WITHIN + LEASE + TAKEN_UP_WITHIN
        await until("saved", lambda: len(names_in(tmp_path / "out")) == 1, seconds=within)


@pytest.mark.thorough
async def test_over_stdio_nothing_is_asked_of_the_provider_before_a_client_shows_interest(
    emulator: Emulator, tmp_path: Path
) -> None:
    values = values_for(emulator, tmp_path)
    async with serving(values) as dying:
        await dying.edit("Make it night")
        await dying.kill()
    before = len(emulator.reads)
    async with serving(values) as server:
        await anyio.sleep(4)
        assert len(emulator.reads) == before
        await server.ask("tools/list")
        await until("polled", lambda: len(emulator.reads) > before, seconds=TAKEN_UP_WITHIN)


@pytest.mark.thorough
async def test_without_a_key_a_server_over_http_starts_and_stays(tmp_path: Path) -> None:
    values = {"WAN25_DATA_DIR": str(tmp_path / "data")}
    with served("streamable-http", values) as process:
        os.set_blocking(process.stderr.fileno(), False)
        await anyio.sleep(5)
        assert process.poll() is None
        assert (process.stderr.read() or b"").startswith(b"Serving MCP at")
    assert await anyio.Path(tmp_path / "data").exists() is False
