"""Local images: read from the allowed folders and from nowhere else, whatever lies there."""

from __future__ import annotations

import hashlib
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.systems import IS_ROOT, linux
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs import open_safely, read
from wan25_mcp.inputs.open_safely import Replaced, open_real
from wan25_mcp.inputs.read import (
    MAX_FILE_BYTES,
    Picture,
    default_input_dirs,
    find_file,
    read_source,
)

CODES = (
    "image_not_found",
    "image_not_allowed",
    "image_unreadable",
    "image_unusable",
    "image_on_another_machine",
)
SECRET = b"secret"
INSIDE = b"inside"


@dataclass(frozen=True)
class Place:
    """An allowed folder, and one that is not."""

    allowed: Path
    outside: Path

    def read(self, source: str | Path) -> bytes:
        return read_source(str(source), [self.allowed]).content

    def refusal(self, source: str | Path) -> InvalidRequest:
        with pytest.raises(InvalidRequest) as refusal:
            self.read(source)
        with pytest.raises(InvalidRequest) as unread:  # judged alike where only its hash is wanted
            find_file(str(source), [self.allowed], lambda _beginning, _file: 1)
        assert unread.value.message == refusal.value.message
        assert refusal.value.charged == "no"
        assert refusal.value.fix.endswith("Nothing was sent or charged.")
        return refusal.value


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Place:
    base = tmp_path_factory.mktemp("images")
    place = Place(base / "allowed", base / "outside")
    for folder in (place.allowed / "sub", place.allowed / ".hidden", place.outside / "sub"):
        folder.mkdir(parents=True)
    for name in ("cat.png", "sub/cat.png", "odd name é\n猫.png", ".hidden/cat.png", ".dot.png"):
        (place.allowed / name).write_bytes(INSIDE)
    for name in ("secret", "cat.png", "sub/secret"):
        (place.outside / name).write_bytes(SECRET)
    (place.outside.parent / "allowed-not").mkdir()
    (place.outside.parent / "allowed-not" / "cat.png").write_bytes(SECRET)
    links = {
        "out": place.outside,
        "out.png": place.outside / "secret",
        "out-absent.png": place.outside / "absent",
        "up": Path(".."),
        "in.png": Path("sub/cat.png"),
        "in": Path("sub"),
        "to-hidden": Path(".hidden"),
        "loop": Path("loop"),
        "root": Path("/proc/self/root"),
        "dangling.png": Path("absent.png"),
    }
    for name, target in links.items():
        (place.allowed / name).symlink_to(target)
    return place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path / "allowed", tmp_path / "outside")
    found.allowed.mkdir()
    found.outside.mkdir()
    return found


@pytest.mark.parametrize(
    "name",
    ["cat.png", "sub/cat.png", "in.png", "in/cat.png", "odd name é\n猫.png", "sub/../cat.png"],
)
def test_a_file_in_an_allowed_folder_is_read(built: Place, name: str) -> None:
    assert built.read(built.allowed / name) == INSIDE
    assert built.read((built.allowed / name).as_uri()) == INSIDE


def test_a_picture_carries_its_own_name_and_the_hash_of_its_content(built: Place) -> None:
    picture = read_source(str(built.allowed / "odd name é\n猫.png"), [built.allowed])
    assert picture.name == "odd name é?猫.png"
    assert picture.sha256 == hashlib.sha256(INSIDE).hexdigest()


def test_a_long_name_is_shortened_for_people(place: Place) -> None:
    name = 100 * "a" + "-the end.png"
    (place.allowed / name).write_bytes(INSIDE)
    assert read_source(str(place.allowed / name), [place.allowed]).name == (
        40 * "a" + "…aaa-the end.png"
    )


def test_a_data_uri_needs_no_folder() -> None:
    picture = read_source("data:,inside", [])
    assert (picture.content, picture.name) == (INSIDE, "data URI")


