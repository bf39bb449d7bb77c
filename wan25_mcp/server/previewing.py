"""Small previews after the text of a finished edit, for clients that show images."""

from __future__ import annotations

import base64
import logging
import math
from typing import Any, Final

import anyio
from mcp.server.mcpserver import Context
from mcp_types import ImageContent

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import Wan25Error
from wan25_mcp.outputs.previews import shows_images
from wan25_mcp.settings import Preview

logger: Final = logging.getLogger(__name__)

PATIENCE: Final = 10.0
"""Seconds that an answer waits for its previews. It is complete without them."""


class Previews:
    """Makes the previews for the answers of one server."""

    def __init__(self, editor: AccountEditor, when: Preview) -> None:
        self._editor = editor
        self._when = when

    async def of(
        self, edit: Edit, context: Context[Any, Any], *, until: float = math.inf
    ) -> list[ImageContent]:
        """The previews to send with the answer for an edit; usually none.

        Args:
            until: The moment by which the answer must be sent, on the event loop's clock.
        """
        if edit.status != "completed" or not self._are_wanted(context):
            return []
        with anyio.CancelScope(deadline=min(until, anyio.current_time() + PATIENCE)):
            return await self._made(edit)
        return []

    def _are_wanted(self, context: Context[Any, Any]) -> bool:
        if self._when != "auto":
            return self._when == "always"
        client = context.request_context.session.client_params
        return shows_images(client.client_info.name if client else None)

    async def _made(self, edit: Edit) -> list[ImageContent]:
        try:
            previews = await self._editor.previews(edit)
        except Wan25Error as error:
            logger.info("No preview: %s", error.message)
            return []
        return [
            ImageContent(
                type="image", data=base64.b64encode(preview).decode(), mime_type="image/jpeg"
            )
            for preview in previews
        ]
