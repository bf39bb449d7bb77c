"""Where a person is sent for keys and credits: a whole link where it is known, and no invention."""

from __future__ import annotations

import pytest

from wan25_mcp.errors.codes import CODES
from wan25_mcp.errors.rows import DASHBOARD
from wan25_mcp.provider.dashboard import dashboard_of, with_dashboard
from wan25_mcp.settings import DEFAULT_BASE_URL


@pytest.mark.parametrize(
    "code", ["missing_api_key", "authentication", "insufficient_credits", "permission"]
)
def test_what_is_fixed_on_the_dashboard_has_its_whole_link(code: str) -> None:
    assert DASHBOARD in CODES[code].fix
    fix = with_dashboard(CODES[code].fix, DEFAULT_BASE_URL)
    assert "https://ai.odkkk.com/dashboard/keys" in fix


@pytest.mark.parametrize(
    "base_url",
    [
        "http://127.0.0.1:8100/apiv1",
        "https://gateway.example.com/wan",
        "https://ai.odkkk.com:8443/apiv1",
        "http://ai.odkkk.com/apiv1",
    ],
)
def test_a_gateway_or_an_emulator_is_named_without_a_made_up_link(base_url: str) -> None:
    found = dashboard_of(base_url)
    assert base_url.rpartition("/")[0] in found
    assert "dashboard" not in found
