"""The options of the Python API, as a type checker sees them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypedDict

from pydantic import SecretStr

from wan25_mcp.provider.catalogue import ModelName
from wan25_mcp.settings import Settings

if TYPE_CHECKING:
    import httpx2


class EditOptions(TypedDict, total=False):
    """The options of one edit.

    n: How many result images, 1 to 4 (default 1). Each costs credits.
    model: The model that makes them.
    callback_url: A public https link that the provider calls when the task is settled.
    force_new: Start, and pay for, another edit even if there is an identical one.
    duplicate_window: Seconds that an identical edit counts for; None (the default): as configured,
        usually 10 minutes.
    timeout: Seconds to wait at most; None (the default): as long as it takes.
    """

    n: int
    model: ModelName
    callback_url: str | None
    force_new: bool
    duplicate_window: float | None
    timeout: float | None


class EditorOptions(TypedDict, total=False):
    """The arguments of `Editor`."""

    key: str | SecretStr | None
    base_url: str | None
    output: str | os.PathLike[str] | None
    save: bool | None
    http: httpx2.AsyncClient | None
    emulator: bool | str | None
    settings: Settings | Mapping[str, str] | None


class OneEditOptions(EditOptions, EditorOptions, total=False):
    """The options of the function `edit`: those of the edit, and those of its `Editor`."""


OF_EDITOR: Final = frozenset(EditorOptions.__annotations__)
