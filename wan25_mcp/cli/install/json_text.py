"""JSON with comments and trailing commas, as editors allow it.

A copy of the text in which these are spaces has every value at the same place, and the standard
library can read it. So only places are looked for here, and nothing is parsed twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from wan25_mcp.cli.install.texts import CannotEdit

_STRING: Final = r'"(?:\\.|[^"\\])*"'
_COMMENT: Final = re.compile(rf"{_STRING}|(//[^\n]*|/\*.*?\*/|\A\ufeff)", re.DOTALL)
_TRAILING: Final = re.compile(rf"{_STRING}|(,)(?=\s*[}}\]])", re.DOTALL)
_SPACE: Final = re.compile(r"\s*")
_DECODER: Final = json.JSONDecoder(strict=False)


def read(text: str) -> dict[str, Any]:
    plain = _Plain(text).values
    if not plain.strip():
        return {}
    try:
        values = json.loads(plain, strict=False)
    except ValueError as error:
        line = f"line {text.count(chr(10), 0, error.pos) + 1}: " if hasattr(error, "pos") else ""
        reason = getattr(error, "msg", "not JSON").lower()
        raise CannotEdit(f"is not valid JSON ({line}{reason})") from None
    except RecursionError:
        raise CannotEdit("is nested too deeply") from None
    if not isinstance(values, dict):
        raise CannotEdit("does not hold a JSON object")
    return values


def put(text: str, path: Sequence[str], value: Any) -> str:
    plain = _Plain(text)
    if not plain.values.strip():
        return _joined(text, write(path, value), _newline(text))
    *section, name = path
    holder = plain.items(0)
    for depth, step in enumerate(section):
        item = holder.named(step)
        if item is None:
            whole = _nested(path[depth + 1 :], value)
            return _added(plain, holder, f"{json.dumps(step)}: ", whole)
        holder = plain.items(item.value)
    item = holder.named(name)
    if item is None:
        return _added(plain, holder, f"{json.dumps(name)}: ", value)
    indent = _indent_at(text, item.start)
    return text[: item.value] + _written(plain, value, indent, holder) + text[item.end :]


def take(text: str, path: Sequence[str]) -> str:
    plain = _Plain(text)
    holder = plain.items(0)
    for name in path[:-1]:
        item = holder.named(name)
        if item is None:
            return text
        holder = plain.items(item.value)
    item = holder.named(path[-1])
    return text if item is None else _without(plain, holder, item)


def put_element(text: str, name: str, element: dict[str, Any]) -> str:
    """The text with an element added to a list, which is made if there is none."""
    plain = _Plain(text)
    holder = plain.items(0)
    item = holder.named(name)
    if item is None:
        return _added(plain, holder, f"{json.dumps(name)}: ", [element])
    return _added(plain, plain.items(item.value), "", element)


def take_element(text: str, name: str, index: int) -> str:
    """The text without an element of a list."""
    plain = _Plain(text)
    item = plain.items(0).named(name)
    assert item is not None  # noqa: S101  it was read there
    holder = plain.items(item.value)
    return _without(plain, holder, holder.items[index])


def write(path: Sequence[str], value: Any) -> str:
    return json.dumps(_nested(path, value), indent=2, ensure_ascii=False) + "\n"


def _nested(path: Sequence[str], value: Any) -> Any:
    for name in reversed(path):
        value = {name: value}
    return value


@dataclass(frozen=True, slots=True)
class _Item:
    """A member of an object or an element of a list: where it starts, and where its value is."""

    name: str
    start: int
    value: int
    end: int


@dataclass(frozen=True, slots=True)
class _Holder:
    """An object or a list, from its opening bracket to its closing one."""

    start: int
    end: int
    items: tuple[_Item, ...]

    def named(self, name: str) -> _Item | None:
        found = [item for item in self.items if item.name == name]
        if len(found) > 1:
            raise CannotEdit(f"has {name} twice")
        return found[0] if found else None


class _Plain:
    """A text, and copies of it without comments, and without trailing commas either."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.commas = _COMMENT.sub(_blank, text)
        self.values = _TRAILING.sub(_blank, self.commas)

    def items(self, place: int) -> _Holder:
        """The object or list at a place, or behind the spaces there."""
        start = self._skip(place)
        opening = self.values[start]
        if opening not in "{[":
            raise CannotEdit("has something unexpected where the servers should be")
        items = []
        at = self._skip(start + 1)
        while self.values[at] not in "}]":
            name, value = "", at
            if opening == "{":
                name, value = _DECODER.raw_decode(self.values, at)
                value = self._skip(self._skip(value) + 1)  # behind the colon
            _, end = _DECODER.raw_decode(self.values, value)
            items.append(_Item(name, at, value, end))
            at = self._skip(end)
            if self.values[at] == ",":
                at = self._skip(at + 1)
        return _Holder(start, at, tuple(items))

    def _skip(self, place: int) -> int:
        found = _SPACE.match(self.values, place)
        return found.end() if found else place


