"""Any honest image is made to conform, changed as little as possible, and says what was changed."""

from __future__ import annotations

import io
import random
import struct
import sys
from collections.abc import Callable
from typing import Any, Final

import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import AvifImagePlugin, Image, ImageChops, ImageCms, ImageFilter, ImageStat
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from tests.inputs.corpus import (
    BLUE,
    CORNERS,
    GREEN,
    RED,
    TRANSPOSED,
    YELLOW,
    chunk,
    corners,
    exif,
    heic,
    patched,
    picture,
    png,
    quarters,
    saved,
    tall_jpeg,
    with_segment,
)
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.conform import Conformed, check, conform
from wan25_mcp.inputs.decode import fitting
from wan25_mcp.inputs.read import Picture
from wan25_mcp.provider.catalogue import DEFAULT

HEIC, AVIF = heic(quarters()), saved(quarters(), "AVIF")


def label(value: object) -> str | None:
    """A short name for a test of bytes."""
    return f"{len(value)}-bytes" if isinstance(value, bytes) else None


# Pillow warns of broken metadata; here warnings are errors, and it would be refused.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

SECRET: Final = b"<x>Jane's passport</x>"
PILLOW: Final = int(PIL.__version__.split(".")[0])
pillow_12 = pytest.mark.skipif(PILLOW < 12, reason="it writes a palette with alpha wrongly")
pillow_13 = pytest.mark.skipif(PILLOW < 13, reason="it does not read what it wrote: refused")

PNG, JPEG = "re-encoded as PNG", "re-encoded as JPEG (quality 95)"
SAME_JPEG = "re-encoded as JPEG (of the same quality)"


def checked(content: bytes) -> tuple[Conformed, Image.Image]:
    """Conform, and check by Pillow alone that the result is what the provider asks for."""
    check(picture(content))
    made = conform(picture(content))
    image = Image.open(io.BytesIO(made.content))
    image.load()
    assert image.format is not None
    assert made.mime_type == Image.MIME[image.format]
    assert made.extension == {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}[image.format]
    assert image.size == (made.width, made.height)
    assert DEFAULT.min_side <= min(image.size) <= max(image.size) <= DEFAULT.max_side
    assert image.mode == "RGB"
    assert "transparency" not in image.info
    assert not image.getexif()
    assert len(made.content) <= DEFAULT.max_bytes
    return made, image


def near(found: tuple[Any, ...], wanted: tuple[Any, ...], tolerance: int = 12) -> bool:
    return all(
        abs(a - b) <= tolerance
        for one, other in zip(found, wanted, strict=True)
        for a, b in zip(one, other, strict=True)
    )


# --- what already conforms ------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        saved(quarters(), "JPEG"),
        saved(quarters(), "JPEG", quality=80, progressive=True, subsampling=2),
        saved(quarters(), "JPEG", icc_profile=ImageCms.ImageCmsProfile(
            ImageCms.createProfile("sRGB")).tobytes()),
        saved(quarters(384, 384), "PNG"),
        saved(quarters(), "WEBP"),
        saved(quarters(), "WEBP", lossless=True),
        saved(quarters(5000, 384), "JPEG"),
        saved(quarters(384, 5000), "PNG"),
    ],
    ids=["jpeg", "progressive", "profile", "png", "webp", "lossless webp", "wide", "tall"],
)  # fmt: skip
def test_an_image_that_conforms_stays_byte_for_byte(content: bytes) -> None:
    given_image = picture(content)
    made = conform(given_image)
    assert made.content is given_image.content
    assert made.changes == ()
    checked(content)


