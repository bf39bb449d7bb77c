"""Edit images with wan2.5-image-to-image: the async client, the editor, and an MCP server.

    from wan25_mcp import EditRequest, Settings, open_configured_editor

    settings = Settings.from_mapping(os.environ)
    async with open_configured_editor(settings) as editor:
        edit = await editor.edit(EditRequest(prompt="Make it night", image_urls=(link,)))
        edit = await editor.wait(edit, timeout=300)
        print(edit.image_urls, edit.usage)

Names are imported when first used, so that the command starts fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wan25_mcp.editing.account import Account
    from wan25_mcp.editing.account_editor import AccountEditor
    from wan25_mcp.editing.connect import open_configured_editor, open_configured_engine
    from wan25_mcp.editing.edit import Edit, PastEdit, Price, Progress
    from wan25_mcp.editing.engine import Engine, open_editor, open_engine
    from wan25_mcp.editing.options import Connection, Options
    from wan25_mcp.errors import (
        InvalidRequest,
        NotPublished,
        OutcomeUnknown,
        ReadFailed,
        Refused,
        SettingsError,
        TaskFailed,
        Unreachable,
        Wan25Error,
    )
    from wan25_mcp.inputs.prepare import EditInput
    from wan25_mcp.journal import Allowance, JournalUnusable, Spent, Withheld
    from wan25_mcp.outputs.download import NotDownloaded
    from wan25_mcp.outputs.save import NotSaved
    from wan25_mcp.provider.client import Client
    from wan25_mcp.provider.exchange import open_http
    from wan25_mcp.provider.models import EditRequest, Task, Usage
    from wan25_mcp.settings import Settings

_MODULES: Final = {
    "Account": "editing.account",
    "Allowance": "journal",
    "Client": "provider.client",
    "Connection": "editing.options",
    "Edit": "editing.edit",
    "EditInput": "inputs.prepare",
    "EditRequest": "provider.models",
    "AccountEditor": "editing.account_editor",
    "Engine": "editing.engine",
    "InvalidRequest": "errors",
    "JournalUnusable": "journal",
    "NotDownloaded": "outputs.download",
    "NotPublished": "errors",
    "NotSaved": "outputs.save",
    "Options": "editing.options",
    "OutcomeUnknown": "errors",
    "PastEdit": "editing.edit",
    "Price": "editing.edit",
    "Progress": "editing.edit",
    "ReadFailed": "errors",
    "Refused": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "Spent": "journal",
    "Task": "provider.models",
    "TaskFailed": "errors",
    "Unreachable": "errors",
    "Usage": "provider.models",
    "Wan25Error": "errors",
    "Withheld": "journal",
    "open_configured_editor": "editing.connect",
    "open_configured_engine": "editing.connect",
    "open_editor": "editing.engine",
    "open_engine": "editing.engine",
    "open_http": "provider.exchange",
}

__all__ = [
    "Account",
    "AccountEditor",
    "Allowance",
    "Client",
    "Connection",
    "Edit",
    "EditInput",
    "EditRequest",
    "Engine",
    "InvalidRequest",
    "JournalUnusable",
    "NotDownloaded",
    "NotPublished",
    "NotSaved",
    "Options",
    "OutcomeUnknown",
    "PastEdit",
    "Price",
    "Progress",
    "ReadFailed",
    "Refused",
    "Settings",
    "SettingsError",
    "Spent",
    "Task",
    "TaskFailed",
    "Unreachable",
    "Usage",
    "Wan25Error",
    "Withheld",
    "open_configured_editor",
    "open_configured_engine",
    "open_editor",
    "open_engine",
    "open_http",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("wan25-mcp")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
