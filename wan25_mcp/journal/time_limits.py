"""A database server that does not answer: how long it is waited for, and that it is not asked again
at once. Synchronous; for connections over a network, which a file has not.

A driver waits without an end for a server that was stopped (SIGSTOP, a dead link). So whatever a
connection is used for has a time limit, after which its socket is shut: the wait then fails like
any broken connection. While a server does not answer, one transaction at a time tries it and all
others fail at once, or each step of a call would wait anew.
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
"""Seconds a connection is used at a time. More than a step waits for others, less than the time in
which `edit_image` answers."""

PAUSE_SECONDS: Final = 2.0
"""After a server did not answer, it is not tried again sooner."""


class Silent(JournalUnusable):
    """The database server does not answer."""

    def __init__(self) -> None:
        super().__init__("the database does not answer")


class TimeLimit:
    """Shuts the socket of a connection that is used for longer than `seconds`."""

    def __init__(self, connection: Any, seconds: float) -> None:
        # A number of our own for the socket: the connection's may be closed and given to another.
        # Made by the socket module: on Windows a socket is no file descriptor.
        self._socket = socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM)
        self.has_passed = False
        self._timer = threading.Timer(seconds, self._pass)
        self._timer.daemon = True
        self._timer.start()

    def _pass(self) -> None:
        self.has_passed = True
        with suppress(OSError):  # closed by now
            self._socket.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        """The connection is not in use any more."""
        self._timer.cancel()
        self._timer.join()
        self._socket.close()


def limit_times(engine: Engine, seconds: float = TIME_LIMIT) -> None:
    """Limit how long each connection of a server is used at a time."""

    def begin(connection: Any, record: Any, _proxy: Any) -> None:
        limit = record.record_info["limit"] = TimeLimit(connection, seconds)
        try:  # the pool may have kept it for hours
            connection.execute("SELECT 1")
            connection.rollback()
        except Exception:  # noqa: BLE001  whatever is wrong with it, another is needed
            limit.end()
            if limit.has_passed:  # a new connection would only wait for the same server
                raise Silent from None
            raise InvalidatePoolError from None  # the pool connects anew

    def end(_connection: Any, record: Any) -> None:
        if (limit := record.record_info.pop("limit", None)) is not None:
            limit.end()

    event.listen(engine, "checkout", begin)
    event.listen(engine, "checkin", end)


def _is_silence(error: Exception, seconds: float) -> bool:
    """Whether a transaction that took so long failed because the server did not answer."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(origin, Silent) or type(origin).__name__ == "ConnectionTimeout":
        return True
    is_broken = isinstance(error, DBAPIError) and error.connection_invalidated
    return is_broken and seconds >= TIME_LIMIT


class Gate:
    """Lets one transaction at a time through to a server that did not answer."""

    def __init__(self) -> None:
        self._is_silent = False
        self._next_try = 0.0
        self._answered_at = -math.inf
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """The block is one transaction.

        Raises:
            Silent: The server does not answer, or did not a moment ago.
        """
        began = self._enter()
        try:
            yield
        except Exception as error:
            if _is_silence(error, time.monotonic() - began):
                self._was_silent(began)
                raise Silent from error
            self._answered()
            raise
        self._answered()

    def _answered(self) -> None:
        with self._lock:
            self._is_silent, self._answered_at = False, time.monotonic()

    def _was_silent(self, began: float) -> None:
        with self._lock:
            if self._answered_at < began:  # no other transaction knows better
                self._is_silent = True
                self._next_try = time.monotonic() + PAUSE_SECONDS

    def _enter(self) -> float:
        with self._lock:
            now = time.monotonic()
            if self._is_silent and now < self._next_try:
                raise Silent
            self._next_try = now + TIME_LIMIT  # while this one tries, the others fail
            return now
