"""Which images the model accepts: format, transparency, dimensions. Knows only bytes."""

from __future__ import annotations

import io

MIN_SIDE, MAX_SIDE = 384, 5000
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


class BadImage(Exception):
    """An input the model refuses, with the task-level code the vendor documents for it."""

    def __init__(self, code: str, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(message)


def inspect(raw: bytes) -> tuple[int, int]:
    """Width and height of an acceptable image. Raises: BadImage. Pixels are counted, then decoded.

    Transparency has no documented code of its own; it is told as an unreadable image.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            _check_size(*image.size)
            _check_opaque(image.format, image.mode, "transparency" in image.info)
            image.load()
            return image.size
    except BadImage:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bad_size() from error
    except Exception as error:  # a decoder met with garbage raises whatever it likes
        raise BadImage(
            "image_processing_error", "The image is corrupt or of an unsupported format."
        ) from error


def _check_size(width: int, height: int) -> None:
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise _bad_size()


def _check_opaque(kind: str | None, mode: str, has_transparency: bool) -> None:
    if kind == "PNG" and (mode in ("RGBA", "LA", "PA") or has_transparency):
        raise BadImage("image_processing_error", "PNG images must not have a transparent channel.")


def _bad_size() -> BadImage:
    message = f"Image width and height must be between {MIN_SIDE} and {MAX_SIDE} pixels."
    return BadImage("image_dimension_mismatch", message)
