"""Changes one entry in the text of a configuration, and nothing else.

Each format has four functions: read a text, put an entry in, take it out, and write the part of a
file that has the entry. A change is a change of text at one place, so that comments, order and
layout stay as they are. `changed` reads the result again: if anything else differs, it is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

Names = Sequence[str]
"""The names from the root of a configuration to a value."""


class CannotEdit(Exception):
    """Why a configuration is left alone: completes "PATH …"."""


class Text(Protocol):
    """One format."""

    def read(self, text: str) -> dict[str, Any]:
        """The values.

        Raises:
            CannotEdit: It cannot be parsed.
        """
        ...

    def put(self, text: str, path: Names, value: dict[str, Any]) -> str:
        """The text with a value in place of an earlier one, or added."""
        ...

    def take(self, text: str, path: Names) -> str:
        """The text without a value that is there."""
        ...

    def write(self, path: Names, value: Any) -> str:
        """A file that has nothing but the value."""
        ...


def format_named(name: str) -> Text:
    """The functions of a format; imported only when it is needed."""
    from importlib import import_module

    return cast("Text", import_module(f"wan25_mcp.cli.install.{name}_text"))


@dataclass(frozen=True, slots=True)
class Edit:
    """A value to put somewhere, or to take out (None)."""

    path: Names
    value: Any


def changed(text: str, edit: Edit, name: str) -> str:
    """The text with the edit made.

    Raises:
        CannotEdit: It cannot be parsed, or the edit would change anything else.
    """
    made = format_named(name)
    try:
        wanted = _with(made.read(text), edit)
        if edit.value is None:
            after = made.take(text, edit.path)
        else:
            after = made.put(text, edit.path, edit.value)
        is_safe = _reads_as(made, after, wanted, edit)
    except TypeError:  # such as a date among what somebody added to our entry
        raise CannotEdit("has a value that this command cannot write") from None
    except RecursionError:
        raise CannotEdit("is nested too deeply") from None
    if not is_safe:
        raise CannotEdit("is written in a way that this command cannot change safely")
    return after


def _reads_as(made: Text, text: str, wanted: dict[str, Any], edit: Edit) -> bool:
    try:
        return _tidy(made.read(text), edit) == _tidy(wanted, edit)
    except CannotEdit:
        return False


def _tidy(values: dict[str, Any], edit: Edit) -> dict[str, Any]:
    """Without an empty section: in TOML it is gone with its last table."""
    section = edit.path[0]
    return values if values.get(section) else {k: v for k, v in values.items() if k != section}


def found(values: Any, path: Names) -> Any:
    """The value at a path; None if there is none."""
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _with(before: dict[str, Any], edit: Edit) -> dict[str, Any]:
    *section, name = edit.path
    after = copy.deepcopy(before)
    inner: Any = after
    for step in section:
        if inner.get(step) is None:
            inner[step] = {}
        inner = inner[step]
        if not isinstance(inner, dict):
            raise CannotEdit(f"has something unexpected at {'.'.join(section)}")
    if edit.value is None:
        inner.pop(name, None)
    else:
        inner[name] = edit.value
    return after
