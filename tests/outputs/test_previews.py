"""Previews: small, made from anything we save, and sent only where they do good."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from wan25_mcp.outputs.previews import CLIENTS, _preview, make_previews, shows_images

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: the work is done in threads."""
    return str(request.param)


def packed(image: Image.Image, kind: str = "PNG", **how: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def noise(size: tuple[int, int] = (1600, 1200), mode: str = "RGB") -> Image.Image:
    bands = [Image.effect_noise(size, 120) for _ in Image.new(mode, (1, 1)).getbands()]
    return Image.merge(mode, bands)


def opened(preview: bytes | None) -> Image.Image:
    assert preview is not None
    image = Image.open(BytesIO(preview), formats=["JPEG"])
    image.load()
    return image


async def test_four_noisy_results_make_four_small_jpegs() -> None:
    previews = await make_previews([packed(noise())] * 4)
    sizes = [len(preview or b"") for preview in previews]
    assert max(sizes) <= 100_000
    assert sum(sizes) <= 400_000
    for preview in previews:
        assert opened(preview).width >= 256


@pytest.mark.parametrize("count", [0, 1, 8])
async def test_all_together_stay_under_the_limit(count: int) -> None:
    previews = await make_previews([packed(noise((500, 400)))] * count)
    assert len(previews) == count
    assert sum(len(preview or b"") for preview in previews) <= 400_000


async def test_a_usual_result_keeps_its_shape_and_is_sharp() -> None:
    image = Image.linear_gradient("L").resize((1664, 928)).convert("RGB")
    (preview,) = await make_previews([packed(image)])
    assert opened(preview).size == (768, 428)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP"])
async def test_every_format_we_save_has_a_preview(kind: str) -> None:
    (preview,) = await make_previews([packed(noise((900, 600)), kind)])
    assert opened(preview).size[0] in (768, 640)


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK", "I;16"])
async def test_every_mode_has_a_preview(mode: str) -> None:
    image = Image.new(mode, (50, 40)) if mode == "I;16" else noise((50, 40)).convert(mode)
    (preview,) = await make_previews([packed(image, "JPEG" if mode == "CMYK" else "PNG")])
    assert (opened(preview).size, opened(preview).mode) == ((50, 40), "RGB")


async def test_what_is_transparent_is_white() -> None:
    (preview,) = await make_previews([packed(Image.new("RGBA", (40, 40), (255, 0, 0, 0)))])
    assert opened(preview).getpixel((20, 20)) == (255, 255, 255)


async def test_a_preview_is_upright_and_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "where I live"
    (preview,) = await make_previews([packed(noise((80, 40)), "JPEG", exif=exif)])
    assert opened(preview).size == (40, 80)
    assert b"where I live" not in (preview or b"")
    assert not opened(preview).getexif()


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
async def test_what_cannot_be_shown_is_left_out_in_its_place() -> None:
    good = packed(noise((50, 40)))
    bomb = packed(Image.new("1", (12_000, 12_000)))
    gif = packed(noise((50, 40)).convert("P"), "GIF")
    torn = packed(noise((300, 300)))[:5000]
    previews = await make_previews([b"", bomb, good, gif, torn, b"\x89PNG\r\n\x1a\n"])
    assert [preview is not None for preview in previews] == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]


@given(at=st.integers(0, 2000), with_=st.binary(max_size=40), kind=st.sampled_from(["PNG", "JPEG"]))
def test_no_bytes_make_it_fail(at: int, with_: bytes, kind: str) -> None:
    whole = packed(Image.radial_gradient("L"), kind)
    preview = _preview(whole[:at] + with_ + whole[at + len(with_) :], 100_000)
    assert preview is None or len(preview) <= 100_000


async def test_the_work_is_done_where_it_is_told() -> None:
    async def inline(job: Any) -> Any:
        await anyio.lowlevel.checkpoint()
        return job()

    assert await make_previews([b""], run=inline) == [None]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("claude-ai", True),
        ("Claude-AI", True),
        ("claude-ai (via mcp-remote 0.1.16)", True),
        ("gemini-cli-mcp-client-v1.0", True),
        ("mcp-inspector", True),
        ("claude-code", False),
        ("codex-mcp-client", False),
        ("Visual Studio Code", False),
        ("Visual Studio Code - Insiders", False),
        ("mcp", False),
        ("mcp-something", False),
        ("claude-ailment", False),
        ("never heard of", False),
        ("", False),
        (None, False),
    ],
)
def test_only_clients_known_to_do_well_are_shown_images(name: str | None, shown: bool) -> None:
    assert shows_images(name) is shown


def test_every_client_in_the_table_has_a_reason_and_one_row() -> None:
    assert len({one.name for one in CLIENTS}) == len(CLIENTS)
    for one in CLIENTS:
        assert one.reason
        assert one.name == one.name.lower()
        assert shows_images(one.name) is one.shows
