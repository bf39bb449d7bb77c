"""What it takes to add a setting: its row and its consumer, shown on a copy of the sources."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.stage import environment

ROOT: Final = Path(__file__).resolve().parent.parent
COPIED: Final = (
    "wan25_mcp", "scripts", "docs", "README.md", "server.json", "tests/contracts",
    "tests/test_architecture.py",
)  # fmt: skip
ROW: Final = """    greeting_count: int = setting(
        "WAN25_GREETING_COUNT", "Greetings to say.", values.count, 3
    )
"""
BEFORE: Final = "    log_level: LogLevel = setting("
CONSUMER: Final = '''"""A consumer."""

import os

from wan25_mcp.settings import Settings

print("Hello! " * Settings.from_mapping(os.environ).greeting_count)
'''


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with one more setting."""
    root = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        (root / name).parent.mkdir(exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    table = root / "wan25_mcp" / "settings.py"
    source = table.read_text(encoding="utf-8")
    assert source.count(BEFORE) == 1
    table.write_text(source.replace(BEFORE, ROW + BEFORE), encoding="utf-8")
    (root / "greet.py").write_text(CONSUMER, encoding="utf-8")
    ran(root, "scripts/generate.py")
    return root


def ran(root: Path, *command: str, **values: str) -> subprocess.CompletedProcess[str]:
    """A command run over the copy."""
    environ = environment(PYTHONPATH=str(root), WAN25_DATA_DIR=str(root / "data"), **values)
    return subprocess.run(
        [sys.executable, *command], cwd=root, env=environ, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip


def test_its_consumer_reads_it_or_its_default(copy: Path) -> None:
    assert ran(copy, "greet.py").stdout == "Hello! Hello! Hello! \n"
    assert ran(copy, "greet.py", WAN25_GREETING_COUNT="1").stdout == "Hello! \n"


def test_a_wrong_value_is_reported_by_its_name_and_with_its_default(copy: Path) -> None:
    refused = ran(copy, "-m", "wan25_mcp", "doctor", WAN25_GREETING_COUNT="many")
    assert refused.returncode != 0
    assert "WAN25_GREETING_COUNT is not a whole number" in refused.stdout + refused.stderr
    assert "default 3" in refused.stdout + refused.stderr


def test_it_is_documented_by_the_generator(copy: Path) -> None:
    readme = (copy / "README.md").read_text(encoding="utf-8")
    assert "| `WAN25_GREETING_COUNT` | Greetings to say. | `3` |" in readme
    (package,) = json.loads((copy / "server.json").read_text(encoding="utf-8"))["packages"]
    assert {
        "name": "WAN25_GREETING_COUNT",
        "description": "Greetings to say.",
        "isRequired": False,
        "isSecret": False,
        "default": "3",
    } in package["environmentVariables"]
    assert ran(copy, "scripts/generate.py", "--check").returncode == 0


def test_it_is_no_unknown_setting_and_a_misspelt_one_leads_to_it(copy: Path) -> None:
    known = ran(copy, "-m", "wan25_mcp", "doctor", WAN25_EMULATOR="1", WAN25_GREETING_COUNT="2")
    assert "WAN25_GREETING" not in known.stdout + known.stderr
    values = {"WAN25_EMULATOR": "1", "WAN25_GREETING_CONUT": "2"}
    misspelt = ran(copy, "-m", "wan25_mcp", "doctor", **values)
    assert "Unknown setting WAN25_GREETING_CONUT" in misspelt.stdout + misspelt.stderr
    assert "WAN25_GREETING_COUNT" in misspelt.stdout + misspelt.stderr