@pytest.mark.parametrize(
    ("content", "how", "difference"),
    [
        (saved(quarters(), "JPEG", exif=exif(gps=True)), SAME_JPEG, 3),
        (saved(quarters(), "JPEG", exif=exif(1, gps=True), comment=SECRET), SAME_JPEG, 3),
        (with_segment(saved(quarters(), "JPEG"), 0xED, b"Photoshop 3.0" + SECRET), SAME_JPEG, 3),
        (with_segment(saved(quarters(), "JPEG"), 0xE0, b"JFIF\0" + SECRET), SAME_JPEG, 3),
        (saved(quarters(), "JPEG") + SECRET, SAME_JPEG, 3),
        (saved(quarters(), "MPO", save_all=True, append_images=[quarters()]), SAME_JPEG, 3),
        (saved(quarters(), "JPEG", progressive=True, subsampling=2, quality=40,
               exif=exif(gps=True)), SAME_JPEG, 3),
        (saved(quarters(), "PNG", exif=exif(gps=True)), PNG, 0),
        (saved(quarters(), "PNG") + b"PK\x03\x04" + SECRET, PNG, 0),
        (saved(quarters(), "WEBP", exif=exif(gps=True), xmp=SECRET), JPEG, 2),
        (saved(quarters(), "WEBP", lossless=True, exif=exif(gps=True)), PNG, 0),
        (saved(quarters(), "WEBP") + SECRET, JPEG, 2),
    ],
    ids=["jpeg exif", "jpeg comment", "jpeg photoshop", "jpeg preview", "jpeg polyglot",
         "two pictures in one", "jpeg coarse", "png exif", "png polyglot", "webp exif",
         "webp lossless", "webp polyglot"],
)  # fmt: skip
def test_metadata_is_left_out_and_the_picture_stays(
    content: bytes, how: str, difference: float
) -> None:
    made, image = checked(content)
    assert made.changes == ("metadata removed", how)
    assert SECRET not in made.content
    assert b"A camera" not in made.content
    with Image.open(io.BytesIO(content)) as before:
        lost = ImageStat.Stat(ImageChops.difference(before.convert("RGB"), image)).rms
    assert max(lost) <= difference
    assert conform(picture(made.content)).changes == ()


@pytest.mark.parametrize("quality", [30, 60, 90, 98])
@pytest.mark.parametrize("sampling", [0, 1, 2])
def test_a_jpeg_keeps_its_quality_and_its_size(quality: int, sampling: int) -> None:
    photo = noise(480, 400).filter(ImageFilter.GaussianBlur(2))
    content = saved(photo, "JPEG", quality=quality, subsampling=sampling, exif=exif(gps=True))
    made, image = checked(content)
    assert len(made.content) < 1.01 * len(content)
    with Image.open(io.BytesIO(content)) as before:
        assert isinstance(before, JpegImageFile)
        assert isinstance(image, JpegImageFile)
        assert image.quantization == before.quantization
        assert get_sampling(image) == get_sampling(before) == sampling
        lost = ImageStat.Stat(ImageChops.difference(before.convert("RGB"), image)).rms
    assert max(lost) < 1.5


def test_colours_that_are_not_srgb_become_so_when_metadata_is_left_out() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind, how in (("JPEG", SAME_JPEG), ("PNG", PNG), ("WEBP", JPEG)):
        meant = saved(quarters(), kind, icc_profile=profile, exif=exif(gps=True))
        made, image = checked(meant)
        assert made.changes == ("metadata removed", how)
        assert near(corners(image), CORNERS)
        swapped = saved(quarters(), kind, icc_profile=swapped_profile(), exif=exif(gps=True))
        made, image = checked(swapped)
        assert made.changes == ("metadata removed", "colours converted to sRGB", how)
        assert near(corners(image)[:1], ((RED[1], RED[0], RED[2]),), 25)


# --- modes and formats ----------------------------------------------------------------------

FLAT = "transparency flattened on white"
PALETTE = "converted from a palette to RGB"
GREY = "converted from grey to RGB"
EIGHT = "reduced to 8 bits per channel"
FIRST = "first frame kept"


def half_clear(mode: str = "RGBA") -> Image.Image:
    """The left half opaque, the right half clear."""
    image = quarters().convert("RGBA")
    image.paste((0, 0, 0, 0), (240, 0, 480, 400))
    return image.convert(mode)


