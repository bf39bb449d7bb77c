"""Receives the signals that ask a server to stop, on every system."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import anyio


@contextmanager
def stop_signals() -> Iterator[AsyncIterator[signal.Signals]]:
    """SIGTERM, SIGINT and on Windows Ctrl-Break, received instead of ending the process."""
    if sys.platform == "win32":  # its event loops have no signal handlers
        with by_handlers(signal.SIGTERM, signal.SIGINT, signal.SIGBREAK) as signals:
            yield signals
    else:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            yield signals


@contextmanager
def by_handlers(*numbers: signal.Signals) -> Iterator[AsyncIterator[signal.Signals]]:
    """Receive signals by handlers of the process, in its main thread, under asyncio."""
    loop = asyncio.get_running_loop()
    sent, received = anyio.create_memory_object_stream[signal.Signals](8)

    def deliver(number: int) -> None:
        with suppress(anyio.WouldBlock, anyio.ClosedResourceError):
            sent.send_nowait(signal.Signals(number))

    def handle(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(deliver, number)

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        with sent, received:
            yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
