"""The money: reserved on submit, charged on images made, the rest released. Knows no tasks.

Kept in Decimal, told in floats: 1.2 credits times 3 is 3.6, not 3.5999999999999996.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any


def number(amount: Decimal) -> float:
    """As JSON shows money: 3 rather than 3.0, 3.6 rather than 3.60."""
    return int(amount) if amount == amount.to_integral_value() else float(amount)


class TooLittle(Exception):
    """The balance does not cover what must be reserved."""


@dataclass
class Entry:
    """One task's money. `charged + released` is 0 while the task runs, `reserved` after."""

    task_id: str
    reserved: float
    charged: float = 0
    released: float = 0
    settled: bool = False


class Ledger(Mapping[str, Entry]):
    """Entries by task id, in the order they were made."""

    def __init__(self, balance: float, price: float) -> None:
        self._deposit = Decimal(str(balance))
        self.price = Decimal(str(price))
        # Kept beside the entries: every submit asks what is left, and there may be thousands.
        self._taken = Decimal(0)
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
        """How many tasks reserved or were charged: one for each accepted submit."""
        return len(self._entries)

    @property
    def charged_total(self) -> float:
        return number(self._sum("charged"))

    @property
    def reserved_total(self) -> float:
        """All that was ever reserved, also what was charged or released since."""
        return number(self._sum("reserved"))

    @property
    def released_total(self) -> float:
        return number(self._sum("released"))

    @property
    def held(self) -> float:
        """What is reserved now, by tasks still running."""
        return number(self._held())

    @property
    def balance(self) -> float:
        """What is left to spend: the deposit less what is charged and held."""
        return number(self._left())

    def afford(self, images: int) -> None:
        """Raises: TooLittle, if `images` cost more than is left."""
        if self._left() < self.price * images:
            raise TooLittle

    def reserve(self, task_id: str, images: int) -> Entry:
        self.afford(images)
        entry = Entry(task_id, number(self.price * images))
        self._taken += self.price * images
        self._entries[task_id] = entry
        return entry

    def settle(self, task_id: str, images: int) -> Entry:
        """Charge the images made, release the rest. A second settlement changes nothing."""
        entry = self._entries[task_id]
        if not entry.settled:
            reserved = Decimal(str(entry.reserved))
            charged = min(self.price * images, reserved)
            entry.charged, entry.released = number(charged), number(reserved - charged)
            entry.settled = True
            self._taken -= reserved - charged
        return entry

    def deposit(self, amount: float) -> None:
        """Top up, or with a negative sum, drain."""
        self._deposit += Decimal(str(amount))

    def summary(self) -> dict[str, Any]:
        return {
            "balance": self.balance,
            "charges": self.charges,
            "charged_total": self.charged_total,
            "reserved_total": self.reserved_total,
            "released_total": self.released_total,
            "held": self.held,
            "entries": [vars(entry).copy() for entry in self._entries.values()],
        }

    def _sum(self, name: str) -> Decimal:
        amounts = (Decimal(str(getattr(entry, name))) for entry in self._entries.values())
        return sum(amounts, Decimal(0))

    def _held(self) -> Decimal:
        return self._sum("reserved") - self._sum("charged") - self._sum("released")

    def _left(self) -> Decimal:
        return self._deposit - self._taken
