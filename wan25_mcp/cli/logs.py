"""The log: one line for each record, to stderr, without secrets at any level.

stdout belongs to the protocol. The secrets that `redaction` finds are masked, and so is the query
of every link, which may hold a signature.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable, Collection
from typing import Final, TextIO

from wan25_mcp.redaction import MASK, Redactor

_QUERY: Final = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*")
_USER: Final = re.compile(r"(https?://)[^\s/@'\"<>]+@")


def masked(text: str, secrets: Collection[str] = ()) -> str:
    """The text without secrets."""
    return _without_queries(Redactor(secrets)(text))


def _without_queries(text: str) -> str:
    text = _USER.sub(rf"\1{MASK}@", text)
    return _QUERY.sub(rf"\1?{MASK}", text)


class OneMaskedLine(logging.Formatter):
    """Formats a record, traceback included, as one line without secrets."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._redact = Redactor(secrets)

    def format(self, record: logging.LogRecord) -> str:
        lines = _without_queries(self._redact(super().format(record))).splitlines()
        line = " | ".join(line.strip() for line in lines if line.strip())
        return "".join(c if c.isprintable() else " " for c in line)  # no control characters


_OWN: Final = ("wan25_mcp", "httpx2")
"""This package, and httpx2, which logs each request at the level INFO and nothing else."""

CLEARED: Final[list[Callable[[], None]]] = []
"""Called before a line is written: each removes what it has drawn from the screen."""


class _BesideProgress(logging.StreamHandler[TextIO]):
    """Writes to lines of its own, not behind a progress bar, which is drawn again later."""

    def emit(self, record: logging.LogRecord) -> None:
        for clear in CLEARED:
            clear()
        super().emit(record)


def configure(level: str, secrets: Collection[str], *, own_only: bool = False) -> None:
    """Send all logging of this process to stderr.

    Args:
        own_only: Of other libraries, log only warnings and each request.

    To be called before the SDK's server is created, which configures the root logger unless it
    already has a handler.
    """
    handler = _BesideProgress(sys.stderr)
    handler.setFormatter(OneMaskedLine(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING if own_only else level)
    for name in _OWN:
        logging.getLogger(name).setLevel(level if own_only else logging.NOTSET)
