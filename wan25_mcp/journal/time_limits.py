"""Time limits for a database server that does not answer. Synchronous.

Not for SQLite: only connections over a network can hang.

A driver waits forever for a server that was stopped (SIGSTOP, a dead link). So each use of a
connection has a time limit, after which its socket is shut down and the wait fails like any broken
connection. While a server does not answer, one transaction at a time tries it and all others fail
immediately. Otherwise each step of a call would wait again.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from sqlalchemy import Engine, event
from sqlalchemy.exc import DBAPIError, InvalidatePoolError

from wan25_mcp.journal.records import JournalUnusable

TIME_LIMIT: Final = 3.0
"""Max seconds for one use of a connection: more than a step waits for other processes, less than
the 4 seconds within which `edit_image` answers."""

PAUSE_SECONDS: Final = 2.0
"""Seconds after which a server that did not answer is tried again."""


class Unresponsive(JournalUnusable):
    """The database server does not answer."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class TimeLimit:
    """Shuts down the socket of a connection that is in use for longer than `seconds`."""

    def __init__(self, connection: Any, seconds: float) -> None:
        # A duplicate: the connection's own descriptor may be closed and reused for another file.
        # Made by the socket module, since on Windows a socket is not a file descriptor.
        self._socket = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        self.has_passed: bool = False
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self._timer.start()

    def _pass(self) -> None:
        self.has_passed = True
        with suppress(OSError):  # already closed
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """Call when the connection is no longer in use."""
        self._timer.cancel()
        self._timer.join()
        self._socket.close()


def limit_times(engine: Engine, seconds: float = TIME_LIMIT) -> None:
    """Limit the time of each use of the engine's connections."""

    def begin(connection: Any, record: Any, _proxy: Any) -> None:
        limit = record.record_info["limit"] = TimeLimit(connection, seconds)
        try:  # it may be broken: the pool may have kept it for hours
            connection.execute("SELECT 1")
            connection.rollback()
        except Exception:  # noqa: BLE001  whatever the cause, a new connection is needed
            limit.end()
            if limit.has_passed:  # a new connection would wait for the same server
                raise Unresponsive from None
            raise InvalidatePoolError from None  # the pool opens a new connection

    def end(_connection: Any, record: Any) -> None:
        if (limit := record.record_info.pop("limit", None)) is not None:
            limit.end()

    event.listen(engine, "checkout", begin)
    event.listen(engine, "checkin", end)


def _is_unresponsive(error: Exception, seconds: float) -> bool:
    """Whether a transaction failed, after `seconds`, because the server did not answer."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, Unresponsive) or type(origin).__name__ == "ConnectionTimeout":
        return True
    is_broken = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_broken and seconds >= TIME_LIMIT


class CircuitBreaker:
    """Lets one transaction at a time through to a server that did not answer."""

    def __init__(self) -> None:
        self._is_open = False
        self._next_try = 0.0
        self._answered_at = -math.inf
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Guard one transaction.

        Raises:
            Unresponsive: The server does not answer, or did not within the last seconds.
        """
        began = self._enter()
        try:
            yield
        except Exception as error:
            if _is_unresponsive(error, time.monotonic() - began):
                self._trip(began)
                raise Unresponsive from error
            self._answered()
            raise
        self._answered()

    def _answered(self) -> None:
        with self._lock:
            self._is_open, self._answered_at = False, time.monotonic()

    def _trip(self, began: float) -> None:
        with self._lock:
            if self._answered_at < began:  # else another transaction got an answer since
                self._is_open = True
                self._next_try = time.monotonic() + PAUSE_SECONDS

    def _enter(self) -> float:
        with self._lock:
            now = time.monotonic()
            if self._is_open and now < self._next_try:
                raise Unresponsive
            self._next_try = now + TIME_LIMIT  # while this one tries, the others fail
            return now
