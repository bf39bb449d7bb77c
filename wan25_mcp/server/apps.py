"""The view of an edit in the chat: an MCP App (`io.modelcontextprotocol/ui`).

Only `edit_image` has it: the view then follows its edit by itself. With a view on `wait_for_task`
too, each wait would add one to the chat. A client without apps ignores all of this, and no answer
has a byte for it.

A host builds the view's content security policy from the origins declared here, and declared are
only those that are known before an edit: of the API, of its file service, of an emulator. Result
links are at hosts of the provider's choosing. A whole scheme (`https:`) is no origin, and hosts
would allow scripts from it too. So the view loads a link only where the host says that its policy
has the link's origin, and reads all other pictures as resources of this server, by way of the host.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import anyio
from mcp.server.apps import APP_MIME_TYPE, Apps, ResourceCsp
from mcp.server.mcpserver.resources import Resource

from wan25_mcp.editing.connect import file_service_of
from wan25_mcp.settings import Settings
from wan25_mcp.url_safety import origin_of

URI: Final = "ui://wan25/edit"
TOOL_META: Final[dict[str, Any]] = {"ui": {"resourceUri": URI}}
FILE: Final = Path(__file__).with_name("view.html")


class _View(Resource):
    """The page, read from its file when a host asks for it: start-up stays light."""

    async def read(self) -> str:
        return await anyio.Path(FILE).read_text(encoding="utf-8")


def edit_view(image_origins: tuple[str, ...] = ()) -> Apps:
    """The extension to give to the server.

    Args:
        image_origins: Where the view may load pictures from.
    """
    csp = ResourceCsp(resource_domains=list(image_origins)) if image_origins else ResourceCsp()
    declared = csp.model_dump(by_alias=True, exclude_none=True)
    apps = Apps()
    apps.add_resource(
        _View(
            uri=URI,
            name="edit-view",
            title="An edit, before and after",
            mime_type=APP_MIME_TYPE,
            meta={"ui": {"csp": declared, "prefersBorder": True}},
        )
    )
    return apps


def image_origins(settings: Settings) -> tuple[str, ...]:
    """The origins of pictures that the settings tell. An emulator in this process has none yet."""
    if settings.emulator_url is not None:
        addresses: tuple[str | None, ...] = (settings.emulator_url,)
    elif settings.emulator:
        addresses = ()
    else:
        addresses = (settings.base_url, file_service_of(settings))
    found = [origin_of(address) for address in addresses if address]
    return tuple(dict.fromkeys(origin for origin in found if origin))
