"""Puts errors into the words of a Python program: arguments and methods, not tools."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import InvalidRequest, Wan25Error

_IN_PYTHON: Final = (
    (r"\bCall get_task once more\b", "Call Editor.get once more"),
    (r"\bforce_new=true\b", "force_new=True"),
    (r"\btrue or false\b", "True or False"),
    (
        r"\bAsk the user where the image is saved on this server's machine, or for\b",
        "Give the path of the image on this machine, or",
    ),
    (
        r"\bCopy the image itself into a folder that the server may read, and give that path\b",
        "Give the path of an image's file",
    ),
    (r"\ban absolute path\b", "a path"),
    (r"\babsolute paths\b", "paths"),
    (r",? (?:and|then) restart (?:this|the) server\b", ""),
    (r" in the server's environment\b", ""),
    (r"\bthis server's (?=machine)", "this "),
    (r"\b([Tt])h(?:is|e) server\b", r"\1his program"),
    (r"\(wait_for_task\)", "(Editor.wait)"),
    (r"`wan25-mcp serve --emulator`", "`Editor(emulator=True)`"),
    (r"\(or set WAN25_API_KEY\)", "(or set WAN25_API_KEY, or pass key=...)"),
    (
        r"(?:\bWAN25_OUTPUT_DIR or --output|--output or WAN25_OUTPUT_DIR)\b",
        "output=... or WAN25_OUTPUT_DIR",
    ),
    (r"\bedit_image\b", "edit"),
    (r"\bimage_urls(?=\[| must| is| has| was|,)", "images"),  # the argument, not the attribute
)
"""Patterns in the texts for tools, and their replacements in Python, applied in this order."""


def in_python(text: str) -> str:
    """A message or a remedy in the words of a program."""
    for tool, python in _IN_PYTHON:
        text = re.sub(tool, python, text)
    return text


def spoken(error: Wan25Error, edit: Edit | None = None) -> Wan25Error:
    """A copy of an error for a program, whose traceback says what to do.

    Args:
        edit: What it happened to, so that its task id is not lost.
    """
    found = copy.copy(error)
    found.__dict__.pop("__notes__", None)
    found.message, found.fix = in_python(error.message), in_python(error.fix)
    found.args = (found.message,)
    found.edit = None if edit is None else replace(edit, error=found)
    found.add_note(f"To do: {found.fix}")
    found.add_note(f"Charged: {found.charged}")
    if edit is not None and edit.task_id is not None:
        found.add_note(f"Task id: {edit.task_id}")
    return found


def spoken_edit(edit: Edit) -> Edit:
    """An edit whose notes and error are in the words of a program."""
    error = None if edit.error is None else spoken(edit.error)
    return replace(edit, notes=tuple(map(in_python, edit.notes)), error=error)


@contextmanager
def python_words() -> Iterator[None]:
    """Raise errors in the words of a program."""
    try:
        yield
    except Wan25Error as error:
        if error.edit is not None:  # spoken already
            raise
        # Without the frames inside: they say nothing to who reads the traceback.
        raise spoken(error) from error.__cause__


def not_open(how: str, inside: str = "async with Editor() as editor:") -> InvalidRequest:
    """The error of a call to an editor that is not open."""
    return InvalidRequest(f"This editor {how}.", fix=f"Use it inside `{inside}`.")


def closed() -> Wan25Error:
    """The error of a call that the editor was closed in. It may have sent an edit before."""
    error = not_open("was closed during this call")
    error.fix = "What was sent continues at the provider: `Editor.recent` lists it."
    error.charged = "unknown"
    return spoken(error)
