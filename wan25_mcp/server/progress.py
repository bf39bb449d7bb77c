"""Progress notifications: always increasing, as the protocol requires, with a message in words."""

from __future__ import annotations

from typing import Any, Final

from mcp.server.mcpserver import Context

from wan25_mcp.editing.edit import Progress

_STEP: Final = 0.1
"""Added when the percent has not risen."""


class Reporter:
    """Reports the progress of one wait. Does nothing if the caller gave no progress token."""

    def __init__(self, context: Context[Any, Any]) -> None:
        self._context = context
        self._last = -_STEP

    async def report(self, progress: Progress) -> None:
        """Report the progress of the edit."""
        self._last = max(float(progress.edit.progress or 0), self._last + _STEP)
        self._last = round(self._last, 1)
        await self._context.report_progress(self._last, 100, message_of(progress))


def message_of(progress: Progress) -> str:
    """The progress in words: "processing, 40 %; 31 s so far, such edits took 68 s"."""
    edit, typical = progress.edit, progress.typical
    percent = f", {edit.progress} %" if edit.progress else ""
    usual = f"such edits took {typical:.0f} s" if typical else "usually 40-120 s in all"
    return f"{edit.status}{percent}; {progress.elapsed:.0f} s so far, {progress.note or usual}"
