"""A change of one client's configuration: made from what is there, shown, and written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from wan25_mcp.cli.install import files
from wan25_mcp.cli.install.client import INPUT, NAME, Client
from wan25_mcp.cli.install.plan import Plan
from wan25_mcp.cli.install.texts import CannotEdit, Edit, changed, format_named, found
from wan25_mcp.redaction import Redactor

_ATTEMPTS: Final = 5
_WIDTH: Final = 160
_NAME: Final = (
    r"[\w.-]*(?:key|token|secret|passw|pwd|auth|credential|\bpat\b|_pat\b)[\w.-]*[\"']?\s*"
)
_SECRET: Final = re.compile(
    rf"(?i)((?:\b{_NAME}[:=]|-{_NAME},)\s*)"  # a field, or an option and its value in a list
    r"(\"[^\"\n]*\"|'[^'\n]*'|(?!true\b|false\b|null\b)[^\s\"',{}\[\]]+)"
)

_IN_ADDRESS: Final = re.compile(r"(://[^\s/@:\"']*:)[^\s/@\"']+(?=@)")
"""The password of an address, such as a database's."""

Make = Callable[[str], str]
"""The new text of a configuration, made from the old one."""


@dataclass(frozen=True, slots=True)
class Change:
    """A configuration before and after; `before` is None where there is no file."""

    path: Path
    before: bytes | None
    after: bytes

    @property
    def is_none(self) -> bool:
        return self.before == self.after or (self.before is None and not self.after)

    def diff(self) -> Iterator[str]:
        """The lines that change, with secrets masked."""
        old, new = (content.decode("utf-8") for content in (self.before or b"", self.after))
        redact = Redactor()
        lines = difflib.unified_diff(
            old.splitlines(), new.splitlines(), str(self.path), str(self.path), n=0, lineterm=""
        )
        for line in lines:
            masked = _SECRET.sub(_masked, _IN_ADDRESS.sub(r"\1***", redact(line)))
            yield masked if len(masked) <= _WIDTH else f"{masked[:_WIDTH]} …"


def _masked(found: re.Match[str]) -> str:
    """A reference to a variable is no secret."""
    value = found[2].strip("\"'")
    return found[0] if not value or value.startswith(("$", "{")) else f'{found[1]}"***"'


def planned(path: Path, make: Make) -> Change:
    """
    Raises:
        CannotEdit: The file cannot be read or changed.
    """
    try:
        before = files.read(path)
        text = (before or b"").decode("utf-8")
    except OSError as error:
        raise CannotEdit(f"cannot be read ({(error.strerror or 'unknown').lower()})") from None
    except UnicodeDecodeError:
        raise CannotEdit("is not UTF-8 text") from None
    return Change(path, before, make(text).encode("utf-8"))


def written(path: Path, make: Make) -> tuple[Change, Path | None]:
    """Change a file, anew if somebody else writes it meanwhile. Returns the change and the backup.

    Raises:
        CannotEdit: The file cannot be read, changed or written, and is as it was.
    """
    for _ in range(_ATTEMPTS):
        change = planned(path, make)
        if change.is_none:
            return change, None
        try:
            return change, files.write(path, change.before, change.after)
        except files.ChangedMeanwhile:
            continue
        except OSError as error:
            reason = (error.strerror or "unknown").lower()
            raise CannotEdit(f"cannot be written ({reason})") from None
    raise CannotEdit("is being written by another program all the time")


def adding(plan: Plan) -> Make:
    """Adds the entry, or brings it up to date."""

    def make(text: str) -> str:
        client, path = plan.client, (*plan.client.section, NAME)
        earlier = found(format_named(client.format).read(text), path)
        entry = plan.entry(earlier)
        if entry != earlier:
            text = changed(text, Edit(path, entry), client.format)
        return _with_input(text) if plan.asks else text

    return make


def removing(client: Client) -> Make:
    """Removes the entry."""

    def make(text: str) -> str:
        path = (*client.section, NAME)
        if found(format_named(client.format).read(text), path) is not None:
            text = changed(text, Edit(path, None), client.format)
        return _without_input(text) if client.asks else text

    return make


def state(client: Client, path: Path) -> Literal["yes", "no", "unreadable"]:
    """Whether this server is in a client's configuration."""
    try:
        text = (files.read(path) or b"").decode("utf-8")
        values = format_named(client.format).read(text)
    except (OSError, ValueError, CannotEdit):
        return "unreadable"
    return "no" if found(values, (*client.section, NAME)) is None else "yes"


def snippet(plan: Plan) -> str:
    """The part of a configuration that has the entry, as a file of its own."""
    client = plan.client
    path = (*client.section, NAME)
    if plan.asks:
        from wan25_mcp.cli.install import json_text

        whole = {"inputs": [INPUT], client.section[0]: {NAME: plan.entry(None)}}
        return json_text.write((), whole)
    return format_named(client.format).write(path, plan.entry(None))


def _with_input(text: str) -> str:
    """With the question for the key, in the list of VS Code's questions."""
    from wan25_mcp.cli.install import json_text

    before = json_text.read(text)
    inputs = before.get("inputs") or []
    if _input_in(inputs) is not None:
        return text
    after = json_text.put_element(text, "inputs", INPUT)
    return _checked(after, {**before, "inputs": [*inputs, INPUT]})


def _without_input(text: str) -> str:
    from wan25_mcp.cli.install import json_text

    before = json_text.read(text)
    inputs = before.get("inputs") or []
    index = _input_in(inputs)
    if index is None:
        return text
    after = json_text.take_element(text, "inputs", index)
    return _checked(after, {**before, "inputs": [*inputs[:index], *inputs[index + 1 :]]})


def _checked(text: str, wanted: dict[str, Any]) -> str:
    from wan25_mcp.cli.install import json_text

    if json_text.read(text) != wanted:
        raise CannotEdit("is written in a way that this command cannot change safely")
    return text


def _input_in(inputs: Any) -> int | None:
    if not isinstance(inputs, list):
        return None
    found = (
        i for i, one in enumerate(inputs) if isinstance(one, dict) and one.get("id") == INPUT["id"]
    )
    return next(found, None)
