"""One attempt to call back, under whatever fault is scripted for "callback"."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from tests.emulator_lab.faults import Fault
from tests.emulator_lab.records import Delivery

HTML = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
Post = Callable[[str, bytes], Awaitable[int]]


async def post_with(fault: Fault | None, post: Post, delivery: Delivery, body: bytes) -> int:
    """Post and complete the record of it; what `post` raises is recorded and raised."""
    try:
        delivery.status = await _post(fault, post, delivery.url, body)
    except TimeoutError:
        delivery.error = "timeout"
        raise
    except Exception as error:
        delivery.error = f"{type(error).__name__}: {error}"
        raise
    return delivery.status


async def _post(fault: Fault | None, post: Post, url: str, body: bytes) -> int:
    """Post, spoilt by the fault.

    `refuse` and `drop_before` send nothing. `drop_after` sends and then counts as failed, so that
    the receiver sees a duplicate. `status` sends and pretends that `code` was answered.
    """
    if fault is None:
        return await post(url, body)
    await anyio.sleep(fault.seconds)
    if fault.kind in ("refuse", "drop_before"):
        raise OSError("dropped by a fault")
    status = await post(url, _spoil(body, fault))
    if fault.kind == "drop_after":
        raise OSError("dropped by a fault after sending")
    return fault.code or status


def _spoil(body: bytes, fault: Fault) -> bytes:
    spoilt = {
        "truncate": body[: len(body) // 2],
        "html": HTML,
        "garbage_json": b'{"id": nope',
        "empty": b"",
    }
    return spoilt.get(fault.kind, body)