def ramp(mode: str, high: float) -> Image.Image:
    """Black, half of it, and white."""
    letter = {"I;16": "<H", "I;16B": ">H", "I": "<i", "F": "<f"}[mode]
    levels = (0, high / 2 if mode == "F" else int(high) // 2, high if mode == "F" else int(high))
    row = b"".join(160 * struct.pack(letter, level) for level in levels)
    return Image.frombytes(mode, (480, 400), 400 * row)


@pytest.mark.parametrize(
    ("content", "changes", "mime_type"),
    [
        (saved(half_clear(), "PNG"), (FLAT, PNG), "image/png"),
        (saved(half_clear("LA"), "PNG"), (FLAT, PNG), "image/png"),
        (saved(half_clear(), "WEBP"), (FLAT, JPEG), "image/jpeg"),
        (saved(half_clear(), "WEBP", lossless=True), (FLAT, PNG), "image/png"),
        pytest.param(saved(half_clear("PA"), "TIFF"), (FLAT, PNG), "image/png", marks=pillow_12),
        (saved(half_clear(), "TIFF"), (FLAT, PNG), "image/png"),
        (saved(half_clear(), "GIF"), (FLAT, PNG), "image/png"),
        (saved(quarters().convert("RGBA"), "PNG"), ("alpha channel removed", PNG), "image/png"),
        (saved(quarters().convert("P"), "PNG"), (PALETTE, PNG), "image/png"),
        (saved(quarters().convert("1"), "PNG"), (PALETTE, PNG), "image/png"),
        (saved(quarters().convert("1"), "TIFF", compression="group4"), (PALETTE, PNG),
         "image/png"),
        (saved(quarters().convert("L"), "PNG"), (GREY, PNG), "image/png"),
        (saved(quarters().convert("L"), "JPEG"), (GREY, JPEG), "image/jpeg"),
        (saved(quarters().convert("CMYK"), "JPEG"), ("converted from CMYK to RGB", JPEG),
         "image/jpeg"),
        (saved(quarters().convert("CMYK"), "TIFF"), ("converted from CMYK to RGB", PNG),
         "image/png"),
        pytest.param(saved(quarters().convert("YCbCr"), "TIFF"),
                     ("converted from YCbCr to RGB", PNG), "image/png", marks=pillow_13),
        (saved(Image.new("LAB", (480, 400), (128, 128, 128)), "TIFF"),
         ("converted from LAB to RGB", PNG), "image/png"),
        (saved(ramp("I;16", 65535), "PNG"), (EIGHT, GREY, PNG), "image/png"),
        (saved(ramp("I;16", 65535), "TIFF"), (EIGHT, GREY, PNG), "image/png"),
        (saved(ramp("I", 65535), "TIFF"), (EIGHT, GREY, PNG), "image/png"),
        (saved(ramp("F", 1.0), "TIFF"), (EIGHT, GREY, PNG), "image/png"),
        (png(400, 400, depth=16), (EIGHT, PNG), "image/png"),
        (png(400, 400, depth=16, colour=6), (EIGHT, FLAT, PNG), "image/png"),
        (png(400, 400, depth=2, colour=0), (GREY, PNG), "image/png"),
        (saved(quarters(), "BMP"), (PNG,), "image/png"),
        (saved(quarters().convert("RGBA"), "BMP"), (PNG,), "image/png"),
        (saved(quarters(), "DIB"), None, ""),
        (saved(quarters(), "TIFF"), (PNG,), "image/png"),
        (saved(quarters(), "TIFF", compression="tiff_lzw"), (PNG,), "image/png"),
        (saved(quarters(), "TIFF", compression="jpeg"), (PNG,), "image/png"),
        (saved(quarters(), "TIFF", save_all=True, append_images=[half_clear()]), (FIRST, PNG),
         "image/png"),
        (saved(quarters(), "GIF"), (PALETTE, PNG), "image/png"),
        (saved(quarters(), "GIF", save_all=True, append_images=[half_clear()]),
         (FIRST, PALETTE, PNG), "image/png"),
        (saved(quarters(), "WEBP", save_all=True, append_images=[Image.new("RGB", (480, 400))]),
         (FIRST, JPEG), "image/jpeg"),
        (saved(quarters(), "PNG", save_all=True, append_images=[Image.new("RGB", (480, 400))]),
         (FIRST, PNG), "image/png"),
    ], ids=label,
)  # fmt: skip
def test_every_mode_and_format_comes_to_its_end(
    content: bytes, changes: tuple[str, ...] | None, mime_type: str
) -> None:
    if changes is None:
        with pytest.raises(InvalidRequest, match="not an image, or its format"):
            conform(picture(content))
        return
    made, _ = checked(content)
    assert (made.changes, made.mime_type) == (changes, mime_type)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
        ("RGBA", "GIF"),
        pytest.param("PA", "TIFF", marks=pillow_12),
    ],
)
def test_what_is_clear_becomes_white(mode: str, kind: str) -> None:
    _, image = checked(saved(half_clear(mode), kind))
    assert near(corners(image), (RED, (255, 255, 255), BLUE, (255, 255, 255)), 25)


