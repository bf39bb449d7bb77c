"""`install` and `uninstall`, as a person runs them, for every client."""

from __future__ import annotations

import json
import os
import stat
import sysconfig
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import SecretStr

from tests.cli.install.conftest import KEY, Home
from tests.stage import names_in
from tests.systems import posix
from wan25_mcp.cli.install.change import Change, written
from wan25_mcp.cli.install.clients import BY_NAME, CLIENTS
from wan25_mcp.cli.install.texts import CannotEdit
from wan25_mcp.keys import kept_key
from wan25_mcp.settings import DEFAULT_BASE_URL

COMMAND: Final = str(
    Path(sysconfig.get_path("scripts"), "wan25-mcp.exe" if os.name == "nt" else "wan25-mcp")
)
NAMES: Final = list(BY_NAME)
PASSING: Final = [client.name for client in CLIENTS if client.passes_variables]


# --- in and out ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_server_is_added_once_and_removed_without_a_trace(home: Home, name: str) -> None:
    file = home.hold(name)
    before = file.read_text()
    added = home.run("install", name, "--emulator")
    assert added.exit_code == 0
    assert f"{BY_NAME[name].title}: {file}" in added.stdout
    assert f"{COMMAND} serve --emulator" in added.stdout
    assert set(_words(home.entry(name))) >= {COMMAND, "serve", "--emulator"}
    backup = file.with_name(f"{file.name}.bak")
    assert (backup.read_text(), f"Backup: {backup}" in added.stderr) == (before, True)

    once = file.read_text()
    again = home.run("install", name, "--emulator")
    assert "already" in again.stdout
    assert (again.exit_code, file.read_text()) == (0, once)
    assert "t0p" in once
    assert "mine" in once

    removed = home.run("uninstall", name)
    assert (removed.exit_code, file.read_text()) == (0, before)
    assert "not in" in home.run("uninstall", name).stdout
    assert set(names_in(file.parent)) >= {file.name, f"{file.name}.bak", f"{file.name}.bak1"}


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for inner in value.values() for word in _words(inner)]
    return (
        [word for inner in value for word in _words(inner)] if isinstance(value, list) else [value]
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_client_without_a_configuration_gets_one(home: Home, name: str) -> None:
    folder = BY_NAME[name].folder(home.machine)
    folder.mkdir(parents=True)
    assert home.run("install", name).exit_code == 0
    assert COMMAND in _words(home.entry(name))
    if os.name != "nt":
        assert stat.S_IMODE(home.file(name).stat().st_mode) == 0o600


@pytest.mark.parametrize("name", NAMES)
def test_a_client_that_is_not_there_is_named_with_where_it_was_looked_for(
    home: Home, name: str
) -> None:
    told = home.run("install", name)
    assert told.exit_code == 1
    assert f"{BY_NAME[name].title} was not found" in told.stderr
    assert str(BY_NAME[name].folder(home.machine)) in told.stderr
    dry = home.run("install", name, "--dry-run")
    assert (dry.exit_code, json.dumps(COMMAND) in dry.stdout) == (0, True)
    assert "was not found" in dry.stderr
    assert names_in(home.path) == []
    assert home.run("install", name, "--force").exit_code == 0
    assert COMMAND in _words(home.entry(name))


@posix
def test_a_command_on_the_path_shows_that_a_client_is_there(home: Home, tmp_path: Path) -> None:
    codex = tmp_path / "bin" / "codex"
    codex.parent.mkdir()
    codex.write_text("#!/bin/sh\n")
    codex.chmod(0o755)
    assert home.run("install", "codex", PATH=str(codex.parent)).exit_code == 0


def test_several_clients_at_once_and_one_failure_stops_none(home: Home) -> None:
    home.hold("cursor")
    home.hold("codex")
    told = home.run("install", "cursor", "zed", "codex")
    assert told.exit_code == 1
    assert home.entry("cursor")
    assert home.entry("codex")


def test_the_list_says_which_clients_are_there_and_which_have_the_server(home: Home) -> None:
    home.hold("cursor")
    home.hold("codex")
    home.hold("goose", "extensions: [")
    home.run("install", "codex")
    told = home.run("install", "--list")
    rows = {
        row[0]: (row[1], row[2], row[3]) for row in map(str.split, told.stdout.splitlines()[1:])
    }
    assert list(rows) == NAMES
    assert rows["codex"] == ("yes", "yes", str(home.file("codex")))
    assert rows["cursor"] == ("yes", "no", str(home.file("cursor")))
    assert rows["goose"] == ("yes", "unreadable", str(home.file("goose")))
    assert rows["zed"] == ("no", "no", str(home.file("zed")))
    listed = json.loads(home.run("install", "--list", "--json").stdout)["clients"]
    assert [tuple(row.values()) for row in listed] == [(name, *row) for name, row in rows.items()]


@pytest.mark.parametrize("arguments", [["install"], ["install", "clippy"], ["uninstall"]])
def test_a_missing_or_unknown_client_is_a_wrong_use(home: Home, arguments: list[str]) -> None:
    assert home.run(*arguments).exit_code == 2


def test_the_help_names_every_client(home: Home) -> None:
    told = " ".join(home.run("install", "--help").stdout.split())
    assert f"CLIENT: {', '.join(NAMES)}." in told


@posix
def test_the_emulator_is_given_no_setting_of_the_api(home: Home) -> None:
    home.hold("cursor")
    values = {"WAN25_BASE_URL": "https://api.example.com/v1", "WAN25_CREDIT_LIMIT": "5"}
    told = home.run("install", "cursor", "--emulator", **values)
    assert home.entry("cursor")["env"] == {"WAN25_CREDIT_LIMIT": "5"}
    assert "WAN25_BASE_URL" not in told.output


def test_an_invalid_setting_is_not_copied(home: Home) -> None:
    file = home.hold("cursor")
    before = file.read_text()
    assert home.run("install", "cursor", WAN25_SAVE="maybe").exit_code == 2
    assert file.read_text() == before


# --- what is shown, and what is left alone ---------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_dry_run_shows_the_change_without_secrets_and_writes_nothing(
    home: Home, name: str
) -> None:
    file = home.hold(name)
    before = file.read_text()
    told = home.run("install", name, "--dry-run")
    assert told.exit_code == 0
    assert json.dumps(COMMAND) in told.stdout
    assert "t0p" not in told.stdout
    assert (file.read_text(), names_in(file.parent)) == (before, [file.name])


