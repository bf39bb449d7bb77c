"""Draws the README's badges from `pyproject.toml`, so that each is true and no host is asked."""

from __future__ import annotations

import tomllib
from html import escape
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "pictures"
CHARACTER: Final = 6.1
"""About the width of a character of 11 px Verdana; `textLength` sets it for any other font."""


def badges() -> dict[Path, str]:
    """Every badge, by its file."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    facts = {
        "python": ("Python", " | ".join(_versions(project)), "#3572a5"),
        "licence": ("licence", project["license"], "#4c7a34"),
    }
    if pyproject["tool"]["mypy"]["strict"] and "Typing :: Typed" in project["classifiers"]:
        facts["types"] = ("types", "mypy strict", "#4c7a34")
    return {FOLDER / f"badge-{name}.svg": _badge(*fact) for name, fact in facts.items()}


def _versions(project: dict[str, Any]) -> list[str]:
    prefix = "Programming Language :: Python :: 3."
    return [
        classifier.rpartition(" ")[2]
        for classifier in project["classifiers"]
        if classifier.startswith(prefix)
    ]


def _badge(name: str, value: str, colour: str) -> str:
    left, right = (round(len(text) * CHARACTER) + 14 for text in (name, value))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + right}" height="20" role="img" '
        f'aria-label="{escape(name)}: {escape(value)}">\n'
        f'<clipPath id="r"><rect width="{left + right}" height="20" rx="3"/></clipPath>\n'
        f'<g clip-path="url(#r)"><rect width="{left}" height="20" fill="#4a4f58"/>'
        f'<rect x="{left}" width="{right}" height="20" fill="{colour}"/></g>\n'
        '<g fill="#fff" font-family="Verdana,DejaVu Sans,Geneva,sans-serif" font-size="11">\n'
        f"{_text(7, name)}\n{_text(left + 7, value)}\n</g>\n</svg>\n"
    )


def _text(x: int, text: str) -> str:
    return f'<text x="{x}" y="14" textLength="{len(text) * CHARACTER:.0f}">{escape(text)}</text>'
