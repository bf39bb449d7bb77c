"""TOML: a table of its own at the end of the file."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from wan25_mcp.cli.install.texts import CannotEdit

_HEADER: Final = re.compile(r"^[ \t]*\[\[?[^\[\]\n]+\]\]?[ \t]*(?:#.*)?\r?$", re.MULTILINE)
_BLANK_END: Final = re.compile(r"(\r?\n)(?:[ \t]*\r?\n)+\Z")
_COMMENTS_END: Final = re.compile(r"(?:^[ \t]*(?:#.*)?\r?\n)*\Z", re.MULTILINE)


def read(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        raise CannotEdit(f"is not valid TOML ({str(error)[:100]})") from None


def put(text: str, path: Sequence[str], value: Any) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    tables = write(path, value).replace("\n", newline)
    spans = list(_spans(text, path))
    if spans:
        (start, end), *others = spans
        for first, last in reversed(others):
            text = text[:first] + text[last:]
        gap = newline if text[end:].strip() and not text[end:].startswith(newline) else ""
        return text[:start] + tables + gap + text[end:]
    if text.strip():
        text += ("" if text.endswith("\n") else newline) + newline
    return text + tables


def take(text: str, path: Sequence[str]) -> str:
    for start, end in reversed(list(_spans(text, path))):
        before, after = text[:start], text[end:].lstrip("\r\n")
        text = before + after if after.strip() else _BLANK_END.sub(r"\1", before)
    return text


def write(path: Sequence[str], value: dict[str, Any]) -> str:
    """The table and its tables."""
    lines = [f"[{'.'.join(path)}]"]
    tables = {name: one for name, one in value.items() if isinstance(one, dict)}
    # JSON's strings, lists and booleans are TOML's too.
    lines += [
        f"{name} = {json.dumps(one, ensure_ascii=False)}"
        for name, one in value.items()
        if name not in tables
    ]
    inner = [write([*path, name], one) for name, one in tables.items()]
    return "\n".join(["\n".join([*lines, ""]), *inner])


def _spans(text: str, path: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Where the table and the tables in it are, without the comments before what follows."""
    headers = list(_HEADER.finditer(text))
    ours = [_name(header[0])[: len(path)] == list(path) for header in headers]
    start = None
    for place, is_ours in enumerate(ours):
        if not is_ours:
            continue
        start = headers[place].start() if start is None else start
        if ours[place + 1 : place + 2] == [True]:
            continue
        end = headers[place + 1].start() if place + 1 < len(headers) else len(text)
        kept = _COMMENTS_END.search(text, headers[place].end(), end)
        yield start, kept.start() if kept else end
        start = None


def _name(header: str) -> list[str]:
    inside = header.split("]", maxsplit=1)[0].strip(" \t[")
    return [part.strip().strip("\"'") for part in inside.split(".")]
