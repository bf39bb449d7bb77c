"""Which images the model accepts: format, transparency, dimensions."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from wan25_mcp.emulator.tasks import TaskFailed

if TYPE_CHECKING:
    from PIL.Image import Image as Opened

MIN_SIDE, MAX_SIDE = 384, 5000
FORMATS = ("JPEG", "PNG", "BMP", "WEBP")


def inspect(raw: bytes) -> tuple[int, int]:
    """Width and height of an acceptable image. It is decoded only if its size is acceptable.

    Transparency has no documented code of its own, so it is reported as an unreadable image.

    Raises: TaskFailed, with the code the vendor documents.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            _check(image)
            image.load()
            return image.size
    except TaskFailed:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _bad_size() from error
    except Exception as error:  # for broken bytes a decoder may raise anything
        message = "The image is corrupt or of an unsupported format."
        raise TaskFailed("image_processing_error", message) from error


def _check(image: Opened) -> None:
    if not all(MIN_SIDE <= side <= MAX_SIDE for side in image.size):
        raise _bad_size()
    is_transparent = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
    if image.format == "PNG" and is_transparent:
        message = "PNG images must not have a transparent channel."
        raise TaskFailed("image_processing_error", message)


def _bad_size() -> TaskFailed:
    message = f"Image width and height must be between {MIN_SIDE} and {MAX_SIDE} pixels."
    return TaskFailed("image_dimension_mismatch", message)
