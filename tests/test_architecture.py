"""The shape of the house: which module may import which, and what start-up must not cost."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "wan25_mcp"
PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

# From the top down: a module imports from the rows below its own, or from its own room. The
# drawing in docs/design.md is made from this by `scripts/generate.py`.
LAYERS: Final[tuple[dict[str, str], ...]] = (
    {"__main__": "python -m wan25_mcp"},
    {"cli": "the command: edit, tasks, demo, doctor, serve"},
    {"hosting": "HTTP: access, callbacks, limits on connections"},
    {
        "server": "MCP: tools, answers, resources",
        "sync": "the Python API without await",
    },
    {"editing": "the product, usable without MCP: submit once, wait, save"},
    {
        "polling": "when a task is polled, one poller for all callers",
        "inputs": "from what a caller named to a link the provider can download",
        "outputs": "from a result link to a file on this machine",
    },
    {
        "journal": "what must be remembered: intents, tasks, files (SQLite, PostgreSQL)",
        "keys": "the API key that is kept on this machine",
    },
    {"settings": "every setting once: name, meaning, default, check"},
    {"provider": "the vendor's API: client, models, statuses, what is charged"},
    {"setting_parsers": "how the text of a setting becomes a value"},
    {
        "errors": "every way an edit can fail",
    },
    {
        "url_safety": "which links may be fetched or passed on",
        "redaction": "text from outside, without secrets",
    },
)
RANK: Final = {part: rank for rank, parts in enumerate(LAYERS) for part in parts}

MODULE_LINES: Final = 300
FUNCTION_LINES: Final = 30
PARAMETERS: Final = 7
LONG_MODULES: Final[set[str]] = set()
# Public signatures and docstrings that `help` and editors show: each argument, type and default.
SHOWN: Final = {"editing/editor.py:edit", "editing/one_edit.py:edit", "sync.py:edit"}
LONG_FUNCTIONS: Final[set[str]] = SHOWN
MANY_PARAMETERS: Final[set[str]] = SHOWN

SPEAK_MCP: Final = {"server", "hosting", "cli"}
USE_EMULATOR: Final = {"cli", "editing"}
READ_ENVIRONMENT: Final = {"cli", "editing"}  # the latter for `Editor()`
PRINT: Final = {"cli", "hosting"}
HEAVY: Final = (
    "PIL",
    "pillow_heif",
    "obstore",
    "keyring",
    "yaml",
    "sqlalchemy",
    "uvicorn",
    "trio",
    "wan25_mcp.emulator",
    "wan25_mcp.hosting",
)
BANNED_NAMES: Final = {
    "utils", "util", "helpers", "helper", "common", "manager", "managers", "handler", "handlers",
    "service", "services", "data",
}  # fmt: skip


@dataclass(frozen=True)
class Module:
    """One source file. `part` is the name that stands in LAYERS."""

    path: Path
    part: str
    tree: ast.Module

    @property
    def where(self) -> str:
        return str(self.path.relative_to(PACKAGE))

    def imports(self) -> Iterator[str]:
        """Every module imported anywhere in the file, for types only or not, in full."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.where} imports relatively"
                source = node.module or ""
                yield source
                if source == "wan25_mcp":
                    yield from (f"wan25_mcp.{alias.name}" for alias in node.names)

    @property
    def name(self) -> str:
        """As it is imported."""
        return ".".join(("wan25_mcp", *self.path.relative_to(PACKAGE).with_suffix("").parts))

    def ours(self) -> set[str]:
        """The parts of ours that it imports."""
        return {name.split(".")[1] for name in self.imports() if name.startswith("wan25_mcp.")}


def _modules() -> list[Module]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        found.append(Module(path, first, ast.parse(path.read_text(encoding="utf-8"))))
    return found


MODULES: Final = _modules()
# The package's own `__init__` names what is public, wherever that lives.
BELOW_THE_FACE: Final = [module for module in MODULES if module.part != "__init__"]
CORE: Final = [module for module in BELOW_THE_FACE if module.part != "emulator"]


def test_every_module_has_its_place() -> None:
    assert {module.part for module in CORE} == set(RANK), "draw the new module into LAYERS"


@pytest.mark.parametrize("module", CORE, ids=lambda module: module.where)
def test_imports_point_down(module: Module) -> None:
    others = module.ours() - {module.part, "emulator"}
    upward = {name for name in others if RANK[name] <= RANK[module.part]}
    assert not upward, f"{module.where} imports {sorted(upward)}, which are not below it"


@pytest.mark.parametrize("room", sorted({module.part for module in MODULES}))
def test_no_module_of_a_room_imports_itself_by_way_of_others(room: str) -> None:
    imports = {module.name: set(module.imports()) for module in MODULES if module.part == room}
    knotted = {name.removeprefix("wan25_mcp.") for name in imports if name in _reach(imports, name)}
    assert not knotted


def _reach(imports: Mapping[str, set[str]], start: str) -> set[str]:
    """What a module imports, and what that imports, and so on."""
    found: set[str] = set()
    todo = set(imports[start])
    while todo:
        name = todo.pop()
        found.add(name)
        todo |= imports.get(name, set()) - found
    return found


