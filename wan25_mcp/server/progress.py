"""Progress to a caller that asked for it: always rising, with a message a person understands."""

from __future__ import annotations

from typing import Any, Final

import anyio
from mcp.server.mcpserver import Context

from wan25_mcp.edits import Edit

_STEP: Final = 0.1
"""What is added when the percent has not risen: the protocol wants every report to rise."""


class Reporter:
    """Reports one wait. A no-op when the caller gave no progress token."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._began = anyio.current_time()
        self._last = -_STEP

    async def report(self, edit: Edit) -> None:
        """Tell how far the edit is."""
        self._last = max(float(edit.progress or 0), self._last + _STEP)
        elapsed = anyio.current_time() - self._began
        percent = f", {edit.progress} %" if edit.progress is not None else ""
        message = f"{edit.status}{percent}; waited {elapsed:.0f} s, usually 40-120 s in all"
        await self._context.report_progress(self._last, 100, message)
