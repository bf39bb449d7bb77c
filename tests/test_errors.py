"""The one list of error codes: complete, used, and what the journal restores errors by."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from wan25_mcp import errors
from wan25_mcp.errors import (
    STATUSES,
    InvalidRequest,
    NotPublished,
    OutcomeUnknown,
    Refused,
    SettingsError,
    TaskFailed,
    Unreachable,
    Wan25Error,
    task_advice,
)
from wan25_mcp.errors.codes import ANY_OTHER, CODES, OWN_ROWS
from wan25_mcp.errors.provider_rows import HTTP_ROWS, TASK_ROWS
from wan25_mcp.journal import Withheld, outcomes
from wan25_mcp.journal.outcomes import error_from_json, error_to_json

PACKAGE: Final = Path(errors.__file__).parent.parent
SOURCES: Final = [
    path
    for path in sorted(PACKAGE.rglob("*.py"))
    if "emulator" not in path.relative_to(PACKAGE).parts
    and path.name not in ("codes.py", "provider_rows.py", "rows.py")
]


def _texts(node: ast.AST | None) -> Iterator[str]:
    """The texts that an expression can come to, such as both of `"a" if x else "b"`."""
    for inner in ast.walk(node) if node else ():
        if isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield inner.value


def _named_code(tree: ast.AST) -> Iterator[ast.expr | None]:
    """Every value that is called `code`: passed, assigned, or a default."""
    for node in ast.walk(tree):
        match node:
            case ast.keyword(arg="code"):
                yield node.value
            case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant()):
                yield node.value
            case ast.Assign(targets=[ast.Tuple() as names], value=ast.Tuple() as values):
                for name, value in zip(names.elts, values.elts, strict=True):
                    is_code = isinstance(name, ast.Name) and name.id == "code"
                    if is_code and isinstance(value, ast.Constant):
                        yield value
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                rules = node.args
                for rule, default in zip(rules.kwonlyargs, rules.kw_defaults, strict=True):
                    if rule.arg == "code":
                        yield default


def _raised() -> dict[str, str]:
    """The codes that the source names, with a file that does."""
    return {
        code: path.name
        for path in SOURCES
        for value in _named_code(ast.parse(path.read_text(encoding="utf-8")))
        for code in _texts(value)
    }


def test_every_code_that_is_raised_is_in_the_list() -> None:
    assert {code: where for code, where in _raised().items() if code not in CODES} == {}


def _made() -> Iterator[tuple[str, str, str]]:
    """Each error that the source makes by its class: the class, the code, and the file."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                for keyword in node.keywords:
                    if keyword.arg == "code" and isinstance(keyword.value, ast.Constant):
                        yield node.func.id, str(keyword.value.value), path.name


def test_an_error_is_raised_as_the_class_that_the_journal_restores_it_by() -> None:
    named = {kind.__name__: kind for kind in outcomes._CLASSES.values()}
    wrong = {
        (name, code, where)
        for name, code, where in _made()
        if name in named and outcomes._CLASSES.get(CODES[code].kind) is not named[name]
    }
    assert wrong == set()


def test_every_code_in_the_list_is_raised() -> None:
    by_the_provider = {code for code, _ in STATUSES.values()} | {row.code for row in TASK_ROWS}
    assert set(CODES) - set(_raised()) - by_the_provider - {"refused"} == set()


def test_no_code_has_two_rows_and_every_row_is_whole() -> None:
    rows = (*HTTP_ROWS, *TASK_ROWS, *OWN_ROWS)
    assert len(CODES) == len(rows)
    for row in rows:
        assert row.sentence[0].isupper(), row
        assert not row.sentence.endswith("."), row
        assert row.fix.endswith("."), row


def test_an_error_takes_from_its_row_what_is_not_said_otherwise() -> None:
    row = CODES["outcome_unknown"]
    error = OutcomeUnknown(code=row.code)
    assert error.message == str(error) == f"{row.sentence}."
    assert (error.fix, error.retryable, error.charged) == (row.fix, False, "unknown")
    other = OutcomeUnknown("It broke.", code=row.code, fix="Wait.", retryable=True, charged="yes")
    assert (other.message, other.fix) == ("It broke.", "Wait.")
    assert (other.retryable, other.charged) == (True, "yes")


