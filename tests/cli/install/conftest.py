"""A user's home folder with clients in it."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from click.testing import CliRunner, Result

from tests.cli.stage import Environ
from wan25_mcp.cli.install.clients import BY_NAME
from wan25_mcp.cli.install.places import Machine, this_system
from wan25_mcp.cli.main import main

KEY: Final = "sk-live-SECRET0123456789-WXYZ"
HELD: Final = {
    "json": '{\n  // mine\n  "%s": {\n    "other": { "env": { "A_TOKEN": "t0p" } }\n  }\n}\n',
    "toml": '# mine\n[%s.other]\ncommand = "x"\nenv = { A_TOKEN = "t0p" }\n',
    "yaml": "# mine\n%s:\n  other:\n    cmd: x\n    envs: {A_TOKEN: t0p}\n",
}


@dataclass
class Home:
    """A user's home folder, and the commands that run there."""

    path: Path
    environ: Environ

    def run(self, *arguments: str, **values: str) -> Result:
        result = CliRunner().invoke(main, arguments, env=self.environ | values)
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert KEY not in result.output
        return result

    @property
    def machine(self) -> Machine:
        return Machine(this_system(), self.path, {k: v for k, v in self.environ.items() if v})

    def file(self, name: str) -> Path:
        return BY_NAME[name].path(self.machine)

    def hold(self, name: str, text: str | None = None) -> Path:
        """Give a client a configuration."""
        client, file = BY_NAME[name], self.file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(HELD[client.format] % client.section[0] if text is None else text)
        return file

    def entry(self, name: str) -> Any:
        """This server's entry, read by another reader."""
        text = self.file(name).read_text().replace("// mine", "")
        read: Any = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
        values = read[BY_NAME[name].format](text)
        return values.get(BY_NAME[name].section[0], {}).get("wan25")


@pytest.fixture
def home(environ: Environ, tmp_path: Path) -> Home:
    home = tmp_path / "home"
    home.mkdir()
    ours = {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "APPDATA": str(home / "AppData" / "Roaming"),
        "LOCALAPPDATA": str(home / "AppData" / "Local"),
        "XDG_CONFIG_HOME": None,
        "PATH": str(tmp_path / "no-commands"),
    }
    others = {
        "WAN25_DATA_DIR",
        "WAN25_OUTPUT_DIR",
        "CODEX_HOME",
        "CLAUDE_CONFIG_DIR",
        "GEMINI_CLI_HOME",
        "GOOSE_PATH_ROOT",
        "CLINE_DIR",
    }
    return Home(home, {**environ, **ours, **dict.fromkeys(others)})