@pytest.mark.parametrize(
    "name",
    [
        "../outside/secret",
        "../outside/absent",
        "../allowed-not/cat.png",
        "out/secret",
        "out/absent",
        "out.png",
        "out-absent.png",
        "out/sub/secret/deeper",
        "root/etc/passwd",
        "root/etc/absent",
        "up/outside/secret",
        "up/outside/absent",
        "..",
        "out",
    ],
)
def test_nothing_outside_is_read_and_no_answer_reports_whether_it_exists(
    built: Place, name: str
) -> None:
    refusal = built.refusal(f"{built.allowed}/{name}")
    shown = name.rpartition("/")[2] if name != ".." else built.allowed.parent.name
    assert refusal.code == "image_not_allowed"
    assert refusal.message == f'The image "{shown}" is not in a folder that this server may read.'
    assert refusal.fix == (
        f"Copy it into one of these: {built.allowed}. Or add its folder to WAN25_INPUT_DIRS, or "
        "give a public https:// link. Nothing was sent or charged."
    )


@pytest.mark.parametrize(
    "source",
    [
        "/etc/passwd",
        "/etc/absent",
        "/dev/zero",
        "/dev/watchdog",
        "/dev/tty",
        "/proc/self/environ",
        "/proc/self/mem",
        "/proc/1/root/etc/passwd",
        "/sys/kernel/notes",
        "/",
        "file:///etc/passwd",
        "~/.ssh/id_rsa",
        "/dev/fd/0",
    ],
)
def test_no_path_elsewhere_is_even_touched(built: Place, source: str) -> None:
    assert built.refusal(source).code == "image_not_allowed"


def test_a_way_around_through_another_process_or_folder_is_not_followed(built: Place) -> None:
    """It would end inside, and say on the way that what it passed exists."""
    for way in ("/proc/self/root", "/proc/self/cwd/..", f"{built.outside}/../"):
        source = way + str(built.allowed / "cat.png")
        assert built.refusal(source).code == "image_not_allowed"


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("absent.png", "image_not_found", "does not exist"),
        ("absent/cat.png", "image_not_found", "does not exist"),
        ("cat.png/deeper", "image_not_found", "does not exist"),
        ("dangling.png", "image_not_found", "does not exist"),
        (300 * "a", "image_not_found", "does not exist"),
        (100 * "sub/../sub/" + 2000 * "a/" + "b", "image_not_found", "does not exist"),
        ("loop", "image_unreadable", "cannot be read (too many levels of symbolic links)"),
        ("sub", "image_unusable", "is a folder"),
        (".hidden/cat.png", "image_not_allowed",
         "is hidden or in a hidden folder. Hidden files are never read"),
        ("to-hidden/cat.png", "image_not_allowed",
         "is hidden or in a hidden folder. Hidden files are never read"),
        (".hidden/absent.png", "image_not_allowed",
         "is hidden or in a hidden folder. Hidden files are never read"),
        (".dot.png", "image_not_allowed",
         "is hidden or in a hidden folder. Hidden files are never read"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_what_cannot_be_read_inside_is_refused_with_the_reason(
    built: Place, name: str, code: str, why: str
) -> None:
    refusal = built.refusal(built.allowed / name)
    assert refusal.code == code
    assert refusal.message.endswith(f'" {why}.')


def test_a_hidden_folder_that_the_operator_names_is_read(built: Place) -> None:
    hidden = built.allowed / ".hidden"
    assert read_source(str(hidden / "cat.png"), [hidden]).content == INSIDE


def test_a_folder_may_be_named_through_a_symlink(built: Place) -> None:
    alias = built.allowed / "in"
    assert read_source(str(alias / "cat.png"), [alias]).content == INSIDE
    assert read_source(str(built.allowed / "sub" / "cat.png"), [alias]).content == INSIDE


def test_a_hard_link_in_a_folder_is_a_file_in_that_folder(place: Place) -> None:
    (place.outside / "photo").write_bytes(INSIDE)
    (place.allowed / "photo.png").hardlink_to(place.outside / "photo")
    assert place.read(place.allowed / "photo.png") == INSIDE


def test_without_folders_the_answer_says_how_to_allow_some() -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_source("/etc/passwd", [])
    assert refusal.value.code == "image_not_allowed"
    assert refusal.value.message == "This server does not read local files."
    assert refusal.value.fix.startswith("Set WAN25_INPUT_DIRS")
    assert refusal.value.fix.endswith("Nothing was sent or charged.")


def test_folders_that_do_not_exist_are_passed_over(built: Place, tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    source = str(built.allowed / "cat.png")
    assert read_source(source, [absent, built.allowed]).content == INSIDE
    with pytest.raises(InvalidRequest) as refusal:
        read_source(source, [absent, built.allowed / "cat.png"])
    assert "a folder it may read (none exists)" in refusal.value.fix


# --- what is not a file ---------------------------------------------------------------------


@linux
def test_a_fifo_is_refused_without_its_writer_noticing(place: Place) -> None:
    fifo = place.allowed / "fifo.png"
    os.mkfifo(fifo)
    noticed = threading.Event()

    def write() -> None:
        descriptor = os.open(fifo, os.O_WRONLY)  # waits for a reader
        noticed.set()
        os.close(descriptor)

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    refusal = place.refusal(fifo)
    assert (refusal.code, refusal.message) == (
        "image_not_allowed",
        'The image "fifo.png" is not an ordinary file.',
    )
    assert not noticed.wait(0.05)
    os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))  # now let it go
    writer.join(5)


