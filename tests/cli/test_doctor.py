"""What the doctor finds, and what it tells to do."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from tests.emulator_lab import Emulator
from wan25_mcp.cli import doctor
from wan25_mcp.cli.doctor import Finding, run_checks
from wan25_mcp.settings import CALLBACKS_NEED_HTTP, Settings

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
    findings = [finding async for finding in run_checks(settings)]
    assert KEY not in repr(findings)
    assert all(finding.fix for finding in findings if finding.verdict == "FAIL")
    assert all(finding.what.endswith(".") for finding in findings)
    return findings


async def test_all_is_well(tmp_path: Path, emulator: Emulator) -> None:
    findings = await found(tmp_path, WAN25_API_KEY=KEY, WAN25_BASE_URL=emulator.base_url)
    assert [finding for finding in findings if finding.verdict == "FAIL"] == []
    assert findings[-1].what == "The provider accepts the key: 12.5 credits are left."
    assert emulator.submits == []


def bad(findings: list[Finding]) -> Finding:
    [finding] = [finding for finding in findings if finding.verdict == "FAIL"]
    return finding


async def test_what_the_check_of_the_provider_reports_is_not_reported_of_local_images_too(
    tmp_path: Path, emulator: Emulator
) -> None:
    wrong = {"WAN25_API_KEY": "wrong-key", "WAN25_BASE_URL": emulator.base_url}
    away = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": "http://127.0.0.1:9/apiv1"}
    for values in ({}, wrong, away):
        finding = local_images(await found(tmp_path, **values))
        assert (finding.verdict, finding.fix, "below" in finding.what) == ("WARN", "", True)


async def test_no_key_is_found(tmp_path: Path) -> None:
    finding = bad(await found(tmp_path))
    assert finding.what == "No API key is set, so nothing can be sent to the provider."
    assert "WAN25_API_KEY" in finding.fix


async def test_names_nobody_reads_are_found(tmp_path: Path, emulator: Emulator) -> None:
    values = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": emulator.base_url}
    findings = await found(tmp_path, **values, WAN25_SAVES="off", WAN25_XYZZY="x")
    assert [finding for finding in findings if finding.verdict == "FAIL"] == [
        Finding(
            "FAIL",
            "Unknown setting WAN25_SAVES.",
            "Set WAN25_SAVE instead, if that is what you meant.",
        ),
        Finding("FAIL", "Unknown setting WAN25_XYZZY.", "Unset it."),
    ]


async def test_callbacks_are_said_to_need_an_http_transport(
    tmp_path: Path, emulator: Emulator
) -> None:
    values = {"WAN25_EMULATOR": emulator.base_url}
    callback = {"WAN25_CALLBACK_URL": "https://edits.example.com/wan25-callbacks"}
    assert CALLBACKS_NEED_HTTP not in [f.what for f in await found(tmp_path, **values)]
    told = [f for f in await found(tmp_path, **values, **callback) if f.what == CALLBACKS_NEED_HTTP]
    assert [finding.verdict for finding in told] == ["ok"]


async def test_a_placeholder_for_a_key_is_found(tmp_path: Path) -> None:
    finding = bad(await found(tmp_path, WAN25_API_KEY="${user_config.api_key}"))
    assert finding.what == "WAN25_API_KEY is a placeholder that the host did not replace."


async def test_a_wrong_key_is_found(tmp_path: Path, emulator: Emulator) -> None:
    values = {"WAN25_API_KEY": "wrong-key", "WAN25_BASE_URL": emulator.base_url}
    finding = bad(await found(tmp_path, **values))
    assert "WAN25_API_KEY (HTTP 401)" in finding.what
    assert "wrong-key" not in finding.what + finding.fix


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
    assert (first.verdict, "https://" in first.fix) == ("FAIL", True)
    private = (await found(tmp_path, WAN25_BASE_URL="http://10.0.0.1/apiv1"))[0]
    assert private.verdict == "ok"


async def test_the_emulator_needs_no_key(tmp_path: Path) -> None:
    findings = await found(tmp_path, WAN25_EMULATOR="1")
    assert {finding.verdict for finding in findings} == {"ok"}
    assert findings[0].what.startswith("The emulator plays the provider")


# --- where local images go --------------------------------------------------------------------


def local_images(findings: list[Finding]) -> Finding:
    """What was found of the place for local images: it is tried after the journal."""
    [journal] = [finding for finding in findings if finding.what == "The journal can be read."]
    return findings[findings.index(journal) + 1]


@pytest.fixture
def no_cloud(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Nothing of a cloud in the environment."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    return monkeypatch


async def test_a_buckets_credentials_are_looked_for_and_not_shown(
    tmp_path: Path, no_cloud: pytest.MonkeyPatch
) -> None:
    no_cloud.setenv("AWS_ACCESS_KEY_ID", "an-id")
    no_cloud.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    no_cloud.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody there: nobody is asked
    finding = local_images(await found(tmp_path, WAN25_BUCKET_URL="s3://pictures/prefix"))
    assert finding == Finding(
        "ok",
        "Credentials for the bucket s3://pictures/prefix were found. An upload was not tried.",
    )


async def test_a_bucket_without_credentials_is_found(
    tmp_path: Path, no_cloud: pytest.MonkeyPatch
) -> None:
    finding = local_images(await found(tmp_path, WAN25_BUCKET_URL="az://pictures"))
    assert finding.verdict == "FAIL"
    assert "credentials are missing" in finding.what
    assert "WAN25_BUCKET_URL" in finding.fix


async def test_credentials_that_do_not_come_are_given_up(
    tmp_path: Path, no_cloud: pytest.MonkeyPatch
) -> None:
    no_cloud.setattr(doctor, "PROBE_SECONDS", 0.2)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        no_cloud.setenv("AWS_METADATA_ENDPOINT", f"http://127.0.0.1:{port}")
        began = anyio.current_time()
        finding = local_images(await found(tmp_path, WAN25_BUCKET_URL="s3://pictures"))
        assert anyio.current_time() - began < 5
    assert finding.verdict == "FAIL"
    assert finding.what == "The bucket's credentials were not found within 0.2 seconds."


async def test_a_bucket_without_what_speaks_to_it_is_found(
    tmp_path: Path, no_cloud: pytest.MonkeyPatch
) -> None:
    no_cloud.setitem(sys.modules, "obstore", None)
    finding = local_images(await found(tmp_path, WAN25_BUCKET_URL="s3://pictures"))
    assert finding.verdict == "FAIL"
    assert finding.what == ("WAN25_BUCKET_URL is set, but the `buckets` extra is not installed.")
    assert "[buckets]" in finding.fix


async def test_what_is_no_bucket_is_found(tmp_path: Path) -> None:
    finding = local_images(await found(tmp_path, WAN25_BUCKET_URL=f"s3://id:{KEY}@pictures"))
    assert finding.verdict == "FAIL"
    assert "WAN25_BUCKET_URL is not the URL of a bucket" in finding.what
    assert KEY not in finding.what


async def test_a_file_service_is_asked_whether_it_answers_and_given_nothing(
    tmp_path: Path, emulator: Emulator
) -> None:
    values = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": emulator.base_url}
    findings = await found(tmp_path, WAN25_FILES_URL=emulator.files_url, **values)
    assert local_images(findings) == Finding(
        "ok", f"The file service {emulator.files_url} answers. An upload was not tried."
    )
    assert emulator.leaked_keys == []


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        ({"kind": "status", "code": 404}, "FAIL"),
        ({"kind": "html", "code": 200}, "FAIL"),
        ({"kind": "status", "code": 307, "headers": {"location": "http://127.0.0.1:9"}}, "FAIL"),
        ({"kind": "drop_before"}, "WARN"),
        ({"kind": "status", "code": 503}, "WARN"),
    ],
)
async def test_the_apis_own_file_service_is_looked_for(
    fault: dict[str, Any], verdict: str, tmp_path: Path, emulator: Emulator
) -> None:
    values = {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": emulator.base_url}
    assert local_images(await found(tmp_path, **values)).verdict == "ok"
    emulator.fault(endpoint="quota", **fault)
    findings = await found(tmp_path, **values)
    finding = local_images(findings)
    assert finding.verdict == verdict
    assert "WAN25_BUCKET_URL" in finding.fix
    assert "WAN25_FILES_URL" in finding.fix
    assert findings[-1].verdict == "ok"  # the provider and the key are fine
    assert len(emulator.files) == 0


async def test_the_file_service_of_a_known_api_is_not_asked_for(tmp_path: Path) -> None:
    finding = local_images(await found(tmp_path, WAN25_BASE_URL="https://api.evolink.ai"))
    assert "https://files-api.evolink.ai" in finding.what  # no network here: it does not answer


async def test_a_file_service_that_does_not_answer_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "PROBE_SECONDS", 0.2)
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        urls = [f"http://127.0.0.1:{port}", "http://127.0.0.1:9", "http://no-such.invalid"]
        findings = [local_images(await found(tmp_path, WAN25_FILES_URL=url)) for url in urls]
    assert findings == [
        Finding(
            "FAIL",
            f"The file service {url} does not answer, so local images cannot be edited.",
            "Check the network and WAN25_FILES_URL.",
        )
        for url in urls
    ]
