"""What a test needs of the system that not every system has."""

from __future__ import annotations

import os
import sys
from typing import Final

import pytest

posix: Final = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no signals, modes and links of this kind"
)
linux: Final = pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows this in /proc")
IS_ROOT: Final = hasattr(os, "geteuid") and os.geteuid() == 0


def need_pseudo_terminals() -> None:
    """Skip the test where there are none."""
    if sys.platform == "win32":
        pytest.skip("Windows has no pseudo-terminals")
