"""Turns an image of any kind into upright, opaque 8-bit RGB of a size that its model accepts."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.bounds import Given, Size, bound, check_webp, decoder_of
from wan25_mcp.inputs.formats import Malformed, damaged
from wan25_mcp.provider.catalogue import Model

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

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
_WEBP_CODING: Final = re.compile(rb"VP8[ L]")
_MODES: Final = {"L": "grey"}


@dataclass
class Decoded:
    """An image of the right size, upright and opaque, in its own colour space."""

    image: Image
    profile: bytes | None
    is_lossy: bool
    tables: dict[str, Any]
    """How to write a JPEG of the same quality; empty if it was not a JPEG or was scaled."""
    changes: list[str] = field(default_factory=list)


def decode(given: Given) -> Decoded:
    """Decode an image and make its pixels conform to its model.

    Raises:
        InvalidRequest: `image_unusable` for too many pixels or too narrow a shape,
            `image_unreadable` for an incomplete file.
    """
    try:
        return _decode(given)
    except InvalidRequest:
        raise
    except Exception:  # noqa: BLE001 - for a hostile file a decoder may raise anything
        raise damaged(given.picture) from None


def fitting(size: Size, model: Model) -> Size:
    """The nearest size that the model accepts, with the same aspect ratio."""
    low, high, long = model.min_side, model.max_side, max(size)
    factor = high / long if long > high else max(1.0, low / min(size))
    width, height = (min(high, max(low, round(side * factor))) for side in size)
    return width, height


def in_srgb(decoded: Decoded) -> Image:
    """Convert to sRGB, which a file without a profile implies; add what changed to `changes`."""
    image, changes = decoded.image, decoded.changes
    if image.mode != "RGB":
        changes.append(f"converted from {_MODES.get(image.mode, image.mode)} to RGB")
    managed = _colour_managed(image, decoded.profile)
    if managed is None:
        return image if image.mode == "RGB" else image.convert("RGB")
    if image.mode == "RGB":
        changes.append("colours converted to sRGB")
    return managed


def _decode(given: Given) -> Decoded:
    kind = given.kind
    if kind == "WebP":
        check_webp(given)
    image: Image = _opened(given)
    stored = image.size
    bound(image, given)
    changes = ["first frame kept"] if _is_animated(given) else []
    turn = _orientation(image)
    image.load()
    if kind == "TIFF":  # Pillow turns a TIFF upright when it loads it
        upright, turns_left = image.size, 1
    else:
        upright, turns_left = (stored[::-1] if turn >= 5 else stored), turn
    profile = image.info.get("icc_profile")
    tables = _tables(image) if kind == "JPEG" else {}
    is_lossy = kind in ("JPEG", "AVIF", "HEIC") or (
        kind == "WebP" and not _is_lossless_webp(given.picture.content)
    )
    image = _opaque(_in_eight_bits(image, given, changes), changes)
    image = _turned(_scaled(image, given.model), turns_left)
    if turn != 1:
        changes.append("rotated upright")
    if image.size != upright:
        changes.append("scaled from {}×{} to {}×{}".format(*upright, *image.size))
        tables = {}
    return Decoded(image, profile, is_lossy, tables, changes)


def _tables(image: Any) -> dict[str, Any]:
    """The quantisation tables and the sampling of a JPEG, as arguments for Pillow's encoder."""
    from PIL.JpegImagePlugin import get_sampling

    found: dict[int, list[int]] = image.quantization
    if image.mode != "RGB" or sorted(found) != list(range(len(found))):
        return {}
    return {"qtables": found, "subsampling": get_sampling(image)}


def _is_lossless_webp(content: bytes) -> bool:
    found = _WEBP_CODING.search(content) if content.startswith(b"RIFF") else None
    return found is not None and found.group() == b"VP8L"


def _opened(given: Given) -> ImageFile:
    return decoder_of(given)(io.BytesIO(given.picture.content))


def _is_animated(given: Given) -> bool:
    """Checked with a second decoder, because a broken second frame must not affect the first."""
    try:
        return bool(getattr(_opened(given), "is_animated", False))
    except Exception:  # noqa: BLE001 - as in `decode`; the first frame decides
        return False


def _orientation(image: Image) -> int:
    """The orientation in EXIF, 1 to 8."""
    try:
        turn = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken metadata is no reason to refuse the picture
        return 1
    return turn if turn in _TURNS else 1


# --- after decoding -------------------------------------------------------------------------


def _in_eight_bits(image: Image, given: Given, changes: list[str]) -> Image:
    """Reduce to at most 8 bits per channel. A transparent colour is scaled likewise."""
    depth = given.picture.content[24] if given.kind == "PNG" else 8
    key = image.info.get("transparency")
    if image.mode.startswith(("I", "F")):
        is_known = given.kind == "PNG" or image.mode.startswith("I;16")
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
    """The values of black and white in 32 bits, which the file does not state."""
    low, high = (float(level) for level in image.getextrema())  # type: ignore[arg-type]
    if not (math.isfinite(low) and math.isfinite(high)):
        raise Malformed
    if low >= 0:
        for white in (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0):
            if high <= white:
                return 0.0, white
    return low, max(high, low + 1)


def _narrowed(image: Image, low: float, high: float) -> Image:
    """Reduce to 8-bit grey, in bands: a whole copy in 32 bits would take too much memory."""
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
    """Remove an alpha channel, a palette or a transparent colour."""
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


def _scaled(image: Image, model: Model) -> Image:
    from PIL.Image import Resampling

    target = fitting(image.size, model)
    if target == image.size:
        return image
    kind = Resampling.LANCZOS if target < image.size else Resampling.BICUBIC
    return image.resize(target, kind)


def _turned(image: Image, turn: int) -> Image:
    from PIL.Image import Transpose

    name = _TURNS[turn]
    return image.transpose(Transpose[name]) if name else image


def _colour_managed(image: Image, profile: bytes | None) -> Image | None:
    """Convert to sRGB by the embedded profile; None without a usable one."""
    if not profile:
        return None
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if image.mode == "RGB" and "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    except Exception:  # noqa: BLE001 - a broken profile is ignored
        return None
