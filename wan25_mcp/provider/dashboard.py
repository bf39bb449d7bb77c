"""Where a person gets a key and buys credits, as far as the base URL tells."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import urlsplit

from wan25_mcp.errors import Wan25Error
from wan25_mcp.errors.rows import DASHBOARD, ErrorCode

PASSED: Final = "key"
"""The source of a key that a program passed."""

_HOSTS_WITH_DASHBOARD: Final = ("ai.odkkk.com",)
"""Hosts whose dashboard is known to be at the API's own origin."""


def dashboard_of(base_url: str) -> str:
    """The dashboard with its whole link.

    Another host may be the operator's gateway or an emulator: it is named, and no link is made up.
    """
    parts = urlsplit(base_url)
    origin = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme == "https" and parts.netloc in _HOSTS_WITH_DASHBOARD:
        return f"{DASHBOARD} ({origin}/dashboard/keys)"
    return f"the service at {origin}"


def with_dashboard(fix: str, base_url: str) -> str:
    """A remedy that names the dashboard of this API."""
    return fix.replace(DASHBOARD, dashboard_of(base_url)) if DASHBOARD in fix else fix


@contextmanager
def naming_dashboard(base_url: str) -> Iterator[None]:
    """Let the errors of the block name the dashboard of this API."""
    try:
        yield
    except Wan25Error as error:
        error.fix = with_dashboard(error.fix, base_url)
        raise


def about_key(row: ErrorCode, source: str) -> ErrorCode:
    """The row of a refused key, saying which key was used: another one may be kept as well.

    Args:
        source: `Settings.key_source`.
    """
    if row.code != "authentication" or not source:
        return row
    if source == PASSED:
        fix = f"Check the key on {DASHBOARD}, and pass the right one as key."
        return replace(row, sentence=f"{row.sentence} that was passed", fix=fix)
    if not source.startswith("WAN25_"):
        return replace(row, sentence=f"{row.sentence} that `wan25-mcp key set` keeps")
    return replace(
        row,
        sentence=f"{row.sentence} from {source}",
        fix=f"Check the key on {DASHBOARD}, then correct {source}. It takes precedence over the "
        "key that `wan25-mcp key set` keeps: unset it to use that one.",
    )