def _functions(module: Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{module.where}:{node.name}", node


def _parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = function.args
    every = [*names.posonlyargs, *names.args, *names.kwonlyargs]
    return len([name for name in every if name.arg not in ("self", "cls")])


def test_the_lists_of_what_is_too_large_only_shrink() -> None:
    """What is above a budget is named, and what no longer is leaves the list."""
    functions = [found for module in MODULES for found in _functions(module)]
    lines = [(where, (node.end_lineno or 0) - node.lineno + 1) for where, node in functions]
    parameters = [(where, _parameters(node)) for where, node in functions]
    modules = {m.where: len(m.path.read_text(encoding="utf-8").splitlines()) for m in MODULES}
    assert {name for name, count in modules.items() if count > MODULE_LINES} == LONG_MODULES
    assert {name for name, count in lines if count > FUNCTION_LINES} == LONG_FUNCTIONS
    assert {name for name, count in parameters if count > PARAMETERS} == MANY_PARAMETERS


@pytest.mark.parametrize("part", ["url_safety", "redaction"])
def test_the_lowest_row_imports_nothing_of_ours(part: str) -> None:
    assert _of(part).ours() == set()


def test_the_emulator_imports_nothing_of_ours() -> None:
    for module in MODULES:
        if module.part == "emulator":
            assert module.ours() <= {"emulator"}, module.where


def test_only_those_who_start_the_emulator_import_it() -> None:
    users = {module.part for module in CORE if "emulator" in module.ours()}
    assert users <= USE_EMULATOR


def test_only_the_server_and_its_hosts_and_the_demos_client_import_mcp() -> None:
    speakers = {
        module.part
        for module in BELOW_THE_FACE
        if {"mcp", "mcp_types"} & {name.split(".")[0] for name in module.imports()}
    }
    assert speakers == SPEAK_MCP


def test_every_foreign_import_is_a_declared_dependency() -> None:
    distributions = packages_distributions()
    imported = {name.split(".")[0] for module in MODULES for name in module.imports()}
    foreign = imported - set(sys.stdlib_module_names) - {"wan25_mcp"}
    extras = PROJECT["optional-dependencies"]
    optional = [one for name in ("postgres", "buckets", "heic", "keyring") for one in extras[name]]
    requirements = [*PROJECT["dependencies"], *optional]
    declared = {re.split(r"[\s<>=\[;]", one)[0] for one in requirements}
    undeclared = {
        name
        for name in foreign
        if not declared & {found.lower().replace("_", "-") for found in distributions[name]}
    }
    assert not undeclared


def test_every_dependency_has_a_floor_and_a_ceiling() -> None:
    extras = PROJECT["optional-dependencies"].values()
    for requirement in [*PROJECT["dependencies"], *(one for extra in extras for one in extra)]:
        if requirement.startswith("wan25-mcp["):
            continue  # ourselves, with other extras
        assert ">=" in requirement, requirement
        assert "<" in requirement, requirement


def test_nothing_prints_but_the_terminal_and_the_hosts_announcement() -> None:
    printers = {
        module.part
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    }
    assert printers <= PRINT


def test_the_environment_is_read_at_the_edge_only() -> None:
    readers = {
        module.part
        for module in MODULES
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
    }
    assert readers <= READ_ENVIRONMENT


def test_nothing_happens_at_import() -> None:
    """No statement at module level calls for its effect; definitions, constants and guards only."""
    for module in MODULES:
        for node in module.tree.body:
            effect = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            assert not effect, f"{module.where}:{node.lineno}"


def test_modules_are_named_for_what_they_know() -> None:
    for module in MODULES:
        names = {Path(part).stem for part in module.path.relative_to(PACKAGE).parts}
        assert not names & BANNED_NAMES, module.where
        assert not any(name.startswith("process_") for name in names), module.where


LOADED_BY: Final = {
    "importing the command": "import wan25_mcp.cli.main",
    "importing the Python API": (
        "from wan25_mcp import Client, AccountEditor, EditRequest, Settings, open_configured_editor"
    ),
    "building the server for stdio": """
import anyio
from wan25_mcp.cli.main import serve
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.server import create_server
from wan25_mcp.server.stdio import serve_stdio
from wan25_mcp.settings import Settings

async def build():
    async with open_configured_editor(Settings()) as editor:
        create_server(editor)

anyio.run(build)
""",
}


@pytest.mark.parametrize("code", LOADED_BY.values(), ids=LOADED_BY.keys())
def test_nothing_heavy_is_imported_at_start(code: str) -> None:
    report = f"{code}\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = set(json.loads(run.stdout))
    # What the SDK loads by itself is not ours to defer.
    assert not loaded & set(HEAVY) - _loaded_by_the_sdk(), run.stdout


@cache
def _loaded_by_the_sdk() -> set[str]:
    report = "import mcp.server.mcpserver, json, sys; print(json.dumps(sorted(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, timeout=60, check=True
    )
    return set(json.loads(run.stdout))


def _of(part: str) -> Module:
    return next(module for module in CORE if module.part == part)
