"""Answers as tool results: one text block, and the same as structured content."""

from __future__ import annotations

from mcp_types import CallToolResult, TextContent

from wan25_mcp.editing.answers import Answer, noting_emulator, text_of


def result_of(answer: Answer, *, is_emulator: bool) -> CallToolResult:
    """The tool result of an answer."""
    if is_emulator:
        answer = noting_emulator(answer)
    return CallToolResult(
        content=[TextContent(type="text", text=text_of(answer))],
        structured_content=answer.model_dump(mode="json"),
        is_error=answer.error is not None,
    )
