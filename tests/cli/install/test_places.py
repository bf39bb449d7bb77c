"""Where clients keep their configuration, and which command stays where it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from tests.systems import posix
from wan25_mcp.cli.install import launch
from wan25_mcp.cli.install.clients import BY_NAME
from wan25_mcp.cli.install.places import Machine, System

pytestmark = posix
HOME: Final = Path("/home/me")
APP: Final = {
    "linux": "/home/me/.config",
    "macos": "/home/me/Library/Application Support",
    "windows": "/home/me/AppData/Roaming",
}


def place(name: str, system: System, **environ: str) -> str:
    return str(BY_NAME[name].path(Machine(system, HOME, environ)))


@pytest.mark.parametrize("system", APP)
def test_each_client_has_its_place_on_each_system(system: System) -> None:
    app = APP[system]
    config = "/home/me/.config"
    zed = f"{app}/Zed" if system == "windows" else f"{config}/zed"
    goose = f"{app}/Block/goose/config" if system == "windows" else f"{config}/goose"
    assert {name: place(name, system) for name in BY_NAME} == {
        "claude-desktop": f"{app}/Claude/claude_desktop_config.json",
        "claude-code": "/home/me/.claude.json",
        "cursor": "/home/me/.cursor/mcp.json",
        "vscode": f"{app}/Code/User/mcp.json",
        "codex": "/home/me/.codex/config.toml",
        "gemini": "/home/me/.gemini/settings.json",
        "windsurf": "/home/me/.codeium/windsurf/mcp_config.json",
        "zed": f"{zed}/settings.json",
        "cline": "/home/me/.cline/data/settings/cline_mcp_settings.json",
        "lmstudio": "/home/me/.lmstudio/mcp.json",
        "goose": f"{goose}/config.yaml",
        "opencode": f"{config}/opencode/opencode.json",
    }


@pytest.mark.parametrize(
    ("name", "variable", "value", "expected"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", "/c", "/c/.claude.json"),
        ("codex", "CODEX_HOME", "/c", "/c/config.toml"),
        ("gemini", "GEMINI_CLI_HOME", "/c", "/c/.gemini/settings.json"),
        ("cline", "CLINE_DIR", "/c", "/c/data/settings/cline_mcp_settings.json"),
        ("cline", "CLINE_MCP_SETTINGS_PATH", "/c/mcp.json", "/c/mcp.json"),
        ("goose", "GOOSE_PATH_ROOT", "/c", "/c/config/config.yaml"),
        ("vscode", "XDG_CONFIG_HOME", "/c", "/c/Code/User/mcp.json"),
        ("opencode", "XDG_CONFIG_HOME", "/c", "/c/opencode/opencode.json"),
        ("opencode", "XDG_CONFIG_HOME", "c", "/home/me/.config/opencode/opencode.json"),
        ("codex", "CODEX_HOME", " ", "/home/me/.codex/config.toml"),
    ],
)
def test_the_variables_of_a_client_move_its_place(
    name: str, variable: str, value: str, expected: str
) -> None:
    assert place(name, "linux", **{variable: value}) == expected


def test_a_client_that_a_variable_moves_is_looked_for_there(tmp_path: Path) -> None:
    machine = Machine("linux", tmp_path, {"CLAUDE_CONFIG_DIR": f"{tmp_path}/c"})
    assert not BY_NAME["claude-code"].is_on(machine)
    (tmp_path / "c").mkdir()
    assert BY_NAME["claude-code"].is_on(machine)


def test_an_older_place_counts_while_there_is_a_file_there_only(tmp_path: Path) -> None:
    machine = Machine("linux", tmp_path, {})
    new = tmp_path / ".config" / "opencode" / "opencode.json"
    new.parent.mkdir(parents=True)
    new.with_suffix(".jsonc").write_text("{}")
    assert BY_NAME["opencode"].path(machine) == new.with_suffix(".jsonc")
    new.write_text("{}")
    assert BY_NAME["opencode"].path(machine) == new


def test_lm_studio_is_where_its_pointer_says(tmp_path: Path) -> None:
    machine = Machine("linux", tmp_path, {})
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{tmp_path}/models\n")
    assert BY_NAME["lmstudio"].path(machine) == tmp_path / "models" / "mcp.json"


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment in a cache, as `uvx` makes one. Returns its `uvx`."""
    cache = tmp_path / "uv"
    (cache / "archive-v0" / "abc").mkdir(parents=True)
    (cache / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    monkeypatch.setattr("sys.prefix", str(cache / "archive-v0" / "abc"))
    monkeypatch.setenv("UV", str(tmp_path / "bin" / "uv"))
    uvx = tmp_path / "bin" / "uvx"
    uvx.parent.mkdir()
    uvx.write_text("")
    return uvx


@pytest.mark.parametrize(
    ("origin", "options"),
    [
        (None, []),
        ({"url": "file:///home/me/wan25%20mcp", "dir_info": {}}, ["--from", "/home/me/wan25 mcp"]),
        (
            {
                "url": "https://example.com/wan25.git",
                "vcs_info": {"vcs": "git", "commit_id": "0" * 40, "requested_revision": "v1"},
            },
            ["--from", "git+https://example.com/wan25.git@v1"],
        ),
        (
            {"url": "https://example.com/w.whl", "archive_info": {}},
            ["--from", "https://example.com/w.whl"],
        ),
        ({"unexpected": 1}, []),
    ],
)
def test_a_temporary_environment_is_never_named(
    cached: Path, monkeypatch: pytest.MonkeyPatch, origin: Any, options: list[str]
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return None if origin is None else json.dumps(origin)

    monkeypatch.setattr(launch, "distribution", lambda name: Distribution())
    assert launch.command() == (str(cached), *options, "wan25-mcp")


def test_an_environment_with_uvs_own_tag_is_not_a_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = tmp_path / "venv" / "bin"
    scripts.mkdir(parents=True)
    (tmp_path / "venv" / "CACHEDIR.TAG").write_text("")
    (scripts / "wan25-mcp").write_text("")
    monkeypatch.setattr("sys.prefix", str(tmp_path / "venv"))
    monkeypatch.setattr("sysconfig.get_path", lambda *words: str(scripts))
    assert launch.command() == (str(scripts / "wan25-mcp"),)


def test_without_an_installed_command_the_interpreter_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda *words: str(tmp_path))
    monkeypatch.setattr("sys.executable", "/usr/bin/python3")
    assert launch.command() == ("/usr/bin/python3", "-m", "wan25_mcp")
