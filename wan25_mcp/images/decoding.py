"""Turns an image of any kind into upright, opaque 8-bit RGB of a size the model takes.

Memory is bounded before anything is decoded. At most 50 million pixels are ever decoded, at four
bytes each; a larger JPEG (a telephone's 108 or 200 megapixels) is decoded at a half, quarter or
eighth of its size, which its format allows. Decoders are made by name: the bytes have said what
they are, so no other decoder is tried, and Pillow's process-wide limits stay as its user set them.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.images.reading import Picture
from wan25_mcp.images.recognising import (
    Format,
    Malformed,
    damaged,
    read_jpeg,
    read_png,
    unusable,
    webp_size,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

Size = tuple[int, int]
LEAST_SIDE: Final = 384
MOST_SIDE: Final = 5000
MOST_DECODED: Final = 50_000_000
MOST_PIXELS: Final = 200_000_000
"""Of a JPEG that is decoded as it is read; the largest telephone camera makes 199.8 million."""
_MOST_WEBP: Final = 25_000_000  # its decoder holds the image four times; the model takes no more
_MOST_BUFFERED: Final = 25_000_000  # of a JPEG in several scans, before it is decoded at a half
_MOST_RAW_BYTES: Final = 4 * MOST_DECODED
_BAND: Final = 256
_LARGER: Final = "Save it smaller, for example as a JPEG of 4000 pixels on the long side."


@dataclass
class Decoded:
    """An image ready to be encoded. `size` is the upright size it came in."""

    image: Image
    size: Size
    is_lossy: bool
    changes: list[str] = field(default_factory=list)


def decode(picture: Picture, kind: Format) -> Decoded:
    """Decode and bring to the model's terms.

    Raises:
        InvalidRequest: `image_unusable` for too many pixels or too narrow a shape,
            `image_unreadable` for a file that is not whole.
    """
    try:
        return _decode(picture, kind)
    except InvalidRequest:
        raise
    except Exception:  # noqa: BLE001 - a decoder that is fed a hostile file may raise anything
        raise damaged(picture) from None


def fitting(size: Size) -> Size:
    """The size nearest to the given one that the model takes, in the same aspect."""
    long, short = max(size), min(size)
    factor = MOST_SIDE / long if long > MOST_SIDE else max(1.0, LEAST_SIDE / short)
    width, height = (min(MOST_SIDE, max(LEAST_SIDE, round(side * factor))) for side in size)
    return width, height


def can_fit(size: Size) -> bool:
    """Whether any size of this aspect lies within the model's limits."""
    return max(size) * LEAST_SIDE <= min(size) * MOST_SIDE


def _decode(picture: Picture, kind: Format) -> Decoded:
    if kind == "WebP":
        _check_size(picture, webp_size(picture.content), _MOST_WEBP)
    image: Image = _opened(picture, kind)
    size = image.size
    changes: list[str] = []
    _bound(image, picture, kind)
    if kind != "WebP" and getattr(image, "is_animated", False):
        changes.append("first frame kept")
    elif kind == "WebP" and getattr(image, "n_frames", 1) > 1:
        changes.append("first frame kept")
    turn = _orientation(image) if kind == "TIFF" else 1  # TIFF is turned by being loaded
    image.load()
    if kind != "TIFF":
        turn = _orientation(image)
    profile = image.info.get("icc_profile")
    is_lossy = kind == "JPEG" or (kind == "WebP" and picture.content[12:16] != b"VP8L")
    image = _opaque(_in_eight_bits(image, picture, kind, changes), changes)
    upright = _swapped(size) if turn >= 5 else size
    image = _scaled(image, _swapped(upright) if turn >= 5 and kind != "TIFF" else upright, changes)
    if turn != 1:
        changes.append("rotated upright")
        image = image if kind == "TIFF" else _turned(image, turn)
    return Decoded(_in_rgb(image, profile, changes), upright, is_lossy, changes)
