"""Connections go to the very addresses that were judged, whatever names resolve to meanwhile."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from blockbuster import blockbuster_ctx

from tests.outputs.internet import NEW, OTHER, PNG, PUBLIC, Dial, answer, moved, world
from wan25_mcp.outputs.download import download, open_downloads
from wan25_mcp.outputs.pinned_transport import PinnedTransport, resolve

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Real time: these connections are real."""
    return str(request.param)


async def test_the_loop_is_not_blocked() -> None:
    async with world(answer()) as internet:
        transport = PinnedTransport(resolve=internet.resolve, dial=Dial(internet))
        async with open_downloads(transport) as http:
            with blockbuster_ctx():
                assert await download("http://cdn.example/", http=http) == PNG


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["10.1.2.3"],
        ["169.254.169.254"],
        ["100.64.0.1"],
        ["0.0.0.0"],
        ["::1"],
        ["fe80::1%lo"],
        ["fd00::1"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["224.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["127.0.0.1", PUBLIC],
        [PUBLIC] * 9 + ["::1"],
    ],
)
async def test_a_public_name_with_an_internal_address_is_not_dialled(found: list[str]) -> None:
    async with world(answer(), names={"a.example": [found]}) as internet:
        error = await internet.fails()
    assert internet.dialled == []
    assert error.retryable  # a captive portal answers so; the next network may not
    assert "internal or reserved" in error.message


async def test_a_name_that_really_resolves_to_loopback_is_not_dialled() -> None:
    async with world(answer()) as internet:
        transport = PinnedTransport(resolve=resolve, dial=Dial(internet))
        async with open_downloads(transport) as http:
            request = http.build_request("GET", f"http://localhost:{internet.port}/")
            with pytest.raises(ValueError, match="internal or reserved"):
                await http.send(request)  # below the check of the link's text
    assert internet.heard == []


async def test_a_name_is_resolved_once_and_the_answer_is_what_is_dialled() -> None:
    known = {"a.example": [[PUBLIC], ["127.0.0.1"]]}
    async with world(answer(), names=known) as internet:
        assert await internet.get("http://a.example/") == PNG
        assert (internet.asked, internet.dialled) == (["a.example"], [PUBLIC])
        await internet.fails()
    assert internet.dialled == [PUBLIC]


async def test_a_name_that_turns_inward_between_two_hops_is_not_followed() -> None:
    known = {"a.example": [[PUBLIC], ["127.0.0.1"]]}
    async with world({"/": moved("/again"), "/again": answer()}, names=known) as internet:
        await internet.fails()
    assert (internet.paths, internet.dialled) == (["/"], [PUBLIC])


@pytest.mark.parametrize(
    "how", [{"dead": frozenset({PUBLIC, NEW})}, {"silent": frozenset({PUBLIC, NEW})}]
)
async def test_the_next_address_is_tried_when_one_does_not_answer(how: dict[str, Any]) -> None:
    known = {"a.example": [[NEW, NEW, PUBLIC, OTHER]]}
    async with world(answer(), names=known, **how) as internet:
        assert await internet.get("http://a.example/") == PNG
    assert internet.dialled == [NEW, PUBLIC, OTHER]


async def test_no_connection_may_be_tried_again() -> None:
    async with world(answer(), dead=frozenset({PUBLIC})) as internet:
        error = await internet.fails()
    assert error.message == "The image could not be downloaded: no connection."
    assert error.retryable


async def test_a_name_nobody_knows_may_be_tried_again() -> None:
    async with world(answer(), names={"a.example": [[]]}) as internet:
        assert (await internet.fails()).retryable


# --- TLS --------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for pictures.example, with its key."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
    named = ["-subj", "/CN=pictures.example", "-addext", "subjectAltName=DNS:pictures.example"]
    where = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run([*made.split(), *named, *where], check=True, capture_output=True)
    path.write_text(path.read_text() + path.with_suffix(".crt").read_text())
    return path


async def test_the_certificate_is_checked_against_the_name_not_the_address(
    certificate: Path,
) -> None:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    client = ssl.create_default_context(cafile=str(certificate.with_suffix(".crt")))
    async with world(answer(), server_tls=server, tls=client) as internet:
        assert await internet.get("https://pictures.example/") == PNG
        error = await internet.fails("https://other.example/")
        assert "certificate could not be verified" in error.message
        assert error.retryable
        internet.tls = ssl.create_default_context()
        assert "certificate" in (await internet.fails("https://pictures.example/")).message
    assert len(internet.heard) == 1
