"""The Python API without `await`: in scripts, in notebooks, in threads, and with Ctrl-C."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wan25_mcp
from tests.programs import environment, served, with_picture
from tests.stage import environment as without_settings
from wan25_mcp import InvalidRequest, Refused, Wan25Error, sync
from wan25_mcp.sync import Editor, edit


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return with_picture(tmp_path)


def test_a_script_edits_in_one_line(place: Path) -> None:
    with served() as emulator:
        found = edit("house.png", prompt="Make it night", settings=environment(emulator, place))
    assert (found.status, found.charged, len(found.saved)) == ("completed", "yes", 1)


def test_a_cell_of_a_notebook_edits_while_its_loop_runs(place: Path) -> None:
    async def cell() -> str:
        options = environment(emulator, place)
        with Editor(settings=options) as editor:
            return editor.edit("house.png", "Make it night").status

    with served() as emulator:
        assert asyncio.run(cell()) == "completed"


def test_progress_that_is_left_ends_inside_a_loop_that_checks_its_threads(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cell(editor: Editor) -> int:
        for _ in editor.follow(editor.edit("house.png", "Make it night", wait=False)):
            break
        await asyncio.sleep(0.5)
        return len(editor._editor._calls)

    monkeypatch.setenv("PYTHONASYNCIODEBUG", "1")
    with served(speed=1) as emulator, Editor(settings=environment(emulator, place)) as editor:
        assert asyncio.run(cell(editor)) == 0


def test_every_method_is_there(place: Path) -> None:
    with served() as emulator, Editor(settings=environment(emulator, place)) as editor:
        sent = editor.edit("house.png", "Make it night", wait=False)
        seen = list(editor.follow(sent))
        done = editor.wait(sent)
        assert seen[-1].edit == done == editor.save(sent)
        assert editor.get(str(sent.task_id)).status == "completed"
        assert editor.image(done) == Path(done.saved[0]).read_bytes()
        assert [past.edit.task_id for past in editor.recent()] == [sent.task_id]
        assert editor.price().credits == editor.spent(60).charged == 1.5
        assert editor.credits() == 98.5


def test_many_edits_are_taken_from_the_programs_own_thread(place: Path) -> None:
    threads: set[int] = set()
    taken = 0

    def requests() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for taken in range(1, 1001):
            threads.add(threading.get_ident())
            yield {"images": "house.png" if taken != 2 else "hose.png", "prompt": f"Style {taken}"}

    done = []
    with (
        served(balance=2000) as emulator,
        Editor(settings=environment(emulator, place)) as editor,
    ):
        for one in editor.edit_many(requests(), limit=2):
            done.append(one)
            assert taken <= len(done) + 4
            if len(done) == 4:
                break
        time.sleep(0.3)
        sent = {submit.task_id for submit in emulator.submits}
        assert {past.edit.task_id for past in editor.recent()} == sent
    assert threads == {threading.get_ident()}
    assert [one.index for one in done if one.error] == [1]
    assert len(emulator.submits) <= 6


def test_an_error_of_the_requests_themselves_comes_after_the_edits(place: Path) -> None:
    def requests() -> Iterator[dict[str, Any]]:
        yield {"images": "house.png", "prompt": "Make it night"}
        raise LookupError("the program's own")

    with served() as emulator, Editor(settings=environment(emulator, place)) as editor:
        stream = editor.edit_many(requests())
        assert next(stream).status == "completed"
        with pytest.raises(LookupError):
            next(stream)


def test_a_traceback_shows_the_call_and_not_what_is_inside(place: Path) -> None:
    with pytest.raises(InvalidRequest) as here:
        edit("hose.png", "Make it night", emulator=True)
    with pytest.raises(InvalidRequest) as there:
        asyncio.run(wan25_mcp.edit("hose.png", "Make it night", emulator=True))
    for caught, call in ((here, sync.edit), (there, wan25_mcp.edit)):
        files = [str(frame.path) for frame in caught.traceback]
        inside = files[files.index(inspect.getfile(call)) :]
        assert set(inside) == {inspect.getfile(call)}


def test_errors_are_those_of_the_api(place: Path) -> None:
    with served(balance=0) as emulator, Editor(settings=environment(emulator, place)) as editor:
        with pytest.raises(Refused) as refused:
            editor.edit("house.png", "Make it night")
        assert refused.value.edit.charged == "no"
        with pytest.raises(InvalidRequest, match="limit"):
            editor.edit_many([], limit=0)
        with pytest.raises(InvalidRequest, match="iterable"):
            editor.edit_many(3)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(InvalidRequest, match="not open"):
        editor.recent()
    with pytest.raises(Wan25Error, match="No API key"):
        edit("house.png", "Make it night", settings={"WAN25_DATA_DIR": str(place)})


SCRIPT = """
import sys
from wan25_mcp.sync import Editor, edit
try:
    if sys.argv[1] == "one":
        edit("house.png", "Make it night")
    else:
        with Editor() as editor:
            for done in editor.edit_many([{"images": "house.png", "prompt": "Make it night"}]):
                pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("how", ["one", "many"])
def test_ctrl_c_ends_a_wait_and_the_edit_is_listed(place: Path, how: str) -> None:
    with served(speed=1) as emulator:
        settings = environment(emulator, place)
        script = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, how],
            env=without_settings(**settings),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while not emulator.tasks:
            time.sleep(0.05)
        time.sleep(0.5)
        os.kill(script.pid, signal.SIGINT)
        said, errors = script.communicate(timeout=10)
        with Editor(settings=settings) as editor:
            [past] = editor.recent()
    assert (said, errors) == ("interrupted\n", "")
    assert past.edit.task_id in emulator.tasks
