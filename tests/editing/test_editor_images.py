"""Local images in, finished images out, through the editor: uploaded once, saved by themselves."""

from __future__ import annotations

import base64
import struct
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from PIL import Image

from tests.stage import OWNER, T0, inline, names_in, open_stage, request
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.errors import InvalidRequest, SettingsError, Wan25Error
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.outputs.archiver import LEASE_SECONDS
from wan25_mcp.provider.catalogue import MODEL

pytestmark = pytest.mark.anyio


def picture(folder: Path, name: str, size: tuple[int, int] = (640, 480), mode: str = "RGB") -> str:
    path = folder / name
    Image.new(mode, size, 128).save(path)
    return str(path)


async def wish(editor: AccountEditor, *sources: str, prompt: str = "Make it night") -> EditInput:
    return EditInput(prompt, await editor.read_images(sources), 1, None, MODEL)


async def test_a_local_image_is_uploaded_and_the_result_saved(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path, check_images=True) as stage:
        wanted = await wish(stage.editor, picture(tmp_path, "cat.png"))
        edit = await stage.editor.edit(wanted)
        assert edit.notes == ()
        edit = await stage.editor.wait(edit, timeout=100)
    assert edit.status == "completed"
    [saved] = edit.saved
    assert Path(saved).parent == tmp_path / "out"
    with Image.open(saved) as image:
        assert image.format == "PNG"
    [submit] = stage.emulator.submits
    [link] = submit.body["image_urls"]
    assert link.startswith(stage.emulator.files_url)


async def test_what_was_changed_is_reported_and_the_changed_image_is_taken(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path, check_images=True) as stage:
        wanted = await wish(stage.editor, picture(tmp_path, "small.png", (300, 200), "RGBA"))
        edit = await stage.editor.edit(wanted)
        assert len(edit.notes) == 1
        assert edit.notes[0].startswith("Image 1: ")
        edit = await stage.editor.wait(edit, timeout=100)
    assert edit.status == "completed"