def test_a_code_of_the_providers_that_nobody_knows_stays_and_is_the_services_fault() -> None:
    told = task_advice("gpu_on_fire")
    assert (told.code, told.sentence, told.fix) == (
        "gpu_on_fire",
        ANY_OTHER.sentence,
        ANY_OTHER.fix,
    )
    assert told.retryable
    assert task_advice("not a word").code == "unknown_error"
    assert TaskFailed("It failed.", code="gpu_on_fire").fix == ANY_OTHER.fix


@pytest.mark.parametrize("code", ["credit_limit", "not_found", "never_sent"])
def test_a_task_that_failed_with_one_of_our_codes_is_not_told_in_our_words(code: str) -> None:
    assert task_advice(code).sentence == ANY_OTHER.sentence


# --- in the journal -------------------------------------------------------------------------

ENDS: Final = [
    OutcomeUnknown(code="outcome_unknown", request_id="r-1"),
    OutcomeUnknown("No id.", code="unreadable_answer"),
    Refused("No.", code="invalid_request", fix="Correct it."),
    Refused(code="rate_limit", retry_after_seconds=2.5),
    Unreachable(code="unreachable"),
    Unreachable(code="never_sent"),
    Withheld("Held – “back”.", code="credit_limit", retryable=True),
    InvalidRequest("Gone.", code="image_not_found"),
    SettingsError(code="no_image_host"),
    NotPublished("Not uploaded.", code="upload_failed"),
]


@pytest.mark.parametrize("error", ENDS, ids=lambda error: error.code)
def test_an_error_that_a_submit_ends_with_is_read_as_it_was(error: Wan25Error) -> None:
    read = error_from_json(error_to_json(error))
    assert (type(read), str(read), vars(read)) == (type(error), str(error), vars(error))


def test_every_kind_is_a_class_or_never_in_the_journal() -> None:
    elsewhere = {"read_failed", "task_failed", "journal", "result", "other"}
    assert {row.kind for row in CODES.values()} == set(outcomes._CLASSES) | elsewhere


def test_a_row_holds_the_code_and_no_class() -> None:
    kept = error_to_json(Refused(code="permission"))
    assert kept["code"] == "permission"
    assert "Refused" not in str(kept)


def row_of_an_earlier_version(kind: str, code: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "message": "As it was said.",
        "code": code,
        "fix": "As it was advised.",
        "retryable": True,
        "retry_after_seconds": 3.0,
        "request_id": "r-1",
        "charged": "unknown" if kind == "OutcomeUnknown" else "no",
    }


EARLIER: Final = [
    ("OutcomeUnknown", "outcome_unknown", OutcomeUnknown),
    ("OutcomeUnknown", "unreadable_answer", OutcomeUnknown),
    ("Refused", "insufficient_credits", Refused),
    ("Unreachable", "never_sent", Unreachable),
    ("Withheld", "provider_failing", Withheld),
    ("NotPublished", "unreadable_answer", Wan25Error),
    ("JournalUnusable", "journal_unusable", Wan25Error),
    ("Wan25Error", "a_code_of_then", Wan25Error),
]


@pytest.mark.parametrize(("kind", "code", "family"), EARLIER)
def test_a_row_of_an_earlier_version_is_read_as_it_was_written(
    kind: str, code: str, family: type[Wan25Error]
) -> None:
    row = row_of_an_earlier_version(kind, code)
    read = error_from_json(row)
    assert type(read) is family
    assert {"kind": kind, **vars(read)} == row


def test_a_class_that_is_renamed_changes_no_row() -> None:
    rows = [row_of_an_earlier_version(kind, code) for kind, code, _ in EARLIER[:4]]
    rows += [error_to_json(error) for error in ENDS]
    before = [type(error_from_json(row)) for row in rows]
    names = {family: family.__name__ for family in before}
    try:
        for family in names:
            family.__name__ = f"Renamed{family.__name__}"
        program = runpy.run_path(outcomes.__file__)  # begins anew, with the classes' new names
        after = [type(program["error_from_json"](row)) for row in rows]
    finally:
        for family, name in names.items():
            family.__name__ = name
    assert after == before
