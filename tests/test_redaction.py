"""Foreign words, as they are quoted: on one line, cut, and without secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from tests.inputs.corpus import picture, png
from tests.stage import OWNER, Stage, inline, open_stage, request
from wan25_mcp.editing.answers import answer_of, text_of
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.engine import open_editor
from wan25_mcp.editing.options import Connection
from wan25_mcp.errors import Wan25Error
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import Journal
from wan25_mcp.journal.sql import SqlJournal
from wan25_mcp.provider.client import Client
from wan25_mcp.redaction import Redactor, one_line
from wan25_mcp.settings import Settings

pytestmark = pytest.mark.anyio
KEY = 'live/K+ey"7f3a9c01d2'
TOKEN = "our-own-gate-5b1e"
FORMS = [KEY, KEY.upper(), quote(KEY, safe=""), quote(KEY, safe="").lower(), json.dumps(KEY)[1:-1],
         KEY.replace("/", "\\/"), json.dumps(json.dumps(KEY))[3:-3], TOKEN]  # fmt: skip


def is_hidden(text: str) -> bool:
    """Whether no part of a secret that would tell it is in a text."""
    return not any(part in text.lower() for part in ("7f3a9c01d2", TOKEN))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"Invalid key {KEY}.", "Invalid key ***."),
        (f"{KEY}{KEY}", "******"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("bearer=abc", "bearer=***"),
        ("'bearer abc', 'x'", "'bearer ***', 'x'"),
        ("Invalid bearer token", "Invalid bearer token"),
        ("Invalid bearer token provided.", "Invalid bearer token provided."),
        ("Invalid bearer token: 9f8e7d6c5b", "Invalid bearer token: ***"),
        ("Bearer authentication is required", "Bearer authentication is required"),
        ("Incorrect key sk-proj_9aB-0123456789.", "Incorrect key ***."),
        ("(sk_live_abcdefgh)", "(***)"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl", "***"),
        ("task-unified-1757156493-imcg5zqt", "task-unified-1757156493-imcg5zqt"),
        ("risk_assessment_failed", "risk_assessment_failed"),
        ("disk-usage-is-high", "disk-usage-is-high"),
        ("edit-0123456789abcdef", "edit-0123456789abcdef"),
        (f"https://a.example/cb/edit-{'0a' * 8}/{'s_-S' * 10}sss", "https://a.example/cb/"
         f"edit-{'0a' * 8}/***"),
        ("https://a.example/cat.png?a=b", "https://a.example/cat.png?a=b"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_is_or_looks_like_a_secret_is_hidden(text: str, shown: str) -> None:
    redact = Redactor([KEY, TOKEN])
    assert redact(text) == shown
    assert redact(shown) == shown


@pytest.mark.parametrize("form", FORMS)
@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_secret_is_hidden_in_every_form_wherever_it_stands(
    form: str, before: str, after: str
) -> None:
    assert is_hidden(Redactor([KEY, TOKEN])(before + form + after))


@pytest.mark.parametrize("secrets", [[], [""], ["abc"]])
def test_what_is_too_short_to_be_a_secret_hides_nothing(secrets: list[str]) -> None:
    assert Redactor(secrets)("abc of nothing") == "abc of nothing"


def test_of_two_secrets_the_longer_is_hidden_whole() -> None:
    assert Redactor(["abcdef", "abcdefghij"])("abcdefghij abcdef") == "*** ***"


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (None, ""),
        ("", ""),
        (" a\n\r\tb\u2028c ", "a b c"),
        ("x" * 20, "x" * 10),
        ("a b  c", "a b c"),
    ],
)
def test_foreign_words_are_one_short_line(said: str | None, line: str) -> None:
    assert one_line(said, 10) == line


# --- where they come in ----------------------------------------------------------------------


def words() -> str:
    return " ".join(["Invalid key", *FORMS, "Bearer abc0123456789", "sk-other-0123456789"])


def client_that_is_told(status: int, body: Any, **headers: str) -> Client:
    answer = httpx2.Response(status, json=body, headers=headers)
    http = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: answer))
    return Client(http, base_url="https://api.example", key=SecretStr(KEY), secrets=[TOKEN])


def shown(error: Wan25Error) -> str:
    return json.dumps(vars(error))


ERROR = {"code": words(), "message": words(), "type": words(), "param": KEY}


@pytest.mark.parametrize("status", [400, 401, 403, 409, 429, 500, 503])
@pytest.mark.parametrize("body", [{"error": ERROR}, ERROR, {"error": words()}])
async def test_an_error_of_the_provider_quotes_no_secret(status: int, body: Any) -> None:
    client = client_that_is_told(status, body, **{"x-request-id": f"r-1 {KEY} {TOKEN}"})
    for asked in (
        client.submit(request(), idempotency_key="k"),
        client.query("task-1"),
        client.credits(),
    ):
        with pytest.raises(Wan25Error) as failed:
            await asked
        assert is_hidden(shown(failed.value))
        assert "sk-other" not in shown(failed.value)
        assert (failed.value.request_id or "").startswith("r-1 ***")
        assert "Invalid key ***" in failed.value.message


async def test_a_word_that_is_cut_is_hidden_before() -> None:
    client = client_that_is_told(
        401, {"error": {"message": "x" * 290 + KEY, "param": "y" * 30 + KEY}}
    )
    with pytest.raises(Wan25Error) as failed:
        await client.query("task-1")
    assert "live/" not in failed.value.message


async def test_a_task_quotes_no_secret() -> None:
    usage = {"credits_used": 1, "billing_rule": words(), "user_group": words()}
    body = {"id": "task-1", "status": "failed", "model": words(), "usage": usage}
    for error in (ERROR, words()):
        client = client_that_is_told(200, {**body, "error": error})
        for task in (
            await client.submit(request(), idempotency_key="k"),
            await client.query("task-1"),
        ):
            assert is_hidden(task.model_dump_json())
            assert task.error is not None
            assert (task.error.message or "").startswith("Invalid key ***")


@pytest.mark.parametrize("place", ["submit", "task"])
async def test_a_key_that_the_provider_quotes_reaches_neither_the_model_nor_the_journal(
    tmp_path: Path, place: str
) -> None:
    path = tmp_path / "journal.sqlite3"
    journal = SqlJournal(path, run=inline)
    async with open_stage(key=KEY, journal=journal) as stage, told_with(stage, journal) as editor:
        if place == "submit":
            stage.emulator.fault(endpoint="submit", kind="status", code=401, message=words())
            edit = await editor.edit(request())
        else:
            stage.emulator.outcome(fail="service_error", message=words())
            edit = await editor.wait(await editor.edit(request()), timeout=100)
        assert edit.error is not None
        assert "Invalid key ***" in edit.error.message
        answer = answer_of(edit)
        assert is_hidden(text_of(answer) + answer.model_dump_json())
    journal.close()
    files = [file async for file in anyio.Path(tmp_path).iterdir()]
    kept = b"".join([await file.read_bytes() for file in files])
    assert b"Invalid key ***" in kept
    assert is_hidden(kept.decode(errors="replace"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_what_is_configured_is_hidden_from_the_provider_and_from_the_file_service(
    tmp_path: Path, anyio_backend: str
) -> None:
    key = KEY.replace('"', "")
    said = f"Invalid key {key}, {quote(key, safe='')}, {TOKEN}, sk-other-0123456789"
    async with Emulator(key=key, check_images=False).serving() as emulator:
        for endpoint in ("submit", "upload"):
            body = {"error": {"message": said}, "msg": said, "success": False, "code": 401}
            emulator.fault(endpoint=endpoint, kind="status", code=401, body=body)
        environ = {
            "WAN25_API_KEY": key,
            "WAN25_SERVER_TOKEN": TOKEN,
            "WAN25_BASE_URL": emulator.base_url,
            "WAN25_FILES_URL": emulator.files_url,
            "WAN25_DATA_DIR": str(tmp_path),
        }
        async with open_configured_editor(Settings.from_mapping(environ)) as editor:
            linked = EditInput.of(request())
            for wish in (linked, replace(linked, images=(picture(png(640, 480)),))):
                edit = await editor.edit(wish)
                assert edit.error is not None
                assert "Invalid key ***" in edit.error.message
                assert is_hidden(shown(edit.error))
                assert "sk-other" not in edit.error.message


def told_with(stage: Stage, journal: Journal) -> Any:
    """An editor of that key over the stage."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    async def connect() -> Any:
        base = stage.emulator.base_url
        client = Client(stage.http, base_url=base, key=SecretStr(KEY), secrets=[TOKEN])
        yield Connection(client, OWNER)

    async def open_journal() -> Journal:
        return journal

    return open_editor(connect, open_journal)