async def test_an_identical_image_is_uploaded_once_and_an_identical_call_is_deduplicated(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        first = await stage.editor.edit(await wish(stage.editor, picture(tmp_path, "a.png")))
        again = await stage.editor.edit(await wish(stage.editor, picture(tmp_path, "b.png")))
        other = await stage.editor.edit(
            await wish(stage.editor, picture(tmp_path, "c.png"), prompt="Make it day")
        )
    assert again.deduplicated  # other name, same content
    assert again.task_id == first.task_id
    assert other.task_id != first.task_id
    links = [submit.body["image_urls"] for submit in stage.emulator.submits]
    assert len(links) == 2
    assert links[0] == links[1]


async def test_an_image_that_cannot_be_used_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    await anyio.Path(tmp_path / "photo.cr3").write_bytes(b"\0\0\0\x18ftypcrx " + bytes(99))
    banner = picture(tmp_path, "banner.png", (8000, 100))
    async with open_stage(folder=tmp_path) as stage:
        refusals = []
        for source in ("absent.png", "photo.cr3", banner, "/etc/passwd"):
            with pytest.raises(InvalidRequest) as refused:
                await wish(stage.editor, str(tmp_path / source))
            refusals.append(refused.value.code)
        assert await stage.editor.recent() == []
    assert refusals == ["image_not_found", "image_unusable", "image_unusable", "image_not_allowed"]
    assert stage.emulator.submits == []


async def test_an_image_that_turns_out_damaged_is_a_failed_edit_that_cost_nothing(
    tmp_path: Path,
) -> None:
    whole = base64.b64decode(_png())
    await anyio.Path(tmp_path / "torn.png").write_bytes(whole[:-30])
    async with open_stage(folder=tmp_path) as stage:
        edit = await stage.editor.edit(await wish(stage.editor, str(tmp_path / "torn.png")))
    assert (edit.status, edit.charged) == ("failed", "no")
    assert edit.error is not None
    assert edit.error.code == "image_unreadable"
    assert stage.emulator.submits == []


@pytest.mark.parametrize(("then", "code"), [(b"", "image_unreadable"), (None, "image_not_found")])
async def test_a_file_that_is_another_when_its_turn_comes_is_not_sent(
    then: bytes | None, code: str, tmp_path: Path
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        source = Path(picture(tmp_path, "cat.png"))
        wanted = await wish(stage.editor, str(source))
        if then is None:
            delete(str(source))
        else:
            picture(tmp_path, "cat.png", (641, 480))
        edit = await stage.editor.edit(wanted)
        assert (edit.status, edit.charged) == ("failed", "no")
        assert edit.error is not None
        assert edit.error.code == code
        assert stage.emulator.submits == []
        picture(tmp_path, "cat.png")
        again = await stage.editor.edit(await wish(stage.editor, str(source)))
    assert (again.status, again.deduplicated) == ("pending", False)


async def test_images_inside_calls_are_let_go_whatever_becomes_of_the_edit(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        whole = "data:image/png;base64," + _png()
        torn = "data:image/png;base64," + base64.b64encode(base64.b64decode(_png())[:-30]).decode()
        for source, prompt in ((whole, "a"), (whole, "a"), (torn, "b"), (whole, "c")):
            edit = await stage.editor.edit(await wish(stage.editor, source, prompt=prompt))
            assert edit.status == ("failed" if source == torn else "pending")
            stage.emulator.fault(endpoint="upload", kind="status", code=400, times=1)
        await anyio.sleep(1)
        assert stage.editor._preparer.in_memory.bytes == 0


async def test_a_failed_upload_sends_nothing_and_does_not_block_the_next_try(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        source = picture(tmp_path, "cat.png")
        stage.emulator.fault(endpoint="upload", kind="status", code=500, times=9)
        edit = await stage.editor.edit(await wish(stage.editor, source), patience=60)
        assert edit.status == "failed"
        assert edit.charged == "no"
        assert stage.emulator.submits == []
        stage.emulator.faults.clear()
        edit = await stage.editor.edit(await wish(stage.editor, source))
    assert edit.status == "pending"
    assert not edit.deduplicated


async def test_without_a_place_to_upload_to_the_error_names_the_settings(tmp_path: Path) -> None:
    async with open_stage() as stage:
        with pytest.raises(InvalidRequest) as refused:
            await wish(stage.editor, picture(tmp_path, "cat.png"))
        assert "WAN25_INPUT_DIRS" in refused.value.fix
        data = "data:image/png;base64," + _png()
        with pytest.raises(SettingsError) as unset:
            await stage.editor.edit(await wish(stage.editor, data))
        assert await stage.editor.recent() == []
    assert "WAN25_FILES_URL" in unset.value.fix
    assert "WAN25_BUCKET_URL" in unset.value.fix
    assert stage.emulator.submits == []


# --- where local images go, when nothing is configured --------------------------------------


async def test_the_file_service_of_the_api_is_found_by_the_first_local_image(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path, search=True) as stage:
        stage.emulator.fault(endpoint="quota", kind="status", code=500, times=0)
        await stage.editor.edit(request())  # a link needs no place
        stage.emulator.faults.clear()
        source = picture(tmp_path, "cat.png")
        uploads: list[str] = []
        for prompt in ("Make it night", "Make it day"):
            wanted = await wish(stage.editor, source, prompt=prompt)
            edit = await stage.editor.edit(wanted, on_upload=uploads.append)
            assert edit.status == "pending"
            stage.emulator.fault(endpoint="quota", kind="status", code=404, times=0)
    assert uploads == ["cat.png"]
    links = [submit.body["image_urls"][0] for submit in stage.emulator.submits[1:]]
    assert len(links) == 2
    assert all(link.startswith(stage.emulator.files_url) for link in links)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "code": 404}, "no_image_host"),
        ({"kind": "html", "code": 200}, "no_image_host"),
        ({"kind": "status", "code": 302}, "no_image_host"),
        ({"kind": "drop_after"}, "image_host_unknown"),
        ({"kind": "refuse"}, "unreachable"),
        ({"kind": "delay", "seconds": 100}, "image_host_unknown"),
    ],
)
async def test_without_a_file_service_nothing_is_journaled_uploaded_or_said(
    fault: dict[str, Any], code: str, tmp_path: Path
) -> None:
    async with open_stage(folder=tmp_path, search=True) as stage:
        stage.emulator.fault(endpoint="quota", times=0, **fault)
        data = "data:image/png;base64," + _png()
        for source in (picture(tmp_path, "cat.png"), data):
            uploads: list[str] = []
            began = anyio.current_time()
            with pytest.raises(Wan25Error) as refusal:
                await stage.editor.edit(await wish(stage.editor, source), on_upload=uploads.append)
            assert anyio.current_time() - began < 4
            assert (refusal.value.code, refusal.value.charged) == (code, "no")
            is_away = code == "unreachable"  # then no other place for the image would help
            assert ("public https:// link" in refusal.value.fix) is not is_away
            assert ("WAN25_BASE_URL" in refusal.value.fix) is is_away
            assert (uploads, await stage.editor.recent()) == ([], [])
        assert (stage.emulator.submits, len(stage.emulator.files)) == ([], 0)
        stage.emulator.faults.clear()
        wanted = await wish(stage.editor, data)
        if code == "no_image_host":  # remembered for the account
            with pytest.raises(SettingsError):
                await stage.editor.edit(wanted)
        else:
            assert (await stage.editor.edit(wanted)).status == "pending"