def test_what_is_half_clear_becomes_half_white() -> None:
    _, image = checked(saved(Image.new("RGBA", (400, 400), (255, 0, 0, 128)), "PNG"))
    assert near((image.getpixel((200, 200)),), ((255, 127, 127),), 2)


GREYS = Image.linear_gradient("L").resize((400, 400))


@pytest.mark.parametrize(
    ("content", "clear"),
    [
        (png(400, 400, colour=0, before=chunk(b"tRNS", b"\0\0")), True),
        (png(400, 400, colour=0, before=chunk(b"tRNS", b"\0\1")), False),
        (png(400, 400, depth=2, colour=0, before=chunk(b"tRNS", b"\0\0")), True),
        (png(400, 400, depth=2, colour=0, before=chunk(b"tRNS", b"\0\3")), False),
        (png(400, 400, depth=1, colour=0, before=chunk(b"tRNS", b"\0\0")), True),
        (png(400, 400, depth=16, colour=0, before=chunk(b"tRNS", b"\0\0")), True),
        (png(400, 400, depth=16, colour=0, before=chunk(b"tRNS", b"\xff\0")), False),
        (png(400, 400, colour=2, before=chunk(b"tRNS", bytes(6))), True),
        (png(400, 400, colour=2, before=chunk(b"tRNS", bytes(5) + b"\1")), False),
        (png(400, 400, depth=16, colour=2, before=chunk(b"tRNS", bytes(6))), True),
        (png(400, 400, depth=16, colour=2, before=chunk(b"tRNS", b"\xff" + bytes(5))), False),
        (png(400, 400, colour=3, before=chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0")), True),
        (png(400, 400, colour=3, before=chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\xff\0")),
         False),
    ], ids=label,
)  # fmt: skip
def test_a_colour_that_a_png_calls_transparent_becomes_white(content: bytes, clear: bool) -> None:
    _, image = checked(content)
    assert image.getpixel((7, 7)) == ((255, 255, 255) if clear else (0, 0, 0))


@pytest.mark.parametrize(
    "content",
    [
        saved(ramp("I;16", 65535), "PNG"),
        saved(ramp("I;16", 65535), "TIFF"),
        saved(ramp("I;16B", 65535), "TIFF"),
        saved(ramp("I", 65535), "TIFF"),
        saved(ramp("I", 2_000_000_000), "TIFF"),
        saved(ramp("I", 255), "TIFF"),
        saved(ramp("F", 1.0), "TIFF"),
        saved(ramp("F", 255.0), "TIFF"),
        saved(ramp("F", 1e30), "TIFF"),
    ],
    ids=label,
)
def test_numbers_of_any_size_keep_their_black_their_white_and_their_middle(content: bytes) -> None:
    _, image = checked(content)
    levels = [image.getpixel((x, 200)) for x in (80, 240, 400)]
    assert near(tuple(levels), ((0, 0, 0), (127, 127, 127), (255, 255, 255)), 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value: float) -> None:
    with pytest.raises(InvalidRequest, match="is damaged"):
        conform(picture(saved(Image.new("F", (400, 400), value), "TIFF")))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_looks_as_it_was_meant(kind: str) -> None:
    """Adobe writes CMYK inverted into JPEG files; so does Pillow."""
    _, image = checked(saved(quarters().convert("CMYK"), kind))
    assert near(corners(image), CORNERS)


def swapped_profile() -> bytes:
    """A profile in which red means green: as wide a gamut as a test can see."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for old, new in ((b"rXYZ", b"temp"), (b"gXYZ", b"rXYZ"), (b"temp", b"gXYZ")):
        srgb = srgb.replace(old, new, 1)
    return srgb.replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def test_colours_are_brought_to_srgb_when_the_image_is_written_anew() -> None:
    content = saved(quarters(300, 300), "PNG", icc_profile=swapped_profile())
    made, image = checked(content)
    assert made.changes == ("scaled from 300×300 to 384×384", "colours converted to sRGB", PNG)
    assert near(corners(image)[:1], ((RED[1], RED[0], RED[2]),), 25)


def test_a_profile_that_cannot_be_used_is_left_out() -> None:
    content = saved(quarters(300, 300), "PNG", icc_profile=b"not a profile")
    made, image = checked(content)
    assert made.changes == ("scaled from 300×300 to 384×384", PNG)
    assert near(corners(image), CORNERS, 1)


# --- what phones and browsers save ----------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        saved(quarters(), "AVIF"),
        saved(quarters(), "AVIF", exif=exif(gps=True)),
        patched(saved(quarters(), "AVIF"), 8, b"mif1"),
        heic(quarters()),
        heic(quarters(), exif=exif(gps=True)),
        patched(heic(quarters()), 8, b"mif1"),
    ],
    ids=["avif", "avif metadata", "avif mif1", "heic", "heic metadata", "heic mif1"],
)
def test_avif_and_heic_become_jpeg(content: bytes) -> None:
    made, image = checked(content)
    assert (made.changes, made.mime_type) == ((JPEG,), "image/jpeg")
    assert near(corners(image), CORNERS)
    assert b"A camera" not in made.content


@pytest.mark.parametrize("write", [heic, lambda image: saved(image, "AVIF")], ids=["heic", "avif"])
def test_a_clear_avif_or_heic_is_flattened(write: Callable[[Image.Image], bytes]) -> None:
    made, image = checked(write(half_clear()))
    assert made.changes == (FLAT, JPEG)
    assert near(corners(image), (RED, (255, 255, 255), BLUE, (255, 255, 255)), 25)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_avif_or_heic_is_upright(orientation: int) -> None:
    held = quarters().transpose(TRANSPOSED[orientation])
    for content in (
        heic(held, exif=exif(orientation)),
        saved(held, "AVIF", exif=exif(orientation)),
    ):
        _, image = checked(content)
        assert image.size == (480, 400)
        assert near(corners(image), CORNERS)


@pytest.mark.parametrize("judge", [check, conform])
def test_without_its_decoder_a_heic_or_an_avif_says_what_to_install(
    judge: Callable[[Picture], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(AvifImagePlugin, "SUPPORTED", False)
    for content, package in (
        (HEIC, "uv tool install '.[heic]'"),
        (AVIF, "pillow"),
    ):
        with pytest.raises(InvalidRequest) as refusal:
            judge(picture(content))
        assert (refusal.value.code, refusal.value.charged) == ("image_unusable", "no")
        assert package in refusal.value.fix
        assert "Export it as JPEG" in refusal.value.fix


# --- orientation ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_photo_is_turned_upright(kind: str, orientation: int) -> None:
    held = quarters().transpose(TRANSPOSED[orientation])
    made, image = checked(saved(held, kind, exif=exif(orientation)))
    assert made.changes[0] == "rotated upright"
    assert image.size == (480, 400)
    assert near(corners(image), CORNERS)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_a_turned_photo_is_described_as_it_is_seen(kind: str) -> None:
    held = quarters(300, 400).transpose(TRANSPOSED[6])
    made, image = checked(saved(held, kind, exif=exif(6)))
    assert made.changes[:2] == ("rotated upright", "scaled from 300×400 to 384×512")
    assert near(corners(image), CORNERS)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_none(orientation: int) -> None:
    made, _ = checked(saved(quarters(), "JPEG", exif=exif(orientation)))
    assert made.changes == ("metadata removed", SAME_JPEG)


@pytest.mark.parametrize(
    "body",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage"],
    ids=label,
)
def test_broken_metadata_does_not_spoil_the_picture(body: bytes) -> None:
    made, _ = checked(with_segment(saved(quarters(), "JPEG"), 0xE1, body))
    assert made.changes == ("metadata removed", SAME_JPEG)


# --- size -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "to"),
    [
        ((300, 200), (576, 384)),
        ((1, 1), (384, 384)),
        ((383, 5000), (384, 5000)),
        ((29, 377), (384, 4992)),
        ((5001, 385), (5000, 385)),
        ((6000, 4000), (5000, 3333)),
        ((65000, 5000), (5000, 385)),
        ((384, 384), (384, 384)),
        ((5000, 5000), (5000, 5000)),
    ],
)
def test_a_size_is_brought_within_the_limits_by_the_smallest_change(
    size: tuple[int, int], to: tuple[int, int]
) -> None:
    assert fitting(size, DEFAULT) == to
    assert fitting(size[::-1], DEFAULT) == to[::-1]


@given(st.integers(1, 100_000), st.integers(1, 100_000))
def test_every_size_fits_in_its_own_aspect(width: int, height: int) -> None:
    if max(width, height) * DEFAULT.min_side > min(width, height) * DEFAULT.max_side:
        return
    to = fitting((width, height), DEFAULT)
    assert DEFAULT.min_side <= min(to) <= max(to) <= DEFAULT.max_side
    assert abs(to[0] * height - to[1] * width) <= max(width, height)  # half a pixel either way


@pytest.mark.parametrize(
    ("content", "size", "change"),
    [
        (saved(quarters(300, 200), "PNG"), (576, 384), "scaled from 300×200 to 576×384"),
        (saved(quarters(1, 1), "PNG"), (384, 384), "scaled from 1×1 to 384×384"),
        (saved(quarters(6000, 3000), "JPEG"), (5000, 2500), "scaled from 6000×3000 to 5000×2500"),
        (saved(quarters(5001, 400), "WEBP"), (5000, 400), "scaled from 5001×400 to 5000×400"),
        (tall_jpeg(12000, 562), (5000, 3747), "scaled from 12000×8992 to 5000×3747"),
    ],
    ids=label,
)
def test_an_image_is_scaled_into_the_limits(
    content: bytes, size: tuple[int, int], change: str
) -> None:
    made, _ = checked(content)
    assert (made.width, made.height) == size
    assert made.changes[0] == change


def noise(width: int, height: int) -> Image.Image:
    return Image.frombytes("RGB", (width, height), random.Random(1).randbytes(3 * width * height))


def test_an_image_of_more_than_ten_megabytes_is_coarsened() -> None:
    given_image = saved(noise(2000, 1800), "PNG")
    assert len(given_image) > DEFAULT.max_bytes
    made, _ = checked(given_image)
    assert (made.width, made.height) == (2000, 1800)
    assert made.changes == ("re-encoded as JPEG (quality 95)",)


def test_an_image_that_no_quality_makes_small_enough_is_scaled_too() -> None:
    made, _ = checked(saved(noise(5000, 5000), "JPEG", quality=95))
    assert made.changes == (
        "scaled from 5000×5000 to 4000×4000 to stay below 10 MB",
        "re-encoded as JPEG (quality 85)",
    )


# --- any image ------------------------------------------------------------------------------

MODES = {
    "PNG": ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"],
    "JPEG": ["L", "RGB", "CMYK"],
    "WEBP": ["RGB", "RGBA"],
    "GIF": ["1", "L", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "I;16", "I", "F"],
}


@st.composite
def images(draw: st.DrawFn) -> bytes:
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    size = draw(st.tuples(st.integers(1, 500), st.integers(1, 500)))
    image = quarters(*size)
    image = image.convert("RGBA").convert(mode) if mode in ("PA", "LA") else image.convert(
        "L" if mode in ("I;16", "I", "F") else mode
    ).convert(mode)  # fmt: skip
    options: dict[str, Any] = {}
    if kind in ("JPEG", "PNG", "WEBP", "TIFF") and draw(st.booleans()):
        options["exif"] = exif(draw(st.integers(0, 9)), gps=draw(st.booleans()))
    return saved(image, kind, **options)


@settings(max_examples=60)
@given(images())
def test_any_image_conforms_or_is_too_narrow(content: bytes) -> None:
    with Image.open(io.BytesIO(content)) as image:
        narrow = max(image.size) * DEFAULT.min_side > min(image.size) * DEFAULT.max_side
    if not narrow:
        checked(content)
        return
    for judge in (check, conform):
        with pytest.raises(InvalidRequest, match="too narrow"):
            judge(picture(content))


def test_the_colours_of_the_corpus_are_told_apart() -> None:
    """Guards the tests above: a test of orientation needs four colours."""
    assert len({RED, GREEN, BLUE, YELLOW}) == 4
    assert near(corners(quarters()), CORNERS, 0)
