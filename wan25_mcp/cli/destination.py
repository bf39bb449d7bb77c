"""Where results go: a folder, or with `-o house.png` a file of that name and format.

The original of a result is always kept in the folder for images, whatever it is copied to: it is
paid for, and a copy in another format is not the same picture.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio.to_thread

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.inputs.nearest import IMAGES
from wan25_mcp.inputs.sources import path_of
from wan25_mcp.outputs.download import extension_of
from wan25_mcp.outputs.folder import opened, temporary_name
from wan25_mcp.outputs.previews import MAX_PIXELS
from wan25_mcp.outputs.save import NotSaved, check_output, check_writable, copy_image

if TYPE_CHECKING:
    from PIL import Image

_FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
_QUALITY: Final = 95
_OF_FILE: Final = re.compile(r"\.[a-z][a-z0-9]{1,4}")
"""A suffix that the name of a folder hardly has."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the results of an edit go.

    Args:
        folder: The folder for images; None for the configured one.
        file: The file that results are copied to as well.
    """

    folder: Path | None = None
    file: Path | None = None

    @classmethod
    def of(cls, output: str | None) -> Destination:
        """A name with the suffix of an image is a file, unless a folder has that name.

        Raises:
            InvalidRequest: The suffix is of a kind of file that is not written.
        """
        if output is None:
            return cls()
        path = Path(output).expanduser().absolute()
        suffix = path.suffix.lower()
        is_file = suffix in IMAGES or _OF_FILE.fullmatch(suffix)
        if not is_file or path.is_dir() or output.endswith(("/", os.sep)):
            return cls(folder=path)
        if suffix not in _FORMATS:
            raise InvalidRequest(
                f"Results are not written as {suffix}.",
                fix="Give a name that ends in .png, .jpg or .webp, or a folder. For a folder of "
                "that name, add a / at its end.",
            )
        return cls(file=path)

    def paths(self, count: int) -> list[Path]:
        """The files that `count` results are copied to: with several, house-1.png and so on."""
        if self.file is None:
            return []
        if count == 1:
            return [self.file]
        file = self.file
        return [file.with_name(f"{file.stem}-{each}{file.suffix}") for each in range(1, count + 1)]

    def check(self, configured: Path | None, images: Sequence[str] = (), count: int = 1) -> None:
        """Check, before an edit is paid for, that its results can be saved. Blocks.

        Raises:
            SettingsError: A folder cannot be written to.
            InvalidRequest: A result would be written over one of the images.
        """
        check_output(self.folder or configured)
        if self.file is None:
            return
        check_writable(self.file.parent)
        # The provider may return fewer than were asked for: one alone gets the name as it is.
        for path in dict.fromkeys((self.file, *self.paths(count))):
            if any(_is_same(path, image) for image in images):
                raise InvalidRequest(
                    f"The result would be written over {path.name}, which is to be edited.",
                    fix="Choose another name with --output.",
                )

    async def copied(self, editor: AccountEditor, edit: Edit) -> Edit:
        """The edit with the files that its results were copied to, if they are.

        Raises:
            NotSaved, NotDownloaded: A copy could not be made; the original is saved.
        """
        if self.folder is not None:  # an earlier edit may have been saved in another one
            copies = [await copy_image(Path(path), self.folder) for path in edit.saved]
            return replace(edit, saved=tuple(map(str, copies)))
        if self.file is None or not edit.image_urls:
            return edit
        paths = self.paths(len(edit.image_urls))
        for number, path in enumerate(paths, 1):
            body = await editor.image(edit, number)
            await anyio.to_thread.run_sync(_write, body, path)
        return replace(edit, saved=tuple(map(str, paths)))


def _is_same(path: Path, image: str) -> bool:
    try:
        return path.samefile(image if Path(image).is_absolute() else path_of(image))
    except (OSError, ValueError, Wan25Error):  # one of them does not exist, or is a link
        return False


def _write(body: bytes, path: Path) -> None:
    """Write a file whole or not at all, in place of an earlier one."""
    content = _as(path.suffix.lower(), body)
    folder = Path(os.path.realpath(path.parent))
    temporary = temporary_name()
    try:
        with opened(folder) as place:
            try:
                place.write(temporary, content)
                (folder / temporary).replace(folder / path.name)
            except BaseException:
                place.remove(temporary)
                raise
            place.sync()
    except OSError as error:
        raise NotSaved(
            f"The result could not be written to {path} ({(error.strerror or 'unknown').lower()}).",
            fix="The original is saved, as shown above. Copy it, or give another name with "
            "`wan25-mcp task TASK_ID --wait --output FILE`: both cost nothing.",
        ) from None


def _as(suffix: str, body: bytes) -> bytes:
    """An image in the format of a suffix, unchanged if it has it already."""
    made = _FORMATS[suffix]
    if _FORMATS.get(extension_of(body)) == made:
        return body
    from PIL import Image

    with Image.open(BytesIO(body)) as image:
        if image.width * image.height > MAX_PIXELS:
            raise NotSaved(
                f"The result is too large to be written as {suffix}.",
                fix="The original is saved, as shown above.",
            )
        packed = BytesIO()
        is_flat = made == "JPEG" or image.mode not in ("RGBA", "LA", "P", "PA")
        shown = _on_white(image) if is_flat else image.convert("RGBA")
        shown.save(packed, made, quality=_QUALITY)
        return packed.getvalue()


def _on_white(image: Image.Image) -> Image.Image:
    """Without transparency, which JPEG does not have."""
    from PIL import Image

    if not image.has_transparency_data:
        return image.convert("RGB")
    seen = image.convert("RGBA")
    white = Image.new("RGBA", seen.size, "white")
    return Image.alpha_composite(white, seen).convert("RGB")
