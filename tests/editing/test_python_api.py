"""The Python API: what a program gives, gets and is told, over a real socket and on both loops."""

from __future__ import annotations

import base64
import gc
import inspect
import pickle
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import SecretStr

import wan25_mcp
from tests.emulator_lab import Emulator
from tests.programs import environment, served, with_picture
from wan25_mcp import (
    Edit,
    Editor,
    InvalidRequest,
    OutcomeUnknown,
    Refused,
    SettingsError,
    TaskFailed,
    Wan25Error,
    edit,
    open_http,
    sync,
)
from wan25_mcp.editing.python_words import in_python
from wan25_mcp.errors.codes import CODES
from wan25_mcp.keys import kept_key

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.second_backend)])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: the emulator has a socket."""
    return request.param


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of the program, with a picture in it."""
    monkeypatch.chdir(tmp_path)
    return with_picture(tmp_path)


def editor_at(emulator: Emulator, place: Path, **more: str) -> Editor:
    return Editor(output="results", settings=environment(emulator, place, **more))


# --- what a program gives -------------------------------------------------------------------


def opened(path: str) -> Image.Image:
    """A picture that holds no file open."""
    return Image.open(BytesIO(Path(path).read_bytes()))


def _bytes() -> bytes:
    return Path("house.png").read_bytes()


def _hidden() -> str:
    folder = Path(".cache")
    folder.mkdir()
    (folder / ".house").write_bytes(_bytes())
    return ".cache/.house"


def _linked() -> str:
    Path("elsewhere").mkdir()
    Path("elsewhere/real.png").write_bytes(_bytes())
    Path("link.png").symlink_to("elsewhere/real.png")
    return "link.png"


GIVEN: Final[dict[str, Callable[[], Any]]] = {
    "a relative path": lambda: "house.png",
    "an absolute path": lambda: Path("house.png").absolute(),
    "a hidden file": _hidden,
    "a symlink": _linked,
    "a file: URI": lambda: Path("house.png").absolute().as_uri(),
    "a data: URI": lambda: "data:image/png;base64," + base64.b64encode(_bytes()).decode(),
    "bytes": _bytes,
    "a bytearray": lambda: bytearray(_bytes()),
    "a picture": lambda: opened("house.png"),
    "a picture in colours for print": lambda: opened("house.png").convert("CMYK"),
    "a link": lambda: "https://example.com/house.png",
    "a list": lambda: ["house.png", _bytes()],
    "a generator": lambda: (name for name in ["house.png"]),
}


@pytest.mark.parametrize("made", GIVEN.values(), ids=GIVEN.keys())
async def test_an_image_in_any_form_is_edited_and_the_result_is_saved(
    made: Callable[[], Any], place: Path
) -> None:
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            found = await editor.edit(made(), "Make it night")
    assert (found.status, found.charged, found.error) == ("completed", "yes", None)
    [saved] = found.saved
    assert Path(saved).parent == place / "results"
    assert opened(saved).format == "PNG"
    assert emulator.ledger.charges == 1


