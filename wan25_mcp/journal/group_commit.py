"""Steps that come at once share a transaction: one thread, one lock, one commit for many.

Ten thousand waits would otherwise queue for threads, connections and the file's lock one by one,
and SQLite makes whoever finds it locked sleep and try again. A step that comes alone is alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.lowlevel

from wan25_mcp.journal.records import JournalUnusable

S = TypeVar("S")

MAX_BATCH: Final = 100
"""Steps in one transaction: other processes wait for it."""


@dataclass(eq=False, slots=True)
class _Waiter(Generic[S]):
    """Where a step stands."""

    step: S
    turn: anyio.Event = field(default_factory=anyio.Event)
    """Set when the step was carried out, or when its caller is to carry out the next batch."""
    result: Any = None
    error: BaseException | None = None
    is_done: bool = False
    is_left: bool = False
    """Whether its caller has gone while it was carried out."""

    def end(self, end: Any) -> None:
        """Its result, or its error."""
        self.is_done = True
        if isinstance(end, BaseException):
            self.error = end
        else:
            self.result = end
        self.turn.set()


class GroupCommit(Generic[S]):
    """Carries out steps in order, those that came meanwhile together.

    Args:
        carry_out: Carries out some, beside the event loop; the result or the error of each. What
            it raises itself also ends all that wait: they would only find the same, one later
            than the other.
        abreast: How many batches are under way at one time.
        may_abandon: Whether a step may be left before it is over, as one that only reads: whoever
            is cancelled is gone at once, and the others' steps are carried out anew.
    """

    def __init__(
        self,
        carry_out: Callable[[Sequence[S]], Awaitable[Sequence[Any]]],
        *,
        concurrency: int = 1,
        may_abandon: bool = False,
    ) -> None:
        self._carry_out = carry_out
        self._may_abandon = may_abandon
        self._free = concurrency
        self._waiting: dict[_Waiter[S], None] = {}

    async def do(self, step: S) -> Any:
        """Carry out a step. Once begun, it is waited for, unless it may be abandoned."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        place = _Waiter(step)
        if self._free:
            self._free -= 1
        else:
            self._waiting[place] = None
            await self._turn(place)
        if not place.is_done:
            await self._lead(place)
        if place.error is not None:
            raise place.error
        return place.result

    async def _turn(self, place: _Waiter[S]) -> None:
        try:
            await place.turn.wait()
        except BaseException:
            if place in self._waiting:
                del self._waiting[place]
            elif self._may_abandon and not place.turn.is_set():
                place.is_left = True
            elif not place.turn.is_set():  # it is being carried out
                with anyio.CancelScope(shield=True):
                    await place.turn.wait()
            elif not place.is_done:
                self._pass_on()
            raise

    async def _lead(self, first: _Waiter[S]) -> None:
        """Carry out the caller's step, and with it those that wait."""
        batch = [first, *islice(self._waiting, MAX_BATCH - 1)]
        for place in batch[1:]:
            del self._waiting[place]
        try:
            with anyio.CancelScope(shield=not self._may_abandon):
                ends = await self._carry_out([place.step for place in batch])
        except Exception as error:  # noqa: BLE001  raised to each of them
            self._end_all(batch, error)
        except BaseException:
            if self._may_abandon:
                again = dict.fromkeys(place for place in batch[1:] if not place.is_left)
                self._waiting = again | self._waiting
            else:
                self._end_all(batch, JournalUnusable("it was interrupted"))
            raise
        else:
            for place, end in zip(batch, ends, strict=True):
                place.end(end)
        finally:
            self._pass_on()

    def _end_all(self, batch: Sequence[_Waiter[S]], error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for place in (*batch, *waiting):
            place.end(error)

    def _pass_on(self) -> None:
        """Have the first who waits carry out the next batch."""
        first = next(iter(self._waiting), None)
        if first is None:
            self._free += 1
        else:
            del self._waiting[first]
            first.turn.set()
