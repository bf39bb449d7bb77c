"""The script of faults: what goes wrong, where and when. Does not know how it is done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, get_args

Endpoint = Literal[
    "submit", "query", "credits", "upload", "quota", "file", "result", "callback", "any"
]
Trouble = Literal[
    "refuse",
    "drop_before",
    "drop_after",
    "delay",
    "truncate",
    "html",
    "status",
    "garbage_json",
    "empty",
]
# Without `accepted`, these leave the request done; the others leave it undone.
ACCEPTING: frozenset[str] = frozenset({"drop_after", "delay", "truncate", "garbage_json", "empty"})


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong at `endpoint`.

    `refuse`: no connection. `drop_before` / `drop_after`: the connection is cut before or after the
    request is carried out. `delay`: the answer comes `seconds` late (the request is carried out
    at once; `accepted=False` carries it out late). `truncate`: half of the answer. `html`: a
    proxy's page under `code`. `status`: the envelope under `code` with `message`, `type`, `param`,
    `fallback_suggestion`; `body` replaces all of it. `garbage_json`, `empty`: an unreadable 200.

    `seconds` also delays the other kinds. `accepted` overrides whether the request is carried out
    nevertheless, such as a 502 after the task was made. `skip` lets that many requests pass first.
    `times` is how many requests it applies to (0: all).
    """

    endpoint: Endpoint
    kind: Trouble
    code: int | None = None
    retry_after: int | str | None = None
    fallback_suggestion: str | None = None
    message: str | None = None
    type: str | None = None
    param: str | None = None
    body: str | bytes | dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    accepted: bool | None = None
    times: int = 1
    skip: int = 0

    def __post_init__(self) -> None:
        if self.endpoint not in get_args(Endpoint) or self.kind not in get_args(Trouble):
            raise ValueError(f"no such fault: {self.endpoint} {self.kind}")
        if self.kind == "status" and self.code is None:
            raise ValueError("a status fault needs a code")

    @property
    def carried_out(self) -> bool:
        return self.kind in ACCEPTING if self.accepted is None else self.accepted

    def applies_to(self, endpoint: str) -> bool:
        return self.endpoint in (endpoint, "any")


class Scripted(Protocol):
    """What a script can hold."""

    @property
    def times(self) -> int: ...
    @property
    def skip(self) -> int: ...
    def applies_to(self, endpoint: str) -> bool: ...


T = TypeVar("T", bound=Scripted)


@dataclass
class _Line(Generic[T]):
    item: T
    skip: int
    left: int | None


class Script(Generic[T]):
    """Items in order. A request takes the first that applies to it and has nothing left to skip."""

    def __init__(self) -> None:
        self._lines: list[_Line[T]] = []

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, item: T) -> None:
        self._lines.append(_Line(item, item.skip, item.times or None))

    def clear(self) -> None:
        self._lines.clear()

    def take(self, endpoint: str) -> T | None:
        for line in self._lines:
            if line.item.applies_to(endpoint):
                if not line.skip:
                    return self._use(line)
                line.skip -= 1
        return None

    def _use(self, line: _Line[T]) -> T:
        if line.left is not None:
            line.left -= 1
            if not line.left:
                self._lines.remove(line)
        return line.item
