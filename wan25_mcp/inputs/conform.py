"""Makes an image conform to its model with as few changes as possible, or says why it cannot.

An image that already conforms is used unchanged, byte for byte, unless its file contains more than
the picture: metadata (where a photo was taken, by whom, a preview of what was cropped away) or
anything after its end. Then it is re-encoded, PNG without loss and JPEG at its own quality, because
the image will be at a public address for a while.

Memory: below 640 MB for the largest image allowed, measured by the tests (a phone's 24 megapixels
take about 300 MB). `prepare` converts one large image at a time, or two small ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO, Final

from wan25_mcp.inputs import bounds, decode, encode
from wan25_mcp.inputs.bounds import Given
from wan25_mcp.inputs.formats import Format, damaged, is_bare, recognise
from wan25_mcp.inputs.read import Picture
from wan25_mcp.provider.catalogue import DEFAULT, Model

_TYPES: Final[dict[Format, tuple[str, str]]] = {
    "JPEG": ("image/jpeg", ".jpg"),
    "PNG": ("image/png", ".png"),
    "WebP": ("image/webp", ".webp"),
}


@dataclass(frozen=True)
class Conformed:
    """An image that the provider accepts. `changes` are in words; empty if there were none."""

    content: bytes
    mime_type: str
    extension: str
    width: int
    height: int
    changes: tuple[str, ...]


def conform(picture: Picture, model: Model = DEFAULT) -> Conformed:
    """Make an image conform to a model. Blocks, for seconds if the image is large.

    Raises:
        InvalidRequest: `image_unusable` or `image_unreadable`, with the reason and the remedy.
    """
    given = Given(picture, recognise(picture), model)
    decoded = decode.decode(given)
    kind = given.kind
    is_ready = kind in _TYPES and kind in model.formats and decoded.image.mode == "RGB"
    if is_ready and not decoded.changes:
        if not is_bare(picture.content, kind):
            decoded.changes.append("metadata removed")
        elif len(picture.content) <= model.max_bytes:
            return Conformed(picture.content, *_TYPES[kind], *decoded.image.size, ())
    return _encoded(given, decoded)


def check(picture: Picture, file: BinaryIO | None = None, model: Model = DEFAULT) -> int:
    """Refuse an image that is unusable according to its headers. Takes milliseconds.

    An image that passes may still turn out damaged in `conform`.

    Args:
        file: The whole file, if the picture is only its first kilobyte.

    Returns:
        Its number of pixels.

    Raises:
        InvalidRequest: As `conform` would.
    """
    return bounds.check(Given(picture, recognise(picture), model), file)


_SKETCH_SIDE: Final = 768


def sketch(picture: Picture, model: Model = DEFAULT) -> bytes:
    """The image as the model sees it, scaled down, as a JPEG. Blocks as `conform` does.

    Raises:
        InvalidRequest: As `conform`.
    """
    decoded = decode.decode(Given(picture, recognise(picture), model))
    image = decode.in_srgb(decoded)
    image.thumbnail((_SKETCH_SIDE, _SKETCH_SIDE))
    packed = BytesIO()
    image.save(packed, "JPEG", quality=88)
    return packed.getvalue()


def _encoded(given: Given, decoded: decode.Decoded) -> Conformed:
    try:
        image = decode.in_srgb(decoded)
        made = encode.encode(image, given.model, is_lossy=decoded.is_lossy, tables=decoded.tables)
    except Exception:  # noqa: BLE001 - encoding should not fail, but memory may run out
        raise damaged(given.picture, "could not be converted") from None
    changes = [*decoded.changes, made.how]
    if made.size != image.size:
        limit = given.model.max_bytes // 1_000_000
        scaled = "scaled from {}×{} to {}×{}".format(*image.size, *made.size)
        changes.insert(-1, f"{scaled} to stay below {limit} MB")
    return Conformed(made.content, made.mime_type, made.extension, *made.size, tuple(changes))