@linux
def test_a_socket_is_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.allowed)  # a socket's path has 108 bytes at most
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket.png")
        assert place.refusal(place.allowed / "socket.png").code == "image_not_allowed"


@linux
@pytest.mark.skipif(not IS_ROOT, reason="only root may make a device")
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK])
def test_a_device_is_refused(place: Place, kind: int) -> None:
    device = place.allowed / "device.png"
    try:
        os.mknod(device, kind | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("not even root may make a device here")
    assert place.refusal(device).message == 'The image "device.png" is not an ordinary file.'


@linux
@pytest.mark.parametrize("source", ["/proc/self/status", "/sys/kernel/notes", "/proc/self/mem"])
def test_the_kernels_own_files_are_refused_even_where_everything_is_allowed(source: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read_source(source, [Path("/")])
    assert refusal.value.code == "image_not_allowed"


@linux
def test_a_deleted_file_that_somebody_holds_is_gone(place: Place) -> None:
    picture = place.allowed / "cat.png"
    picture.write_bytes(INSIDE)
    with picture.open("rb") as held:
        picture.unlink()
        (place.allowed / "held.png").symlink_to(f"/proc/self/fd/{held.fileno()}")
        assert place.refusal(place.allowed / "held.png").code == "image_not_found"


@linux
@pytest.mark.skipif(IS_ROOT, reason="root may read everything")
def test_a_file_without_permission_is_said_to_be_so(place: Place) -> None:
    picture = place.allowed / "cat.png"
    picture.touch(0o000)
    refusal = place.refusal(picture)
    assert refusal.code == "image_unreadable"
    assert "permission denied" in refusal.message


@pytest.mark.parametrize(
    ("size", "told"), [(MAX_FILE_BYTES + 1, "100.1"), (4_321_000_000, "4321.0")]
)
def test_a_file_that_is_too_large_is_refused_unread(place: Place, size: int, told: str) -> None:
    picture = place.allowed / "cat.png"
    with picture.open("wb") as file:
        file.truncate(size)  # sparse
    refusal = place.refusal(picture)
    assert (refusal.code, refusal.message) == (
        "image_unusable",
        f'The image "cat.png" is {told} MB; the limit is 100 MB.',
    )
    assert "at most 5000 pixels" in refusal.fix
    assert refusal.fix.endswith("Nothing was sent or charged.")


def test_what_is_found_in_pieces_is_what_is_read(place: Place) -> None:
    content = INSIDE * 500_000
    (place.allowed / "cat.png").write_bytes(content)
    source = str(place.allowed / "cat.png")
    seen: list[tuple[bytes, bytes]] = []

    def check(beginning: Picture, file: BinaryIO) -> int:
        seen.append((beginning.content, file.read()))
        return 7

    found = find_file(source, [place.allowed], check)
    picture = found.read()
    assert seen == [(content[:1024], content)]
    assert picture.content == content
    assert (found.name, found.sha256, found.pixels) == (picture.name, picture.sha256, 7)


def test_a_file_that_grows_while_it_is_read_is_not_used(place: Place) -> None:
    picture = place.allowed / "cat.png"
    picture.write_bytes(INSIDE)
    with open_real(str(picture)) as found:
        picture.write_bytes(INSIDE + b" and more")
        for reading in (read._content, read._sha256):
            found.file.seek(0)
            with pytest.raises(InvalidRequest, match="still being written"):
                reading(found, str(picture))


def test_what_is_read_is_what_was_opened(place: Place) -> None:
    picture = place.allowed / "cat.png"
    picture.write_bytes(INSIDE)
    (place.outside / "other").write_bytes(SECRET)
    with open_real(str(picture)) as found:
        (place.outside / "other").replace(picture)
        assert found.file.read() == INSIDE


def test_a_symlink_that_took_the_place_of_a_resolved_path_is_not_followed(place: Place) -> None:
    (place.outside / "cat.png").write_bytes(SECRET)
    (place.allowed / "cat.png").symlink_to(place.outside / "cat.png")
    (place.allowed / "folder").symlink_to(place.outside)
    with pytest.raises(Replaced), open_real(str(place.allowed / "cat.png")):
        pass
    with open_real(str(place.allowed / "folder" / "cat.png")) as found:
        assert found.path == str(place.outside / "cat.png")  # which the second check refuses


def test_where_the_system_does_not_tell_it_an_open_file_is_looked_up_again(place: Place) -> None:
    (place.outside / "cat.png").write_bytes(SECRET)
    (place.allowed / "cat.png").write_bytes(INSIDE)
    (place.allowed / "folder").symlink_to(place.outside)
    with (place.outside / "cat.png").open("rb") as file:
        swapped = str(place.allowed / "folder" / "cat.png")
        found = open_safely._path_again(file.fileno(), swapped)
        assert found == str(place.outside / "cat.png")
        with pytest.raises(Replaced):
            open_safely._path_again(file.fileno(), str(place.allowed / "cat.png"))


@linux
def test_no_descriptor_is_left_open(built: Place) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("cat.png", "sub", "absent", "out.png", ".dot.png"):
        with suppress(InvalidRequest):
            built.read(built.allowed / name)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


# --- between check and read -----------------------------------------------------------------


@pytest.fixture
def swapping(place: Place) -> Iterator[Place]:
    """A picture and a folder that turn into symlinks to the outside and back, all the time."""
    inside, outside = place.allowed / "real", place.outside / "pictures"
    for folder, content in ((inside, INSIDE), (outside, SECRET)):
        folder.mkdir()
        (folder / "cat.png").write_bytes(content)
    stop = threading.Event()

    def swap() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            new = place.allowed / "new"
            new.symlink_to(inside if turn % 2 else outside)
            new.replace(place.allowed / "folder")
            if turn % 2:
                new.write_bytes(INSIDE)
            else:
                new.symlink_to(outside / "cat.png")
            new.replace(place.allowed / "cat.png")

    thread = threading.Thread(target=swap)
    thread.start()
    yield place
    stop.set()
    thread.join()


def test_swapping_a_symlink_between_check_and_read_never_reads_outside(swapping: Place) -> None:
    ends = dict.fromkeys(("read", "image_not_allowed", "image_unreadable"), 0)
    for _ in range(4000):
        for name in ("cat.png", "folder/cat.png"):
            try:
                assert swapping.read(swapping.allowed / name) == INSIDE
                ends["read"] += 1
            except InvalidRequest as refusal:
                if refusal.code != "image_not_found":  # before the first swap
                    ends[refusal.code] += 1
    # The third is a symlink that came between the two checks: its chance is small.
    assert min(ends["read"], ends["image_not_allowed"]) > 50, ends


# --- any path -------------------------------------------------------------------------------

PIECES = st.sampled_from(
    ["..", ".", "", "/", "//", "cat.png", "sub", "in", "in.png", "out", "out.png", "up", "loop",
     "root", "secret", "absent", "outside", "allowed", ".hidden", "to-hidden", "%2e%2e", "%2F",
     "file://", "file:", "localhost", "~", "proc/self/root", "proc/self/cwd", "\0", "é", "\ud800",
     "a" * 300, " ", "\\", "*", "$HOME", "(deleted)"]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=5), max_size=8), st.booleans(), st.booleans())
