"""Calls back when a task is settled, with the retries of the specification."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from wan25_mcp.emulator.addresses import BadAddress

RETRY_WAITS = (1.0, 2.0, 4.0)


async def deliver(
    post: Callable[[str, bytes], Awaitable[int]],
    wait: Callable[[float], Awaitable[None]],
    url: str,
    body: dict[str, Any],
) -> None:
    """Make up to four attempts, until one is answered with 2xx. `post` returns the status."""
    import httpx2

    for pause in (0.0, *RETRY_WAITS):
        if pause:
            await wait(pause)
        try:
            status = await post(url, json.dumps(body, ensure_ascii=False).encode())
        except (BadAddress, TimeoutError, httpx2.HTTPError, httpx2.InvalidURL, OSError):
            continue
        if 200 <= status < 300:
            return
