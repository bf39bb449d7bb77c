"""The drawing of the stages in the documentation of the journal."""

from __future__ import annotations

import re

from wan25_mcp import journal
from wan25_mcp.journal.stages import STAGES


def test_the_drawing_shows_every_transition_of_the_table_and_no_other() -> None:
    lines = re.findall(r"^ {4}(\w+) +─→ (.+)$", journal.__doc__ or "", re.MULTILINE)
    drawn = {stage: set(following.split(" | ")) for stage, following in lines}
    assert drawn == {stage: following for stage, following in STAGES.items() if following}
