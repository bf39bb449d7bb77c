"""Edit images with wan2.5-image-to-image: the Python API, a command, and an MCP server.

    from wan25_mcp import edit

    house = await edit("house.jpg", prompt="Make it night")
    print(house.saved, house.image_urls, house.charged)

`Editor` does more: many edits, progress, history. `wan25_mcp.sync` has the same without `await`.
docs/python.md describes all of it. Names are imported when first used, so that the command starts
fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # the same names as in `_PLACES`, for type checkers
    from wan25_mcp.editing.account import Account as Account
    from wan25_mcp.editing.account_editor import AccountEditor as AccountEditor
    from wan25_mcp.editing.connect import open_configured_editor as open_configured_editor
    from wan25_mcp.editing.connect import open_configured_engine as open_configured_engine
    from wan25_mcp.editing.edit import Edit as Edit
    from wan25_mcp.editing.edit import PastEdit as PastEdit
    from wan25_mcp.editing.edit import Price as Price
    from wan25_mcp.editing.edit import Progress as Progress
    from wan25_mcp.editing.editor import Editor as Editor
    from wan25_mcp.editing.engine import Engine as Engine
    from wan25_mcp.editing.engine import open_editor as open_editor
    from wan25_mcp.editing.engine import open_engine as open_engine
    from wan25_mcp.editing.one_edit import edit as edit
    from wan25_mcp.editing.options import Connection as Connection
    from wan25_mcp.editing.options import Options as Options
    from wan25_mcp.errors import InvalidRequest as InvalidRequest
    from wan25_mcp.errors import NotPublished as NotPublished
    from wan25_mcp.errors import OutcomeUnknown as OutcomeUnknown
    from wan25_mcp.errors import ReadFailed as ReadFailed
    from wan25_mcp.errors import Refused as Refused
    from wan25_mcp.errors import SettingsError as SettingsError
    from wan25_mcp.errors import TaskFailed as TaskFailed
    from wan25_mcp.errors import Unreachable as Unreachable
    from wan25_mcp.errors import Wan25Error as Wan25Error
    from wan25_mcp.inputs.given import Images as Images
    from wan25_mcp.inputs.prepare import EditInput as EditInput
    from wan25_mcp.journal import Allowance as Allowance
    from wan25_mcp.journal import JournalUnusable as JournalUnusable
    from wan25_mcp.journal import Spent as Spent
    from wan25_mcp.journal import Withheld as Withheld
    from wan25_mcp.outputs.download import NotDownloaded as NotDownloaded
    from wan25_mcp.outputs.save import NotSaved as NotSaved
    from wan25_mcp.provider.client import Client as Client
    from wan25_mcp.provider.exchange import open_http as open_http
    from wan25_mcp.provider.models import EditRequest as EditRequest
    from wan25_mcp.provider.models import Task as Task
    from wan25_mcp.provider.models import Usage as Usage
    from wan25_mcp.settings import Settings as Settings

_PLACES: Final = {
    "editing.account": "Account",
    "editing.account_editor": "AccountEditor",
    "editing.connect": "open_configured_editor open_configured_engine",
    "editing.edit": "Edit PastEdit Price Progress",
    "editing.editor": "Editor",
    "editing.engine": "Engine open_editor open_engine",
    "editing.one_edit": "edit",
    "editing.options": "Connection Options",
    "errors": "InvalidRequest NotPublished OutcomeUnknown ReadFailed Refused SettingsError "
    "TaskFailed Unreachable Wan25Error",
    "inputs.given": "Images",
    "inputs.prepare": "EditInput",
    "journal": "Allowance JournalUnusable Spent Withheld",
    "outputs.download": "NotDownloaded",
    "outputs.save": "NotSaved",
    "provider.client": "Client",
    "provider.exchange": "open_http",
    "provider.models": "EditRequest Task Usage",
    "settings": "Settings",
}
"""What is public, by the module that has it."""

_MODULES: Final = {name: module for module, names in _PLACES.items() for name in names.split()}

__all__ = sorted(_MODULES)  # noqa: PLE0605  a checker reads the imports above


if TYPE_CHECKING:
    __version__: str
else:  # hidden from type checkers, which would take any name for public

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            from importlib.metadata import version

            return version("wan25-mcp")
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
