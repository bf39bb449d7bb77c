"""What the tests of the Python API stand on: an emulator with a socket, and a folder to work in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal
from PIL import Image

from tests.emulator_lab import Emulator


@contextmanager
def served(**options: Any) -> Iterator[Emulator]:
    """An emulator in a thread of its own, which needs no particular loop."""
    usual: dict[str, Any] = {"speed": 400, "check_images": False, "run_seconds": 40.0}
    emulator = Emulator(**(usual | options))
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(emulator.serving()):
        yield emulator


def with_picture(folder: Path) -> Path:
    """The folder, with `house.png` in it."""
    Image.effect_noise((480, 400), 60).convert("RGB").save(folder / "house.png")
    return folder


def environment(emulator: Emulator, place: Path, **more: str) -> dict[str, str]:
    """The settings of a program that uses the emulator, with a journal of its own."""
    return {"WAN25_EMULATOR": emulator.base_url, "WAN25_DATA_DIR": str(place / "data"), **more}
