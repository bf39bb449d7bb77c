"""The environment of a command, and an emulator that all tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stage import Environ, Playing, playing
from wan25_mcp.settings import SETTINGS


@pytest.fixture
def environ(tmp_path: Path) -> Environ:
    """Nothing of the developer's settings; folders of the test's own."""
    return {
        **{variable.name: None for variable in SETTINGS},
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "WAN25_DATA_DIR": str(tmp_path / "data"),
        "WAN25_OUTPUT_DIR": str(tmp_path / "out"),
    }


@pytest.fixture(scope="module")
def played() -> Iterator[Playing]:
    with playing(balance=1e6) as one:
        yield one


@pytest.fixture
def world(played: Playing, environ: Environ) -> Environ:
    """The environment of a command that works on the emulator."""
    played.emulator.faults.clear()
    played.emulator.outcomes.clear()
    return environ | {"WAN25_EMULATOR": played.emulator.base_url}
