"""Turns an image of any kind into upright, opaque 8-bit RGB of a size the model takes.

Memory is bounded before anything is decoded. At most 50 million pixels are ever decoded, at four
bytes each; a larger JPEG (a telephone's 108 or 200 megapixels) is decoded at a half, quarter or
eighth of its size, which its format allows. Decoders are made by name: the bytes have said what
they are, so no other decoder is tried, and Pillow's process-wide limits stay as its user set them.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.formats import Format, Malformed, damaged, read_jpeg, unusable, webp_size
from wan25_mcp.inputs.read import Picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

LEAST_SIDE: Final = 384
MOST_SIDE: Final = 5000
MOST_DECODED: Final = 50_000_000
MOST_PIXELS: Final = 200_000_000
"""Of a JPEG that is decoded as it is read; the largest telephone camera makes 199.8 million."""
_MOST_WEBP: Final = 25_000_000  # its decoder holds the image four times; the model takes no more
_MOST_BUFFERED: Final = 25_000_000  # of a JPEG in several scans, before it is decoded at a half
_MOST_RAW_BYTES: Final = 4 * MOST_DECODED
_BAND: Final = 256
_ORIENTATION: Final = 0x0112
_TURNS: Final = {
    1: "",
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_LOSSY: Final = ("JPEG", "WebP", "AVIF", "HEIC")
_WEBP_CODING: Final = re.compile(rb"VP8[ L]")
_MODES: Final = {"L": "grey"}
_SUBFILE_TYPE: Final = 254
_BITS: Final = 258
_SAMPLES: Final = 277
_TILE_WIDTH: Final = 322
_TILE_LENGTH: Final = 323
_DNG_VERSION: Final = 50706
_LARGER: Final = "Save it smaller, for example as a JPEG of 4000 pixels on the long side."


Size = tuple[int, int]


@dataclass
class Decoded:
    """An image of the right size, upright and opaque; its colours are still its own."""

    image: Image
    profile: bytes | None
    is_lossy: bool
    tables: dict[str, Any]
    """How to write a JPEG of the same quality; empty when it was none, or is another size now."""
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


def check(picture: Picture, kind: Format, file: BinaryIO | None = None) -> int:
    """Refuse what its headers alone show to be of no use. Decodes nothing: milliseconds.

    Args:
        file: The whole, where the picture is only its first kilobyte.

    Returns:
        How many pixels it has, or may have.

    Raises:
        InvalidRequest: As `decode` would.
    """
    try:
        if kind == "WebP":
            size = webp_size(picture.content)
            _check_size(picture, size, _MOST_WEBP)
            return math.prod(size)
        with _decoder(picture, kind)(file or io.BytesIO(picture.content)) as image:
            if kind == "JPEG":  # its segments are read when it is decoded: there may be many
                _check_size(picture, image.size, MOST_PIXELS)
            else:
                _bound(image, picture, kind)
            # Of an AVIF only its decoder learns the size: room is kept for the largest.
            return MOST_DECODED if kind == "AVIF" else math.prod(image.size)
    except InvalidRequest:
        raise
    except Exception:  # noqa: BLE001 - as above
        raise damaged(picture) from None


def fitting(size: Size) -> Size:
    """The size nearest to the given one that the model takes, in the same aspect."""
    long, short = max(size), min(size)
    factor = MOST_SIDE / long if long > MOST_SIDE else max(1.0, LEAST_SIDE / short)
    width, height = (min(MOST_SIDE, max(LEAST_SIDE, round(side * factor))) for side in size)
    return width, height


def in_srgb(decoded: Decoded) -> Image:
    """The image in the colours that a file without a profile means; what changed is noted."""
    image, changes = decoded.image, decoded.changes
    if image.mode != "RGB":
        changes.append(f"converted from {_MODES.get(image.mode, image.mode)} to RGB")
    managed = _colour_managed(image, decoded.profile)
    if managed is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "RGB":
        changes.append("colours converted to sRGB")
    return managed


# --- before decoding ------------------------------------------------------------------------


def _decode(picture: Picture, kind: Format) -> Decoded:
    if kind == "WebP":  # its decoder takes the memory as soon as it is opened
        _check_size(picture, webp_size(picture.content), _MOST_WEBP)
    image: Image = _opened(picture, kind)
    stored = image.size
    _bound(image, picture, kind)
    changes = ["first frame kept"] if _is_animated(picture, kind) else []
    turn = _orientation(image)
    image.load()
    if kind == "TIFF":  # which Pillow turns upright by itself when it is loaded
        upright, turns_left = image.size, 1
    else:
        upright, turns_left = (stored[::-1] if turn >= 5 else stored), turn
    profile = image.info.get("icc_profile")
    tables = _tables(image) if kind == "JPEG" else {}
    is_lossy = kind in ("JPEG", "AVIF", "HEIC") or (
        kind == "WebP" and not _is_lossless_webp(picture.content)
    )
    image = _opaque(_in_eight_bits(image, picture, kind, changes), changes)
    image = _turned(_scaled(image), turns_left)
    if turn != 1:
        changes.append("rotated upright")
    if image.size != upright:
        changes.append(f"scaled from {_spoken(upright)} to {_spoken(image.size)}")
        tables = {}
    return Decoded(image, profile, is_lossy, tables, changes)


def _tables(image: Any) -> dict[str, Any]:
    """The quantisation and the sampling of a JPEG, as Pillow writes one with."""
    from PIL.JpegImagePlugin import get_sampling

    found: dict[int, list[int]] = image.quantization
    if image.mode != "RGB" or sorted(found) != list(range(len(found))):
        return {}
    return {"qtables": found, "subsampling": get_sampling(image)}


def _is_lossless_webp(content: bytes) -> bool:
    found = _WEBP_CODING.search(content) if content.startswith(b"RIFF") else None
    return found is not None and found.group() == b"VP8L"


def _opened(picture: Picture, kind: Format) -> ImageFile:
    return _decoder(picture, kind)(io.BytesIO(picture.content))


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
# What reads them comes with Pillow's own wheels, which is not every Pillow, and with an extra.
_OPTIONAL: Final[dict[Format, tuple[str, str]]] = {
    "AVIF": ("an AVIF image", "--force-reinstall pillow"),
    "HEIC": ("a HEIC photo", "'wan25-mcp[heic]'"),
}


def _decoder(picture: Picture, kind: Format) -> Callable[[BinaryIO], ImageFile]:
    module, name = _DECODERS[kind]
    try:
        plugin = import_module(module)
    except ImportError:
        plugin = None
    if plugin is None or (kind == "AVIF" and not plugin.SUPPORTED):
        what, package = _OPTIONAL[kind]
        raise unusable(
            picture,
            f"is {what}, and what reads those is not installed",
            f"Export it as JPEG and give that file. To have such images read, run "
            f"`pip install {package}` where this server is installed, then restart it.",
        )
    return cast("Callable[[BinaryIO], ImageFile]", getattr(plugin, name))


def _bound(image: Any, picture: Picture, kind: Format) -> None:
    """Refuse what would take too much memory; let a large JPEG be decoded small."""
    if kind == "JPEG":
        _bound_jpeg(image, picture)
        return
    _check_size(picture, image.size, MOST_DECODED)
    if kind == "TIFF":
        _check_tiff(image.tag_v2, picture, image.size)


def _bound_jpeg(image: Any, picture: Picture) -> None:
    layout = read_jpeg(picture.content)
    # In several scans, the decoder holds the coefficients of the whole image beside the pixels.
    most, most_decoded = MOST_PIXELS, MOST_DECODED
    if layout.is_buffered:
        most, most_decoded = MOST_DECODED, _MOST_BUFFERED
    _check_size(picture, image.size, most)
    if layout.is_hollow:
        raise Malformed
    width, height = image.size
    divisor = _divisor(image.size, most_decoded)
    image.draft(image.mode, (width // divisor, height // divisor))


def _divisor(size: Size, most: int) -> int:
    """How many times smaller to decode: as far as nothing is lost, and further if it must be."""
    width, height = size
    lossless = [step for step in (1, 2, 4, 8) if max(size) >= step * MOST_SIDE]
    bounded = [step for step in (1, 2, 4, 8) if width * height <= step * step * most]
    return max(max(lossless, default=1), min(bounded, default=8))


def _check_size(picture: Picture, size: Size, most: int) -> None:
    width, height = size
    if min(size) < 1:
        raise damaged(picture)
    if max(size) * LEAST_SIDE > min(size) * MOST_SIDE:
        raise unusable(
            picture,
            f"is {_spoken(size)} pixels, which is too narrow: no scaling brings both sides within "
            f"{LEAST_SIDE} to {MOST_SIDE} pixels",
            "Crop it so that the long side is at most 13 times the short one.",
        )
    if width * height > most:
        raise unusable(
            picture,
            f"is {_spoken(size)} pixels; at most {most // 1_000_000} million are read of this kind",
            _LARGER,
        )


def _check_tiff(tags: Any, picture: Picture, size: Size) -> None:
    if _DNG_VERSION in tags or int(tags.get(_SUBFILE_TYPE, 0)) & 1:
        # What it shows first is a thumbnail, not the photo.
        raise unusable(
            picture,
            "is a camera raw file, which cannot be used",
            "Export it as JPEG or PNG and give that file.",
        )
    bits = max(tags.get(_BITS, (1,))) * int(tags.get(_SAMPLES, 1))
    tile = int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))
    if max(math.prod(size), tile) * bits > 8 * _MOST_RAW_BYTES:
        raise unusable(picture, f"has too much in it at {_spoken(size)} pixels", _LARGER)


def _is_animated(picture: Picture, kind: Format) -> bool:
    """Asked of a decoder of its own: a broken second frame must not spoil the first."""
    try:
        return bool(getattr(_opened(picture, kind), "is_animated", False))
    except Exception:  # noqa: BLE001 - as in `decode`; the first frame decides
        return False


def _orientation(image: Image) -> int:
    """How the picture is turned, 1 to 8 as in EXIF."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to refuse the picture
        return 1
    return turn if turn in _TURNS else 1


