"""One real edit, paid for, looked at from every side. Off unless asked for by name and with a key:

    WAN25_LIVE=1 WAN25_API_KEY=... WAN25_LIVE_IMAGE=https://... WAN25_LIVE_MOST_CREDITS=2 \\
        python -m pytest -s tests/live

`WAN25_LIVE_IMAGE` is a public link to a picture you may use; `WAN25_LIVE_MOST_CREDITS` is what the
run may cost by the price seen last. `WAN25_LIVE_REPLAY=1` also sends one submit twice with the same
`Idempotency-Key`, which costs a second edit if the header is not honoured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import anyio
import httpx2
import pytest

from wan25_mcp.provider.exchange import USER_AGENT, open_http
from wan25_mcp.settings import Settings

PRICE_SEEN: Final = 1.5
"""Credits an image, October 2026 (provider-api.md §3). An estimate; answers say the truth."""

PROMPT: Final = "Replace the background with a starry sky; keep the main subject unchanged."
LONGEST_RUN: Final = 600.0
PAUSE: Final = 5.0

_ON: Final = os.environ.get("WAN25_LIVE") == "1" and bool(os.environ.get("WAN25_API_KEY"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not _ON:
        for item in items:
            if "live" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason="needs WAN25_LIVE=1 and WAN25_API_KEY"))


@pytest.fixture(autouse=True)
def hard_deadline() -> None:
    """The real model takes its time: the deadline of the other tests does not apply here."""


@dataclass(frozen=True)
class Answer:
    """What came back, as it was."""

    status: int
    headers: Mapping[str, str]
    body: Any
    content: bytes = b""


@dataclass
class Observed:
    """What the live service did."""

    credits_before: Answer
    submit: Answer
    looks: list[tuple[float, Answer]] = field(default_factory=list)
    """Each with the seconds since the submit."""
    credits_after: Answer | None = None
    unknown_task: Answer | None = None
    wrong_key: Answer | None = None
    result: Answer | None = None
    result_for_library: Answer | None = None
    replay: Answer | None = None

    @property
    def last(self) -> dict[str, Any]:
        body: dict[str, Any] = self.looks[-1][1].body
        return body


@pytest.fixture(scope="session")
def observed() -> Observed:
    """Everything the tests look at, from one edit."""
    return _observe()


@cache
def _observe() -> Observed:
    return anyio.run(_edit_once)


async def _edit_once() -> Observed:
    settings = Settings.from_mapping(os.environ)
    image, most = os.environ.get("WAN25_LIVE_IMAGE"), os.environ.get("WAN25_LIVE_MOST_CREDITS")
    if settings.key is None or not image or not most:
        pytest.fail("Set WAN25_API_KEY, WAN25_LIVE_IMAGE and WAN25_LIVE_MOST_CREDITS.")
    async with open_http() as http:
        live = _Live(http, settings.base_url, settings.key.get_secret_value())
        before = await live.get("/v1/credits")
        _agree_on_the_price(before, float(most))
        return await live.observe(before, image)


def _agree_on_the_price(balance: Answer, most: float) -> None:
    edits = 1 + (os.environ.get("WAN25_LIVE_REPLAY") == "1")
    price = edits * PRICE_SEEN
    print(f"\nCredits now: {balance.body}")
    print(f"This run makes {edits} edit(s) of one image: about {price:g} credits.")
    if price > most:
        pytest.fail(f"That is more than WAN25_LIVE_MOST_CREDITS ({most:g}); nothing was sent.")


class _Live:
    """Requests as bare as can be: what is checked is the service, not our client."""

    def __init__(self, http: httpx2.AsyncClient, base_url: str, key: str) -> None:
        self._http, self._base, self._key = http, base_url, key

    async def observe(self, before: Answer, image: str) -> Observed:
        began = time.monotonic()
        seen = Observed(before, await self.submit(image, "wan25-live-1"))
        print(f"Submitted: {seen.submit.status} {seen.submit.body}")
        if seen.submit.status != 200:
            return seen
        task_id = seen.submit.body["id"]
        while True:
            look = await self.get(f"/v1/tasks/{task_id}")
            seen.looks.append((time.monotonic() - began, look))
            settled = look.body.get("status") in ("completed", "failed", "cancelled")
            if settled or time.monotonic() - began > LONGEST_RUN:
                break
            await anyio.sleep(PAUSE)
        print(f"Ended after {seen.looks[-1][0]:.0f} s: {seen.last}")
        seen.credits_after = await self.get("/v1/credits")
        seen.unknown_task = await self.get("/v1/tasks/task-unified-0000000000-nosuchid")
        seen.wrong_key = await self.get("/v1/credits", key="not-a-key")
        if seen.last.get("results"):
            link = seen.last["results"][0]
            seen.result = await self.fetch(link, USER_AGENT)
            seen.result_for_library = await self.fetch(link, f"python-httpx2/{httpx2.__version__}")
        if os.environ.get("WAN25_LIVE_REPLAY") == "1":
            seen.replay = await self.submit(image, "wan25-live-1")
        return seen

    async def submit(self, image: str, idempotency_key: str) -> Answer:
        response = await self._http.post(
            f"{self._base}/v1/images/generations",
            json={
                "model": "wan2.5-image-to-image",
                "prompt": PROMPT,
                "image_urls": [image],
                "n": 1,
            },
            headers={**self._authorized(), "Idempotency-Key": idempotency_key},
        )
        return _answer(response)

    async def get(self, path: str, key: str | None = None) -> Answer:
        response = await self._http.get(self._base + path, headers=self._authorized(key))
        return _answer(response)

    async def fetch(self, link: str, agent: str) -> Answer:
        """Download a result, without the key."""
        response = await self._http.get(link, headers={"User-Agent": agent}, follow_redirects=True)
        return Answer(response.status_code, dict(response.headers), None, response.content)

    def _authorized(self, key: str | None = None) -> dict[str, str]:
        return {"Authorization": f"Bearer {key or self._key}"}


def _answer(response: httpx2.Response) -> Answer:
    try:
        body = response.json()
    except ValueError:
        body = response.text
    return Answer(response.status_code, dict(response.headers), body, response.content)
