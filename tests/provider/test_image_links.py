"""Which links are refused because they certainly lead to no image that the model takes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.stage import request
from wan25_mcp.editing import arguments
from wan25_mcp.editing.arguments import EditArguments
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.provider.image_links import why_no_image

FILES = [
    "https://a.dev/loop.gif",
    "https://a.dev/logo.SVG",
    "https://a.dev/paper.pdf#page=2",
    "https://a.dev/photo.heic?width=100",
    "https://a.dev/x.y/clip.mp4",
]
PAGES = {
    "https://en.wikipedia.org/wiki/Cat": "upload.wikimedia.org",
    "https://de.m.wikipedia.org/wiki/Datei:Katze.jpg": "upload.wikimedia.org",
    "https://commons.wikimedia.org/wiki/File:Cat_poster_1.jpg": "upload.wikimedia.org",
    "https://drive.google.com/file/d/1a_B-c/view?usp=sharing": "export=download&id=1a_B-c",
    "https://drive.google.com/open?id=1a": "the picture's own link",
    "https://docs.google.com/presentation/d/1a/edit": "download",
    "https://photos.app.goo.gl/abc": "download",
    "https://www.instagram.com/p/abc/": "download",
    "https://github.com/o/r/blob/main/cat.png": "Raw",
    "https://unsplash.com/photos/a-cat-abc": "images.unsplash.com",
}
IMAGES = [
    "https://upload.wikimedia.org/wikipedia/commons/3/3a/Cat03.jpg",
    "https://drive.google.com/uc?export=download&id=1a_B-c",
    "https://github.com/o/r/blob/main/cat.png?raw=true",
    "https://raw.githubusercontent.com/o/r/main/cat.png",
    "https://unsplash.com/photos/abc/download?force=true",
    "https://a.dev/photo.heic?format=jpg",
    "https://a.dev/gif",
    "https://a.dev/photo",
    "https://a.gif/",
    "https://a.dev/a.gif/photo.jpg",
    "https://notwikipedia.org/wiki/Cat.jpg",
    "https://a.dev/?next=https://en.wikipedia.org/wiki/Cat",
]


@pytest.mark.parametrize("link", FILES)
def test_a_file_that_the_model_does_not_take_is_refused_by_its_ending(link: str) -> None:
    reason = why_no_image(link)
    assert reason is not None
    assert "JPEG" in reason


@pytest.mark.parametrize(("link", "instead"), PAGES.items())
def test_a_page_around_a_picture_is_refused_with_what_to_give_instead(
    link: str, instead: str
) -> None:
    reason = why_no_image(link)
    assert reason is not None
    assert "not an image" in reason
    assert instead in reason


@pytest.mark.parametrize("link", IMAGES)
def test_a_link_that_may_lead_to_an_image_is_taken(link: str) -> None:
    assert why_no_image(link) is None
    assert arguments.read(EditArguments, {"prompt": "p", "image_urls": [link]})


def test_an_agent_is_told_before_anything_is_sent() -> None:
    given = {"prompt": "p", "image_urls": ["https://en.wikipedia.org/wiki/Cat"]}
    with pytest.raises(InvalidRequest) as refused:
        arguments.read(EditArguments, given)
    assert refused.value.charged == "no"
    assert refused.value.message.startswith("image_urls[0] is a page of Wikipedia, not an image: ")


def test_a_program_is_told_too() -> None:
    with pytest.raises(ValidationError, match="not an image"):
        request(image_urls=["https://en.wikipedia.org/wiki/Cat"])


@given(st.text(max_size=60).map("https://drive.google.com/file/d/".__add__) | st.text(max_size=60))
def test_any_text_gets_one_line_or_nothing(link: str) -> None:
    assert "\n" not in (why_no_image(link) or "")
