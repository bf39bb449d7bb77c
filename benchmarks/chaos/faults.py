"""What the proxy does to an exchange, rolled with a seed. No I/O.

What happens to a submit depends on the seed, its prompt and which try it is; so one seed gives the
same run of faults, however the machine orders the requests.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import Final

AS_IT_IS: Final = "passed on as it is"

_GATEWAY: Final = (502, 503, 504, 503, 500, 429)
_LONGEST_STALL: Final = 8.0

_WEIGHTS: Final[dict[str, int]] = {
    "reset before it is read": 1,
    "reset within the request": 2,
    "no answer": 3,
    "reset within the answer": 3,
    "cut within the answer": 3,
    "request late": 2,
    "answer late": 3,
    "request drips": 2,
    "answer drips": 2,
    "gateway's page, not passed on": 2,
    "gateway's page, after it was carried out": 3,
    "nonsense under a 200": 1,
    "the API's own refusal to take it now": 3,
}
"""How often each is rolled, of those that go wrong."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong.

    Args:
        at: Where in the request or the answer, as a share of it in [0, 1).
        seconds: How long a stall or a drip takes.
        status: What a gateway answers, or the API itself.
    """

    kind: str
    at: float
    seconds: float
    status: int


class Dice:
    """Rolls the faults of one run.

    Args:
        share: The share of exchanges that go wrong, in [0, 1].
    """

    def __init__(self, seed: int, share: float) -> None:
        self._seed = seed
        self.share = share
        self._rolled: Counter[str] = Counter()

    def roll(self, endpoint: str, what: str) -> Fault | None:
        """What goes wrong with the next exchange about `what`, if anything.

        Args:
            endpoint: As the emulator names it.
        """
        name = f"{endpoint} {what}"
        self._rolled[name] += 1
        chance = random.Random(f"{self._seed} {name} {self._rolled[name]}")
        if chance.random() >= self.share:
            return None
        kinds = [kind for kind in _WEIGHTS if _fits(kind, endpoint)]
        [kind] = chance.choices(kinds, [_WEIGHTS[kind] for kind in kinds])
        own = "refusal" in kind
        return Fault(
            kind,
            at=chance.random(),
            seconds=chance.uniform(0.2, _LONGEST_STALL),
            status=chance.choice((429, 503) if own else _GATEWAY),
        )


def _fits(kind: str, endpoint: str) -> bool:
    # For polls the limit is one for all tasks: a few such answers would stop a server's polling.
    return endpoint == "submit" or "refusal" not in kind