@posix
def test_a_one_line_file_is_shown_without_its_secrets(home: Home) -> None:
    a = {
        "args": ["--api-key", "s3cret"],
        "headers": {"X": "Bearer s3cret1"},
        "env": {"X_TOKEN": "t0p"},
    }
    text = json.dumps({"apiKey": "s3cret", "mcpServers": {"a": a}})
    home.hold("cursor", text)
    told = home.run("install", "cursor", "--dry-run")
    assert "wan25" in told.stdout
    assert "s3cret" not in told.stdout
    assert "t0p" not in told.stdout


@posix
def test_a_password_in_an_address_and_a_personal_token_are_secrets_too(home: Home) -> None:
    env = {"DATABASE": "postgres://me:s3cret@db/x", "GITHUB_PAT": "s3cret1", "USERPWD": "s3cret2"}
    home.hold("cursor", json.dumps({"mcpServers": {"a": {"env": env}}}))
    told = home.run("install", "cursor", "--dry-run")
    assert "postgres://me:" in told.stdout
    assert "s3cret" not in told.stdout


@posix
@pytest.mark.deadline(10)
def test_a_pipe_in_place_of_a_configuration_is_not_waited_for(home: Home) -> None:
    file = home.hold("cursor")
    file.unlink()
    os.mkfifo(file)
    for command in ("install", "uninstall"):
        told = home.run(command, "cursor")
        assert (told.exit_code, "not an ordinary file" in told.stderr) == (1, True)
    assert "unreadable" in home.run("install", "--list", "--json").stdout


def test_a_configuration_nested_too_deeply_is_left_as_it_is(home: Home) -> None:
    for depth in (300, 600, 900):
        file = home.hold("cursor", '{"a":' * depth + "1" + "}" * depth)
        before = file.read_text()
        told = home.run("install", "cursor")
        is_added = told.exit_code == 0
        assert is_added or (told.exit_code, "too deeply" in told.stderr) == (1, True)
        assert (file.read_text() == before) is not is_added


