"""Builds the MCP bundle `wan25-mcp.mcpb` in a folder. Needs node.

    python scripts/build_bundle.py FOLDER

A host such as Claude Desktop installs a bundle when it is opened: it asks for the settings, and
starts the server with `uv`, which installs the dependencies. Everything in the manifest is derived.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # where this checkout is

from scripts.project import ROOT, project, repository
from wan25_mcp.cli.install.launch import PROGRAM
from wan25_mcp.setting_parsers import Setting
from wan25_mcp.settings import SETTINGS

PACKER: Final = "@anthropic-ai/mcpb@2.1.2"
CONTENTS: Final = ("wan25_mcp", "pyproject.toml", "README.md", "LICENSE")
ASKED: Final = {"WAN25_API_KEY": "API key", "WAN25_CREDIT_LIMIT": "Credit limit for 24 hours"}
"""The settings that a host asks for, with their titles. All are text: a field for a number cannot
stay empty."""


def manifest() -> dict[str, Any]:
    """Source: https://github.com/modelcontextprotocol/mcpb/blob/main/MANIFEST.md, version 0.4."""
    about = project()
    asked = [row for row in SETTINGS if row.name in ASKED]
    address = repository()
    return {
        "manifest_version": "0.4",
        "name": about["name"],
        "display_name": "Wan 2.5 image editing",
        "version": about["version"],
        "description": about["description"],
        "author": {"name": about["authors"][0]["name"]},
        **({"repository": {"type": "git", "url": address}} if address else {}),
        "license": about["license"],
        "keywords": about["keywords"],
        "server": {
            "type": "uv",
            "entry_point": "wan25_mcp/__main__.py",
            "mcp_config": {
                "command": "uv",
                "args": ["run", "--directory", "${__dirname}", "--no-dev", PROGRAM, "serve"],
                "env": {row.name: f"${{user_config.{row.attribute}}}" for row in asked},
            },
        },
        "tools": _tools(),
        "compatibility": {
            "platforms": ["darwin", "linux", "win32"],
            "runtimes": {"python": about["requires-python"]},
        },
        "user_config": {row.attribute: _asked(row) for row in asked},
    }


def _tools() -> list[dict[str, str]]:
    """The tools, by their contracts, each with the first sentence of its description."""
    contracts = sorted((ROOT / "tests" / "contracts" / "tools").glob("*.json"))
    tools = (json.loads(path.read_text(encoding="utf-8")) for path in contracts)
    return [
        {"name": tool["name"], "description": f"{tool['description'].split('. ')[0]}."}
        for tool in tools
    ]


def _asked(row: Setting) -> dict[str, Any]:
    """The question for a setting. No answer is an empty one, not the placeholder."""
    return {
        "type": "string",
        "title": ASKED[row.name],
        "description": row.meaning.replace("`", ""),
        "required": False,
        "default": "",
        **({"sensitive": True} if row.secret else {}),
    }


def fill(folder: Path) -> None:
    """Write what the bundle is made of into a new folder."""
    folder.mkdir()
    for name in CONTENTS:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    text = json.dumps(manifest(), indent=2, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def pack(folder: Path, bundle: Path) -> int:
    """Check a folder and make a bundle of it. Returns the exit status."""
    npx = shutil.which("npx")
    if npx is None:
        print("There is no npx on the PATH. Install node.", file=sys.stderr)
        return 1
    packed = subprocess.run(  # noqa: S603  a pinned package of the bundle's own makers
        [npx, "--yes", PACKER, "pack", str(folder), str(bundle)], check=False
    )
    return packed.returncode


def run(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(arguments[0])
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fill(Path(scratch, PROGRAM))
        return pack(Path(scratch, PROGRAM), target.resolve() / f"{PROGRAM}.mcpb")


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