def test_no_path_reads_anything_outside_or_raises_anything_else(
    built: Place, pieces: list[str], from_allowed: bool, slashes: bool
) -> None:
    source = ("/" if slashes else "").join(pieces)
    if from_allowed:
        source = f"{built.allowed}/{source}"
    refusal = None
    try:
        assert built.read(source) == INSIDE
    except InvalidRequest as error:
        refusal = error
    if refusal is not None:
        assert refusal.code in CODES
        refusal.message.encode()
        assert str(built.outside) not in refusal.message


# --- where people keep images ---------------------------------------------------------------


@linux
def test_the_usual_folders_are_allowed_and_never_the_home_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux a folder that is switched off is configured as the home directory."""
    for name in list(os.environ):
        if name.startswith("XDG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DESKTOP_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_DOCUMENTS_DIR", "/")
    output = tmp_path / "Pictures" / "wan25"
    assert default_input_dirs(output) == (tmp_path / "Pictures", tmp_path / "Downloads", output)
    assert default_input_dirs(None) == (tmp_path / "Pictures", tmp_path / "Downloads")


# --- what was probably meant ------------------------------------------------------------------


def refusal_of(source: str, *allowed: Path) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        read_source(source, allowed)
    return refusal.value


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("cat.png", "cta.png"),
        ("cat.png", "cat.jpg"),
        ("IMG_0042.HEIC", "img_0042.heic"),
        ("Screenshot 3.15.07\u202fPM.png", "Screenshot 3.15.07 PM.png"),
        ("über.png", "uber.png"),
    ],
)
def test_a_path_with_a_typo_names_the_nearest_image(name: str, asked: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "holiday.png").write_bytes(b"x")
    refusal = refusal_of(str(tmp_path / asked), tmp_path)
    assert refusal.code == "image_not_found"
    assert f'Did you mean "{name}"' in refusal.fix


def test_only_images_that_may_be_read_are_named(tmp_path: Path) -> None:
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    (allowed / "folder.png").mkdir(parents=True)
    other.mkdir()
    (other / "cat.png").write_bytes(b"x")
    (allowed / "caat.png").symlink_to(other / "cat.png")
    (allowed / "cats").symlink_to(other)
    for name in (".cat.png", "cat.txt", "cat\u202e.png", "c\nat.png"):
        (allowed / name).write_bytes(b"x")
    for name in ("cat.png", "folders.png", "cat.tx", ".cat.pn"):
        assert "Did you mean" not in refusal_of(str(allowed / name), allowed).fix
    for asked in (allowed / "cats" / "cta.png", other / "cta.png", allowed / ".." / "other" / "ca"):
        refusal = refusal_of(str(asked), allowed)
        assert (refusal.code, "cat.png" in refusal.fix) == ("image_not_allowed", False)
    (allowed / "caat.png").unlink()
    (allowed / "caat.png").write_bytes(b"x")
    assert 'Did you mean "caat.png"' in refusal_of(str(allowed / "cat.png"), allowed).fix


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize(
    "source",
    [
        "/mnt/data/cat.png",
        "/mnt/user-data/uploads/cat.png",
        "file:///mnt/data/cat.png",
        "sandbox:/mnt/data/cat.png",
        "C:\\Users\\Ann\\cat.png",
    ],
)
def test_a_file_of_the_assistants_own_machine_is_said_to_be_there(
    source: str, allowed: bool, tmp_path: Path
) -> None:
    refusal = refusal_of(source, *([tmp_path] if allowed else []))
    assert (refusal.code, refusal.charged) == ("image_on_another_machine", "no")
    assert "https://" in refusal.fix


def test_a_link_without_its_scheme_is_recognised_where_no_files_are_read() -> None:
    assert "Did you mean https://example.com" in refusal_of("example.com/cat.png").fix
    assert "WAN25_INPUT_DIRS" in refusal_of("cat.png").fix


def test_such_a_folder_that_the_operator_allowed_is_read_as_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wan25_mcp.inputs.misspelt._SANDBOXES", (f"{tmp_path}/",))
    (tmp_path / "cat.png").write_bytes(b"x")
    assert read_source(str(tmp_path / "cat.png"), [tmp_path]).content == b"x"
    assert refusal_of(str(tmp_path / "cta.png"), tmp_path).code == "image_not_found"
    assert refusal_of(str(tmp_path / "b.png"), tmp_path / "a").code == "image_on_another_machine"
