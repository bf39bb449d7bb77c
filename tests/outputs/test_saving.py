"""Saving: whole or not at all, under a safe name, in the output directory and nowhere else."""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.outputs.internet import PNG
from tests.stage import the_owner
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.outputs import folder
from wan25_mcp.outputs.archiver import MAX_PROBLEMS, Archiver, SaveRequest, Saving
from wan25_mcp.outputs.download import NotDownloaded
from wan25_mcp.outputs.filenames import ImageName
from wan25_mcp.outputs.previews import Run
from wan25_mcp.outputs.save import (
    NotSaved,
    check_directory,
    default_directory,
    output_directory,
    save_image,
)

pytestmark = pytest.mark.anyio

DAY: Final = date(2026, 11, 22)
TASK: Final = "task-unified-1757156493-imcg5zqt"


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: the work is done in threads."""
    return str(request.param)


async def save(
    directory: Path, body: bytes = PNG, *, run: Run = anyio.to_thread.run_sync, **names: Any
) -> Path:
    usual: dict[str, Any] = {"prompt": "Make it night", "task_id": TASK, "number": 1, "day": DAY}
    return await save_image(body, directory, ImageName(**(usual | names)), run=run)


async def refused(directory: Path, **names: Any) -> NotSaved:
    with pytest.raises(NotSaved) as caught:
        await save(directory, **names)
    assert (caught.value.code, caught.value.charged) == ("not_saved", "yes")
    assert "WAN25_OUTPUT_DIR" in caught.value.fix
    return caught.value


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


PARTS: Final = st.sampled_from(
    [
        "..",
        "/",
        "\\",
        "\0",
        "\n",
        "CON",
        "nul.",
        "~",
        "$HOME",
        "%2e",
        "：",
        "‥",
        "．．／",
        "c:",
        "星",
    ]
)


@given(prompt=st.lists(PARTS).map("".join) | st.text(), task_id=st.lists(PARTS).map("".join))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_written_outside_the_output_directory(
    tmp_path: Path, prompt: str, task_id: str
) -> None:
    output = tmp_path / "output"
    (tmp_path / "bystander").write_text("untouched")
    saved = anyio.run(lambda: save(output, prompt=prompt, task_id=task_id))
    assert saved.parent == output
    assert saved.read_bytes() == PNG
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bystander", "output"]
    saved.unlink()
    assert names_in(output) == []


# --- whole, once, never over another ------------------------------------------------------------


async def test_an_image_is_saved_in_a_folder_that_is_made(tmp_path: Path) -> None:
    saved = await save(tmp_path / "a" / "b")
    assert saved == tmp_path / "a" / "b" / "2026-11-22-make-it-night-cg5zqt-1.png"
    assert saved.read_bytes() == PNG
    assert names_in(saved.parent) == [saved.name]


async def test_the_day_is_today_when_not_given(tmp_path: Path) -> None:
    before = date.today()  # noqa: DTZ011  the person's day
    saved = await save(tmp_path, day=None)
    after = date.today()  # noqa: DTZ011  the person's day
    assert saved.name[:10] in {before.isoformat(), after.isoformat()}


async def test_an_earlier_file_is_never_overwritten(tmp_path: Path) -> None:
    first = await save(tmp_path)
    first.write_text("the user changed it")
    second = await save(tmp_path)
    assert second.name == "2026-11-22-make-it-night-cg5zqt-1-2.png"
    assert first.read_text() == "the user changed it"
    assert second.read_bytes() == PNG


async def test_an_image_that_a_killed_process_had_saved_is_not_saved_twice(tmp_path: Path) -> None:
    first = await save(tmp_path)
    assert await save(tmp_path) == first
    assert names_in(first.parent) == [first.name]


@pytest.mark.skipif(os.name == "nt", reason="needs symlinks and pipes")
async def test_an_identical_file_behind_a_link_does_not_count_as_saved(tmp_path: Path) -> None:
    name = "2026-11-22-make-it-night-cg5zqt-1"
    (tmp_path / "elsewhere").write_bytes(PNG)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"{name}.png").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "out" / f"{name}-2.png")
    assert (await save(tmp_path / "out")).name == f"{name}-3.png"


async def test_twenty_savers_at_once_get_twenty_names(tmp_path: Path) -> None:
    saved: dict[Path, bytes] = {}

    async def one(number: int) -> None:
        body = PNG + bytes([number])
        saved[await save(tmp_path, body)] = body

    async with anyio.create_task_group() as tasks:
        for number in range(1, 21):
            tasks.start_soon(one, number)
    assert len(saved) == 20
    assert {path: path.read_bytes() for path in saved} == saved
    assert len(names_in(tmp_path)) == 20


async def test_what_is_not_a_whole_image_is_not_saved(tmp_path: Path) -> None:
    for body in (b"<html>", PNG[:-1]):
        with pytest.raises(NotDownloaded):
            await save(tmp_path, body)
    assert names_in(tmp_path) == []


async def test_a_cancelled_save_is_finished_and_its_place_is_reported(tmp_path: Path) -> None:
    begun, go = anyio.Event(), threading.Event()
    told: list[Path] = []

    async def slowly(job: Callable[[], Path]) -> Path:
        def wait() -> Path:
            anyio.from_thread.run_sync(begun.set)
            assert go.wait(10)
            return job()

        return await anyio.to_thread.run_sync(wait)

    async def saver() -> None:
        told.append(await save(tmp_path, run=slowly))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(saver)
        await begun.wait()
        tasks.cancel_scope.cancel()
        go.set()
    assert [path.name for path in told] == names_in(tmp_path)
    assert len(told) == 1


# --- leftovers ----------------------------------------------------------------------------------


async def test_what_dead_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    hour_old = time.time() - 3700
    stale, young = ".wan25-0123456789abcdef.part", ".wan25-fedcba9876543210.part"
    kept = ["mine.part", ".wan25-0123.part", "x.wan25-0123456789abcdef.part"]
    for name in (stale, *kept):
        (tmp_path / name).write_text("x")
        os.utime(tmp_path / name, (hour_old, hour_old))
    (tmp_path / young).write_text("x")
    (tmp_path / ".wan25-00000000000000aa.part").mkdir()
    os.utime(tmp_path / ".wan25-00000000000000aa.part", (hour_old, hour_old))
    saved = await save(tmp_path)
    expected = {young, *kept, ".wan25-00000000000000aa.part", saved.name}
    assert set(names_in(tmp_path)) == expected


@pytest.mark.parametrize("call", ["fsync", "link", "write"])
async def test_a_failure_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    if call == "write":
        monkeypatch.setattr(folder.Folder, "write", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    error = await refused(tmp_path)
    assert "the disk failed" in error.message
    assert error.retryable
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EOPNOTSUPP])
async def test_without_hard_links_a_name_is_claimed_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(reason, "no hard links here")

    monkeypatch.setattr(os, "link", fail)
    another = PNG + b"another"
    first, second = await save(tmp_path), await save(tmp_path, another)
    assert (first.read_bytes(), second.read_bytes()) == (PNG, another)
    assert names_in(tmp_path) == sorted([first.name, second.name])


async def test_where_folders_cannot_be_held_open_paths_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows, as far as this machine can play it."""
    monkeypatch.setattr(folder, "_CAN_HOLD_FOLDERS", False)
    first, second = await save(tmp_path / "a"), await save(tmp_path / "a", PNG + b"another")
    assert await save(tmp_path / "a") == first
    assert names_in(tmp_path / "a") == sorted([first.name, second.name])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    assert "link" in (await refused(tmp_path / "link")).message
    assert len(names_in(tmp_path / "a")) == 2


