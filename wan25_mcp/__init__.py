"""Edit images with wan2.5-image-to-image: the async client, the editor, and an MCP server.

    from wan25_mcp import EditRequest, Settings, open_configured_editor

    settings = Settings.from_mapping(os.environ)
    async with open_configured_editor(settings) as editor:
        edit = await editor.edit(EditRequest(prompt="Make it night", image_urls=(link,)))
        edit = await editor.wait(edit, timeout=300)
        print(edit.image_urls, edit.usage)

Names are imported when first used: starting the command costs no more than it needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from wan25_mcp.client import Client, open_http
    from wan25_mcp.connecting import open_configured_editor
    from wan25_mcp.editor import Editor, open_editor
    from wan25_mcp.edits import Edit
    from wan25_mcp.errors import (
        InvalidRequest,
        OutcomeUnknown,
        ReadFailed,
        Refused,
        SettingsError,
        TaskFailed,
        Unreachable,
        Wan25Error,
    )
    from wan25_mcp.models import EditRequest, Task, Usage
    from wan25_mcp.settings import Settings
    from wan25_mcp.terms import Connection

_HOMES: Final = {
    "Client": "client",
    "Connection": "terms",
    "Edit": "edits",
    "EditRequest": "models",
    "Editor": "editor",
    "InvalidRequest": "errors",
    "OutcomeUnknown": "errors",
    "ReadFailed": "errors",
    "Refused": "errors",
    "Settings": "settings",
    "SettingsError": "errors",
    "Task": "models",
    "TaskFailed": "errors",
    "Unreachable": "errors",
    "Usage": "models",
    "Wan25Error": "errors",
    "open_configured_editor": "connecting",
    "open_editor": "editor",
    "open_http": "client",
}

__all__ = [
    "Client",
    "Connection",
    "Edit",
    "EditRequest",
    "Editor",
    "InvalidRequest",
    "OutcomeUnknown",
    "ReadFailed",
    "Refused",
    "Settings",
    "SettingsError",
    "Task",
    "TaskFailed",
    "Unreachable",
    "Usage",
    "Wan25Error",
    "open_configured_editor",
    "open_editor",
    "open_http",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