def _blank(found: re.Match[str]) -> str:
    return found[0] if found[1] is None else " " * len(found[0])


def _added(plain: _Plain, holder: _Holder, name: str, value: Any) -> str:
    """The text with an item behind the last one."""
    text, newline = plain.text, _newline(plain.text)
    if holder.items and "\n" not in text[holder.start : holder.end]:  # all in one line
        at = holder.items[-1].end
        return f"{text[:at]}, {name}{json.dumps(value, ensure_ascii=False)}{text[at:]}"
    outer = _indent_at(text, holder.start)
    indent = _indent_at(text, holder.items[0].start) if holder.items else outer + _unit(plain)
    item = f"{newline}{indent}{name}{_written(plain, value, indent, holder)}"
    if not holder.items:
        inside = text[holder.start + 1 : holder.end].rstrip()  # comments stay
        return f"{text[: holder.start + 1]}{inside}{item}{newline}{outer}{text[holder.end :]}"
    last = holder.items[-1].end
    comma = plain.commas.find(",", last, holder.end)
    behind = last if comma < 0 else comma + 1
    line = plain.commas.find("\n", behind, holder.end)
    # A comment behind the last item stays in its line.
    at = line if line >= 0 and not plain.commas[behind:line].strip() else behind
    if at == line and text[at - 1] == "\r":
        at -= 1
    if comma < 0:
        return f"{text[:last]},{text[last:at]}{item}{text[at:]}"
    return f"{text[:at]}{item},{text[at:]}"


def _without(plain: _Plain, holder: _Holder, item: _Item) -> str:
    """The text without an item, its comma and what is left of its lines."""
    text, items, index = plain.text, holder.items, holder.items.index(item)
    if (
        len(items) == 1
        and not (text[holder.start + 1 : item.start] + text[item.end : holder.end]).strip()
    ):
        return text[: holder.start + 1] + text[holder.end :]
    following = items[index + 1].start if index + 1 < len(items) else holder.end
    comma = plain.commas.find(",", item.end, following)
    end = item.end if comma < 0 else comma + 1
    line = text.rfind("\n", 0, item.start) + 1
    newline = plain.commas.find("\n", end)
    if text[line : item.start].strip() or plain.commas[end:newline].strip() or newline < 0:
        # It shares its lines with others.
        if index and comma < 0:
            return text[: items[index - 1].end] + text[item.end :]
        return text[: item.start] + text[following:]
    rest = text[newline + 1 :]
    if index and comma < 0:  # it was the last, so the one before it needs no comma any more
        comma = plain.commas.find(",", items[index - 1].end, line)
        return text[:comma] + text[comma + 1 : line] + rest
    return text[:line] + rest


def _written(plain: _Plain, value: Any, indent: str, holder: _Holder) -> str:
    if holder.items and "\n" not in plain.text[holder.start : holder.end]:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, indent=_unit(plain), ensure_ascii=False).split("\n")
    return f"{_newline(plain.text)}{indent}".join(lines)


def _unit(plain: _Plain) -> str:
    """What the file indents by."""
    found = re.search(r"^([ \t]+)\"", plain.values, re.MULTILINE)
    return found[1] if found else "  "


def _indent_at(text: str, place: int) -> str:
    line = text[text.rfind("\n", 0, place) + 1 : place]
    return line[: len(line) - len(line.lstrip())]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _joined(text: str, addition: str, newline: str) -> str:
    gap = newline if text.strip("\ufeff") and not text.endswith("\n") else ""
    return text + gap + addition.replace("\n", newline)
