"""A single edit from a program, in one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import SecretStr

from wan25_mcp.editing.edit import Edit
from wan25_mcp.editing.editor import Editor
from wan25_mcp.errors import Wan25Error
from wan25_mcp.inputs.given import Images
from wan25_mcp.provider.catalogue import MODEL, ModelName
from wan25_mcp.settings import Settings

if TYPE_CHECKING:
    import httpx2


async def edit(
    images: Images,
    prompt: str,
    *,
    n: int = 1,
    model: ModelName = MODEL,
    callback_url: str | None = None,
    force_new: bool = False,
    duplicate_window: float | None = None,
    wait: bool = True,
    timeout: float | None = None,
    key: str | SecretStr | None = None,
    base_url: str | None = None,
    output: str | os.PathLike[str] | None = None,
    save: bool | None = None,
    http: httpx2.AsyncClient | None = None,
    emulator: bool | str | None = None,
    settings: Settings | Mapping[str, str] | None = None,
) -> Edit:
    """Edit one image, or combine two, and save the results. Costs credits for each result image.

    For several edits, or to follow one, use `Editor`. What is not passed (None) is as in the
    environment, and the key is the one that `wan25-mcp key set` keeps.

    Args:
        images: One image or two: a path, a public link, a `file:` or `data:` URI, the bytes of an
            image's file, or a PIL image. The last one sets the aspect of the result.
        prompt: What to change.
        n: How many result images, 1 to 4.
        model: The model that makes them.
        callback_url: A public https link that the provider posts the finished task to.
        force_new: Make, and pay for, another edit even if there is an identical one.
        duplicate_window: Seconds within which an identical edit is returned at no charge; None: as
            configured, usually 600.
        wait: Whether to wait until the edit is settled and saved; if not, until the provider has
            accepted it. It continues there, and `Editor.wait` saves the results.
        timeout: Seconds to wait at most, in both cases; None: as long as it takes.
        key: The provider's API key.
        base_url: Base URL of the API, path included.
        output: The folder where results are saved; made if there is none.
        save: Whether they are saved.
        http: An HTTP client for the provider's calls, as `open_http` makes it; you close it.
        emulator: True: the built-in emulator plays the provider, without a key. A URL: an emulator
            already running. False: the provider, whatever `WAN25_EMULATOR` says.
        settings: `Settings`, or a mapping with WAN25_ names, in place of the environment and the
            kept key.

    Returns:
        The edit: completed, or still running if `wait` is False or the time was up.

    Raises:
        Wan25Error: Nothing comes of it. Its `charged` says what it cost, and its `edit` what is
            known of it.
    """
    opening = Editor(
        key=key, base_url=base_url, output=output, save=save, http=http, emulator=emulator,
        settings=settings,
    )  # fmt: skip
    try:
        async with opening as editor:
            return await editor.edit(
                images, prompt, n=n, model=model, callback_url=callback_url, force_new=force_new,
                duplicate_window=duplicate_window, wait=wait, timeout=timeout,
            )  # fmt: skip
    except Wan25Error as error:  # without the frames inside
        raise error.with_traceback(None) from error.__cause__