def test_a_different_entry_is_replaced_and_shown_and_what_was_added_to_it_stays(home: Home) -> None:
    old = {
        "command": "/gone/wan25-mcp",
        "args": [],
        "timeout": 60,
        "env": {"WAN25_SAVE": "off", "WAN25_API_KEY": "${env:WAN25_API_KEY}"},
    }
    home.hold("cline", json.dumps({"mcpServers": {"wan25": old, "b": {}}}, indent=4))
    told = home.run("install", "cline")
    assert "Updated" in told.stdout
    assert "/gone/wan25-mcp" in told.stdout
    assert home.entry("cline") == {
        "command": COMMAND,
        "args": ["serve"],
        "timeout": 60,
        "env": {"WAN25_SAVE": "off"},
    }


def test_an_entry_of_another_kind_is_replaced_as_a_whole(home: Home) -> None:
    home.hold("cursor", '{"mcpServers": {"wan25": {"url": "http://127.0.0.1:8000/mcp"}}}')
    assert home.run("install", "cursor").exit_code == 0
    assert home.entry("cursor") == {"command": COMMAND, "args": ["serve"]}


BROKEN: Final = {"json": '{"mcpServers": {', "toml": "mcp_servers = {", "yaml": "extensions: ["}


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_configuration_is_left_alone_and_the_entry_is_there_to_copy(
    home: Home, name: str
) -> None:
    client = BY_NAME[name]
    file = home.hold(name, BROKEN[client.format])
    told = home.run("install", name)
    assert told.exit_code == 1
    assert f"{file} is not valid" in told.stderr
    assert names_in(file.parent) == [file.name]
    assert file.read_text() == BROKEN[client.format]
    file.write_text(told.stdout)
    assert COMMAND in _words(home.entry(name))
    file.write_text(BROKEN[client.format])
    assert home.run("uninstall", name).exit_code == 1
    assert file.read_text() == BROKEN[client.format]


@pytest.mark.parametrize("content", [b"\xff\xfe{\x00}\x00", b'{"a": "\xe9"}'])
def test_a_file_that_is_not_utf_8_is_left_alone(home: Home, content: bytes) -> None:
    file = home.hold("cursor")
    file.write_bytes(content)
    assert home.run("install", "cursor").exit_code == 1
    assert file.read_bytes() == content


# --- the file itself -------------------------------------------------------------------------


