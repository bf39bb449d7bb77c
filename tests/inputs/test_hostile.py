"""Dishonest and broken files: each to its documented refusal, none of them expensive."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.inputs.corpus import (
    chunk,
    exif,
    heic,
    patched,
    picture,
    png,
    quarters,
    saved,
    segment,
    tall_jpeg,
    with_segment,
)
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.conform import check, conform
from wan25_mcp.inputs.read import Picture
from wan25_mcp.provider.catalogue import DEFAULT

# Pillow warns of broken files; here warnings are errors, and hide what it would have done.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

JPEG, PNG, WEBP = (saved(quarters(), kind) for kind in ("JPEG", "PNG", "WEBP"))
PROGRESSIVE = saved(quarters(), "JPEG", progressive=True)
GIF, BMP, TIFF = (saved(quarters(), kind) for kind in ("GIF", "BMP", "TIFF"))
AVIF, HEIC = saved(quarters(), "AVIF"), heic(quarters())
DAMAGED = "is damaged or cut short, so it cannot be read"


def refused(content: bytes, judge: Callable[[Picture], object] = conform) -> tuple[str, str]:
    with pytest.raises(InvalidRequest) as refusal:
        judge(picture(content))
    error = refusal.value
    assert error.charged == "no"
    _, name, named = error.message.partition('"cat.png" ')
    assert name
    assert error.fix.endswith("Nothing was sent or charged.")
    return error.code, named.removesuffix(".")


# --- not an image, or not one of ours -------------------------------------------------------


def boxed(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + bytes(200)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (boxed(b"isom"), "a video"),
        (boxed(b"crx "), "a camera raw file"),
        (b"II*\0\x10\0\0\0CR\2\0" + bytes(200), "a camera raw file"),
        (b"\xff\x0a" + bytes(100), "a JPEG XL image"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"MM\0\x2b" + bytes(20), "a BigTIFF image"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\0\0\1\0\1\0", "an icon file"),
        (b"PK\3\4" + bytes(30), "a ZIP archive or an office document"),
        (b"\x1f\x8b\x08", "a compressed file"),
        (b"%!PS-Adobe", "a PostScript document"),
        (b"version https://git-lfs.github.com/spec/v1\n",
         "a Git LFS pointer, not the image itself"),
        (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
        (b'\xef\xbb\xbf <svg width="400">', "an SVG drawing"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"<HTML><body>Not found", "a web page"),
        (b"just text", None),
        (b"BMW is a car", None),
        (b"\xff\xd8", None),
        (b"\x89PNG", None),
        (b"RIFF\0\0\0\0WEBP", None),
        (bytes(1000), None),
        (b"MZ" + JPEG, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_is_no_usable_image_is_named(content: bytes, named: str | None) -> None:
    why = (
        f"{named}, which cannot be used"
        if named
        else "not an image, or its format is not supported"
    )
    told = ("image_unusable", f"is {why}")
    assert refused(content) == refused(content, check) == told


def test_an_empty_file_is_said_to_be_empty() -> None:
    assert refused(b"") == ("image_unusable", "is empty")


def tagged(*tags: tuple[int, int, int]) -> bytes:
    """A TIFF of nothing but tags of one value each."""
    usual = [(256, 4, 400), (257, 4, 400), (258, 3, 8), (259, 3, 1), (262, 3, 1), (273, 4, 8),
             (277, 3, 1), (278, 4, 400), (279, 4, 160_000)]  # fmt: skip
    found = {tag: (tag, kind, value) for tag, kind, value in (*usual, *tags)}
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in
                       sorted(found.values()))  # fmt: skip
    return (
        b"II*\0" + struct.pack("<I", 8 + 160_000) + bytes(160_000)
        + struct.pack("<H", len(found)) + entries + bytes(4)
    )  # fmt: skip


def test_the_tiff_of_the_tests_is_one() -> None:
    assert conform(picture(tagged())).changes == ("converted from grey to RGB", "re-encoded as PNG")


@pytest.mark.parametrize("tag", [(50706, 4, 1), (254, 4, 1)], ids=["DNG", "thumbnail first"])
def test_a_raw_file_that_is_a_tiff_is_not_taken_for_its_thumbnail(
    tag: tuple[int, int, int],
) -> None:
    assert refused(tagged(tag)) == (
        "image_unusable",
        "is a camera raw file, which cannot be used",
    )


# --- too much -------------------------------------------------------------------------------


def jpeg_claiming(content: bytes, width: int, height: int) -> bytes:
    """A small JPEG whose header tells of another size."""
    frame = max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))
    return patched(content, frame + 5, struct.pack(">HH", height, width))


def claiming(width: int, height: int) -> bytes:
    """A small PNG whose header tells of another size."""
    header = struct.pack(">II", width, height) + PNG[24:29]
    return PNG[:8] + chunk(b"IHDR", header) + PNG[33:]


def webp_header(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X\x0a\0\0\0" + bytes(4) + size + b"VP8 " + bytes(50)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sized(content: bytes, width: int, height: int) -> bytes:
    """An AVIF or a HEIC that tells of another size."""
    return patched(content, content.index(b"ispe") + 8, struct.pack(">II", width, height))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (sized(AVIF, 8000, 8000), "is 8000×8000 pixels; the limit for this format is 50 million"),
        (sized(HEIC, 8000, 8000), "is 8000×8000 pixels; the limit for this format is 50 million"),
        (png(400, 5300), "is 400×5300 pixels, which is too narrow: no scaling brings both sides "
                         "within 384 to 5000 pixels"),
        (png(1, 14), "is 1×14 pixels, which is too narrow: no scaling brings both sides within "
                     "384 to 5000 pixels"),
        (claiming(8000, 8000),
         "is 8000×8000 pixels; the limit for this format is 50 million"),
        (claiming(2**31 - 1, 2**31 - 1),
         "is 2147483647×2147483647 pixels; the limit for this format is 50 million"),
        (patched(GIF, 6, struct.pack("<HH", 65535, 65535)),
         "is 65535×65535 pixels; the limit for this format is 50 million"),
        (patched(BMP, 18, struct.pack("<ii", 60000, 60000)),
         "is 60000×60000 pixels; the limit for this format is 50 million"),
        (webp_header(16383, 16383), "is 16383×16383 pixels; the limit for this "
                                    "format is 25 million"),
        (webp_header(2**24, 2**24),
         "is 16777216×16777216 pixels; the limit for this format is 25 million"),
        (jpeg_claiming(JPEG, 12256, 16320),
         "is 12256×16320 pixels; the limit for this format is 200 million"),
        (jpeg_claiming(PROGRESSIVE, 7100, 7100),
         "is 7100×7100 pixels; the limit for this format is 50 million"),
        (tagged((256, 4, 70_000), (257, 4, 70_000)),
         "is 70000×70000 pixels; the limit for this format is 50 million"),
        (tagged((322, 4, 100_000), (323, 4, 100_000)), "is too large at 400×400 pixels"),
    ],
    ids=["avif", "heic", "narrow", "tiny and narrow", "png", "png of all numbers", "gif", "bmp",
         "webp", "webp of all numbers", "jpeg", "progressive jpeg", "tiff", "tiff tiles"],
)  # fmt: skip
def test_what_would_take_too_much_is_refused_by_its_header_alone(content: bytes, why: str) -> None:
    began = time.process_time()
    assert refused(content) == ("image_unusable", why)
    if "7100" not in why:  # in several scans, which is not seen at a glance
        assert refused(content, check) == ("image_unusable", why)
    assert time.process_time() - began < 0.5


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    """Each scan costs a pass over the whole image, and a few bytes."""
    start = PROGRESSIVE.index(b"\xff\xda")
    after = PROGRESSIVE.index(b"\xff", start + 30)
    scan = PROGRESSIVE[start:after]
    assert refused(PROGRESSIVE[:after] + 200 * scan + PROGRESSIVE[after:]) == (
        "image_unreadable",
        DAMAGED,
    )


def test_a_jpeg_that_names_two_sizes_is_refused() -> None:
    frame = JPEG.index(b"\xff\xc0")
    length = int.from_bytes(JPEG[frame + 2 : frame + 4], "big") + 2
    second = patched(JPEG[frame : frame + length], 5, struct.pack(">HH", 5000, 5000))
    content = JPEG[: frame + length] + second + JPEG[frame + length :]
    assert refused(content) == ("image_unreadable", DAMAGED)


@pytest.mark.parametrize(
    "content",
    [
        with_segment(JPEG, 0xE1, b"Exif\0\0" + bytes(60_000)),
        JPEG[:2] + 3000 * segment(0xFE, b"") + JPEG[2:],
        PNG[:33] + 3000 * chunk(b"abCd") + PNG[33:],
        PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(900_000))) + PNG[33:],
    ],
    ids=["fat segment", "many segments", "many chunks", "packed text"],
)
def test_ballast_is_dropped(content: bytes) -> None:
    made = conform(picture(content))
    assert made.changes[0] == "metadata removed"
    assert len(made.content) < 10_000


@pytest.mark.parametrize(
    "content",
    [
        PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 1)) + PNG[33:],
        PNG[:33] + chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 1)) + PNG[33:],
        PNG[:33] + 120_000 * chunk(b"abCd") + PNG[33:],
        JPEG[:2] + 120_000 * segment(0xFE, b"") + JPEG[2:],
    ],
    ids=["text bomb", "profile bomb", "endless chunks", "endless segments"],
)
def test_a_bomb_in_the_metadata_does_not_go_off(content: bytes) -> None:
    began = time.process_time()
    try:
        made = conform(picture(content))
    except InvalidRequest as refusal:
        code = refusal.code
    else:
        code = "" if len(made.content) < 10_000 else "kept"
    assert code in ("", "image_unreadable")
    assert time.process_time() - began < 5


# --- cut and lying --------------------------------------------------------------------------


@pytest.mark.parametrize("content", [JPEG, PNG, WEBP, GIF, BMP, TIFF, AVIF, HEIC],
                         ids=["jpeg", "png", "webp", "gif", "bmp", "tiff", "avif",
                              "heic"])  # fmt: skip
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_cut_image_is_refused(content: bytes, share: float) -> None:
    code, why = refused(content[: max(32, int(len(content) * share))])
    assert (code, why) in (
        ("image_unreadable", DAMAGED),
        ("image_unusable", "is not an image, or its format is not supported"),
    )


@pytest.mark.parametrize(
    "content",
    [
        claiming(6000, 6000),
        claiming(0, 0),
        patched(PNG, 24, b"\x10\x06"),
        patched(BMP, 18, struct.pack("<ii", 4000, 4000)),
        patched(BMP, 18, struct.pack("<ii", 0, 0)),
        jpeg_claiming(JPEG, 4000, 4000),
        jpeg_claiming(JPEG, 400, 0),
        patched(TIFF, 4, b"\xff\xff\xff\x7f"),
        tagged((277, 3, 60_000)),
        jpeg_claiming(PROGRESSIVE, 4000, 4000),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\xff\xd8\xff\xd9",
        b"GIF89a" + bytes(20),
        b"GIF89a<html><script>alert(1)</script></html>",
        b"RIFF\x1e\0\0\0WEBPVP8L" + bytes(40),
        boxed(b"heic"),
        boxed(b"mif1"),
        boxed(b"avif"),
        sized(heic(quarters(2000, 2000)), 400, 400),
    ],
    ids=range(19),
)
def test_a_lying_header_is_refused(content: bytes) -> None:
    assert refused(content) == ("image_unreadable", DAMAGED)


@pytest.mark.parametrize("behind", [b"<html>", b"PK\3\4", b"#!/bin/sh", JPEG, b"\0" * 1000])
@pytest.mark.parametrize("content", [JPEG, PNG, WEBP], ids=["jpeg", "png", "webp"])
def test_what_hides_behind_an_image_is_not_passed_on(content: bytes, behind: bytes) -> None:
    made = conform(picture(content + behind)).content
    assert behind not in made[1:]
    assert conform(picture(made)).content == made


def test_what_hides_inside_an_image_is_not_passed_on() -> None:
    secret = b"<script>alert(document.domain)</script>"
    for content in (
        with_segment(JPEG, 0xFE, secret),
        PNG[:33] + chunk(b"tEXt", b"a\0" + secret) + PNG[33:],
        patched(saved(quarters(), "WEBP", xmp=secret), 0, b"RIFF"),
        GIF[:-1] + b"\x21\xfe" + bytes([len(secret)]) + secret + b"\0;",
        saved(quarters(), "TIFF", description=secret.decode()),
    ):
        assert secret in content
        assert secret not in conform(picture(content)).content


# --- any bytes ------------------------------------------------------------------------------

SMALL: Final = [
    saved(quarters(40, 30).convert(mode), kind, **options)
    for mode, kind, options in (
        ("RGB", "JPEG", {}), ("RGB", "JPEG", {"progressive": True}), ("CMYK", "JPEG", {}),
        ("RGB", "JPEG", {"exif": exif(6, gps=True)}), ("RGB", "PNG", {}), ("RGBA", "PNG", {}),
        ("P", "PNG", {}), ("RGB", "WEBP", {}), ("RGBA", "WEBP", {"lossless": True}),
        ("P", "GIF", {}), ("RGB", "BMP", {}), ("P", "BMP", {}), ("RGB", "TIFF", {}),
        ("RGB", "TIFF", {"compression": "tiff_lzw"}), ("1", "TIFF", {"compression": "group3"}),
        ("RGB", "TIFF", {"compression": "jpeg"}), ("RGB", "AVIF", {"speed": 10}),
    )
] + [heic(quarters(40, 30))]  # fmt: skip


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """An image with a few bytes changed, lost, doubled or put in."""
    content = bytearray(draw(st.sampled_from(SMALL)))
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.integers(0, max(0, min(len(content) - 1, 400))))
        match draw(st.integers(0, 3)):
            case 0:
                content[at : at + 1] = draw(st.binary(min_size=1, max_size=4))
            case 1:
                del content[at : at + draw(st.integers(1, 50))]
            case 2:
                content[at:at] = content[at : at + draw(st.integers(1, 50))]
            case _:
                content[at:at] = draw(st.binary(max_size=20))
    return bytes(content)


@settings(max_examples=400)
@given(broken() | st.binary(max_size=100) | st.sampled_from(SMALL).flatmap(
    lambda content: st.binary(max_size=60).map(lambda rest: content[:30] + rest)
))  # fmt: skip
def test_any_bytes_are_an_image_or_a_refusal(content: bytes) -> None:
    try:
        made = conform(picture(content))
    except InvalidRequest:
        with suppress(InvalidRequest):  # what may be seen at a glance, or not
            check(picture(content))
        return
    check(picture(content))  # what can be used passes
    assert (
        DEFAULT.min_side
        <= min(made.width, made.height)
        <= max(made.width, made.height)
        <= DEFAULT.max_side
    )
    assert len(made.content) <= DEFAULT.max_bytes


# --- memory ---------------------------------------------------------------------------------

MOST_MEGABYTES: Final = 640
MEASURE: Final = """
import re, sys
from pathlib import Path
from wan25_mcp.inputs.conform import conform
from wan25_mcp.inputs.read import read_source
path = Path(sys.argv[1])
made = conform(read_source(str(path), [path.parent]))
# Not getrusage: its peak is inherited from the process that started this one.
peak = int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024
import io
import json
print(json.dumps([peak, made.width, made.height]))
"""
MAKE: Final = """
import sys
import pillow_heif
from PIL import Image
pillow_heif.register_heif_opener()
options = eval(sys.argv[2])
size, mode = options.pop("size"), options.pop("mode")
image = Image.new(mode, size, (90, 60, 30, 128)[: len(Image.new(mode, (1, 1)).getbands())])
image.save(sys.argv[1], **options)
"""


def made_elsewhere(path: Path, **options: object) -> None:
    """Written by another process: what it takes to make the image must not be measured."""
    subprocess.run([sys.executable, "-c", MAKE, str(path), repr(options)], check=True, timeout=140)


def largest_jpeg(path: Path) -> None:
    """200 million pixels and 100 MB, as the largest telephone camera makes them."""
    bare = tall_jpeg(16320, 765)
    path.write_bytes(tall_jpeg(16320, 765, filler=99_000_000 - len(bare)))


def largest_png(path: Path) -> None:
    path.write_bytes(png(7071, 7071, colour=6))


def largest_progressive(path: Path) -> None:
    made_elsewhere(path, size=(7071, 7071), mode="CMYK", format="JPEG", progressive=True)


def largest_webp(path: Path) -> None:
    made_elsewhere(path, size=(5000, 5000), mode="RGBA", format="WEBP", quality=50, method=0)


def largest_avif(path: Path) -> None:
    made_elsewhere(path, size=(7071, 7071), mode="RGBA", format="AVIF", speed=10)


def largest_heic(path: Path) -> None:
    made_elsewhere(path, size=(7071, 7071), mode="RGBA", format="HEIF")


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("make", "size"),
    [
        (largest_jpeg, (5000, 3750)),
        (largest_png, (5000, 5000)),
        pytest.param(largest_progressive, (3536, 3536), marks=pytest.mark.thorough),
        (largest_webp, (5000, 5000)),
        pytest.param(largest_avif, (5000, 5000), marks=pytest.mark.thorough),
        pytest.param(largest_heic, (5000, 5000), marks=pytest.mark.thorough),
    ],
    ids=["jpeg", "png", "progressive", "webp", "avif", "heic"],
)
@pytest.mark.deadline(300)
def test_the_largest_image_allowed_stays_within_its_memory(
    make: Callable[[Path], None], size: tuple[int, int], tmp_path: Path
) -> None:
    path = tmp_path / "largest"
    make(path)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, str(path)],
        capture_output=True, text=True, timeout=140, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    peak, width, height = json.loads(run.stdout)
    assert (width, height) == size
    assert peak < MOST_MEGABYTES


def test_the_corpus_makes_the_large_images_it_says() -> None:
    with Image.open(io.BytesIO(tall_jpeg(1600, 20))) as image:
        image.load()
        assert image.size == (1600, 320)
