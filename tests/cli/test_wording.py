"""What a person at a terminal reads in place of a tool's words."""

from __future__ import annotations

import pytest

from wan25_mcp.cli.wording import at_terminal
from wan25_mcp.errors.codes import CODES


@pytest.mark.parametrize("code", CODES)
def test_no_remedy_speaks_of_tools_to_a_person(code: str) -> None:
    said = at_terminal(CODES[code].fix)
    for word in ("edit_image", "get_task", "wait_for_task", "force_new", "task_id", "(n)"):
        assert word not in said


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
