"""How long a wait lasts whose caller does not say. No I/O.

Nobody knows a client's time-out, and a client that times out shows its model an error. So waits
begin short, and grow as calls for the task show that the answers arrive. What was cut is not tried
again: after a cancelled call, or one that is repeated while it is open, waits stay below it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

LADDER: Final = (4.0, 10.0, 25.0, 50.0)
"""Seconds of the first waits for a task. The shortest known time-out is 5 s."""

_PATIENT_START: Final = LADDER.index(25.0)

_SHARE: Final = 0.9
"""The share of the time after which a call was cut that later waits last."""

_PARALLEL: Final = 1.0
"""Seconds within which another call for the same task is a parallel one, and no repetition."""

_NAMES: Final = 10
"""An answer names another wait than the nine answers before it: loop detectors end a turn at five
identical calls (Gemini CLI) or three (opencode)."""
_NAME_STEP: Final = 0.01

_REMEMBERED: Final = 10_000

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits.

    Args:
        connection: Identifies its connection.
        name: The name of its client; empty if it gave none.
        is_patient: Whether it is known to wait for minutes.
    """

    connection: Hashable
    name: str = ""
    is_patient: bool = False


@dataclass(slots=True)
class _Waits:
    """The waits for one task on one connection."""

    answered: int = 0
    """Steps up the ladder: one for each answer that a later call shows to have arrived, or more
    after a long wait that the caller wanted."""
    last: float | None = None
    """How long the last wait was, once it has been answered: unless the caller wanted much less."""
    open: list[float] = field(default_factory=list)
    """When each open call began."""
    named: deque[float] = field(default_factory=lambda: deque(maxlen=_NAMES - 1))
    """The waits that answers named last."""


class _Recent(OrderedDict[K, V], Generic[K, V]):
    """A mapping that forgets what was not used for longest."""

    def remember(self, key: K, value: V) -> V:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)
        return value


class Patience:
    """How long the callers of one server wait.

    Args:
        longest: Seconds that no wait exceeds.
        fixed: Seconds of every wait, in place of the ladder; None: the ladder.
        clock: Monotonic seconds.
    """

    def __init__(self, *, longest: float, fixed: float | None, clock: Callable[[], float]) -> None:
        self._longest = longest
        self._fixed = fixed
        self._clock = clock
        self._waits: _Recent[tuple[Hashable, str], _Waits] = _Recent()
        self._limits: _Recent[Hashable, float] = _Recent()
        self._arrived: _Recent[Hashable, float] = _Recent()
        self._doubted: _Recent[Hashable, bool] = _Recent()

    @contextmanager
    def waiting(self, caller: Caller, task_id: str, wanted: float | None) -> Iterator[float]:
        """Yield the seconds to wait in the block, and learn from how the block ends.

        Ending with a result or an error is an answer; being cancelled is a cut.

        Args:
            wanted: The seconds that the caller gave, if any. They win, unless they only repeat what
                an answer named.
        """
        waits = self._of(caller, task_id)
        began = self._clock()
        self._learn_from_call(caller, waits, wanted)
        seconds = min(self._seconds(caller, waits, wanted), self._longest)
        waits.open.append(began)
        is_cut = False
        try:
            yield seconds
        except BaseException as ended:
            is_cut = not isinstance(ended, Exception)
            raise
        finally:
            if began in waits.open:  # else the caller has given up on it, and called again
                waits.open.remove(began)
                if is_cut:
                    self._cut(caller, _SHARE * (self._clock() - began))
                elif seconds >= self._own(caller, waits.answered) / 2:
                    waits.last = seconds

    def name_next(self, caller: Caller, task_id: str) -> float:
        """The seconds that an answer names for the next wait: other than in the answers before."""
        waits = self._of(caller, task_id)
        wait = self._own(caller, _next_rung(caller, waits))
        step = _NAME_STEP * wait
        names = (round(wait - step * number, 2) for number in range(_NAMES))
        # Not the last wait either: some clients start a process for each call.
        taken = {*waits.named, waits.last}
        name = next((name for name in names if name not in taken), wait)
        waits.named.append(name)
        return name

    def rename(self, caller: Caller, handle: str, task_id: str) -> None:
        """From now on a task is known by its id: what was learnt by its handle is kept."""
        if handle != task_id:
            self._waits.remember((caller.connection, task_id), self._of(caller, handle))

    # --- what is learnt ---------------------------------------------------------------------

    def _of(self, caller: Caller, task_id: str) -> _Waits:
        key = (caller.connection, task_id)
        return self._waits.remember(key, self._waits.get(key) or _Waits())

    def _learn_from_call(self, caller: Caller, waits: _Waits, wanted: float | None) -> None:
        if waits.last is not None:
            waits.answered = _next_rung(caller, waits)
            self._doubted.pop(caller.connection, None)
            if waits.named and wanted == waits.named[-1]:  # only the last answer names it
                known = self._arrived.get(caller.connection, 0.0)
                self._arrived.remember(caller.connection, max(known, waits.last))
            waits.last = None
        now = self._clock()
        if given_up := [began for began in waits.open if now - began >= _PARALLEL]:
            waits.open = [began for began in waits.open if began not in given_up]
            # The caller may have thought for a while, so it may have given up much earlier.
            sure = max(self._arrived.get(caller.connection, 0.0), LADDER[0])
            self._cut(caller, min(_SHARE * (now - max(given_up)), sure))

    def _cut(self, caller: Caller, limit: float) -> None:
        if caller.is_patient and caller.connection not in self._doubted:
            self._doubted.remember(caller.connection, True)  # a person may have stopped it
            return
        limit = round(max(limit, _PARALLEL), 1)
        # Of a patient client, it is how this one is set up: it says nothing of others.
        name = None if caller.is_patient else caller.name
        for key in filter(None, (caller.connection, _of_name(name))):
            self._limits.remember(key, min(limit, self._limits.get(key, limit)))

    # --- how long ---------------------------------------------------------------------------

    def _seconds(self, caller: Caller, waits: _Waits, wanted: float | None) -> float:
        if wanted is None:
            return self._own(caller, waits.answered)
        return min(wanted, self._limit(caller)) if wanted in waits.named else wanted

    def _own(self, caller: Caller, answered: int) -> float:
        wait = self._fixed
        if wait is None:
            wait = LADDER[min(_start(caller) + answered, len(LADDER) - 1)]
        return min(wait, self._limit(caller), self._longest)

    def _limit(self, caller: Caller) -> float:
        keys = (caller.connection, _of_name(caller.name))
        return min(self._limits.get(key, self._longest) for key in keys)


def _start(caller: Caller) -> int:
    return _PATIENT_START if caller.is_patient else 0


def _next_rung(caller: Caller, waits: _Waits) -> int:
    """How many steps the wait after the last one is above the caller's first."""
    if waits.last is None:
        return waits.answered
    passed = sum(rung <= waits.last for rung in LADDER) - _start(caller)
    return max(waits.answered + 1, passed)


def _of_name(name: str | None) -> tuple[str, str] | None:
    return ("client", name) if name else None
