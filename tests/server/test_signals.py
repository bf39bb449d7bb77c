"""How a server receives the signals that stop it, also where the event loop cannot."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import anyio
import pytest

from wan25_mcp.server.signals import by_handlers, stop_signals

Receiver = Callable[[], AbstractContextManager[AsyncIterator[signal.Signals]]]


@pytest.mark.parametrize(
    "receiver", [stop_signals, lambda: by_handlers(signal.SIGTERM, signal.SIGINT)],
    ids=["this system's", "Windows'"],
)  # fmt: skip
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_received_and_the_handler_before_comes_back(
    receiver: Receiver, number: signal.Signals
) -> None:
    async def receive() -> int:
        with receiver() as signals, anyio.fail_after(5):
            signal.raise_signal(number)
            return await anext(signals)

    before = signal.getsignal(number)
    assert anyio.run(receive) == number
    assert signal.getsignal(number) == before
