"""Which words are images and which is the prompt; a misspelt file name never becomes one."""

from __future__ import annotations

from pathlib import Path

import pytest

from wan25_mcp.cli import given
from wan25_mcp.errors import InvalidRequest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with images in it."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "house.jpg",
        "house-2.jpg",
        "house-10.jpg",
        ".hidden.jpg",
        "odd name",
        "notes.txt",
    ):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


LINK = "https://a.example/b"


@pytest.mark.parametrize(
    ("words", "images", "prompt"),
    [
        (["house.jpg", "Make it night"], ["house.jpg"], "Make it night"),
        (["house.jpg", "night"], ["house.jpg"], "night"),
        (["house.jpg", "house-2.jpg", "Put them together"], ["house.jpg", "house-2.jpg"],
         "Put them together"),
        ([LINK, "day/night, half each"], [LINK], "day/night, half each"),
        (["data:,x", "file:///a.png", "x"], ["data:,x", "file:///a.png"], "x"),
        (["-", "x"], ["-"], "x"),
        (["odd name", "Write: see a.example.com"], ["odd name"], "Write: see a.example.com"),
    ],
)  # fmt: skip
def test_the_last_argument_is_the_prompt(
    words: list[str], images: list[str], prompt: str, folder: Path
) -> None:
    found = given.read(words, None)
    assert found.prompt == prompt
    assert list(found.images) == [str(folder / i) if (folder / i).exists() else i for i in images]


@pytest.mark.parametrize(
    "last",
    [
        "hose.jpg", "My House (1).JPEG", "photos/night", "./night", "~/night", "C:\\night", "*.jpg",
        "no*.png", "www.example.com/cat", "house.jpg", "odd name", "empty", LINK, "-", "data:,x",
        "/home/me/My pictures/night", "sandbox:/mnt/data/x",
    ],
)  # fmt: skip
def test_what_is_or_may_be_meant_as_an_image_is_never_the_prompt(last: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        given.read(["house.jpg", last], None)
    assert "no prompt" in caught.value.message.lower()
    assert "--prompt" in caught.value.fix


@pytest.mark.parametrize(("last", "kind"), [("empty", "folder"), ("odd name", "file")])
def test_a_prompt_that_is_also_a_name_is_told_apart(last: str, kind: str, folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=f'"{last}" is a {kind}'):
        given.read(["house.jpg", last], None)
    assert given.read(["house.jpg"], last).prompt == last


@pytest.mark.parametrize("words", [["house.jpg", "Make it night"], ["house.jpg", "night"],
                                   ["Make it night?"]])  # fmt: skip
def test_a_prompt_that_is_given_twice_is_no_missing_image(words: list[str], folder: Path) -> None:
    for each in (False, True):
        with pytest.raises(InvalidRequest, match="--prompt as well") as caught:
            given.read(words, "Other", each=each)
        assert caught.value.code == "invalid_request"


def test_without_any_argument_both_parts_are_asked_for(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match="image") as caught:
        given.read([], None)
    assert "--help" in caught.value.fix


def test_a_misspelt_file_is_answered_with_the_nearest(folder: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"hose\.jpg") as caught:
        given.read(["hose.jpg"], None)
    assert 'Did you mean "house.jpg"?' in caught.value.fix
    assert caught.value.code == "image_not_found"


def test_with_the_option_every_argument_is_an_image(folder: Path) -> None:
    found = given.read(["house.jpg", "hose.jpg"], "night")
    assert found.images == (str(folder / "house.jpg"), str(folder / "hose.jpg"))


@pytest.mark.parametrize(("text", "prompt"), [("@p.txt", "Make it night"), ("@@home", "@home"),
                                              ("@", "@"), ("a @p.txt", "a @p.txt")])  # fmt: skip
def test_a_file_may_hold_the_prompt(text: str, prompt: str, folder: Path) -> None:
    (folder / "p.txt").write_bytes("\ufeffMake it night\r\n".encode())
    assert given.read(["house.jpg"], text).prompt == prompt
    assert given.read(["house.jpg", text], None).prompt == prompt


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_without_a_prompt_is_said(content: bytes | None, folder: Path) -> None:
    if content is not None:
        (folder / "p.txt").write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"p\.txt"):
        given.read(["house.jpg"], "@p.txt")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "No image"),
        (["house.jpg"] * 3, "--each"),
        (["*.jpg"], "--each"),
        (["empty"], "--each"),
        (["no*.jpg"], "No file matches"),
        (["-", "-"], "twice"),
    ],
)
def test_a_wrong_number_of_images_is_said_with_what_to_do(
    words: list[str], told: str, folder: Path
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        given.read(words, "x")
    assert told in caught.value.message + caught.value.fix


@pytest.mark.parametrize("words", [["*.jpg"], ["."], ["house*.jpg", "house.jpg", "./house.jpg"]])
def test_with_each_patterns_and_folders_stand_for_their_images(
    words: list[str], folder: Path
) -> None:
    found = given.read(words, "x", each=True)
    names = ["house.jpg", "house-2.jpg", "house-10.jpg"]
    assert sorted(found.images) == sorted(str(folder / name) for name in names)
    assert found.images.index(str(folder / names[1])) < found.images.index(str(folder / names[2]))


@pytest.mark.parametrize("words", [["empty"], ["none*"], ["-"]])
def test_with_each_there_must_be_images(words: list[str], folder: Path) -> None:
    with pytest.raises(InvalidRequest):
        given.read(words, "x", each=True)