async def test_a_picture_is_edited_as_its_file_would_be(place: Path) -> None:
    turned = Image.new("RGB", (400, 600), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned.save("turned.jpg", exif=exif)
    with served(check_images=True) as emulator:
        async with editor_at(emulator, place) as editor:
            await editor.edit(opened("turned.jpg"), "Make it night")
    [submit] = emulator.submits
    stored = emulator.files.find(submit.body["image_urls"][0].split("/")[-2])
    assert stored is not None
    assert Image.open(BytesIO(stored.content)).size == (600, 400)


def _closed() -> Image.Image:
    picture = Image.open("house.png")
    picture.close()
    return picture


WRONG_IMAGES: Final[dict[str, tuple[Callable[[], Any], str, str]]] = {
    "a closed picture": (_closed, "image_unreadable", "ValueError"),
    "no pixels": (lambda: Image.new("RGB", (0, 0)), "image_unreadable", "ValueError"),
    "no bytes": (bytes, "image_unusable", "empty"),
    "a folder": (Path, "image_unusable", "folder"),
    "a device": (lambda: "/dev/zero", "image_not_allowed", "ordinary"),
    "a missing file": (lambda: "hose.png", "image_not_found", '"hose.png" does not exist'),
    "nothing": (lambda: " ", "image_not_found", "empty"),
    "three": (lambda: ["house.png"] * 3, "invalid_request", "1 or 2"),
    "none": (list, "invalid_request", "1 or 2"),
    "an open file": (lambda: BytesIO(_bytes()), "invalid_request", "BytesIO"),
    "another type": (lambda: [3], "invalid_request", r"images\[0\]"),
}


@pytest.mark.parametrize(("made", "code", "said"), WRONG_IMAGES.values(), ids=WRONG_IMAGES.keys())
async def test_a_wrong_image_is_explained_and_costs_nothing(
    made: Callable[[], Any], code: str, said: str, place: Path
) -> None:
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            with pytest.raises(InvalidRequest, match=said) as caught:
                await editor.edit(made(), "Make it night")
    assert (caught.value.code, caught.value.charged) == (code, "no")
    assert not emulator.submits


async def test_one_line_is_enough(place: Path) -> None:
    with served() as emulator:
        found = await edit(
            "house.png", prompt="Make it night", n=2, output="out",
            settings=environment(emulator, place),
        )  # fmt: skip
    assert found.charged == "yes"
    assert len(found.saved) == len(found.image_urls) == 2


async def test_the_environment_is_the_default(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served() as emulator:
        for name, value in environment(emulator, place, WAN25_SAVE="off").items():
            monkeypatch.setenv(name, value)
        found = await edit("house.png", "Make it night")
    assert found.status == "completed"
    assert found.saved == ()


async def test_a_key_is_a_text_and_is_sent_to_the_address_that_was_passed(place: Path) -> None:
    with served(key="sk-mine") as emulator:
        async with Editor(
            key="sk-mine", base_url=emulator.base_url, settings={"WAN25_DATA_DIR": str(place)}
        ) as editor:
            assert await editor.credits() == 100
        async with Editor(
            key="sk-other", base_url=emulator.base_url, settings={"WAN25_DATA_DIR": str(place)}
        ) as editor:
            with pytest.raises(Refused) as caught:
                await editor.credits()
    assert caught.value.code == "authentication"
    assert "that was passed" in caught.value.message
    assert "sk-other" not in str(vars(caught.value))


async def test_the_kept_key_is_used_where_the_environment_has_none(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    monkeypatch.setenv("WAN25_DATA_DIR", str(place / "data"))
    with served(key="sk-kept") as emulator:
        monkeypatch.setenv("WAN25_BASE_URL", emulator.base_url)
        kept_key.keep(SecretStr("sk-kept"), emulator.base_url)
        async with Editor() as editor:
            assert await editor.credits() == 100
        async with Editor(key="sk-other") as editor:
            with pytest.raises(Refused):
                await editor.credits()
        async with Editor(settings={"WAN25_BASE_URL": emulator.base_url}) as editor:
            with pytest.raises(SettingsError, match="No API key"):
                await editor.credits()


# --- what a program gets --------------------------------------------------------------------


async def test_an_edit_goes_on_after_wait_false_and_can_be_followed(place: Path) -> None:
    with served(run_seconds=400.0) as emulator:
        async with editor_at(emulator, place) as editor:
            sent = await editor.edit("house.png", "Make it night", wait=False)
            assert sent.status in ("pending", "processing")
            assert sent.task_id in emulator.tasks
            seen = [progress async for progress in editor.follow(sent)]
            assert [one.edit.task_id for one in seen] == [sent.task_id] * len(seen)
            assert len(seen) > 1
            last = seen[-1].edit
            assert (last.status, len(last.saved)) == ("completed", 1)
            assert last == await editor.wait(sent) == await editor.save(str(sent.task_id))
            assert await editor.image(last) == Path(last.saved[0]).read_bytes()  # noqa: ASYNC240
            [past] = await editor.recent()
            assert past.edit == await editor.get(str(sent.task_id))
            assert (await editor.spent(60)).charged == 1.5
            price = await editor.price(2)
    assert (price.credits, price.is_known) == (3.0, True)


async def test_a_wait_that_ends_early_is_no_error(place: Path) -> None:
    with served(speed=1, run_seconds=8.0) as emulator:
        async with editor_at(emulator, place) as editor:
            found = await editor.edit("house.png", "Make it night", timeout=2)
            assert found.status in ("pending", "processing")
            again = await editor.edit("house.png", "Make it night", timeout=0)
            assert (again.task_id, again.deduplicated) == (found.task_id, True)
    assert len(emulator.submits) == 1


async def test_what_the_first_answer_said_is_in_the_last(place: Path) -> None:
    Image.new("RGBA", (300, 300), "red").save("small.png")
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            first = await editor.edit("small.png", "Make it night")
            again = await editor.edit("small.png", "Make it night")
    assert first.notes[0].startswith("Image 1: ")
    assert not first.deduplicated
    assert again.deduplicated
    assert again.saved == first.saved


async def test_an_edit_that_comes_to_nothing_is_raised_with_all_that_is_known(
    place: Path,
) -> None:
    with served(balance=4) as emulator:
        async with editor_at(emulator, place) as editor:
            with pytest.raises(Refused) as refused:
                await editor.edit("house.png", "Make it night", n=4)
            emulator.outcome(fail="content_policy_violation")
            with pytest.raises(TaskFailed) as failed:
                await editor.edit("house.png", "Make it day")
            emulator.fault(endpoint="submit", kind="drop_after")
            with pytest.raises(OutcomeUnknown) as lost:
                await editor.edit("house.png", "Make it dusk", wait=False)
            again = await editor.get(lost.value.edit)
    assert (refused.value.code, refused.value.charged) == ("insufficient_credits", "no")
    assert refused.value.edit.task_id is None
    assert failed.value.edit.task_id in emulator.tasks
    assert (failed.value.charged, failed.value.edit.error) == ("no", failed.value)
    assert (lost.value.charged, lost.value.edit.status) == ("unknown", "unknown")
    assert again.status == "unknown"
    assert f"Task id: {lost.value.edit.task_id}" in lost.value.__notes__
    copied = pickle.loads(pickle.dumps(lost.value))  # noqa: S301  our own
    assert (str(copied), copied.fix) == (str(lost.value), lost.value.fix)


# --- many -----------------------------------------------------------------------------------


async def test_many_edits_come_as_they_are_done_and_one_failure_stops_nothing(
    place: Path,
) -> None:
    wanted: list[Any] = [{"images": "house.png", "prompt": f"Style {n}"} for n in range(5)]
    wanted[1:1] = [
        {"images": "hose.png", "prompt": "A file that is missing"},
        "not a mapping",
        {"images": "house.png", "prompt": "An option that is none", "many": 3},
        {"prompt": "No image"},
    ]
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            done = {one.index: one async for one in editor.edit_many(wanted, limit=2)}
    assert sorted(done) == list(range(len(wanted)))  # type: ignore[type-var]  # no None in it
    failed = [place for place, one in done.items() if one.error]
    assert sorted(failed) == [1, 2, 3, 4]  # type: ignore[type-var]  # as above
    for place_, one in done.items():
        assert (len(one.saved), one.charged) == ((0, "no") if place_ in failed else (1, "yes"))
    assert done[1].error is not None
    assert "house.png" in done[1].error.fix
    assert emulator.ledger.charges == 5


async def test_a_batch_goes_on_where_it_was_and_its_results_are_named_after_the_images(
    place: Path,
) -> None:
    wanted = [{"images": "house.png", "prompt": f"Style {n}"} for n in range(2)]
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            async for one in editor.edit_many(wanted):
                assert "house" in Path(one.saved[0]).name
            # An edit that is a moment old does not count, and then it does.
            for window, charges in ((0, 4), (60, 4)):
                again = [{**request, "duplicate_window": window} for request in wanted]
                async for one in editor.edit_many(again):
                    assert one.deduplicated is (window > 0)
                assert emulator.ledger.charges == charges


async def test_many_edits_wait_for_the_limits_that_have_room_again(place: Path) -> None:
    limits = {"WAN25_CREDIT_LIMIT": "6", "WAN25_MAX_IN_FLIGHT": "2"}
    wanted = [{"images": "house.png", "prompt": f"Style {n}"} for n in range(5)]
    with served() as emulator:
        async with editor_at(emulator, place, **limits) as editor:
            done = [one async for one in editor.edit_many(wanted, limit=5)]
    assert sorted(one.error.code if one.error else "" for one in done) == [""] * 4 + [
        "credit_limit"
    ]
    assert emulator.ledger.charges == 4


async def test_requests_are_taken_as_they_are_needed(place: Path) -> None:
    taken = 0

    def endless() -> Iterator[dict[str, Any]]:
        nonlocal taken
        for taken in range(1, 10_001):
            yield {"images": "https://example.com/house.png", "prompt": f"Style {taken}"}

    with served(balance=1000) as emulator:
        async with editor_at(emulator, place) as editor:
            count = 0
            async for one in editor.edit_many(endless(), limit=4):
                count += 1
                assert one.error is None
                assert taken <= count + 8  # running, and done but not handed over
                if count == 6:
                    break


async def test_requests_may_come_from_an_asynchronous_iterable(place: Path) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            await anyio.sleep(0.01)
            yield {"images": "house.png", "prompt": f"Style {number}"}

    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            done = [one.index async for one in editor.edit_many(requests())]
    assert sorted(map(int, done)) == [0, 1, 2]  # type: ignore[arg-type]  # no None in it


async def test_an_error_of_the_requests_themselves_loses_no_edit(place: Path) -> None:
    def requests() -> Iterator[dict[str, Any]]:
        yield {"images": "house.png", "prompt": "Make it night"}
        raise LookupError("the program's own")

    done: list[Edit] = []
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            stream = editor.edit_many(requests())
            done.append(await anext(stream))
            with pytest.raises(LookupError):
                await anext(stream)
    assert [one.status for one in done] == ["completed"]


@pytest.mark.parametrize("how", ["break", "cancel", "raise"])
async def test_leaving_the_loop_loses_no_id_and_leaves_no_task(place: Path, how: str) -> None:
    wanted = [{"images": "house.png", "prompt": f"Style {n}"} for n in range(50)]
    with served(run_seconds=400.0) as emulator:
        async with editor_at(emulator, place) as editor:
            if how == "cancel":
                with anyio.move_on_after(0.7):
                    async for _ in editor.edit_many(wanted):
                        pass
            elif how == "raise":
                with suppress(KeyError):
                    async for _ in editor.edit_many(wanted):
                        raise KeyError
            else:
                async for _ in editor.edit_many(wanted):
                    break
            gc.collect()
            await anyio.sleep(0.3)  # what was on the wire arrives
            sent = len(emulator.submits)
            assert 3 <= sent <= 12
            listed = {past.edit.task_id for past in await editor.recent(50)}
            assert listed == {submit.task_id for submit in emulator.submits}
            await anyio.sleep(0.5)
            assert len(emulator.submits) == sent
            assert not editor._calls


async def test_images_that_can_be_taken_only_once_wait_for_their_turn_as_well(place: Path) -> None:
    wanted = [{"images": iter(["house.png"]), "prompt": f"Style {n}"} for n in range(3)]
    with served() as emulator:
        async with editor_at(emulator, place, WAN25_MAX_IN_FLIGHT="1") as editor:
            done = [one async for one in editor.edit_many(wanted)]
    assert [one.status for one in done] == ["completed"] * 3


async def test_a_loop_that_was_left_can_go_on(place: Path) -> None:
    wanted = [{"images": "house.png", "prompt": f"Style {n}"} for n in range(4)]
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            stream = editor.edit_many(wanted)
            first = await anext(stream)
            rest = [one async for one in stream]
    assert {first.index, *(one.index for one in rest)} == {0, 1, 2, 3}


# --- what a program is told -----------------------------------------------------------------


async def test_an_editor_that_is_not_open_says_so(place: Path) -> None:
    with served() as emulator:
        editor = editor_at(emulator, place)
        calls: list[Callable[[], Any]] = [
            lambda: editor.edit("house.png", "Make it night"),
            lambda: editor.wait("task"),
            lambda: editor.get("task"),
            editor.recent,
            editor.credits,
            lambda: anext(editor.follow("task")),
            lambda: anext(editor.edit_many([{}])),
        ]
        for _ in range(2):  # before it is opened, and after it was closed
            for call in calls:
                with pytest.raises(InvalidRequest, match="not open"):
                    await call()
            async with editor:
                with pytest.raises(InvalidRequest, match="open already"):
                    await editor.__aenter__()
    assert not emulator.submits


async def test_closing_the_editor_ends_the_calls_of_other_tasks(place: Path) -> None:
    errors: list[Wan25Error] = []
    with served(speed=1, run_seconds=60.0) as emulator:
        editor = editor_at(emulator, place)

        async def call() -> None:
            try:
                await editor.edit("house.png", "Make it night")
            except Wan25Error as error:
                errors.append(error)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks, editor:
                tasks.start_soon(call)
                while not emulator.submits:  # noqa: ASYNC110  another thread makes it
                    await anyio.sleep(0.05)
    [error] = errors
    assert "was closed" in error.message
    assert error.charged == "unknown", "the edit was sent"
    assert len(emulator.submits) == 1


async def test_a_loop_over_a_closed_editor_does_not_end_as_if_all_were_done(place: Path) -> None:
    errors: list[Wan25Error] = []
    with served(speed=1, run_seconds=60.0) as emulator:
        editor = editor_at(emulator, place)

        async def loop() -> None:
            try:
                async for _ in editor.edit_many([{"images": "house.png", "prompt": "Night"}]):
                    raise AssertionError
            except Wan25Error as error:
                errors.append(error)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks, editor:
                tasks.start_soon(loop)
                while not emulator.submits:  # noqa: ASYNC110  another thread makes it
                    await anyio.sleep(0.05)
    [error] = errors
    assert "was closed" in error.message
    assert error.charged == "unknown"


async def test_an_error_of_the_block_is_raised_as_it_is(place: Path) -> None:
    with served() as emulator, pytest.raises(ZeroDivisionError):
        async with editor_at(emulator, place):
            raise ZeroDivisionError


WRONG: Final[list[tuple[str, dict[str, Any]]]] = [
    ("key is of", {"key": 3}),
    ("key is a placeholder", {"key": "${KEY}"}),
    ("No API key", {"key": ""}),
    ("No API key", {"settings": {}}),
    ("base_url is not", {"base_url": "ftp://example.com"}),
    ("output is of", {"output": 7}),
    ("output is not", {"output": "~no-such-user/results"}),
    ("save is of", {"save": "no"}),
    ("emulator is of", {"emulator": 2.5}),
    ("settings is of", {"settings": []}),
    ("WAN25_CREDIT_LIMIT is not", {"settings": {"WAN25_CREDIT_LIMIT": "many"}}),
    ("not text", {"settings": {"WAN25_CREDIT_LIMIT": 10}}),
    ("key cannot be combined", {"key": "sk", "settings": wan25_mcp.Settings()}),
    ("not an httpx2", {"http": "client"}),
    ("keeps idle", {"http": httpx2.AsyncClient()}),
    ("keeps idle", {"http": httpx2.AsyncClient(transport=httpx2.AsyncHTTPTransport())}),
]


@pytest.mark.parametrize(("said", "options"), WRONG, ids=[f"{s}, {', '.join(o)}" for s, o in WRONG])
async def test_a_wrong_argument_of_the_editor_is_named(
    said: str, options: dict[str, Any], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAN25_DATA_DIR", str(place))
    with pytest.raises(SettingsError, match=said) as caught:
        await edit("house.png", "Make it night", **options)
    assert caught.value.charged == "no"
    assert caught.value.fix


@pytest.mark.parametrize("how", ["a file is there", "a root directory", "the home directory"])
async def test_results_that_cannot_be_saved_are_refused_before_anything_is_sent(
    how: str, place: Path
) -> None:
    (place / "file").touch()
    output = {"a file is there": place / "file" / "out", "a root directory": Path("/")}
    with served() as emulator:
        options = environment(emulator, place)
        async with Editor(output=output.get(how, Path.home()), settings=options) as editor:
            with pytest.raises(SettingsError, match=r"cannot be saved") as caught:
                await editor.edit("house.png", "Make it night")
            [many] = [found async for found in editor.edit_many([{"images": "house.png"}])]
            assert await editor.recent() == []
        kept = await edit("house.png", "Make it day", output="file", save=False, settings=options)
    assert caught.value.charged == many.charged == "no"
    assert "output=" in caught.value.fix
    assert "--" not in caught.value.fix
    assert kept.status == "completed"


async def test_output_is_a_folder_also_where_its_name_is_that_of_an_image(place: Path) -> None:
    with served() as emulator:
        options = environment(emulator, place)
        with pytest.raises(SettingsError) as caught:
            await edit("house.png", "Make it night", output="z.png", settings=options)
        assert (caught.value.charged, (place / "z.png").exists()) == ("no", False)
        (place / "z.png").mkdir()
        found = await edit("house.png", "Make it night", output="z.png", settings=options)
    assert Path(found.saved[0]).parent == place / "z.png"


@pytest.mark.parametrize("n", ["2", 2.0, True, None])
async def test_n_is_a_whole_number(n: Any, place: Path) -> None:
    with served() as emulator, pytest.raises(InvalidRequest, match="n must be") as caught:
        await edit("house.png", "Make it night", n=n, settings=environment(emulator, place))
    assert caught.value.charged == "no"


async def test_a_misspelt_name_in_a_request_is_answered_with_the_nearest(place: Path) -> None:
    request = {"images": "house.png", "prompt": "Make it night", "force_nwe": True}
    with served() as emulator:
        async with editor_at(emulator, place) as editor:
            [found] = [found async for found in editor.edit_many([request])]
    assert isinstance(found.error, InvalidRequest)
    assert "force_nwe; force_new was" in found.error.message


ODD: Final = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=30), st.binary(),
    st.lists(st.one_of(st.text(), st.none(), st.binary()), max_size=3),
    st.dictionaries(st.text(), st.text(), max_size=2), st.just(object()), st.just(Path("hose.png")),
    st.sampled_from(["~no-such-user/x", "C:\\x.png", "/mnt/data/x", "a.png\0", "www.x.com/a"]),
)  # fmt: skip
OPTIONS: Final = st.dictionaries(
    st.sampled_from(
        ["n", "model", "callback_url", "force_new", "timeout", "wait", "duplicate_window"]
    ),
    ODD,
    min_size=1,
    max_size=3,
)


def test_whatever_is_wrong_raises_an_error_of_ours_and_sends_nothing(place: Path) -> None:
    posted: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            posted.append(request)
        return httpx2.Response(404)

    async def call(images: Any, prompt: Any, options: dict[str, Any], other: Any) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: editor.edit(images, prompt, wait=False, n=9),
            lambda: editor.edit("house.png", "Make it night", **{**options, "n": 9}),
            lambda: anext(aiter(editor.edit_many([{**options, "images": images, "x": other}]))),
            lambda: editor.wait(other, timeout=other),
            lambda: editor.image(other, other),
            lambda: anext(editor.follow(other)),
            lambda: editor.recent(limit=other),
            lambda: editor.price(other, other),
            lambda: editor.spent(other),
            lambda: anext(aiter(editor.edit_many(other, limit=other))),
        ]
        for each in calls:
            with suppress(Wan25Error, StopAsyncIteration):
                await each()

    @given(images=ODD, prompt=ODD, options=OPTIONS, other=ODD)
    def all_of_it(images: Any, prompt: Any, options: dict[str, Any], other: Any) -> None:
        portal.call(call, images, prompt, options, other)

    editor = Editor(
        key="sk",
        base_url="http://127.0.0.1:9",
        http=httpx2.AsyncClient(transport=httpx2.MockTransport(answer)),
        settings={"WAN25_DATA_DIR": str(place), "WAN25_FILES_URL": "http://127.0.0.1:9"},
    )
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(editor):
        all_of_it()
    assert not posted


def test_no_error_speaks_to_a_program_as_to_an_assistant() -> None:
    for row in CODES.values():
        text = in_python(f"{row.sentence}. {row.fix}")
        for word in ("edit_image", "get_task", "wait_for_task", "server", "force_new=true", "--"):
            assert word not in text.replace("task_id", ""), text


# --- an HTTP client of the program's own ------------------------------------------------------


async def test_a_client_that_was_passed_is_used_for_the_provider_and_stays_open(
    place: Path,
) -> None:
    seen: list[str] = []

    async def note(request: httpx2.Request) -> None:
        seen.append(f"{request.method} {request.url.path}")

    with served() as emulator:
        async with open_http() as http:
            http.event_hooks = {"request": [note]}
            found = await edit(
                "house.png", "Make it night", http=http, settings=environment(emulator, place)
            )
            assert not http.is_closed
    assert found.charged == "yes"
    assert "POST /apiv1/v1/images/generations" in seen
    assert "POST /api/v1/files/upload/stream" in seen
    assert f"GET /apiv1/v1/tasks/{found.task_id}" in seen


@pytest.mark.parametrize(
    ("failure", "charged"),
    [(httpx2.ConnectError("no"), "no"), (httpx2.ReadTimeout("late"), "unknown")],
)
async def test_a_client_in_memory_counts_as_sent_only_what_was(
    failure: Exception, charged: str, place: Path
) -> None:
    sent: list[bytes] = []

    def fail(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            return httpx2.Response(404)
        sent.append(request.content)
        raise failure

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(fail)) as http:
        options: dict[str, Any] = {"key": "sk", "base_url": "http://127.0.0.1:9", "http": http}
        own = Editor(**options, settings={"WAN25_DATA_DIR": str(place)})
        async with own as editor:
            with suppress(OutcomeUnknown):  # what was not sent is sent again for a while
                await editor.edit("https://example.com/house.png", "Make it night", timeout=0.5)
        async with own as editor:
            [past] = await editor.recent()
    assert past.edit.charged == charged
    assert sent


# --- the face ---------------------------------------------------------------------------------


def _shown(method: Any) -> list[inspect.Parameter]:
    """The parameters of a function, but for `self`."""
    return [each for each in inspect.signature(method).parameters.values() if each.name != "self"]


def test_every_argument_is_shown_with_its_type_and_default_and_is_described() -> None:
    of_edit, of_editor = _shown(Editor.edit), _shown(Editor)
    assert _shown(edit) == of_edit + of_editor
    page = Path(str(wan25_mcp.__file__)).parent.parent / "docs" / "python.md"
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.S | re.M)
    named = re.findall(r"`(\w+)[^`]*`", prose)
    for text, wanted in ((edit.__doc__, of_edit + of_editor), (Editor.edit.__doc__, of_edit)):
        for each in wanted:
            assert each.annotation is not each.empty
            assert each.kind is not each.VAR_KEYWORD
            assert f"\n{each.name}: " in inspect.cleandoc(text or "").replace("    ", "")
            assert each.name in named


