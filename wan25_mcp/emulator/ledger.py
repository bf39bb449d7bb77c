"""The credits: reserved on submit, charged for the images made, the rest released.

Computed in Decimal and shown as float: 1.2 credits times 3 is 3.6, not 3.5999999999999996.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal


def number(amount: Decimal) -> float:
    """An amount as a JSON number: 3 rather than 3.0, 3.6 rather than 3.60."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


class InsufficientBalance(Exception):
    """The balance does not cover what must be reserved."""


@dataclass
class Entry:
    """The credits of one task. `charged` and `released` are 0 until it is settled, and then add up
    to `reserved`."""

    task_id: str
    reserved: float
    charged: float = 0
    released: float = 0
    settled: bool = False


class Ledger(Mapping[str, Entry]):
    """Entries by task id, in the order they were made."""

    def __init__(self, balance: float, price: float) -> None:
        self._deposit = Decimal(str(balance))
        self.price: Decimal = Decimal(str(price))
        # Stored, not summed: every submit needs the balance, and there may be thousands of entries.
        self._unavailable = Decimal(0)
        self._entries: dict[str, Entry] = {}

    def __getitem__(self, task_id: str) -> Entry:
        return self._entries[task_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def entries(self) -> list[Entry]:
        return list(self._entries.values())

    @property
    def charges(self) -> int:
        """The number of tasks with reserved or charged credits: one for each accepted submit."""
        return len(self._entries)

    @property
    def charged_total(self) -> float:
        return number(self._sum("charged"))

    @property
    def reserved_total(self) -> float:
        """All credits ever reserved, including those charged or released since."""
        return number(self._sum("reserved"))

    @property
    def released_total(self) -> float:
        return number(self._sum("released"))

    @property
    def held(self) -> float:
        """The credits reserved now, by running tasks."""
        return number(self._sum("reserved") - self._sum("charged") - self._sum("released"))

    @property
    def balance(self) -> float:
        """The credits left to spend: the deposit minus what is charged or held."""
        return number(self._deposit - self._unavailable)

    def reserve(self, task_id: str, images: int) -> Entry:
        """Reserve the price of `images`. Raises: InsufficientBalance."""
        cost = self.price * images
        if self._deposit - self._unavailable < cost:
            raise InsufficientBalance
        self._unavailable += cost
        self._entries[task_id] = Entry(task_id, number(cost))
        return self._entries[task_id]

    def settle(self, task_id: str, images: int) -> Entry:
        """Charge the images made and release the rest. A second settlement changes nothing."""
        entry = self._entries[task_id]
        if not entry.settled:
            reserved = Decimal(str(entry.reserved))
            charged = min(self.price * images, reserved)
            entry.charged, entry.released = number(charged), number(reserved - charged)
            entry.settled = True
            self._unavailable -= reserved - charged
        return entry

    def deposit(self, amount: float) -> None:
        """Add credits, or remove them with a negative amount."""
        self._deposit += Decimal(str(amount))

    def _sum(self, name: str) -> Decimal:
        amounts = (Decimal(str(getattr(entry, name))) for entry in self._entries.values())
        return sum(amounts, Decimal(0))
