"""Writes an image in a file the provider and its file service take, small enough for both."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES: Final = 10_000_000
"""The provider's "10 MB", in the smaller of its two meanings."""

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
    image: Image, *, is_lossy: bool, least_side: int, tables: Mapping[str, Any] | None = None
) -> Encoded:
    """PNG for what lost nothing so far, if it fits; else JPEG, coarser and then smaller.

    Args:
        image: RGB. Only its pixels are written.
        tables: How the JPEG it was decoded from was written: to write it so again loses the least.
        least_side: No side becomes smaller than this; an image so small always fits.
    """
    image.info.clear()  # or Pillow would write a comment and a colour profile again
    if not is_lossy and (content := _written(image, "PNG", compress_level=6)) is not None:
        return Encoded(content, "image/png", ".png", image.size, "re-encoded as PNG")
    if tables and (content := _written(image, "JPEG", **tables)) is not None:
        how = "re-encoded as JPEG (of the same quality)"
        return Encoded(content, "image/jpeg", ".jpg", image.size, how)
    while True:
        for quality in _QUALITIES:
            content = _written(image, "JPEG", quality=quality, subsampling=0 if quality > 90 else 2)
            if content is not None:
                how = f"re-encoded as JPEG (quality {quality})"
                return Encoded(content, "image/jpeg", ".jpg", image.size, how)
        image = _reduced(image, least_side)


def _reduced(image: Image, least_side: int) -> Image:
    factor = max(_SMALLER, least_side / min(image.size))
    return image.resize((round(image.width * factor), round(image.height * factor)))


class _Full(Exception):
    """The image does not fit; the encoder stops where it is."""


class _Sheet(io.BytesIO):
    def write(self, content: object) -> int:
        written = super().write(content)  # type: ignore[arg-type]  # bytes, as typeshed has it
        if self.tell() > MAX_BYTES:
            raise _Full
        return written


def _written(image: Image, kind: str, **options: Any) -> bytes | None:
    sheet = _Sheet()
    try:
        image.save(sheet, kind, **options)
    except _Full:
        return None
    return sheet.getvalue()
