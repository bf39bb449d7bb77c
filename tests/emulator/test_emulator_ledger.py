"""Money is neither made nor lost, whatever happens."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp.emulator.ledger import InsufficientBalance, Ledger

cents = st.decimals(min_value=0, max_value=1000, places=2).map(float)
orders = st.lists(
    st.tuples(st.integers(1, 4), st.one_of(st.none(), st.integers(0, 4))), max_size=12
)


@given(balance=cents, price=cents, orders=orders)
def test_what_is_left_held_and_charged_is_always_the_deposit(
    balance: float, price: float, orders: list[tuple[int, int | None]]
) -> None:
    ledger = Ledger(balance, price)
    for i, (wanted, made) in enumerate(orders):
        try:
            ledger.reserve(str(i), wanted)
        except InsufficientBalance:
            continue
        if made is not None:
            ledger.settle(str(i), made)
    parts = (ledger.balance, ledger.held, ledger.charged_total)
    assert sum(Decimal(str(part)) for part in parts) == Decimal(str(balance))
    assert min(parts) >= 0
    for entry in ledger.entries:
        if entry.settled:
            settled = Decimal(str(entry.charged)) + Decimal(str(entry.released))
            assert settled == Decimal(str(entry.reserved))


def test_three_times_1_2_is_3_6() -> None:
    ledger = Ledger(10, 1.2)
    assert repr(ledger.reserve("a", 3).reserved) == "3.6"
    assert repr(ledger.settle("a", 3).charged) == "3.6"
    assert repr(ledger.balance) == "6.4"


def test_a_second_settlement_changes_nothing() -> None:
    ledger = Ledger(10, 1)
    ledger.reserve("a", 4)
    ledger.settle("a", 1)
    ledger.settle("a", 4)
    assert (ledger["a"].charged, ledger["a"].released, ledger.balance) == (1, 3, 9)


def test_a_balance_can_be_spent_to_the_last_cent_and_no_further() -> None:
    ledger = Ledger(3.6, 1.2)
    ledger.reserve("a", 3)
    with pytest.raises(InsufficientBalance):
        ledger.reserve("b", 1)
    assert list(ledger) == ["a"]
    assert ledger.charges == len(ledger) == 1