# --- after decoding -------------------------------------------------------------------------


def _in_eight_bits(image: Image, picture: Picture, kind: Format, changes: list[str]) -> Image:
    """With at most 8 bits per channel, and a transparent colour in the same terms."""
    depth = picture.content[24] if kind == "PNG" else 8
    key = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        is_known = kind == "PNG" or image.mode.startswith("I;16")
        image = _narrowed(image, *((0.0, 65535.0) if is_known else _range(image)))
        changes.append("reduced to 8 bits per channel")
        if isinstance(key, int):
            image.info["transparency"] = int(key / 257 + 0.5)
    elif depth == 16:
        changes.append("reduced to 8 bits per channel")
        if isinstance(key, tuple):
            image.info["transparency"] = tuple(level >> 8 for level in key)
    elif depth < 8 and image.mode == "L" and isinstance(key, int):
        image.info["transparency"] = key * 255 // (2**depth - 1)
    return image


def _range(image: Image) -> tuple[float, float]:
    """What black and white are in numbers of 32 bits, which no file says."""
    low, high = (float(level) for level in image.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Malformed
    if low >= 0:
        for white in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
            if high <= white:
                return 0.0, white
    return low, max(high, low + 1)


def _narrowed(image: Image, low: float, high: float) -> Image:
    """Grey in 8 bits, in bands: a whole copy in 32 bits would be the largest thing in memory."""
    import PIL.Image

    width, height = image.size
    scale = 255 / (high - low)
    offset = 0.5 - low * scale
    wide = "F" if image.mode == "F" else "I"
    grey = PIL.Image.new("L", image.size)
    for top in range(0, height, _BAND):
        band = image.crop((0, top, width, min(top + _BAND, height))).convert(wide)
        grey.paste(band.point(lambda level: level * scale + offset).convert("L"), (0, top))
    return grey


def _opaque(image: Image, changes: list[str]) -> Image:
    """Without an alpha channel, a palette or a transparent colour."""
    import PIL.Image

    has_alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa")
    if not has_alpha and "transparency" not in image.info:
        if image.mode in ("1", "P"):
            changes.append("converted from a palette to RGB")
            return image.convert("RGB")
        return image
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode != "RGBA":
        image = image.convert("RGBA")
    see_through = image.getchannel("A").getextrema() != (255, 255)
    changes.append("transparency flattened on white" if see_through else "alpha channel removed")
    canvas = PIL.Image.new("RGB", image.size, (255, 255, 255))
    canvas.paste(image, (0, 0), image)
    return canvas


def _scaled(image: Image) -> Image:
    from PIL.Image import Resampling

    target = fitting(image.size)
    if target == image.size:
        return image
    kind = Resampling.LANCZOS if target < image.size else Resampling.BICUBIC
    return image.resize(target, kind)


def _turned(image: Image, turn: int) -> Image:
    from PIL.Image import Transpose

    name = _TURNS[turn]
    return image.transpose(Transpose[name]) if name else image


def _colour_managed(image: Image, profile: bytes | None) -> Image | None:
    """In sRGB by the embedded profile; None where there is none, or none that can be used."""
    if not profile:
        return None
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except Exception:  # noqa: BLE001 - a profile is a program by a stranger; do without it
        return None


def _spoken(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
