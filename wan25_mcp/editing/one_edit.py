"""A single edit from a program, in one line."""

from __future__ import annotations

from typing import Any, Unpack

from wan25_mcp.editing.edit import Edit
from wan25_mcp.editing.edit_options import OF_EDITOR, OneEditOptions
from wan25_mcp.editing.editor import Editor
from wan25_mcp.inputs.given import Images


async def edit(images: Images, prompt: str, **options: Unpack[OneEditOptions]) -> Edit:
    """Edit one image, or combine two, and save the results. Costs credits for each result image.

    For several edits, or to follow one, use `Editor`.

    Args:
        images: See `Editor.edit`.
        prompt: What to change.
        **options: Those of the edit (`n`, `force_new`, `timeout`, see `EditOptions`), and those of
            `Editor` (`key`, `output`, `emulator`, ...).

    Raises:
        Wan25Error: Nothing comes of it; see `Editor.edit`.
    """
    given: dict[str, Any] = {**options}
    async with Editor(**{name: given.pop(name) for name in OF_EDITOR & given.keys()}) as editor:
        return await editor.edit(images, prompt, **given)
