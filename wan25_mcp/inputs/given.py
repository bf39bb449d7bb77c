"""The images that a program gives: paths, links, bytes, and pictures of Pillow's.

A program may read whatever its user may, so a path needs no allowed folder, and a relative one is
meant from the working directory.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, Union

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.misspelt import as_written, refused
from wan25_mcp.inputs.read import Picture, is_data, is_link
from wan25_mcp.inputs.sources import display_name
from wan25_mcp.provider.models import MAX_IMAGES_IN

if TYPE_CHECKING:
    from PIL.Image import Image

InMemory: TypeAlias = Union[bytes, "Image"]
GivenImage: TypeAlias = Union[str, "os.PathLike[str]", bytes, "Image"]
"""A path, a public link, a `file:` or `data:` URI, the bytes of an image's file, or a picture."""

Images: TypeAlias = GivenImage | Sequence[GivenImage]
"""One image, or several."""

_KINDS: Final = "a path, a link, bytes or a PIL image"
_AS_PNG: Final = frozenset({"1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16"})
"""The modes that a PNG holds as they are."""


def sources_of(images: object) -> list[str | InMemory]:
    """The images of one edit, each an absolute path, a link, a URI, or an image in memory.

    Raises:
        InvalidRequest: They are of another type.
    """
    if isinstance(images, str | bytes | bytearray | memoryview | os.PathLike) or _is_pil(images):
        return [_source(images, 0)]
    # The lines of an open file are no images.
    if not isinstance(images, Iterable) or isinstance(images, dict) or hasattr(images, "read"):
        raise _wrong("images", images)
    # One more than are accepted, so that too many are noticed, and an endless iterable is not read.
    return [_source(image, place) for place, image in enumerate(islice(images, MAX_IMAGES_IN + 1))]


def _source(image: Any, place: int) -> str | InMemory:
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if _is_pil(image):
        pil: Image = image
        return pil
    path = os.fspath(image) if isinstance(image, os.PathLike) else image
    if not isinstance(path, str):
        raise _wrong(f"images[{place}]", image)
    if isinstance(image, str) and (is_link(path) or is_data(path) or path[:5].lower() == "file:"):
        return path
    return _absolute(path)


def _absolute(path: str) -> str:
    if not path.strip():
        return path
    try:
        absolute = str(Path(path).expanduser().absolute())
        # What is no path is refused with its reason, unless a file has that name.
        is_none = as_written(path) is not None and not os.path.lexists(absolute)
    except (RuntimeError, ValueError, OSError):  # no such user, or a null character
        return path
    return path if is_none else absolute


def _is_pil(image: object) -> bool:
    # Pillow is slow to import, and who has one of its pictures has imported it.
    pil = sys.modules.get("PIL.Image")
    return pil is not None and isinstance(image, pil.Image)


def _wrong(where: str, given: object) -> InvalidRequest:
    return InvalidRequest(
        f"{where} is {_described(given)}, not {_KINDS}.",
        fix=f"Give {_KINDS}, or a list of 1 to {MAX_IMAGES_IN} of them. Nothing was sent or "
        "charged.",
    )


def _described(given: object) -> str:
    return "None" if given is None else f"of type {type(given).__name__}"


def picture_of(image: InMemory) -> Picture:
    """An image in memory as the content of a file. Blocks: call it in a worker thread.

    Raises:
        InvalidRequest: `image_unreadable`: Pillow cannot load or write it.
    """
    if isinstance(image, bytes):
        return Picture.of(image, "bytes")
    name = display_name(str(getattr(image, "filename", ""))) if _has_file(image) else "PIL image"
    try:
        return Picture.of(_encoded(image), name)
    except Exception as error:  # noqa: BLE001 - a picture's decoder may raise anything
        raise refused(
            f'The image "{name}" cannot be written as a file ({type(error).__name__}).',
            code="image_unreadable",
            fix="Load the picture before its file is closed, or give the file's path or bytes.",
        ) from None


def _has_file(image: Image) -> bool:
    return bool(getattr(image, "filename", ""))


def _encoded(image: Image) -> bytes:
    """Without loss. Whatever the model does not take, `conform` changes."""
    from PIL.ImageOps import exif_transpose

    upright = exif_transpose(image)  # as the file that it was opened from would be
    kind = "TIFF" if upright.mode == "CMYK" else "PNG"
    if upright.mode not in (*_AS_PNG, "CMYK"):
        upright = upright.convert("RGB")
        upright.info.pop("icc_profile", None)  # of the colours before
    sheet = io.BytesIO()
    upright.save(sheet, kind, **({"compress_level": 1} if kind == "PNG" else {}))
    return sheet.getvalue()
