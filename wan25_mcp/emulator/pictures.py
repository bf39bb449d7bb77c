"""Draws the emulator's results, which clearly show the input and clearly are not the model's work.

The last image is recoloured depending on the prompt, the first of two is put into a corner, and a
bar names the emulator and the prompt.
"""

from __future__ import annotations

import hashlib
import io
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

AREA = 1280 * 1280
LABEL = "wan25 emulator, not the model"
Ink = tuple[int, int, int]
# The dark and the light end of each recolouring.
COLOURS: tuple[tuple[Ink, Ink], ...] = (
    ((18, 14, 52), (255, 214, 150)),
    ((8, 44, 52), (250, 240, 190)),
    ((58, 12, 40), (255, 208, 214)),
    ((14, 30, 66), (196, 240, 255)),
    ((40, 26, 10), (255, 236, 196)),
    ((12, 48, 30), (226, 255, 214)),
)


def output_size(width: int, height: int) -> tuple[int, int]:
    """A size of about 1.6 megapixels with the given aspect ratio."""
    scale = math.sqrt(AREA / (width * height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def render(sources: list[bytes], prompt: str, task_id: str, index: int) -> bytes:
    """One result as PNG bytes. The same arguments always give the same bytes."""
    last = _open(sources[-1]) if sources else _landscape(1024, 768, 0)
    picture = last.resize(output_size(*last.size), resample=1)
    picture = _recolour(picture, hashlib.sha256(prompt.encode()).digest()[0] + index)
    if len(sources) > 1:
        _inset(picture, _open(sources[0]))
    _caption(picture, prompt)
    return _png(picture, prompt, f"{task_id}_{index}")


def sample(width: int, height: int, seed: int = 0) -> bytes:
    """A sample picture to edit, hills under a sun, as PNG bytes."""
    buffer = io.BytesIO()
    _landscape(width, height, seed).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _open(raw: bytes) -> Image:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(raw)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _recolour(picture: Image, choice: int) -> Image:
    from PIL import Image, ImageOps

    dark, light = COLOURS[choice % len(COLOURS)]
    toned = ImageOps.colorize(ImageOps.autocontrast(picture.convert("L")), dark, light)
    flat = ImageOps.posterize(picture, 3)
    return Image.blend(flat, toned, 0.55)


def _caption(picture: Image, prompt: str) -> None:
    """Draw a dark bar along the bottom. The font has few scripts, so only ASCII is written."""
    from PIL import ImageDraw, ImageFont

    size = max(10, picture.width // 40)
    font = ImageFont.load_default(size)
    written = " ".join(
        "".join(c if c.isascii() and c.isprintable() else " " for c in prompt).split()
    )
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, picture.height - 4 * size, *picture.size), (12, 14, 20))
    draw.text((size, picture.height - 3.6 * size), LABEL, (255, 214, 90), font)
    draw.text((size, picture.height - 1.9 * size), written[:75], (240, 240, 240), font)


def _inset(picture: Image, first: Image) -> None:
    from PIL import ImageOps

    side = min(picture.size) // 3
    first.thumbnail((side, side))
    border = max(2, side // 40)
    picture.paste(ImageOps.expand(first, border, (255, 255, 255)), (border * 4, border * 4))


def _landscape(width: int, height: int, seed: int) -> Image:
    from PIL import Image, ImageDraw

    hue = (seed * 47) % 60
    sky = Image.linear_gradient("L").resize((width, height))
    picture = Image.merge(
        "RGB",
        [
            sky.point([a + (i * b) // 255 for i in range(256)])
            for a, b in ((90 + hue, 150), (140, 80), (220, -40))
        ],
    )
    draw = ImageDraw.Draw(picture)
    radius = min(width, height) // 8
    sun = (width * (60 + hue // 2) // 100, height * 3 // 10)
    draw.ellipse(
        (sun[0] - radius, sun[1] - radius, sun[0] + radius, sun[1] + radius), (255, 236, 170)
    )
    for layer, ink in enumerate(((96, 130, 120), (62, 102, 88), (34, 70, 58))):
        draw.polygon(_hills(width, height, layer, seed), ink)
    return picture


def _hills(width: int, height: int, layer: int, seed: int) -> list[tuple[float, float]]:
    base, swing = height * (0.55 + 0.14 * layer), height * 0.09
    steps = range(0, width + 16, 16)
    turn = 2 * math.pi * (1.2 + 0.5 * layer) / width
    ridge = [(float(x), base - swing * math.sin(turn * x + layer * 2 + seed)) for x in steps]
    return [*ridge, (float(width), float(height)), (0.0, float(height))]


def _png(picture: Image, prompt: str, name: str) -> bytes:
    from PIL.PngImagePlugin import PngInfo

    notes = PngInfo()
    for key, text in (("Software", LABEL), ("Prompt", prompt), ("Task", name)):
        notes.add_itxt(key, text)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=notes, compress_level=3)
    return buffer.getvalue()
