"""What a person at a terminal reads in place of a tool's words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import wan25_mcp
from wan25_mcp.cli.as_json import edit_as_json
from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.editing.edit import Edit
from wan25_mcp.errors import OutcomeUnknown, ReadFailed
from wan25_mcp.errors.codes import CODES

PACKAGE: Final = Path(wan25_mcp.__file__).parent
TO_AN_AGENT: Final = re.compile(
    r"edit_image|get_task|wait_for_task|force_new|task_id|image_urls|callback_url|\(n\)"
    r"|\b([Tt]he|a) user\b|\b([Tt]he|[Tt]his) server\b|\brestart\b"
    r"|\b[Cc]all (it )?again\b|\bagent\b"
)
"""What only an agent, or who set its server up, can make sense of."""


@pytest.mark.parametrize("code", CODES)
def test_no_error_speaks_to_a_person_as_to_an_agent(code: str) -> None:
    for text in (CODES[code].sentence, CODES[code].fix):
        assert not TO_AN_AGENT.search(at_terminal(text)), at_terminal(text)


def _remedies() -> Iterator[tuple[str, str]]:
    """Every text given as a remedy anywhere below the server, with what is filled in as X."""
    for room in ("editing", "inputs", "journal", "outputs", "provider", "cli", "errors"):
        for path in sorted((PACKAGE / room).glob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.keyword) and node.arg == "fix":
                    text = _text(node.value)
                    if text:
                        yield f"{room}/{path.name}", text


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value or "")
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "X" for part in node.values)
    return ""


def test_there_are_remedies_to_look_at() -> None:
    assert len(list(_remedies())) > 60


@pytest.mark.parametrize(("where", "text"), list(_remedies()))
def test_no_remedy_of_any_module_speaks_to_a_person_as_to_an_agent(where: str, text: str) -> None:
    if "callback_url" not in text and where != "editing/results.py":  # no command takes those
        assert not TO_AN_AGENT.search(at_terminal(text)), (where, at_terminal(text))


def _edit(**fields: Any) -> Edit:
    return Edit(**({"task_id": "task-1", "status": "completed", "charged": "yes"} | fields))


LINKS: Final = ("https://a.example/1", "https://a.example/2")


@pytest.mark.parametrize(
    "edit",
    [
        _edit(status="pending", charged="reserved"),
        _edit(image_urls=LINKS),
        _edit(image_urls=LINKS[:1]),
        _edit(image_urls=LINKS, saved=("/a", "/b")),
        _edit(status="pending", error=ReadFailed(code="read_failed")),
        _edit(status="unknown", error=OutcomeUnknown(code="outcome_unknown")),
    ],
)
def test_what_to_do_next_is_said_to_a_person_in_json_too(edit: Edit) -> None:
    said = edit_as_json(edit, is_emulator=False)["next_step"]
    assert not TO_AN_AGENT.search(said), said


@pytest.mark.parametrize(
    ("tool", "person"),
    [
        ("Call edit_image again later.", "Run it again later."),
        ("Correct it, then call again.", "Correct it, then run it again."),
        ("call edit_image again with force_new=true.", "run it again with --force-new."),
        ("Set it, then restart this server.", "Set it."),
        ("n must be a whole number.", "-n must be a whole number."),
        ("prompt has 2001 characters.", "--prompt has 2001 characters."),
        ("Ask for fewer images (n).", "Ask for fewer images (-n)."),
        ("image_urls[0] is a link.", "IMAGE is a link."),
        ("image_urls[1] is a link.", "IMAGE2 is a link."),
        (
            "Pass the task_id exactly as edit_image returned it.",
            "Pass the TASK_ID exactly as `wan25-mcp edit` printed it.",
        ),
    ],
)
def test_a_persons_words_are_the_commands(tool: str, person: str) -> None:
    assert at_terminal(tool) == person
