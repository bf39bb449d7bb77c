"""The examples, and the README's, run as their readers run them. Each asserts its own outcome."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import anyio
import pytest

from tests.emulator_lab import Emulator

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENTS: Final = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
DEADLINE: Final = 50.0

FRAMEWORK_PYTHON: Final = os.environ.get("WAN25_FRAMEWORK_PYTHON")
"""An interpreter with the agent framework, which cannot share ours; `.ci/run` makes one."""


def run(arguments: Sequence[str], **variables: str) -> str:
    """Run a program of ours to its end; its output."""
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=ROOT,
        env={**os.environ, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command() -> str:
    """The command `wan25-mcp` of this environment."""
    return str(Path(sys.executable).with_name("wan25-mcp"))


def blocks(language: str) -> list[str]:
    """The code in a language that README and docs show."""
    text = "\n".join(DOCUMENTS[path] for path in _FOR_USERS)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


_FOR_USERS: Final = [ROOT / "README.md", ROOT / "docs" / "install.md"]


@pytest.mark.parametrize(
    "example",
    ["plain_mcp_client.py", pytest.param("python_client.py", marks=pytest.mark.thorough)],
)
def test_an_example_reaches_its_outcome(example: str) -> None:
    assert run([sys.executable, f"examples/{example}"])


@pytest.mark.skipif(not FRAMEWORK_PYTHON, reason="WAN25_FRAMEWORK_PYTHON names no interpreter")
def test_an_agent_framework_edits_an_image_with_our_tools() -> None:
    said = run([FRAMEWORK_PYTHON or "", "examples/agent_framework.py", command()])
    assert "Status: completed" in said


def test_every_example_is_run() -> None:
    named = set(re.findall(r'"(?:examples/)?(\w+\.py)"', Path(__file__).read_text("utf-8")))
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == named


def test_the_readmes_python_runs_as_it_stands(tmp_path: Path) -> None:
    (code,) = blocks("python")

    async def against_an_emulator() -> str:
        # The README's link is made up, so the emulator does not look at it.
        async with Emulator(key=None, speed=20, check_images=False).serving() as emulator:
            return await anyio.to_thread.run_sync(
                lambda: run(
                    [sys.executable, "-c", code],
                    WAN25_EMULATOR=emulator.base_url,
                    WAN25_DATA_DIR=str(tmp_path),
                )
            )

    assert re.match(r"completed yes http\S+\n$", anyio.run(against_an_emulator))


def test_the_configurations_parse_and_name_the_key_where_the_server_finds_it() -> None:
    servers = [_only_server(json.loads(text)) for text in blocks("json")]
    servers += [_only_server(tomllib.loads(text)) for text in blocks("toml")]
    assert len(servers) == 4
    for server in servers:
        assert server["command"].endswith("/.venv/bin/wan25-mcp")
    named = [set(server["env"]) for server in servers if "env" in server]
    assert named == [{"WAN25_API_KEY"}] * 3  # the README's own uses the kept key


def _only_server(configuration: dict[str, Any]) -> dict[str, Any]:
    (servers,) = (
        configuration[key]
        for key in ("mcpServers", "servers", "mcp_servers")
        if key in configuration
    )
    server: dict[str, Any] = servers["wan25"]
    return server
