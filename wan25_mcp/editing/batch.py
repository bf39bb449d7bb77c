"""Many edits, a few at a time, each handed over when it is settled."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any

import anyio

from wan25_mcp.editing.edit import Edit
from wan25_mcp.editing.handing_over import HandOver
from wan25_mcp.errors import InvalidRequest

Attempt = Callable[[int, object], Awaitable[Edit]]
"""Makes an edit of the request in a place. Raises nothing that the edit's `error` can say."""


class Batch:
    """Requests that are taken one by one, when there is room for another edit.

    Args:
        limit: How many edits run at the same time.

    Raises:
        InvalidRequest: `requests` cannot be iterated over.
    """

    def __init__(self, attempt: Attempt, requests: object, limit: int) -> None:
        self._attempt = attempt
        self._limit = limit
        self._next = _taking(requests)
        self._turn = anyio.Lock()
        self._taken = 0
        self._failure: Exception | None = None

    async def run(self, hand_over: HandOver[Edit]) -> None:
        """Make all edits. An error of the iteration itself is raised when the last one is done."""
        async with anyio.create_task_group() as tasks:
            for _ in range(self._limit):
                tasks.start_soon(self._work, hand_over)
                if self._failure is not None:
                    break
        if self._failure is not None and not isinstance(self._failure, StopAsyncIteration):
            raise self._failure

    async def _work(self, hand_over: HandOver[Edit]) -> None:
        while True:
            async with self._turn:
                if self._failure is not None:
                    return
                try:
                    request = await self._next()
                except Exception as failure:  # noqa: BLE001  the program's own, raised by `run`
                    self._failure = failure
                    return
                index, self._taken = self._taken, self._taken + 1
            await hand_over(await self._attempt(index, request))


def _taking(requests: Any) -> Callable[[], Awaitable[object]]:
    """How the next request is taken; it raises `StopAsyncIteration` after the last."""
    if hasattr(requests, "__aiter__"):
        source: AsyncIterator[object] = aiter(requests)
        return lambda: anext(source)
    source_of_all = plain(requests)

    async def take() -> object:
        for request in source_of_all:
            return request
        raise StopAsyncIteration

    return take


def plain(requests: object) -> Iterator[object]:
    """
    Raises:
        InvalidRequest: They cannot be iterated over.
    """
    if isinstance(requests, Iterable) and not isinstance(requests, Mapping | str | bytes):
        return iter(requests)
    raise InvalidRequest(
        "requests must be an iterable of mappings.",
        fix='Pass a list such as [{"images": "house.jpg", "prompt": "Make it night"}].',
    )
