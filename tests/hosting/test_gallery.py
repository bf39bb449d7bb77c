"""The gallery: what it shows, and that it shows it to nobody else."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest
from PIL import Image

from tests.stage import Stage, environment, inline, inline_run, open_stage, request, started, until
from wan25_mcp.hosting.gallery import gallery_app
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.catalogue import MODEL

pytestmark = pytest.mark.anyio

TOKEN: Final = "the-secret"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Stage, httpx2.AsyncClient]]:
    """A stage, and a browser at its gallery."""
    journal = SqlJournal(folder / "journal.sqlite3", run=inline)
    async with (
        open_stage(folder=folder, journal=journal, is_emulator=True) as stage,
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(gallery_app(stage.editor, TOKEN, run=inline_run)),
            base_url=f"http://127.0.0.1:9/{TOKEN}/",
        ) as browser,
    ):
        yield stage, browser


async def edited(stage: Stage, folder: Path) -> str:
    Image.new("RGB", (800, 600), 99).save(folder / "cat.png")
    images = await stage.editor.read_images([str(folder / "cat.png")])
    edit = await stage.editor.edit(EditInput("Make it <b>night</b>", images, 1, None, MODEL))
    edit = await stage.editor.save(await stage.editor.wait(edit, timeout=120))
    assert edit.status == "completed"
    return str(edit.task_id)


async def test_an_edit_is_listed_with_its_pictures_cost_and_expiry(tmp_path: Path) -> None:
    async with opened(tmp_path) as (stage, browser):
        task_id = await edited(stage, tmp_path)
        listed = (await browser.get("edits.json")).json()
        polls = len(stage.emulator.reads)
        [edit] = listed["edits"]
        assert listed["emulator"] is True
        assert (edit["id"], edit["status"], edit["charged"]) == (task_id, "completed", "yes")
        assert (edit["prompt"], edit["credits"], edit["n"]) == ("Make it <b>night</b>", 1.5, 1)
        assert edit["expires_at"] > edit["created_at"]
        assert len(edit["saved"]) == len(edit["links"]) == 1
        sizes = {}
        for kind in ("images", "previews", "inputs"):
            answer = await browser.get(f"edits/{task_id}/{kind}/1")
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            picture = Image.open(BytesIO(answer.content))
            sizes[kind] = (answer.headers["content-type"], max(picture.size))
        assert sizes["previews"] == sizes["inputs"] == ("image/jpeg", 768)
        assert sizes["images"][0] == "image/png"
        assert sizes["images"][1] > 768
        assert len(stage.emulator.reads) == polls  # the provider was asked nothing


async def test_without_its_secret_there_is_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as (stage, browser):
        task_id = await edited(stage, tmp_path)
        await browser.get("edits.json")
        for path in ("", "edits.json", f"edits/{task_id}/images/1", f"edits/{task_id}/previews/1",
                     f"edits/{task_id}/inputs/1"):  # fmt: skip
            assert (await browser.get(path)).status_code == 200
            for token in ("wrong", "the-secret2", "THE-SECRET", "%C3%A9", ""):
                at = f"http://127.0.0.1:9/{token}/{path}".replace("9//", "9/")
                answer = await browser.get(at)
                assert answer.status_code == 404
                assert "night" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "localhost:9"}, 200),
        ({"Host": "evil.example"}, 421),
        ({"Host": "127.0.0.1.evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:9"}, 200),
    ],
)
async def test_only_this_machine_s_names_are_answered(
    headers: dict[str, str], status: int, tmp_path: Path
) -> None:
    async with opened(tmp_path) as (_, browser):
        assert (await browser.get("edits.json", headers=headers)).status_code == status


async def test_it_is_read_only_and_no_path_leads_elsewhere(tmp_path: Path) -> None:
    async with opened(tmp_path) as (stage, browser):
        task_id = await edited(stage, tmp_path)
        await browser.get("edits.json")
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            assert (await browser.request(method, "edits.json")).status_code == 405
        for path in ("images/2", "images/0", "images/-1", "images/..%2F..%2Fjournal.sqlite3",
                     "inputs/2", "images/1%2F..", "images/99999999999999999999"):  # fmt: skip
            assert (await browser.get(f"edits/{task_id}/{path}")).status_code == 404
        assert (await browser.get("edits/task-unknown/images/1")).status_code == 404
        for saved in (await stage.editor.recent())[0].edit.saved:
            await anyio.Path(saved).unlink()
        assert (await browser.get(f"edits/{task_id}/images/1")).status_code == 404
        assert (await browser.get(f"edits/{task_id}/previews/1")).status_code == 404


async def test_the_page_may_run_its_own_script_alone(tmp_path: Path) -> None:
    async with opened(tmp_path) as (_, browser):
        pages = [await browser.get("") for _ in range(2)]
    nonces = [re.findall(r"'nonce-([\w-]+)'", page.headers["content-security-policy"])
              for page in pages]  # fmt: skip
    assert nonces[0] != nonces[1]
    policy = pages[0].headers["content-security-policy"].replace(nonces[0][0], "N")
    assert policy == (
        "default-src 'none'; script-src 'nonce-N'; style-src 'nonce-N'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert pages[0].headers["referrer-policy"] == "no-referrer"
    assert pages[0].headers["cache-control"] == "no-store"
    text = pages[0].text
    assert "NONCE" not in text
    assert ".comparing" in text  # the view's style
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]', text)
    assert "innerHTML" not in text


async def test_a_refused_edit_is_listed_with_its_reason(tmp_path: Path) -> None:
    async with opened(tmp_path) as (stage, browser):
        stage.emulator.fault(endpoint="submit", kind="status", code=403)
        await stage.editor.edit(request())
        [edit] = (await browser.get("edits.json")).json()["edits"]
    assert (edit["id"], edit["status"], edit["charged"]) == (None, "failed", "no")
    assert edit["error"]["fix"]


def test_the_command_serves_until_it_is_stopped_and_prints_the_address(tmp_path: Path) -> None:
    values: Any = {"WAN25_DATA_DIR": str(tmp_path), "WAN25_API_KEY": "k"}
    with started(["gallery"], environment(**values)) as process:
        address = until(process.stdout, lambda text: text.endswith("/\n")).strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", address)
        answer = httpx2.get(f"{address}edits.json", timeout=10)
        assert answer.json() == {"emulator": False, "edits": []}
        process.send_signal(2)
        assert process.wait(10) == 130
    assert list(tmp_path.iterdir()) == []
