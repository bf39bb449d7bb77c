"""Log lines hold no secret, one line each."""

from __future__ import annotations

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stage import KEY, open_stage, request
from wan25_mcp.cli.logs import OneMaskedLine, configure, masked

SECRET = "sk-live-SECRET0123456789"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"key {SECRET}.", "key ***."),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'authorization': 'bearer abc'}", "{'authorization': 'bearer ***'}"),
        ("GET https://cdn.example/x.png?sig=abc&e=1 ok", "GET https://cdn.example/x.png?*** ok"),
        ("'https://a.example/?a=b'", "'https://a.example/?***'"),
        ("postgresql is https://user:pass@a.example/x", "postgresql is https://***@a.example/x"),
        ("https://a.example/plain", "https://a.example/plain"),
        (
            f"POST https://a.example/cb/edit-{'0a' * 8}/{'s_-S' * 10}sss 204",
            f"POST https://a.example/cb/edit-{'0a' * 8}/*** 204",
        ),
        ("nothing to hide?", "nothing to hide?"),
    ],
)
def test_secrets_bearers_and_signatures_are_masked(text: str, shown: str) -> None:
    assert masked(text, [SECRET]) == shown


@given(st.text(max_size=50), st.text(max_size=50))
def test_a_configured_secret_is_masked_wherever_it_stands(before: str, after: str) -> None:
    assert SECRET not in masked(before + SECRET + after, [SECRET])


def logged(record: logging.LogRecord) -> str:
    return OneMaskedLine([SECRET]).format(record)


def test_a_traceback_is_one_line_without_secrets() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneMaskedLine([SECRET]))
    logger = logging.getLogger("tests.logs")
    logger.addHandler(handler)
    try:
        try:
            int(f"{SECRET}\nand a second line")
        except ValueError:
            logger.exception("It broke:\n%s", "https://a.example/?sig=1")
    finally:
        logger.removeHandler(handler)
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert SECRET not in text
    assert "sig=1" not in text
    assert "ValueError: invalid literal" in text


@pytest.mark.parametrize("text", ["a\rb", "a\u2028b", "a\x0bb", "a\x85b", "\x1b[31mred", "a\x00b"])
def test_a_message_cannot_forge_a_line_or_colour_a_terminal(text: str) -> None:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, text, (), None)
    shown = logged(record)
    assert len(shown.splitlines()) == 1
    assert "\x1b" not in shown


def test_a_log_call_with_the_wrong_arguments_does_not_crash_the_caller(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("DEBUG", [SECRET])
    logging.getLogger("x").warning("plain")
    assert capsys.readouterr().err.endswith("WARNING x: plain\n")


@pytest.mark.anyio
async def test_a_whole_edit_at_debug_shows_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    configure("DEBUG", [KEY])
    async with open_stage() as stage:
        stage.emulator.fault(endpoint="submit", kind="status", code=503)
        stage.emulator.fault(endpoint="query", kind="html", code=502, times=2)
        link = "https://example.com/cat.png?sig=SIGNATURE"
        edit = await stage.editor.edit(request(image_urls=[link]), patience=60)
        await stage.editor.wait(str(edit.task_id), timeout=300)
        stage.emulator.fault(endpoint="submit", kind="drop_after")
        await stage.editor.edit(request("Another"))
    text = capsys.readouterr().err
    assert "httpx2" in text
    for secret in (KEY, "SIGNATURE", "Bearer e"):
        assert secret not in text
