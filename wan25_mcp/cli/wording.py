"""Puts the texts of errors into the words of the command line: options and commands, not tools."""

from __future__ import annotations

import re
from typing import Final

_AT_TERMINAL: Final = (
    (r"\bCall (?:edit_image )?again\b", "Run it again"),
    (r"\bcall (?:edit_image )?again\b", "run it again"),
    (r"\bCall get_task once more\b", "Run `wan25-mcp task TASK_ID` once more"),
    (r"\bwith force_new=true\b", "with --force-new"),
    (
        r"\bAsk the user where the image is saved on this server's machine, or for\b",
        "Give the path of the image on this machine, or",
    ),
    (r" and restart the server\b", ""),
    (r"\(wait_for_task\)", "(`wan25-mcp task TASK_ID --wait`)"),
    (r"\(n\)", "(-n)"),
    (r"\bn must be\b", "-n must be"),
    (r"\bprompt (must|has|is)\b", r"--prompt \1"),
    (r"\bimage_urls\[0\]", "IMAGE"),
    (r"\bimage_urls\[1\]", "IMAGE2"),
    (r"\bimage_urls must be a list of\b", "IMAGE must be"),
    (r"\bas edit_image returned it\b", "as `wan25-mcp edit` printed it"),
    (r", then restart this server\b", ""),
    (r"`wan25-mcp serve --emulator`", "`wan25-mcp demo`"),
    (r"\btask_id\b", "TASK_ID"),
)
"""Patterns in the texts for tools, and their replacements at a terminal, applied in this order."""


def at_terminal(text: str) -> str:
    """A message or a remedy in the words of the command line."""
    for tool, command in _AT_TERMINAL:
        text = re.sub(tool, command, text)
    return text
