"""The log: one line for each record, to stderr, without secrets at any level.

stdout belongs to the protocol. The secrets that `redaction` finds are masked, and so is the query
of every link, which may hold a signature.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection
from typing import Final

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


def configure(level: str, secrets: Collection[str]) -> None:
    """Send all logging of this process to stderr.

    To be called before the SDK's server is created, which configures the root logger unless it
    already has a handler.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneMaskedLine(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
