"""YAML: an entry of its own lines, first in its section. Its values are JSON, which is YAML."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from wan25_mcp.cli.install.texts import CannotEdit


def read(text: str) -> dict[str, Any]:
    try:
        values = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise CannotEdit(f"is not valid YAML{where}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise CannotEdit("does not hold a YAML mapping")
    return values


def put(text: str, path: Sequence[str], value: dict[str, Any]) -> str:
    section, name = path
    if name in (read(text).get(section) or {}):
        text = take(text, path)
    newline = "\r\n" if "\r\n" in text else "\n"
    held = _section(text, section)
    if held is None:
        gap = "" if not text or text.endswith("\n") else newline
        return text + gap + write(path, value).replace("\n", newline)
    if isinstance(held, yaml.MappingNode) and held.value and not held.flow_style:
        first = held.value[0][0].start_mark
        indent, at = first.column, first.index - first.column
        return text[:at] + _lines(name, value, indent).replace("\n", newline) + text[at:]
    if getattr(held, "value", None):
        raise CannotEdit(f"has its {section} in one line")
    rest = text[held.end_mark.index :]
    entry = newline + _lines(name, value, 2).replace("\n", newline)
    return text[: held.start_mark.index].rstrip(" ") + entry.rstrip() + (rest or newline)


def take(text: str, path: Sequence[str]) -> str:
    section, name = path
    held = _section(text, section)
    if not isinstance(held, yaml.MappingNode) or held.flow_style:
        raise CannotEdit(f"has its {section} in one line")
    key = next(key for key, _ in held.value if key.value == name)
    start, column = key.start_mark.index - key.start_mark.column, key.start_mark.column
    head, *body = text[start:].splitlines(keepends=True)
    end = start + len(head)
    for line in body:
        if not line.strip() or len(line) - len(line.lstrip(" ")) <= column:
            break
        end += len(line)
    if len(held.value) > 1:
        return text[:start] + text[end:]
    before = text[:start].rstrip()
    return f"{before} {{}}{text[len(before) : start]}{text[end:]}"


def write(path: Sequence[str], value: dict[str, Any]) -> str:
    section, name = path
    return f"{section}:\n{_lines(name, value, 2)}"


def _section(text: str, name: str) -> Any:
    """The node of a section; None if there is none."""
    root = yaml.compose(text, yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    return next((value for key, value in root.value if key.value == name), None)


def _lines(name: str, value: dict[str, Any], indent: int) -> str:
    space = " " * indent
    inner = [
        f"{space}  {key}: {json.dumps(one, ensure_ascii=False)}\n" for key, one in value.items()
    ]
    return f"{space}{name}:\n{''.join(inner)}"
