"""Where a person gets a key and buys credits, as far as the base URL tells."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from wan25_mcp.errors.rows import DASHBOARD

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
    return fix.replace(DASHBOARD, dashboard_of(base_url))
