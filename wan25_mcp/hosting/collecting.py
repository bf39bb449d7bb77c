"""How often a server that many wait at looks for garbage."""

from __future__ import annotations

import gc
from typing import Final

_YOUNG: Final = 5_000
"""Objects made and not freed before the youngest are searched; Python's own choice is 700."""
_MIDDLE: Final = 5
"""Such searches before those that outlived one are searched again; Python's own choice is 10."""
_WHOLE: Final = 100
"""Such searches before all are searched, if there are a quarter more by then; Python's is 10."""


def collect_seldom() -> None:
    """Have the whole heap searched hardly ever; for a process of our own, not for a library.

    Ten thousand waiting calls are a million objects, and Python stands still for a second to
    search them all. By its own choice it does so in every eight seconds: it counts what outlives
    two small searches, and where these come so often, that is also what some hundred looks a
    second hold for a moment only. Nothing of ours needs it: what is freed is freed without.
    """
    gc.set_threshold(_YOUNG, _MIDDLE, _WHOLE)