# --- where --------------------------------------------------------------------------------------


def test_the_default_is_a_folder_of_ours_in_the_pictures_folder() -> None:
    assert default_directory().name == "wan25"
    assert default_directory().is_absolute()
    assert output_directory(None) == default_directory()
    assert output_directory(Path("here")) == Path.cwd() / "here"


@pytest.mark.parametrize(
    ("directory", "why"),
    [
        ("/", "the root directory"),
        ("//", "the root directory"),
        ("/tmp/..", "the root directory"),
        ("~", "the home directory itself"),
        ("~/x/..", "the home directory itself"),
        ("relative/folder", "not an absolute path"),
        (".", "not an absolute path"),
    ],
)
async def test_roots_the_home_itself_and_relative_paths_are_refused(
    directory: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path.joinpath(*directory.split("/")[1:]) if directory[0] == "~" else Path(directory)
    error = await refused(path)
    assert why in error.message
    assert not error.retryable
    with pytest.raises(NotSaved):
        check_directory(path)
    assert names_in(tmp_path) == []


async def test_a_link_to_the_home_is_refused_like_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    assert "home directory" in (await refused(tmp_path / "link")).message


async def test_folders_above_may_be_links(tmp_path: Path) -> None:
    (tmp_path / "other-disk").mkdir()
    (tmp_path / "pictures").symlink_to(tmp_path / "other-disk")
    saved = await save(tmp_path / "pictures" / "wan25")
    assert names_in(tmp_path / "other-disk" / "wan25") == [saved.name]


# --- tricks ---------------------------------------------------------------------------------------


async def test_a_link_in_the_place_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for target in ("elsewhere", "nowhere"):
        link = tmp_path / f"to-{target}"
        link.symlink_to(tmp_path / target)
        assert not (await refused(link)).retryable
    assert names_in(tmp_path / "elsewhere") == []
    assert not (tmp_path / "nowhere").exists()


async def test_a_link_under_the_final_name_is_neither_followed_nor_replaced(
    tmp_path: Path,
) -> None:
    output, victim = tmp_path / "output", tmp_path / "victim"
    output.mkdir()
    victim.write_text("untouched")
    planted = [output / "2026-11-22-make-it-night-cg5zqt-1.png"]
    planted.append(planted[0].with_name(planted[0].stem + "-2.png"))
    planted[0].symlink_to(victim)
    planted[1].symlink_to(tmp_path / "nowhere")
    saved = await save(output)
    assert saved.name.endswith("-1-3.png")
    assert victim.read_text() == "untouched"
    assert all(path.is_symlink() for path in planted)
    assert not (tmp_path / "nowhere").exists()


async def test_a_link_under_the_temporary_name_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, victim = tmp_path / "output", tmp_path / "victim"
    output.mkdir()
    victim.write_text("untouched")
    monkeypatch.setattr(secrets, "token_hex", lambda _: "0123456789abcdef")
    (output / ".wan25-0123456789abcdef.part").symlink_to(victim)
    await refused(output)
    assert victim.read_text() == "untouched"


@pytest.mark.parametrize("into", ["link", "folder", "nothing"])
@pytest.mark.parametrize("moment", ["open", "fsync", "link", "unlink"])
async def test_a_folder_swapped_on_the_way_gets_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str, into: str
) -> None:
    output, elsewhere = tmp_path / "output", tmp_path / "elsewhere"
    elsewhere.mkdir()
    real: Callable[..., Any] = getattr(os, moment)
    calls: list[object] = []

    def swap_first(*arguments: Any, **named: Any) -> Any:
        calls.append(arguments)
        if len(calls) == (2 if moment == "open" else 1):  # the first opens the folder itself
            output.rename(tmp_path / "moved")
            if into == "link":
                output.symlink_to(elsewhere)
            elif into == "folder":
                output.mkdir()
        return real(*arguments, **named)

    monkeypatch.setattr(os, moment, swap_first)
    error = await refused(output)
    monkeypatch.undo()
    assert error.retryable
    assert names_in(elsewhere) == []
    assert names_in(tmp_path / "moved") == []
    if into == "folder":
        assert names_in(output) == []


