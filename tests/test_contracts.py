"""What other programs depend on: the tools as listed, `server.json`, what the README says."""

from __future__ import annotations

import json
import re
import textwrap
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import jsonschema
import pytest

from scripts import generate
from scripts.project import ROOT
from wan25_mcp.cli.main import main
from wan25_mcp.errors import SettingsError
from wan25_mcp.journal import stages
from wan25_mcp.provider import statuses
from wan25_mcp.settings import SETTINGS, Settings

CONTRACTS: Final = Path(__file__).parent / "contracts"
MOST_TOKENS: Final = 1200
"""What all tools together may take of a model's attention, at four characters a token."""


@pytest.fixture(scope="module")
def server_json() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))
    return read


def test_nothing_generated_has_drifted() -> None:
    drifted = [str(path.relative_to(ROOT)) for path in generate.drifted()]
    assert not drifted, "run: python scripts/generate.py, and read the diff"
    assert not generate.stray_contracts()


def test_there_are_three_tools_in_the_order_they_are_needed() -> None:
    names = [tool.name for tool in generate.listed_tools()]
    assert names == ["edit_image", "get_task", "wait_for_task"]


def test_only_the_paid_tool_is_not_read_only() -> None:
    hints = {
        tool.name: (
            tool.annotations.read_only_hint,
            tool.annotations.destructive_hint,
            tool.annotations.idempotent_hint,
            tool.annotations.open_world_hint,
        )
        for tool in generate.listed_tools()
        if tool.annotations is not None
    }
    assert hints == {
        "edit_image": (False, False, False, True),
        "get_task": (True, False, True, True),
        "wait_for_task": (True, False, True, True),
    }


def test_all_tools_together_cost_a_model_few_tokens() -> None:
    characters = sum(
        len(tool.name)
        + len(tool.description or "")
        + len(json.dumps(tool.input_schema, separators=(",", ":")))
        for tool in generate.listed_tools()
    )
    assert characters / 4 <= MOST_TOKENS


@pytest.mark.parametrize("tool", ["edit_image", "get_task", "wait_for_task"])
def test_the_schemas_of_a_tool_are_schemas_of_objects(tool: str) -> None:
    contract = json.loads((CONTRACTS / "tools" / f"{tool}.json").read_text(encoding="utf-8"))
    for schema in (contract["inputSchema"], contract["outputSchema"]):
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["type"] == "object"


def test_server_json_follows_the_rules_of_the_registry(server_json: dict[str, Any]) -> None:
    rules = json.loads((CONTRACTS / "server.rules.json").read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(rules)
    jsonschema.Draft7Validator(rules).validate(server_json)


def test_server_json_and_the_package_are_of_one_version(server_json: dict[str, Any]) -> None:
    versions = {
        server_json["version"],
        *(package["version"] for package in server_json["packages"]),
    }
    assert versions == {version("wan25-mcp")}


def test_server_json_says_how_to_start_each_transport(server_json: dict[str, Any]) -> None:
    stdio, http = server_json["packages"]
    assert stdio["transport"] == {"type": "stdio"}
    hints = {
        one["valueHint"]: one["default"] for one in http["packageArguments"] if "default" in one
    }
    assert http["transport"]["url"].format_map(hints) == "http://127.0.0.1:8000/mcp"
    for package in (stdio, http):
        line = [one.get("value") or one["default"] for one in package["packageArguments"]]
        command = main.commands[line[0]]
        # With its parent: click keeps the help option that a command had in its first context.
        parent = main.make_context("wan25-mcp", [*line])
        given = command.make_context(line[0], line[1:], parent=parent).params
        assert given["transport"] == package["transport"]["type"]


def test_server_json_names_every_setting_and_which_are_secret(server_json: dict[str, Any]) -> None:
    stdio, http = (
        {variable["name"]: variable for variable in package["environmentVariables"]}
        for package in server_json["packages"]
    )
    assert list(http) == [variable.name for variable in SETTINGS]
    assert http.keys() - stdio.keys() == {
        "WAN25_CALLBACK_URL",
        "WAN25_SERVER_TOKEN",
        "WAN25_ALLOWED_HOSTS",
    }
    assert all(http[name] == variable for name, variable in stdio.items())
    assert [name for name, variable in http.items() if variable["isSecret"]] == [
        "WAN25_API_KEY",
        "WAN25_DATABASE_URL",
        "WAN25_SERVER_TOKEN",
    ]
    assert [name for name, one in http.items() if one["isRequired"]] == ["WAN25_API_KEY"]


def test_the_choices_and_formats_of_server_json_are_those_that_settings_take(
    server_json: dict[str, Any],
) -> None:
    texts = {"number": "7", "filepath": "/home/me/wan25"}
    for variable in server_json["packages"][1]["environmentVariables"]:
        name = variable["name"]
        for choice in variable.get("choices", []):
            Settings.from_mapping({name: choice})
        if "choices" in variable:
            with pytest.raises(SettingsError):
                Settings.from_mapping({name: "neither"})
        elif text := texts.get(variable["format"]):
            Settings.from_mapping({name: text})
            wrong = "seven" if variable["format"] == "number" else ""
            if wrong:
                with pytest.raises(SettingsError):
                    Settings.from_mapping({name: wrong})


def test_the_defaults_of_server_json_are_values_that_change_nothing(
    server_json: dict[str, Any],
) -> None:
    defaults = {
        variable["name"]: variable["default"]
        for variable in server_json["packages"][1]["environmentVariables"]
        if "default" in variable
    }
    assert defaults
    assert Settings.from_mapping(defaults) == Settings()


def test_every_variable_that_is_read_is_documented() -> None:
    source = (ROOT / "wan25_mcp" / "settings.py").read_text(encoding="utf-8")
    read = set(re.findall(r"\bWAN25_[A-Z_]+", source))
    assert read == {variable.name for variable in SETTINGS}


@pytest.mark.parametrize(("law", "table"), [(statuses, statuses.STATUSES), (stages, stages.STAGES)])
def test_a_law_is_drawn_in_its_module_as_its_table_says(
    law: ModuleType, table: dict[str, frozenset[str]]
) -> None:
    drawing = textwrap.indent(generate.drawn(table), "    ")
    assert drawing in (law.__doc__ or "")


def test_the_readme_names_the_server_as_the_registry_does(server_json: dict[str, Any]) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"mcp-name: {server_json['name']}" in readme