def test_the_api_without_await_takes_the_same_arguments() -> None:
    assert _shown(sync.edit) == _shown(edit)
    assert sync.edit.__doc__ == edit.__doc__
    assert _shown(sync.Editor) == _shown(Editor)
    methods = [name for name in vars(Editor) if not name.startswith("_") and name != "edit_many"]
    for name in methods:
        assert _shown(getattr(sync.Editor, name)) == _shown(getattr(Editor, name)), name
    ours, theirs = _shown(sync.Editor.edit_many), _shown(Editor.edit_many)
    assert [(each.name, each.kind, each.default) for each in ours] == [
        (each.name, each.kind, each.default) for each in theirs
    ]  # it takes no asynchronous iterables


def test_the_package_lists_what_it_has() -> None:
    assert dir(wan25_mcp) == sorted([*wan25_mcp.__all__, "__version__"])
    for name in wan25_mcp.__all__:
        assert getattr(wan25_mcp, name) is not None
    assert wan25_mcp.__version__[0].isdigit()
    # What a type checker sees is written out.
    source = Path(str(wan25_mcp.__file__)).read_text(encoding="utf-8")
    shown = re.findall(r"^    from wan25_mcp.(\S+) import (\w+) as \2$", source, re.MULTILINE)
    assert shown == [
        (module, name) for module, names in wan25_mcp._PLACES.items() for name in names.split()
    ]
    page = Path(str(wan25_mcp.__file__)).parent.parent / "docs" / "python.md"
    words = set(re.findall(r"\w+", page.read_text(encoding="utf-8")))
    assert set(wan25_mcp.__all__) <= words
    with pytest.raises(AttributeError):
        _ = wan25_mcp.nothing  # type: ignore[attr-defined]  # on purpose
