"""Puts the texts of errors into the words of the command line: options and commands, not tools."""

from __future__ import annotations

import re
from typing import Final

_AT_TERMINAL: Final = (
    # What an answer tells an agent to do next.
    (
        r"\bCall wait_for_task with task_id \"([^\"]*)\"\.",
        r"To wait for it: `wan25-mcp task \1 --wait`.",
    ),
    (
        r"\bDo not call edit_image again for this edit: that can be charged again\.",
        "Do not run the edit again: that can be charged again.",
    ),
    (r"\bTell the user where the images are saved; the links", "The images are saved. The links"),
    (
        r"\bGive the user the image link and say when it expires; save the image before that\.",
        "Save the image before its link expires.",
    ),
    (
        r"\bGive the user the (\d+) image links and say when they expire; save the images before "
        r"that\.",
        r"Save the \1 images before their links expire.",
    ),
    # Tools.
    (r"\bCall (?:edit_image )?again\b", "Run it again"),
    (r"\bcall (?:edit_image )?again\b", "run it again"),
    (r"\bCall get_task once more\b", "Run `wan25-mcp task TASK_ID` once more"),
    (r"\bwith force_new=true\b", "with --force-new"),
    (r"\(wait_for_task\)", "(`wan25-mcp task TASK_ID --wait`)"),
    (r"\bas edit_image returned it\b", "as `wan25-mcp edit` printed it"),
    (r"\bPoll the task again: that is free\b", "Run `wan25-mcp task TASK_ID`: that is free"),
    (r"\bPolling gave no usable answer\b", "The provider gave no usable answer about the task"),
    (r"\bPolling tasks still works\b", "`wan25-mcp task TASK_ID` still works"),
    (r"`wan25-mcp serve --emulator`", "`wan25-mcp demo`"),
    # Their arguments.
    (r"\(n\)", "(-n)"),
    (r"\bn must be\b", "-n must be"),
    (r"\bprompt (must|has|is)\b", r"--prompt \1"),
    (r"\bimage_urls\[0\]", "IMAGE"),
    (r"\bimage_urls\[1\]", "IMAGE2"),
    (r"\bimage_urls must be a list of\b", "IMAGE must be"),
    (r"\btask_id\b", "TASK_ID"),
    # A command knows the working directory.
    (r"\bneither a link nor an absolute path\b", "neither a link nor a file"),
    (r"\babsolute paths\b", "paths"),
    (r"\ban absolute path\b", "a path"),
    # The person is the user, and the machine is this one.
    (
        r"\bAsk the user where the image is saved on this server's machine, or for\b",
        "Give the path of the image on this machine, or",
    ),
    (r" and the user agrees\b", ""),
    (r", then restart (?:this|the) server\b", ""),
    (r" and restart the server\b", ""),
    (r" on the computer that this server runs on\b", " on this computer"),
    (r" in the environment of this server\b", " in the environment"),
    (r" in the server's environment to the folders that it may read\b", " to those folders"),
    (r"\bthis server does not run on Windows\b", "this system is not Windows"),
    (r"\bThis server may not read a local image\b", "A local image may not be read"),
    (r"\ba folder that (?:the|this) server may read\b", "a folder that you may read"),
    (r"\bthis server may read it\b", "you may read it"),
    (r"\bThe server stopped\b", "The command stopped"),
    (r"\bthis server\b", "this program"),
    (r"\bThis server\b", "This program"),
)
"""Patterns in the texts for tools, and their replacements at a terminal, applied in this order."""


def at_terminal(text: str) -> str:
    """A message or a remedy in the words of the command line."""
    for tool, command in _AT_TERMINAL:
        text = re.sub(tool, command, text)
    return text
