"""What the doctor finds, and what it tells to do."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from wan25_mcp.doctor import Finding, examine
from wan25_mcp.emulator import Emulator
from wan25_mcp.settings import Settings

pytestmark = pytest.mark.anyio
KEY = "sk-live-SECRET0123456789"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(key=KEY, balance=12.5).serving() as emulator:
        yield emulator


async def found(tmp_path: Path, **values: str) -> list[Finding]:
    usual = {"WAN25_OUTPUT_DIR": str(tmp_path / "out"), "WAN25_DATA_DIR": str(tmp_path / "data")}
    settings = Settings.from_mapping(usual | values)
    findings = [finding async for finding in examine(settings)]
    assert KEY not in repr(findings)
    assert all(finding.fix for finding in findings if not finding.good)
    assert all(finding.what.endswith(".") for finding in findings)
    return findings


async def test_all_is_well(tmp_path: Path, emulator: Emulator) -> None:
    findings = await found(tmp_path, WAN25_API_KEY=KEY, WAN25_BASE_URL=emulator.base_url)
    assert [finding for finding in findings if not finding.good] == []
    assert findings[-1].what == "The provider accepts the key; 12.5 credits are left."
    assert emulator.submits == []


def bad(findings: list[Finding]) -> Finding:
    [finding] = [finding for finding in findings if not finding.good]
    return finding


async def test_no_key_is_found(tmp_path: Path) -> None:
    finding = bad(await found(tmp_path))
    assert finding.what == "No API key is set, so nothing can be sent to the provider."
    assert "WAN25_API_KEY" in finding.fix


async def test_names_nobody_reads_are_found(tmp_path: Path, emulator: Emulator) -> None:
    values = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": emulator.base_url}
    findings = await found(tmp_path, **values, WAN25_SAVES="off", WAN25_XYZZY="x")
    assert [finding for finding in findings if not finding.good] == [
        Finding(
            False,
            "Nothing reads WAN25_SAVES.",
            "Set WAN25_SAVE instead, if that is what you meant.",
        ),
        Finding(False, "Nothing reads WAN25_XYZZY.", "Unset it."),
    ]


async def test_a_placeholder_for_a_key_is_found(tmp_path: Path) -> None:
    finding = bad(await found(tmp_path, WAN25_API_KEY="${user_config.api_key}"))
    assert finding.what == "WAN25_API_KEY holds a placeholder that the host did not replace."


async def test_a_wrong_key_is_found(tmp_path: Path, emulator: Emulator) -> None:
    values = {"WAN25_API_KEY": "wrong-key", "WAN25_BASE_URL": emulator.base_url}
    finding = bad(await found(tmp_path, **values))
    assert finding.what.startswith("The provider did not accept the API key (HTTP 401)")


async def test_an_unreachable_provider_is_found(tmp_path: Path) -> None:
    values = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": "http://127.0.0.1:9/apiv1"}
    finding = bad(await found(tmp_path, **values))
    assert finding.what == "The provider could not be reached (no connection); nothing was sent."


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "html", "code": 200},
        {"kind": "empty"},
        {"kind": "status", "code": 200, "body": "[]"},
        {"kind": "status", "code": 503},
        {"kind": "drop_before"},
    ],
)
async def test_a_provider_that_answers_nonsense_is_found(
    fault: dict[str, Any], tmp_path: Path, emulator: Emulator
) -> None:
    emulator.fault(endpoint="credits", **fault)
    values = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": emulator.base_url}
    assert bad(await found(tmp_path, **values)).fix


@pytest.mark.parametrize("name", ["WAN25_OUTPUT_DIR", "WAN25_DATA_DIR"])
async def test_a_folder_that_cannot_be_written_is_found(
    name: str, tmp_path: Path, emulator: Emulator
) -> None:
    (tmp_path / "file").write_text("in the way")
    values = {
        "WAN25_API_KEY": KEY,
        "WAN25_BASE_URL": emulator.base_url,
        name: str(tmp_path / "file" / "folder"),
    }
    assert name in bad(await found(tmp_path, **values)).fix


async def test_an_api_without_encryption_is_found_unless_it_is_private(tmp_path: Path) -> None:
    values = {"WAN25_BASE_URL": "http://api.example.invalid/apiv1"}
    first = (await found(tmp_path, **values))[0]
    assert (first.good, "https://" in first.fix) == (False, True)
    private = (await found(tmp_path, WAN25_BASE_URL="http://10.0.0.1/apiv1"))[0]
    assert private.good


async def test_the_emulator_needs_no_key(tmp_path: Path) -> None:
    findings = await found(tmp_path, WAN25_EMULATOR="1")
    assert [finding.good for finding in findings] == [True] * len(findings)
    assert findings[0].what.startswith("The emulator stands in for the provider")
