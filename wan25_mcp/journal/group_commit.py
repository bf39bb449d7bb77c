"""Group commit: concurrent steps share a transaction, with one thread, one lock and one commit.

Otherwise ten thousand waiting calls would queue one by one for threads, connections and the lock of
the file, and SQLite makes whoever finds the file locked sleep and retry.
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
"""Max steps in one transaction: other processes wait for it."""


@dataclass(eq=False, slots=True)
class _Waiter(Generic[S]):
    """A caller and its step."""

    step: S
    woken: anyio.Event = field(default_factory=anyio.Event)
    """Set when the step is done, or when this caller is to lead the next batch."""
    result: Any = None
    error: BaseException | None = None
    is_done: bool = False
    is_gone: bool = False
    """Whether the caller was cancelled while another ran its step."""

    def finish(self, outcome: Any) -> None:
        self.is_done = True
        if isinstance(outcome, BaseException):
            self.error = outcome
        else:
            self.result = outcome
        self.woken.set()


class GroupCommit(Generic[S]):
    """Runs steps in order. Steps that arrive while a batch runs form the next batch.

    The first caller of a batch, its leader, runs it for the others.

    Args:
        run_batch: Runs steps outside the event loop; returns the result or the error of each. An
            exception from it also fails all waiting steps, which would only fail alike later.
        concurrency: Max batches running at one time.
        may_abandon: Whether a running step may be abandoned, as one that only reads. A cancelled
            caller then returns immediately, and the other steps of its batch run again.
    """

    def __init__(
        self,
        run_batch: Callable[[Sequence[S]], Awaitable[Sequence[Any]]],
        *,
        concurrency: int = 1,
        may_abandon: bool = False,
    ) -> None:
        self._run_batch = run_batch
        self._may_abandon = may_abandon
        self._free = concurrency
        self._waiting: dict[_Waiter[S], None] = {}

    async def do(self, step: S) -> Any:
        """Run a step. Once it runs, cancelling waits for it, unless it may be abandoned."""
        await anyio.lowlevel.checkpoint_if_cancelled()
        caller = _Waiter(step)
        if self._free:
            self._free -= 1
        else:
            self._waiting[caller] = None
            await self._wait(caller)
        if not caller.is_done:
            await self._lead(caller)
        if caller.error is not None:
            raise caller.error
        return caller.result

    async def _wait(self, caller: _Waiter[S]) -> None:
        try:
            await caller.woken.wait()
        except BaseException:
            if caller in self._waiting:
                del self._waiting[caller]
            elif self._may_abandon and not caller.woken.is_set():
                caller.is_gone = True
            elif not caller.woken.is_set():  # its step is running
                with anyio.CancelScope(shield=True):
                    await caller.woken.wait()
            elif not caller.is_done:  # it was to lead
                self._wake_next()
            raise

    async def _lead(self, leader: _Waiter[S]) -> None:
        """Run the leader's step together with the waiting ones."""
        batch = [leader, *islice(self._waiting, MAX_BATCH - 1)]
        for caller in batch[1:]:
            del self._waiting[caller]
        try:
            with anyio.CancelScope(shield=not self._may_abandon):
                outcomes = await self._run_batch([caller.step for caller in batch])
        except Exception as error:  # noqa: BLE001  raised to each of them
            self._fail_all(batch, error)
        except BaseException:
            if self._may_abandon:
                again = dict.fromkeys(caller for caller in batch[1:] if not caller.is_gone)
                self._waiting = again | self._waiting
            else:
                self._fail_all(batch, JournalUnusable("it was interrupted"))
            raise
        else:
            for caller, outcome in zip(batch, outcomes, strict=True):
                caller.finish(outcome)
        finally:
            self._wake_next()

    def _fail_all(self, batch: Sequence[_Waiter[S]], error: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for caller in (*batch, *waiting):
            caller.finish(error)

    def _wake_next(self) -> None:
        """Wake the first waiting caller to lead the next batch."""
        leader = next(iter(self._waiting), None)
        if leader is None:
            self._free += 1
        else:
            del self._waiting[leader]
            leader.woken.set()
