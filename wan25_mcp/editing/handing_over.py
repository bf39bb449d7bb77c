"""An iterator whose items a task of its owner makes.

A task group inside an async generator would end in another task, or never, when a loop is left
early. Here the task runs in a group that outlives the loop, and hands each item over as soon as the
loop asks for one. Leaving the loop cancels the task.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

T = TypeVar("T")
HandOver = Callable[[T], Awaitable[None]]
"""Hands an item over; returns when the loop has taken it."""

Produce = Callable[[HandOver[T]], Awaitable[None]]


class Handed(AsyncIterator[T], Generic[T]):
    """Items as they are made. Nothing begins before the first one is asked for.

    Args:
        tasks: The group that the making task runs in.
        produce: Makes the items. Its error is raised after the last of them.
        ended: The error for a loop whose group ends before the last item is made.
    """

    def __init__(
        self,
        tasks: Callable[[], TaskGroup],
        produce: Produce[T],
        ended: Callable[[], Exception],
    ) -> None:
        self._tasks = tasks
        self._produce = produce
        self._ended = ended
        self._making: _Making[T] | None = None

    def __aiter__(self) -> Handed[T]:
        return self

    async def __anext__(self) -> T:
        if self._making is None:
            tasks = self._tasks()
            self._making = _Making()
            # Not a method of this object: the task must not keep it alive.
            tasks.start_soon(self._making.run, self._produce, self._ended)
        return await self._making.next()

    async def aclose(self) -> None:
        """End the task. Dropping the iterator, as a loop does that is left, does the same."""
        self.__del__()

    def __del__(self) -> None:
        if self._making is not None:
            self._making.stop()


class _Making(Generic[T]):
    """The task that makes the items, and what it leaves behind."""

    def __init__(self) -> None:
        self._send: MemoryObjectSendStream[T]
        self._receive: MemoryObjectReceiveStream[T]
        self._send, self._receive = anyio.create_memory_object_stream[T](0)
        self._scope = anyio.CancelScope()
        self._failure: Exception | None = None

    async def run(self, produce: Produce[T], ended: Callable[[], Exception]) -> None:
        with self._send, self._scope:
            try:
                await produce(self._send.send)
            except anyio.get_cancelled_exc_class():
                if not self._scope.cancel_called:  # else the loop was left
                    self._failure = ended()
                raise
            except Exception as error:  # noqa: BLE001  raised in the loop
                self._failure = error

    async def next(self) -> T:
        try:
            return await self._receive.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError):
            self._receive.close()
            failure, self._failure = self._failure, None
            if failure is not None:
                raise failure from None
            raise StopAsyncIteration from None

    def stop(self) -> None:
        self._receive.close()  # the next item cannot be handed over, which ends the task as well
        with suppress(RuntimeError):  # dropped outside the loop, such as after its end
            self._scope.cancel()
