"""Rate limits, with and without Retry-After."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from tests.emulator_lab import RateLimit

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Trio, jumping over every wait."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@pytest.mark.parametrize(
    ("style", "header"),
    [(None, None), ("seconds", "40"), ("date", "Fri, 15 Jan 2027 08:01:40 GMT")],
)
async def test_the_submit_above_the_limit_is_answered_with_when_to_retry(
    play: Any, style: Any, header: str | None
) -> None:
    limit = RateLimit(2, seconds=60, retry_after=style)
    start: list[float] = []
    async with play(
        rate_limit=limit,
        clock=lambda: 1_800_000_040 + anyio.current_time() - (start[0] if start else 0),
    ) as p:
        start.append(anyio.current_time())
        await p.accepted()
        await anyio.sleep(20)
        await p.accepted()
        answer = await p.submit()
        assert answer.status_code == 429
        assert answer.json()["error"]["fallback_suggestion"] == "retry after 40 seconds"
        assert answer.headers.get("retry-after") == header
        await anyio.sleep(40)
        await p.accepted()
        assert (await p.submit()).status_code == 429
        assert p.emulator.ledger.charges == 3


async def test_every_key_has_a_limit_of_its_own_and_reads_have_none(play: Any) -> None:
    async with play(rate_limit=1, key=["emulator-key", "another"]) as p:
        task_id = await p.accepted()
        assert (await p.submit()).status_code == 429
        for _ in range(5):
            await p.query(task_id)
        p.client.headers["authorization"] = "Bearer another"
        await p.accepted()
