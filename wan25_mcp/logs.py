"""Log lines: to stderr, one line each, with no secret in any of them whatever the level.

stdout belongs to the protocol. What is masked: the configured secrets wherever they appear, bearer
tokens, the query of every link, where signatures are, and the secret end of a callback's path.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Collection
from typing import Final

_BEARER: Final = re.compile(r"(?i)(bearer\s+)[^\s'\",]+")
_QUERY: Final = re.compile(r"(https?://[^\s?'\"<>]+)\?[^\s'\"<>]*")
_USER: Final = re.compile(r"(https?://)[^\s/@'\"<>]+@")
_CALLBACK: Final = re.compile(r"(edit-[0-9a-f]{16}(?:/|%2[fF]))[A-Za-z0-9_-]+")
_MASK: Final = "***"


def masked(text: str, secrets: Collection[str] = ()) -> str:
    """The text without secrets."""
    for secret in secrets:
        if len(secret) >= 4:  # a shorter one is no secret, and masking it would garble every line
            text = text.replace(secret, _MASK)
    text = _BEARER.sub(rf"\1{_MASK}", text)
    text = _CALLBACK.sub(rf"\1{_MASK}", text)
    text = _USER.sub(rf"\1{_MASK}@", text)
    return _QUERY.sub(rf"\1?{_MASK}", text)


class OneMaskedLine(logging.Formatter):
    """Formats a record, traceback included, as one line without secrets."""

    def __init__(self, secrets: Collection[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        lines = masked(super().format(record), self._secrets).splitlines()
        line = " | ".join(line.strip() for line in lines if line.strip())
        return "".join(c if c.isprintable() else " " for c in line)  # no colours, no bells


def configure(level: str, secrets: Collection[str]) -> None:
    """Send all logging of this process to stderr.

    Called before the SDK's server is made: it configures the root logger too, unless it finds a
    handler there.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneMaskedLine(secrets))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