async def test_a_slow_search_takes_its_time_from_the_submit(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path, search=True) as stage:
        stage.emulator.fault(endpoint="quota", kind="delay", seconds=2)
        stage.emulator.fault(endpoint="submit", kind="delay", seconds=20)
        wanted = await wish(stage.editor, picture(tmp_path, "cat.png"))
        began = anyio.current_time()
        edit = await stage.editor.edit(wanted)
        assert anyio.current_time() - began < 4
        assert edit.status == "submitting"


async def test_each_account_finds_its_own_file_service(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path, search=True, key=None) as stage:
        other = stage.engine.editor(stage.account_of("another-key"))
        stage.emulator.fault(endpoint="quota", kind="status", code=404, times=1)
        with pytest.raises(SettingsError):
            await stage.editor.edit(await wish(stage.editor, picture(tmp_path, "cat.png")))
        edit = await other.edit(await wish(other, picture(tmp_path, "cat.png")))
        assert edit.status == "pending"
        assert await stage.editor.recent() == []


def _png() -> str:
    body = BytesIO()
    Image.new("RGB", (640, 480)).save(body, "PNG")
    return base64.b64encode(body.getvalue()).decode()


async def test_images_nobody_asks_about_are_saved_all_the_same(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        await stage.editor.edit(request())
        await anyio.sleep(300)
        assert len(list((tmp_path / "out").iterdir())) == 1
        [past] = await stage.editor.recent()
        assert len(past.edit.saved) == 1


async def test_after_a_restart_they_are_saved_by_whoever_comes(tmp_path: Path) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    switches: dict[str, Any] = {"journal": journal, "folder": tmp_path}
    async with open_stage(**switches) as stage:
        edit = await stage.editor.edit(request())
        emulator = stage.emulator
        async with stage.another_editor() as successor:
            await stage.editor.finish()
            await anyio.sleep(300)
            [past] = await successor.recent()
    assert past.edit.task_id == edit.task_id
    assert past.edit.status == "completed"
    assert len(past.edit.saved) == 1
    assert emulator.ledger.charges == 1


async def test_a_link_that_fails_is_reported_and_tried_again(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        stage.emulator.fault(endpoint="result", kind="html", times=1)
        edit = await stage.editor.edit(request())
        edit = await stage.editor.wait(edit, timeout=100)
        assert edit.status == "completed"
        assert edit.saved == ()
        assert edit.image_urls
        assert edit.notes[0].startswith("Not saved yet: ")
        edit = await stage.editor.get(edit)
    assert len(edit.saved) == 1
    assert edit.notes == ()


def _torn() -> dict[str, bytes]:
    """Downloads whose ends look whole."""
    chunk = b"\0\0\0\rIHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", zlib.crc32(chunk[4:]))
    data = b"IDAT" + zlib.compress(bytes(1_000_000))
    huge = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    end = b"\0\0\0\0IEND\xaeB`\x82"
    whole, thumbnail = sample_of("JPEG", 400), sample_of("JPEG", 40)
    return {
        "a header of 60,000 x 60,000 over a kilobyte": header + huge + end,
        "a JPEG cut short behind its thumbnail": b"\xff\xd8\xff\xe1"
        + struct.pack(">H", len(thumbnail) + 2)
        + thumbnail
        + whole[2:300],
        "a PNG with a hole": sample_of("PNG", 400)[:20_000] + end,
    }


def sample_of(kind: str, side: int) -> bytes:
    packed = BytesIO()
    Image.effect_noise((side, side), 60).convert("RGB").save(packed, kind)
    return packed.getvalue()


@pytest.mark.parametrize("torn", _torn().values(), ids=_torn().keys())
async def test_a_download_that_is_no_whole_image_is_not_called_saved_and_is_tried_again(
    torn: bytes, tmp_path: Path
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        stage.emulator.fault(endpoint="result", kind="status", code=200, body=torn, times=3)
        edit = await stage.editor.wait(await stage.editor.edit(request()), timeout=100)
        assert (edit.status, edit.charged, edit.saved) == ("completed", "yes", ())
        assert edit.notes[0].startswith("Not saved yet: ")
        assert names_in(tmp_path / "out") == []
        await anyio.sleep(300)  # nobody asks
        assert len(names_in(tmp_path / "out")) == 1
        edit = await stage.editor.get(edit)
        assert (len(edit.saved), edit.notes) == (1, ())


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_no_step_from_a_local_image_to_a_saved_one_blocks_the_event_loop(
    tmp_path: Path, no_blocking: None
) -> None:
    journal = SqlJournal(tmp_path / "data" / "journal.sqlite3")
    source = await anyio.to_thread.run_sync(picture, tmp_path, "cat.png", (300, 200), "RGBA")
    run = anyio.to_thread.run_sync
    async with open_stage(
        journal=journal,
        folder=tmp_path,
        run=run,
        is_emulator=True,
        speed=30.0,
        run_seconds=45,
    ) as stage:
        with anyio.fail_after(20):
            edit = await stage.editor.edit(await wish(stage.editor, source))
            edit = await stage.editor.wait(edit, timeout=10)
            previews = await stage.editor.previews(edit)
    assert len(edit.saved) == len(previews) == 1
    journal.close()


async def test_asking_twice_saves_once(tmp_path: Path) -> None:
    async with open_stage(folder=tmp_path) as stage:
        edit = await stage.editor.edit(request(n=2))
        done: list[tuple[str, ...]] = []

        async def ask() -> None:
            done.append((await stage.editor.wait(edit, timeout=100)).saved)

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(ask)
    assert len(set(done)) == 1
    assert len(done[0]) == 2
    assert len(list((tmp_path / "out").iterdir())) == 2


async def test_a_repeat_is_answered_within_four_seconds_though_its_images_are_not_saved_yet(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        first = await stage.editor.edit(request())
        stage.emulator.fault(endpoint="result", kind="delay", seconds=20)
        await anyio.sleep(70)
        began = anyio.current_time()
        again = await stage.editor.edit(request())
        assert anyio.current_time() - began <= 4
        assert (again.task_id, again.status, again.saved) == (first.task_id, "completed", ())
        assert again.notes == ("Not saved yet: It is being saved now. Call again to get its path.",)
        await anyio.sleep(30)
        assert len((await stage.editor.get(first)).saved) == 1


def delete(path: str) -> None:
    """On the event loop: a virtual clock runs on while a thread works."""
    Path(path).unlink()


async def test_a_file_that_was_deleted_is_saved_again_and_a_repeat_names_it(
    tmp_path: Path,
) -> None:
    async with open_stage(folder=tmp_path) as stage:
        edit = await stage.editor.wait(await stage.editor.edit(request()), timeout=100)
        [first] = edit.saved
        delete(first)
        again = await stage.editor.edit(request())
        [second] = again.saved
        assert again.deduplicated
        assert Path(second).name in names_in(Path(second).parent)
    assert stage.emulator.ledger.charges == 1


async def test_a_save_that_another_process_died_in_is_taken_over_after_its_lease(
    tmp_path: Path,
) -> None:
    journal = SqlJournal(tmp_path / "journal.sqlite3", run=inline)
    async with open_stage(journal=journal, folder=tmp_path) as stage:
        edit = await stage.editor.edit(request())
        await anyio.sleep(58)  # it ends at 60, and is not looked at before
        assert await journal.acquire_save(
            OWNER, str(edit.task_id), now=T0 + 58.0, lease=LEASE_SECONDS
        )
        edit = await stage.editor.wait(edit, timeout=9)
        assert edit.saved == ()
        assert "Another process is saving it" in edit.notes[0]
        edit = await stage.editor.save(edit)
    assert len(edit.saved) == 1
