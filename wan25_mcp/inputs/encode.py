"""Encodes an image in a format and size that the provider and its file service accept."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from wan25_mcp.provider.catalogue import Model

if TYPE_CHECKING:
    from PIL.Image import Image

_QUALITIES: Final = (95, 90, 85, 80, 70)
_SMALLER: Final = 0.8


@dataclass(frozen=True)
class Encoded:
    content: bytes
    mime_type: str
    extension: str
    size: tuple[int, int]
    how: str


def encode(
    image: Image, model: Model, *, is_lossy: bool, tables: Mapping[str, Any] | None = None
) -> Encoded:
    """Encode as PNG if nothing was lost so far and it fits, else as JPEG.

    A JPEG that does not fit is encoded with lower quality, then with fewer pixels. No side becomes
    smaller than the model's minimum; an image of that size always fits.

    Args:
        image: RGB. Only its pixels are written.
        tables: The encoding of the JPEG that it was decoded from; using the same loses little.
    """
    image.info.clear()  # otherwise Pillow would write the comment and the colour profile again
    write = partial(_written, image, model.max_bytes)
    if not is_lossy and "PNG" in model.formats and (content := write("PNG", compress_level=6)):
        return Encoded(content, "image/png", ".png", image.size, "re-encoded as PNG")
    if tables and (content := write("JPEG", **tables)):
        how = "re-encoded as JPEG (of the same quality)"
        return Encoded(content, "image/jpeg", ".jpg", image.size, how)
    while True:
        for quality in _QUALITIES:
            sampling = 0 if quality > 90 else 2
            content = _written(
                image, model.max_bytes, "JPEG", quality=quality, subsampling=sampling
            )
            if content is not None:
                how = f"re-encoded as JPEG (quality {quality})"
                return Encoded(content, "image/jpeg", ".jpg", image.size, how)
        factor = max(_SMALLER, model.min_side / min(image.size))
        image = image.resize((round(image.width * factor), round(image.height * factor)))


class _Full(Exception):
    """The image does not fit; raised to stop the encoder."""


class _Sheet(io.BytesIO):
    def __init__(self, max_bytes: int) -> None:
        super().__init__()
        self._max_bytes = max_bytes

    def write(self, content: object) -> int:
        written = super().write(content)  # type: ignore[arg-type]  # bytes, as typeshed has it
        if self.tell() > self._max_bytes:
            raise _Full
        return written


def _written(image: Image, max_bytes: int, kind: str, **options: Any) -> bytes | None:
    sheet = _Sheet(max_bytes)
    try:
        image.save(sheet, kind, **options)
    except _Full:
        return None
    return sheet.getvalue()
