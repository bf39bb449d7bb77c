"""Names image files: the date, words of the prompt, the task's short id, a number.

A prompt can be any text, so a name contains only what is safe on every file system. No I/O.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

MAX_WORD_BYTES: Final = 60
"""Limit of the words of the prompt, in UTF-8. The whole name then stays below the 143 bytes of
eCryptfs, the shortest limit in use, and a path below the 260 characters of Windows."""

MAX_SOURCE_BYTES: Final = 40
MAX_WORDS: Final = 6


@dataclass(frozen=True, slots=True)
class ImageName:
    """What the name of a result is made of.

    Args:
        prompt: Its first words are used.
        task_id: Its end is used.
        number: Which of the task's images it is, from 1.
        day: Today by default.
        source: The name of the picture that was edited, for the beginning.
    """

    prompt: str
    task_id: str
    number: int
    day: date | None = None
    source: str | None = None

    def stem(self) -> str:
        """The file name without its extension."""
        day = self.day or datetime.now(UTC).astimezone().date()
        stem = stem_of(self.prompt, self.task_id, self.number, day)
        source = _words(self.source or "", MAX_SOURCE_BYTES)
        return f"{source}-{stem}" if source else stem


def stem_of(prompt: str, task_id: str, number: int, day: date) -> str:
    """A file name without its extension: date, words of the prompt, short id, number.

    It begins with a letter or digit and ends with a digit, so it cannot be a hidden file or a
    command's option, and it has no trailing dot or space. It has a date in it, so it cannot be a
    Windows device.
    """
    short = re.sub(r"[^A-Za-z0-9]", "", task_id)[-6:]
    return "-".join([day.isoformat(), _words(prompt) or "edit", short or "task", str(number)])


def _words(prompt: str, max_bytes: int = MAX_WORD_BYTES) -> str:
    """The first words, in their own script: every file system in use accepts that.

    Only letters, digits and their marks, in one normal form (NFKC). No character that is invisible
    or changes the direction of writing.
    """
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", prompt[:400]).lower())
    spaced = "".join(one if _is_letter_or_digit(one) else " " for one in plain)
    name = ""
    words = [word for word in spaced.split() if unicodedata.category(word[0])[0] != "M"]
    for word in words[:MAX_WORDS]:
        longer = f"{name}-{word}" if name else word
        if len(longer.encode()) > max_bytes:
            # A script without spaces is cut at the limit.
            return name or word.encode()[:max_bytes].decode(errors="ignore")
        name = longer
    return name


_INVISIBLE: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
"""Invisible letters and marks, which some file systems ignore when they compare names."""


def _is_letter_or_digit(one: str) -> bool:
    """Whether a character is a letter, a digit or a mark that belongs to one."""
    category = unicodedata.category(one)
    return (category[0] == "L" or category in ("Mn", "Mc", "Nd")) and not _INVISIBLE.match(one)
