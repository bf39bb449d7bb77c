"""The money table: what the end of a submit allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.money import MOST_RESENDS, Verdict, verdict

AGAIN, NO, UNKNOWN = Verdict(True, "no"), Verdict(False, "no"), Verdict(False, "unknown")


@pytest.mark.parametrize(
    ("sent", "status", "expected"),
    [
        (False, None, AGAIN),
        (True, 429, AGAIN),
        (True, 503, AGAIN),
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
    assert end.resend == (not sent or status in (429, 503))


def test_a_submit_is_sent_again_at_most_three_times() -> None:
    assert MOST_RESENDS == 3
