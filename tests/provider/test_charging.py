"""The money table: what the end of a submit allows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.provider.charging import MAX_RESENDS, Verdict, is_own_error, verdict

AGAIN, NO, UNKNOWN = Verdict(True, "no"), Verdict(False, "no"), Verdict(False, "unknown")


@pytest.mark.parametrize(
    ("sent", "status", "expected"),
    [
        (False, None, AGAIN),
        *((True, status, UNKNOWN) for status in (429, 503)),  # unless it is the API that says so
        *((True, status, NO) for status in (300, 301, 302, 304, 307, 308)),
        *((True, status, NO) for status in (400, 401, 402, 403, 404, 405, 413, 415, 422, 451)),
        (True, None, UNKNOWN),
        *((True, status, UNKNOWN) for status in (408, 409, 499)),
        *((True, status, UNKNOWN) for status in (500, 501, 502, 504, 505, 520, 524, 599, 999)),
        *((True, status, UNKNOWN) for status in (0, 100, 199, 200, 201, 204, 299)),
    ],
)
def test_every_end_of_a_submit_has_its_row(
    sent: bool, status: int | None, expected: Verdict
) -> None:
    assert verdict(sent=sent, status=status) == expected


@given(st.booleans(), st.none() | st.integers())
def test_what_may_have_been_accepted_is_never_sent_again(sent: bool, status: int | None) -> None:
    end = verdict(sent=sent, status=status)
    assert not (end.resend and end.charged != "no")
    assert end.resend == (not sent)


@given(st.booleans(), st.none() | st.integers())
def test_the_apis_own_word_changes_nothing_but_429_and_503(sent: bool, status: int | None) -> None:
    end = verdict(sent=sent, status=status, own_error=True)
    if status in (429, 503):
        assert end == AGAIN
    else:
        assert end == verdict(sent=sent, status=status)


LATER, BUSY = "retry after 60 seconds", "Service temporarily unavailable"
RECORDED: dict[str, Any] = {
    "message": "Resource exhausted", "type": "", "param": "", "code": 429
}  # fmt: skip


def error(code: object, kind: object, **more: object) -> dict[str, Any]:
    return {"error": {"code": code, "message": BUSY, "type": kind, **more}}


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, error(429, "rate_limit_error", fallback_suggestion=LATER)),
        (429, error("rate_limit_exceeded", "rate_limit_error")),
        (429, RECORDED),
        (503, error(503, "service_unavailable_error", fallback_suggestion=LATER, param="model")),
        (503, error("service_unavailable", "service_unavailable_error")),
        (503, {"error": {"code": "service_unavailable", "message": BUSY}}),
    ],
)
def test_an_error_as_the_api_documents_it_is_its_own_word(status: int, body: object) -> None:
    assert is_own_error(status, body)
    assert not is_own_error(503 if status == 429 else 429, body)
    assert not is_own_error(502, body)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    "body",
    [
        None, [], "no healthy upstream", 503, {}, {"error": None}, {"error": BUSY}, {"error": []},
        {"message": "no healthy upstream"}, {"message": BUSY, "code": 503},
        {"message": BUSY, "code": 429}, {"code": 14, "message": "upstream connect error"},
        {"statusCode": 429, "message": "Rate limit is exceeded."}, {"fault": error(503, "x")},
        {**RECORDED, "code": 503}, {**RECORDED, "code": "429"}, {**RECORDED, "message": None},
        {**RECORDED, "type": "upstream_error"}, {**RECORDED, "code": 429.0},
        {"error": {"code": 503, "message": BUSY}}, {"error": {"code": 429, "message": BUSY}},
        {"error": {"code": 503, "message": BUSY, "status": "UNAVAILABLE"}},
        {"error": {"message": BUSY, "type": "service_unavailable_error"}},
        error(502, "upstream_error"), error(503, "upstream_error"), error(429, "upstream_error"),
        error("service_unavailable", "upstream_error"), error("503", "service_unavailable_error"),
        error(503.0, "service_unavailable_error"), error(True, "rate_limit_error"),
        error(500, "service_unavailable_error"), error(None, "rate_limit_error"),
        error("internal_error", "service_unavailable_error"), error([], "rate_limit_error"),
        error(503, ["service_unavailable_error"]), error(503, None), error(429, ""),
        {"error": {"code": 503, "type": "service_unavailable_error"}},
        {"error": {"code": 503, "type": "service_unavailable_error", "message": 5}},
    ],
)  # fmt: skip
def test_what_a_gateway_says_is_not_the_apis_own_word(status: int, body: object) -> None:
    assert not is_own_error(status, body)


def test_a_submit_is_sent_again_at_most_three_times() -> None:
    assert MAX_RESENDS == 3
