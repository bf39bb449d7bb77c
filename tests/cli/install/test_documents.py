"""What the documents say of each client is what `install` writes there."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml

from scripts import install_pages, one_click
from scripts.project import ADDRESS, ROOT
from tests.cli.install.conftest import Home
from tests.systems import linux
from wan25_mcp.cli.install import launch
from wan25_mcp.cli.install.clients import BY_NAME, CLIENTS

PAGE: Final = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
README: Final = (ROOT / "README.md").read_text(encoding="utf-8")
READ: Final[dict[str, Any]] = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
LINKED: Final = [client.name for client in CLIENTS if client.link]


@pytest.fixture
def home(home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Where the published command is what would be written."""
    monkeypatch.setattr(launch, "command", lambda: launch.PUBLISHED)
    return home


def values(home: Home, name: str) -> Any:
    """The file that `install` writes."""
    assert home.run("install", name, "--force").exit_code == 0
    return READ[BY_NAME[name].format](home.file(name).read_text())


def section(name: str) -> str:
    return PAGE.partition(f"### {BY_NAME[name].title}\n")[2].partition("\n### ")[0]


@pytest.mark.parametrize("name", BY_NAME)
def test_the_configuration_by_hand_is_what_install_writes(home: Home, name: str) -> None:
    kind = BY_NAME[name].format
    (shown,) = re.findall(rf"```{kind}\n(.*?)```", section(name), re.DOTALL)
    assert READ[kind](shown) == values(home, name)


@linux
@pytest.mark.parametrize("name", BY_NAME)
def test_the_place_by_hand_is_where_install_writes(home: Home, name: str) -> None:
    inside = home.file(name).relative_to(home.path).as_posix()
    assert f"`~/{inside}` (Linux" in section(name)


@pytest.mark.parametrize("name", LINKED)
def test_a_link_adds_what_install_writes(home: Home, name: str) -> None:
    written = values(home, name)
    inputs = written.pop("inputs", None)
    (servers,) = written.values()
    for link in (one_click.link(BY_NAME[name]), one_click.web_link(BY_NAME[name])):
        assert link in PAGE
        entry, asked = decoded(link)
        assert ({"wan25": entry}, asked) == (servers, inputs)
    assert one_click.web_link(BY_NAME[name]) in README


def decoded(link: str) -> tuple[Any, Any]:
    """The entry and the questions, as the client that gets the link reads it."""
    parts = urlsplit(link)
    if parts.scheme == "vscode":
        whole = json.loads(unquote(parts.query))
        assert whole.pop("name") == "wan25"
        inputs = whole.pop("inputs")
        return whole, inputs
    fields = {name: one for name, (one,) in parse_qs(parts.query, strict_parsing=True).items()}
    assert fields["name"] == "wan25"
    if "inputs" in fields:
        return json.loads(fields["config"]), json.loads(fields["inputs"])
    return json.loads(base64.b64decode(fields["config"], validate=True)), None


def test_every_client_is_in_the_readme() -> None:
    for client in CLIENTS:
        assert client.title in README
        assert re.search(rf"`(wan25-mcp install )?{client.name}`", README)


def test_one_address_in_pyproject_changes_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "uv tool install .\n" in install_pages.install()
    assert ADDRESS in install_pages.clients()
    monkeypatch.setattr(install_pages, "repository", lambda: "https://example.com/wan25-mcp")
    assert "uv tool install wan25-mcp\n" in install_pages.install()
    assert ADDRESS not in install_pages.clients()
    assert "git+https://example.com/wan25-mcp" in install_pages.clients()
    rest = re.sub(
        r"<!-- generated: \w+ -->.*?<!-- end: \w+ -->", "", README + PAGE, flags=re.DOTALL
    )
    assert ADDRESS not in rest
    assert "published yet" not in rest
