"""File names: what a person recognises, and nothing a file system could trip over."""

from __future__ import annotations

import re
import unicodedata
from datetime import date
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan25_mcp.outputs.filenames import ImageName, stem_of

DAY: Final = date(2026, 11, 22)
TASK: Final = "task-unified-1757156493-imcg5zqt"


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Make it night, keep the cat!", "make-it-night-keep-the-cat"),
        ("one two three four five six seven eight", "one-two-three-four-five-six"),
        ("把背景换成星空", "把背景换成星空"),
        ("把 背景 换成 星空。", "把-背景-换成-星空"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full-width"),
        ("हिन्दी में लिखो", "हिन्दी-में-लिखो"),
        ("../../etc/passwd", "etc-passwd"),
        ("..\\..\\CON.png:stream", "con-png-stream"),
        ("a\0b\nc\u202egnp.exe", "a-b-c-gnp-exe"),
        ("\u3164\u034f\u200b", "edit"),
        ("🐱🐶", "edit"),
        ("\u0301\u0301 x", "x"),
        ("", "edit"),
        ("星" * 100, "星" * 20),
        ("a" * 500, "a" * 60),
        ("short " + "b" * 60, "short"),
        ("\ud800 half", "half"),
    ],
)
def test_a_name_is_the_date_the_words_the_short_id_and_the_number(prompt: str, words: str) -> None:
    assert stem_of(prompt, TASK, 2, DAY) == f"2026-11-22-{words}-cg5zqt-2"


@given(prompt=st.text(), task_id=st.text())
@settings(max_examples=300)
def test_no_name_is_unsafe_anywhere(prompt: str, task_id: str) -> None:
    stem = stem_of(prompt, task_id, 4, DAY)
    assert re.fullmatch(r"2026-11-22-.+-[A-Za-z0-9]{1,6}-4", stem)
    assert len((stem + "-999.webp").encode()) <= 143
    assert unicodedata.normalize("NFC", stem) == stem
    for one in stem:
        assert one == "-" or unicodedata.category(one)[0] in "LMN", (one, stem)


@pytest.mark.parametrize(
    ("source", "beginning"),
    [
        ("House (1)", "house-1-"),
        ("../CON", "con-"),
        ("-rf", "rf-"),
        ("x" * 300, "x" * 40 + "-"),
        ("🏠", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_result_can_be_named_after_its_source(source: str | None, beginning: str) -> None:
    name = ImageName("Make it night", TASK, 2, DAY, source)
    assert name.stem() == f"{beginning}2026-11-22-make-it-night-cg5zqt-2"


@given(prompt=st.text(), source=st.text())
@settings(max_examples=300)
def test_no_name_after_a_source_is_unsafe_anywhere(prompt: str, source: str) -> None:
    stem = ImageName(prompt, TASK, 4, DAY, source).stem()
    assert len((stem + "-999.webp").encode()) <= 143
    assert re.fullmatch(r"[^-.].*-4", stem)
