"""What an answer says, read from its text or from its structure, as a model would read it.

Written from the words themselves; nothing of ours is imported. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

View = str | Mapping[str, Any]
"""An answer as a client shows it to its model: the text, or the structure."""


@dataclass(frozen=True)
class Shown:
    """One answer: every view of it that the client gives its model, each to be complete alone."""

    views: Mapping[str, View]
    is_error: bool


@dataclass(frozen=True)
class Said:
    """The facts of one view."""

    status: str
    charged: str
    next_step: str
    task_id: str | None = None
    links: tuple[str, ...] = ()
    expires: str | None = None
    cost: float | None = None
    deduplicated: bool = False
    error: str | None = None


def said(view: View) -> Said:
    return _in_text(view) if isinstance(view, str) else _in_structure(view)


def _in_text(text: str) -> Said:
    def one(pattern: str) -> str | None:
        found = re.search(pattern, text, re.MULTILINE)
        return found[1] if found else None

    cost = one(r"([\d.]+) credits used") or one(r"([\d.]+) credits reserved")
    return Said(
        status=one(r"^Status: (\w+)") or "",
        charged=one(r"^Charged: (\w+)") or "",
        next_step=one(r"^Next: (.+)") or "",
        task_id=one(r"^Task id: (\S+)"),
        links=tuple(re.findall(r"^Image \d: (\S+)", text, re.MULTILINE)),
        expires=one(r"^Links expire: (\S+)"),
        cost=float(cost) if cost else None,
        deduplicated="ame request as an earlier call" in text,
        error=one(r"^Error: (.+) \(\w+; "),
    )


def _in_structure(answer: Mapping[str, Any]) -> Said:
    usage = answer.get("usage") or {}
    used, reserved = usage.get("credits_used"), usage.get("credits_reserved")
    error = answer.get("error")
    return Said(
        status=answer.get("status", ""),
        charged=answer.get("charged", ""),
        next_step=answer.get("next_step", ""),
        task_id=answer.get("task_id"),
        links=tuple(answer.get("image_urls", ())),
        expires=answer.get("expires_at"),
        cost=reserved if used is None else used,
        deduplicated=answer.get("duplicate_of_earlier_call", False),
        error=error["message"] if error else None,
    )
