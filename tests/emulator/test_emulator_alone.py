"""The emulator stands alone: it is small, imports nothing of ours and nothing heavy too early."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import wan25_mcp.emulator

HOUSE = Path(wan25_mcp.emulator.__file__).parent
MAX_LINES = 2000
HEAVY = ("PIL", "uvicorn", "httpx2", "starlette", "trio", "mcp", "pydantic")


def imported(module: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "." * node.level)
    return found


def test_it_imports_nothing_else_of_this_project() -> None:
    names = {name for module in HOUSE.glob("*.py") for name in imported(module)}
    ours = {name for name in names if name.startswith(("wan25_mcp", "tests", "."))}
    assert ours
    assert {name for name in ours if not name.startswith("wan25_mcp.emulator")} == set()


def test_what_only_tests_need_of_it_lives_with_them() -> None:
    lines = sum(len(module.read_text().splitlines()) for module in HOUSE.glob("*.py"))
    assert lines <= MAX_LINES


def test_importing_and_making_one_loads_nothing_heavy() -> None:
    code = (
        "import sys, wan25_mcp; before = set(sys.modules)\n"
        "import wan25_mcp.emulator; wan25_mcp.emulator.Emulator()\n"
        f"print(sorted(m for m in {HEAVY!r} if m in sys.modules and m not in before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        cwd=HOUSE.parent.parent,
    )
    assert done.stdout.strip() == "[]"