@posix
def test_a_link_and_the_mode_stay(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.json"
    kept.write_text("{}")
    kept.chmod(0o640)
    file = home.file("cursor")
    file.parent.mkdir(parents=True)
    file.symlink_to(kept)
    assert home.run("install", "cursor").exit_code == 0
    assert file.is_symlink()
    assert "wan25" in kept.read_text()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o640


def test_no_backup_is_written_over(home: Home) -> None:
    file = home.hold("cursor", "{}")
    file.with_name("mcp.json.bak").write_text("precious")
    home.run("install", "cursor")
    assert file.with_name("mcp.json.bak").read_text() == "precious"
    assert file.with_name("mcp.json.bak1").read_text() == "{}"
    home.run("uninstall", "cursor")
    home.run("install", "cursor")
    kept = [file.with_name(name).read_text() for name in names_in(file.parent) if ".bak" in name]
    assert len(kept) == len(set(kept))


def test_what_another_program_writes_meanwhile_is_not_lost(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text("1")

    def make(text: str) -> str:
        if text == "1":
            file.write_text("2")
        return f"{text}!"

    change, backup = written(file, make)
    assert (file.read_text(), change) == ("2!", Change(file, b"2", b"2!"))
    assert backup is not None
    assert backup.read_text() == "2"


def test_a_file_that_is_written_all_the_time_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "settings.json"

    def make(text: str) -> str:
        file.write_text(f"{text}2")
        return "lost"

    with pytest.raises(CannotEdit, match="another program"):
        written(file, make)
    assert "lost" not in file.read_text()


def test_a_failed_write_leaves_the_file_and_no_leftover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    file.write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CannotEdit, match="no space"):
        written(file, lambda text: f"{text} and after")
    assert file.read_text() == "before"
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


# --- the key ---------------------------------------------------------------------------------


def keep_key(home: Home) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in home.environ.items():
            if value is None:
                patch.delenv(name, raising=False)
            else:
                patch.setenv(name, value)
        kept_key.keep(SecretStr(KEY), DEFAULT_BASE_URL)


@pytest.mark.parametrize("name", NAMES)
def test_the_key_is_never_written(home: Home, name: str) -> None:
    home.hold(name)
    assert home.run("install", name, WAN25_API_KEY=KEY).exit_code == 0
    texts = [path.read_text() for path in home.path.rglob("*") if path.is_file()]
    assert not any(KEY in text for text in texts)


@pytest.mark.parametrize("name", NAMES)
def test_a_kept_key_needs_nothing_in_the_client(home: Home, name: str) -> None:
    home.hold(name)
    keep_key(home)
    told = home.run("install", name, WAN25_API_KEY=KEY)
    assert "kept in" in told.stderr
    assert "WAN25_API_KEY" not in home.file(name).read_text()


@pytest.mark.parametrize("name", PASSING)
def test_a_key_of_the_environment_is_passed_on_by_its_name(home: Home, name: str) -> None:
    home.hold(name)
    told = home.run("install", name, WAN25_API_KEY=KEY)
    assert "passes WAN25_API_KEY on" in told.stderr
    entry = home.entry(name)
    named = [*entry.get("env_vars", []), *entry.get("env_keys", [])]
    variables = entry.get(BY_NAME[name].variables, {})
    assert "WAN25_API_KEY" in (named or variables)
    assert "WAN25_API_KEY" in variables.get("WAN25_API_KEY", "WAN25_API_KEY")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "vscode"])
def test_without_a_key_the_command_that_keeps_one_is_named(home: Home, name: str) -> None:
    home.hold(name)
    values = {} if name in PASSING else {"WAN25_API_KEY": KEY}
    assert "wan25-mcp key set" in home.run("install", name, **values).stderr


def test_vs_code_asks_for_the_key_and_stops_asking_when_removed(home: Home) -> None:
    text = '{\n\t"inputs": [\n\t\t{ "id": "mine" } // first\n\t],\n\t"servers": {}\n}\n'
    file = home.hold("vscode", text)
    assert "asks for the key" in home.run("install", "vscode").stderr
    values = json.loads(file.read_text().replace("// first", ""))
    (mine, ours) = values["inputs"]
    assert (mine["id"], ours["type"], ours["password"]) == ("mine", "promptString", True)
    assert values["servers"]["wan25"]["env"] == {"WAN25_API_KEY": f"${{input:{ours['id']}}}"}
    assert home.run("install", "vscode").stdout.startswith("wan25 is in VS Code already")
    home.run("uninstall", "vscode")
    assert file.read_text() == text


def test_a_file_with_the_key_is_named_wherever_the_client_is_started(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.hold("cursor")
    monkeypatch.chdir(tmp_path)
    Path("key.txt").write_text(KEY)
    told = home.run("install", "cursor", WAN25_API_KEY_FILE="key.txt")
    assert home.entry("cursor")["env"] == {"WAN25_API_KEY_FILE": str(tmp_path / "key.txt")}
    assert "Its key: WAN25_API_KEY_FILE" in told.stderr


def test_settings_of_this_environment_are_copied_but_for_secrets(home: Home) -> None:
    home.hold("cursor")
    values = {
        "WAN25_BASE_URL": "https://gateway.example.com/v1",
        "WAN25_SAVE": "off",
        "WAN25_SERVER_TOKEN": "hush",
        "WAN25_DATABASE_URL": "postgresql://me:hush@db/wan25",
        "WAN25_ALLOWED_HOSTS": "example.com",
    }
    told = home.run("install", "cursor", **values)
    assert home.entry("cursor")["env"] == {
        "WAN25_BASE_URL": "https://gateway.example.com/v1",
        "WAN25_SAVE": "off",
    }
    assert "WAN25_BASE_URL" in told.stderr
    assert "WAN25_DATABASE_URL holds a secret" in told.stderr
    assert "hush" not in told.output + home.file("cursor").read_text()