async def test_a_deleted_folder_is_made_again(tmp_path: Path) -> None:
    first = await save(tmp_path / "output")
    first.unlink()
    first.parent.rmdir()
    assert (await save(tmp_path / "output")).exists()


async def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "a file of that name exists" in (await refused(tmp_path / "file")).message
    assert "not a folder" in (await refused(tmp_path / "file" / "below")).message


@pytest.mark.parametrize(
    ("number", "told", "retryable"),
    [
        (errno.ENOSPC, "the disk is full", True),
        (errno.EROFS, "the disk is read-only", False),
        (errno.EACCES, "you may not write there", False),
        (errno.EDQUOT, "your disk quota is used up", True),
        (errno.EBUSY, "device or resource busy", True),
    ],
)
async def test_what_stopped_a_write_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str, retryable: bool
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    error = await refused(tmp_path)
    assert error.message == f"The image could not be written to {tmp_path}: {told}."
    assert error.retryable is retryable
    assert names_in(tmp_path) == []


# --- what is remembered ----------------------------------------------------------------------


async def test_reasons_for_not_saving_do_not_pile_up(tmp_path: Path) -> None:
    async def fail(job: Any, *, may_abandon: bool = False) -> Any:
        raise JournalUnusable("the disk fails")

    journal = SqlJournal(tmp_path / "journal.sqlite3", run=fail)

    async def fetch(link: str, seconds: float) -> bytes:
        raise AssertionError("the journal fails first")

    async with anyio.create_task_group() as tasks:
        saving = Saving(tmp_path, anyio.Semaphore(1), time.time, _inline)
        archiver = Archiver(fetch, journal, the_owner, tasks, saving)
        for number in range(MAX_PROBLEMS + 50):
            links = ("https://cdn.example/1.png",)
            await archiver.save(SaveRequest(f"task-{number}", links, "p", time.time() + 60, True))
        assert len(archiver._problems) == MAX_PROBLEMS
        assert await archiver.problem("task-0") is None
        problem = await archiver.problem(f"task-{MAX_PROBLEMS + 49}")
        assert problem is not None
        assert "the disk fails" in problem[0]


async def _inline(job: Callable[..., Any], *words: Any) -> Any:
    return job(*words)
