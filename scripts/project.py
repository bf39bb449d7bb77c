"""What pyproject.toml says of the project, for all that is derived from it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
ADDRESS: Final = "ADDRESS"
"""Stands for the repository's address in the documents until it is known."""


def project() -> dict[str, Any]:
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return dict(whole["project"])


def repository() -> str | None:
    """The repository's address. Until `urls` in pyproject.toml has it, nothing is published."""
    urls: dict[str, str] = project().get("urls", {})
    return urls.get("Repository")
