"""Tunes the garbage collector for a server with many waiting calls."""

from __future__ import annotations

import gc
from typing import Final

_YOUNG: Final = 5_000
"""Allocations before the youngest generation is collected; Python's default is 700."""
_MIDDLE: Final = 5
"""Young collections before the middle generation is collected; Python's default is 10."""
_WHOLE: Final = 100
"""Middle collections before a full one, which also needs growth by a quarter; the default is 10."""


def collect_less_often() -> None:
    """Make full collections rare. For a process that only serves, not for a library.

    Ten thousand waiting calls are a million objects, and a full collection stops the process for a
    second. With the defaults one runs every eight seconds: it is triggered by objects that survive
    two younger collections, and at a hundred polls a second these include short-lived ones. This
    package creates no cycles that need it, because reference counting frees its objects.
    """
    gc.set_threshold(_YOUNG, _MIDDLE, _WHOLE)
