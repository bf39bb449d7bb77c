"""Writes the bar under a picture with the font Pillow carries. Knows no files and no tasks.

That font has no Chinese: words it cannot spell are left out rather than drawn as boxes.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

UNSPELLABLE = "(a prompt in letters this label lacks)"
MAX_LINES = 2
MAX_LETTERS = 300  # more never fits, and fitting measures letter by letter
TYPEWRITTEN = str.maketrans(
    {"\u2014": "-", "\u2013": "-", "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'}
)
MORE = "..."


def draw_caption(picture: Image, label: str, prompt: str) -> None:
    """A dark bar along the bottom: `label`, then the prompt's words on at most two lines."""
    from PIL import ImageDraw

    size = max(14, min(40, picture.width // 28))
    head, body = _font(size), _font(max(12, size * 4 // 5))
    room = picture.width - 2 * size
    lines = _wrap(spellable(prompt[:MAX_LETTERS]), body, room)
    heights = [size * 13 // 10] + [size * 21 // 20] * len(lines)
    top = picture.height - sum(heights) - size
    _bar(picture, top, size)
    draw = ImageDraw.Draw(picture)
    for i, line in enumerate([_fit(spellable(label), head, room), *lines]):
        font, ink = (body, (240, 240, 240)) if i else (head, (255, 214, 90))
        draw.text((size, top + size // 2 + sum(heights[:i])), line, fill=ink, font=font)


def spellable(text: str) -> str:
    """The text in the letters the font has, or a note that there are none."""
    plain = text.translate(TYPEWRITTEN)
    kept = "".join(c if c.isspace() else _written(c) for c in plain)
    return " ".join(kept.split()) or UNSPELLABLE


def _bar(picture: Image, top: int, edge: int) -> None:
    from PIL import Image, ImageDraw

    box = (0, max(0, top), picture.width, picture.height)
    under = picture.crop(box)
    picture.paste(Image.blend(under, Image.new("RGB", under.size, (12, 14, 20)), 0.8), box[:2])
    ImageDraw.Draw(picture).rectangle(
        (0, box[1], picture.width, box[1] + edge // 8), (255, 214, 90)
    )


def _wrap(text: str, font: FreeTypeFont | ImageFont, room: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        grown = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(grown) <= room:
            lines[-1] = grown
        elif len(lines) < MAX_LINES:
            lines.append(word)
        else:
            lines[-1] += f" {MORE}"
            break
    return [_fit(line, font, room) for line in lines]


def _fit(text: str, font: FreeTypeFont | ImageFont, room: int) -> str:
    if font.getlength(text) <= room:
        return text
    while text and font.getlength(text + MORE) > room:
        text = text[:-1]
    return text.rstrip() + MORE


@lru_cache(maxsize=8)
def _font(size: int) -> FreeTypeFont | ImageFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _written(letter: str) -> str:
    """The letter, or it without its accent, or a blank."""
    plain = letter if _has_glyph(letter) else unicodedata.normalize("NFKD", letter)[0]
    return plain if _has_glyph(plain) else " "


@lru_cache(maxsize=4096)
def _has_glyph(letter: str) -> bool:
    """Whether the font draws the letter as something else than its box for the unknown."""
    font = _font(24)
    return bytes(font.getmask(letter)) != _unknown()


@lru_cache(maxsize=1)
def _unknown() -> bytes:
    return bytes(_font(24).getmask("\U0010fffe"))
