"""The bundle: what a host reads, asks and starts. `.ci/run` packs and starts it."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from scripts import build_bundle
from wan25_mcp.settings import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_bundle.fill(tmp_path / "bundle")
    return tmp_path / "bundle"


def manifest(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return read


def environment(folder: Path, **answers: str) -> dict[str, str]:
    """What a host sets: the answers, and the defaults of what was left empty."""
    whole = manifest(folder)
    values = {name: one["default"] for name, one in whole["user_config"].items()} | answers
    variables: dict[str, str] = whole["server"]["mcp_config"]["env"]
    pattern = re.compile(r"\$\{user_config\.(\w+)\}")
    return {
        name: pattern.sub(lambda found: values[found[1]], text) for name, text in variables.items()
    }


def test_all_that_a_build_needs_is_in_the_bundle(folder: Path) -> None:
    whole = manifest(folder)
    assert (whole["manifest_version"], whole["server"]["type"]) == ("0.4", "uv")
    assert (folder / whole["server"]["entry_point"]).is_file()
    about = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (whole["name"], whole["version"]) == (about["name"], about["version"])
    assert all((folder / name).is_file() for name in (about["readme"], *about["license-files"]))
    assert whole["server"]["mcp_config"]["args"][-2] in about["scripts"]
    assert not list(folder.rglob("__pycache__"))


def test_the_key_is_a_sensitive_question_that_may_stay_empty(folder: Path) -> None:
    asked = manifest(folder)["user_config"]
    assert {name for name, one in asked.items() if one.get("sensitive")} == {"key"}
    assert not any(one["required"] for one in asked.values())
    assert Settings.from_mapping(environment(folder)) == Settings()
    given = Settings.from_mapping(environment(folder, key="sk-123", credit_limit="5"))
    assert given.key is not None
    assert (given.key.get_secret_value(), given.credit_limit) == ("sk-123", 5)


def test_a_host_that_leaves_the_placeholder_is_noticed(folder: Path) -> None:
    left = manifest(folder)["server"]["mcp_config"]["env"]["WAN25_API_KEY"]
    settings = Settings.from_mapping({"WAN25_API_KEY": left})
    assert settings.key is None
    assert "placeholder" in (settings.key_problem or "")


def test_the_tools_are_those_of_the_contracts(folder: Path) -> None:
    tools = {tool["name"]: tool["description"] for tool in manifest(folder)["tools"]}
    assert list(tools) == ["edit_image", "get_task", "wait_for_task"]
    assert all(sentence.endswith(".") for sentence in tools.values())


def test_without_node_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_bundle.run([str(tmp_path / "dist")]) == 1
    assert "npx" in capsys.readouterr().err
    assert build_bundle.run([]) == 2
