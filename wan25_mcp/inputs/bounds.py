"""Checks by an image's headers whether it can be used, and bounds the memory of decoding it.

Memory is bounded before anything is decoded. At most 50 million pixels are decoded, at four bytes
each. A larger JPEG (a phone's 108 or 200 megapixels) is decoded at a half, quarter or eighth of its
size, which its format allows. The first bytes determine the decoder, so no other is tried, and
Pillow's process-wide limits are not changed.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.errors.rows import installing
from wan25_mcp.inputs.formats import Format, Malformed, damaged, read_jpeg, unusable, webp_size
from wan25_mcp.inputs.read import Picture
from wan25_mcp.provider.catalogue import Model

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_DECODED: Final = 50_000_000
MAX_JPEG_PIXELS: Final = 200_000_000
"""Limit of a JPEG that is decoded as it is read; the largest phone camera makes 199.8 million."""
_MAX_WEBP_PIXELS: Final = 25_000_000  # its decoder holds the image four times
_MAX_BUFFERED: Final = 25_000_000  # a larger JPEG in several scans is decoded at half its size
_MAX_RAW_BYTES: Final = 4 * MAX_DECODED

_SUBFILE_TYPE, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_LENGTH = 254, 258, 277, 322, 323
_DNG_VERSION: Final = 50706
_LARGER: Final = "Save it smaller, for example as a JPEG of 4000 pixels on the long side."

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Given:
    """An image as it was given, its format, and the model it is for."""

    picture: Picture
    kind: Format
    model: Model


def check(given: Given, file: BinaryIO | None = None) -> int:
    """Refuse an image that is unusable according to its headers. Decodes nothing.

    Args:
        file: The whole file, if the picture is only its first kilobyte.

    Returns:
        The number of pixels it has, or may have.

    Raises:
        InvalidRequest: `image_unusable` or `image_unreadable`.
    """
    try:
        if given.kind == "WebP":
            return math.prod(check_webp(given))
        with decoder_of(given)(file or io.BytesIO(given.picture.content)) as image:
            if given.kind == "JPEG":  # its many segments are read only when it is decoded
                _check_size(given, image.size, MAX_JPEG_PIXELS)
            else:
                bound(image, given)
            # Only the decoder of an AVIF finds out its size, so the maximum is assumed.
            return MAX_DECODED if given.kind == "AVIF" else math.prod(image.size)
    except InvalidRequest:
        raise
    except Exception:  # noqa: BLE001 - for a hostile file a decoder may raise anything
        raise damaged(given.picture) from None


def check_webp(given: Given) -> Size:
    """Check the size of a WebP first: its decoder allocates memory as soon as it is opened."""
    size = webp_size(given.picture.content)
    _check_size(given, size, _MAX_WEBP_PIXELS)
    return size


def bound(image: Any, given: Given) -> None:
    """Refuse an image that would take too much memory. Have a large JPEG decoded smaller."""
    if given.kind == "JPEG":
        _bound_jpeg(image, given)
        return
    _check_size(given, image.size, MAX_DECODED)
    if given.kind == "TIFF":
        _check_tiff(image.tag_v2, given, image.size)


def _bound_jpeg(image: Any, given: Given) -> None:
    layout = read_jpeg(given.picture.content)
    # In several scans, the decoder holds the coefficients of the whole image beside the pixels.
    limit, limit_decoded = MAX_JPEG_PIXELS, MAX_DECODED
    if layout.is_buffered:
        limit, limit_decoded = MAX_DECODED, _MAX_BUFFERED
    _check_size(given, image.size, limit)
    if layout.is_hollow:
        raise Malformed
    width, height = image.size
    # The smallest size that loses nothing, or a smaller one if memory requires it.
    steps = (1, 2, 4, 8)
    lossless = [step for step in steps if max(image.size) >= step * given.model.max_side]
    bounded = [step for step in steps if width * height <= step * step * limit_decoded]
    divisor = max(max(lossless, default=1), min(bounded, default=8))
    image.draft(image.mode, (width // divisor, height // divisor))


def _check_size(given: Given, size: Size, limit: int) -> None:
    width, height = size
    low, high = given.model.min_side, given.model.max_side
    if min(size) < 1:
        raise damaged(given.picture)
    if max(size) * low > min(size) * high:
        raise unusable(
            given.picture,
            f"is {width}×{height} pixels, which is too narrow: no scaling brings both sides within "
            f"{low} to {high} pixels",
            f"Crop it so that the long side is at most {high // low} times the short one.",
        )
    if width * height > limit:
        raise unusable(
            given.picture,
            f"is {width}×{height} pixels; the limit for this format is "
            f"{limit // 1_000_000} million",
            _LARGER,
        )


def _check_tiff(tags: Any, given: Given, size: Size) -> None:
    if _DNG_VERSION in tags or int(tags.get(_SUBFILE_TYPE, 0)) & 1:
        # Its first image is a thumbnail, not the photo.
        raise unusable(
            given.picture,
            "is a camera raw file, which cannot be used",
            "Export it as JPEG or PNG and give that file.",
        )
    bits = max(tags.get(_BITS, (1,))) * int(tags.get(_SAMPLES, 1))
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
    if max(math.prod(size), tile) * bits > 8 * _MAX_RAW_BYTES:
        raise unusable(given.picture, f"is too large at {size[0]}×{size[1]} pixels", _LARGER)


_DECODERS: Final[dict[Format, tuple[str, str]]] = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ("pillow_heif", "HeifImageFile"),
}
# AVIF needs a Pillow with its decoder, as in Pillow's own wheels; HEIC needs the extra.
_OPTIONAL: Final[dict[Format, tuple[str, str]]] = {
    "AVIF": ("an AVIF image", "Reinstall the Python package pillow"),
    "HEIC": ("a HEIC photo", installing("heic")),
}


def decoder_of(given: Given) -> Callable[[BinaryIO], ImageFile]:
    """Pillow's class for the format.

    Raises:
        InvalidRequest: It is not installed.
    """
    module, name = _DECODERS[given.kind]
    try:
        plugin = import_module(module)
    except ImportError:
        plugin = None
    if plugin is None or (given.kind == "AVIF" and not plugin.SUPPORTED):
        what, remedy = _OPTIONAL[given.kind]
        raise unusable(
            given.picture,
            f"is {what}, and the decoder for those is not installed",
            f"Export it as JPEG and give that file. To support such images: {remedy}, then restart "
            "this server.",
        )
    return cast("Callable[[BinaryIO], ImageFile]", getattr(plugin, name))
