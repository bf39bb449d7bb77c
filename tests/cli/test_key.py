"""The kept key: set, used, shown and removed, never printed, and safe from other users."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from tests.cli.stage import Environ, Playing, at_terminal, playing
from tests.stage import environment, names_in, run, started
from tests.systems import posix
from wan25_mcp.cli.main import main

KEY = "sk-live-SECRET0123456789-WXYZ"
OTHER = "sk-live-ANOTHER0123456789-ABCD"
MASKED = "sk-l...WXYZ"


@pytest.fixture(scope="module")
def strict() -> Iterator[Playing]:
    """An emulator that accepts one key only."""
    with playing(key=KEY, balance=100.0) as one:
        yield one


@dataclass
class Person:
    """A user of this machine with a configuration folder, and the provider."""

    environ: Environ
    config: Path
    played: Playing

    @property
    def folder(self) -> Path:
        return self.config / "wan25-mcp"

    @property
    def file(self) -> Path:
        return self.folder / "key.json"

    @property
    def values(self) -> dict[str, str]:
        """For a real process."""
        return environment(**{name: value for name, value in self.environ.items() if value})

    def run(self, *arguments: str, piped: str = "", **values: str) -> Result:
        """Run a command in this process. No output holds the key."""
        result = CliRunner().invoke(main, arguments, input=piped, env={**self.environ, **values})
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert not any(key in result.output for key in (KEY, OTHER))
        return result

    def kept(self) -> str:
        return str(json.loads(self.file.read_text())["key"])


@pytest.fixture
def person(strict: Playing, environ: Environ, tmp_path: Path) -> Person:
    strict.emulator.faults.clear()
    config = tmp_path / "config"
    config.mkdir()
    mine = {"XDG_CONFIG_HOME": str(config), "WAN25_BASE_URL": strict.emulator.base_url}
    return Person({**environ, **mine}, config, strict)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- set, show, remove -----------------------------------------------------------------------


@posix
def test_a_key_from_stdin_is_tried_kept_shown_and_removed(person: Person) -> None:
    told = person.run("key", "set", piped=f"  {KEY}\n")
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout.splitlines() == [
        "The provider accepts the key: 100 credits are left.",
        f"Kept in the file {person.file}.",
    ]
    assert (person.kept(), mode(person.file), mode(person.folder)) == (KEY, 0o600, 0o700)
    shown = person.run("key", "show")
    assert (shown.exit_code, shown.stdout) == (0, f"{MASKED} (kept in {person.file})\n")
    assert f"An API key is set (kept in {person.file})" in person.run("doctor").stdout
    removed = person.run("key", "remove")
    assert (removed.exit_code, names_in(person.folder)) == (0, [])
    assert person.run("key", "remove").stdout == "No key is kept.\n"
    assert person.run("key", "show").exit_code == 2
    assert person.played.emulator.submits == []


def test_a_key_is_asked_for_at_a_terminal_without_echo(person: Person) -> None:
    with at_terminal(["key", "set"], person.environ) as terminal:
        terminal.until(lambda text: "API key" in text)
        terminal.type(f"{KEY}\n")
        assert terminal.process.wait(timeout=20) == 0
        told = terminal.until(lambda text: "Kept in" in text)
    assert KEY not in told
    assert person.kept() == KEY


def test_ctrl_c_at_the_question_keeps_nothing(person: Person) -> None:
    with at_terminal(["key", "set"], person.environ) as terminal:
        terminal.until(lambda text: "API key" in text)
        assert terminal.interrupt() == 130
        assert "Traceback" not in terminal.text
    assert not person.folder.exists()


@pytest.mark.parametrize("piped", ["", " \n", "two words", "café-key", "${KEY}", "k" * 5000, "\0"])
def test_what_cannot_be_a_key_is_refused_before_it_is_tried(piped: str, person: Person) -> None:
    told = person.run("key", "set", piped=piped)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "To do: " in told.stderr
    assert not person.folder.exists()


def test_a_refused_key_is_kept_with_force_only(person: Person) -> None:
    told = person.run("key", "set", piped=OTHER)
    assert (told.exit_code, told.stdout) == (1, "")
    assert "did not accept the API key" in told.stderr
    assert "not kept" in told.stderr
    assert not person.folder.exists()
    assert person.run("key", "set", "--force", piped=OTHER).exit_code == 0
    assert person.kept() == OTHER


def test_a_key_that_could_not_be_tried_leaves_the_earlier_one(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    person.played.ask("fault", endpoint="credits", kind="status", code=503)
    assert person.run("key", "set", piped=OTHER).exit_code == 1
    assert person.kept() == KEY


def test_a_provider_that_quotes_the_key_does_not_get_it_printed(person: Person) -> None:
    body = json.dumps({"error": {"message": f"Invalid key {KEY}", "type": "authentication_error"}})
    person.played.ask("fault", endpoint="credits", kind="status", code=401, body=body)
    told = person.run("key", "set", piped=KEY, WAN25_LOG_LEVEL="DEBUG")
    assert told.exit_code == 1
    assert "Invalid key ***" in told.stderr


@pytest.mark.parametrize("key", ["abc", "abcdefghijkl", KEY])
def test_a_short_key_is_masked_more(key: str, person: Person) -> None:
    shown = person.run("key", "show", WAN25_API_KEY=key).stdout
    assert shown.endswith("... (WAN25_API_KEY)\n" if key == "abc" else "(WAN25_API_KEY)\n")
    assert len(shown.split(" ", maxsplit=1)[0].replace("...", "")) <= len(key) // 3


# --- which key is used -----------------------------------------------------------------------


def test_the_environment_comes_first_then_its_file_then_the_kept_key(
    person: Person, tmp_path: Path
) -> None:
    person.run("key", "set", piped=KEY)
    (tmp_path / "file").write_text("key-of-a-file-0123456789")
    values = {"WAN25_API_KEY_FILE": str(tmp_path / "file")}
    assert "(WAN25_API_KEY_FILE)" in person.run("key", "show", **values).stdout
    values["WAN25_API_KEY"] = "key-of-the-environment"
    assert "(WAN25_API_KEY)" in person.run("key", "show", **values).stdout
    told = person.run("key", "set", piped=KEY, **values)
    assert "WAN25_API_KEY is set too" in told.stderr


def test_an_unusable_key_in_the_environment_is_not_replaced_by_the_kept_one(
    person: Person,
) -> None:
    person.run("key", "set", piped=KEY)
    told = person.run("key", "show", WAN25_API_KEY="${user_config.api_key}")
    assert told.exit_code == 2
    assert "placeholder" in told.stderr


def test_the_kept_key_is_not_used_for_another_api(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    with playing(key=None) as thief:
        told = person.run("task", "task-1", WAN25_BASE_URL=thief.emulator.base_url)
        assert thief.emulator.reads == []
    assert told.exit_code == 2
    assert "kept key is for" in told.stderr


@posix
def test_with_an_emulator_no_kept_key_is_read_or_set(person: Person) -> None:
    person.folder.mkdir(mode=0o777)
    person.folder.chmod(0o777)  # reading would complain
    values = {"WAN25_EMULATOR": person.played.emulator.base_url}
    assert "no key is used" in person.run("key", "show", **values).stdout
    told = person.run("key", "set", piped=KEY, **values)
    assert (told.exit_code, list(person.folder.iterdir())) == (2, [])


def test_key_set_from_a_pipe_then_an_edit_without_a_key_in_the_environment(
    person: Person,
) -> None:
    told = run(["key", "set"], person.values, stdin=f"{KEY}\n".encode())
    assert told.returncode == 0, told.stderr
    link = person.played.ask("sample_image_url")
    made = run(["edit", link, "--prompt", "Make it night"], person.values, seconds=40)
    assert made.returncode == 0, made.stderr
    written = told.stdout + told.stderr + made.stdout + made.stderr
    assert KEY.encode() not in written
    assert b"Charged: yes" in made.stdout


def test_a_server_that_a_host_starts_uses_the_kept_key(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    before = len(person.played.emulator.reads)
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "t", "version": "1"},
        },
    }
    call = {"name": "get_task", "arguments": {"task_id": "task-unified-1-none"}}
    messages = [
        hello,
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
    ]
    kept = {"HOME", "PATH", "XDG_CONFIG_HOME", "XDG_DATA_HOME"}
    bare = {name: value for name, value in person.values.items() if name in kept}
    bare["WAN25_BASE_URL"] = person.played.emulator.base_url
    with started([], bare) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("".join(json.dumps(each) + "\n" for each in messages).encode())
        process.stdin.flush()
        answers = [json.loads(process.stdout.readline()) for _ in range(2)]
    error = answers[1]["result"]["structuredContent"]["error"]
    assert error["code"] == "not_found"  # the provider's answer, with a key
    assert len(person.played.emulator.reads) > before


# --- a folder that is not private, or cannot be written --------------------------------------


@posix
def test_a_folder_that_others_may_use_is_refused(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    person.folder.chmod(0o750)
    told = person.run("key", "set", piped=KEY)
    assert told.exit_code == 2
    assert f"chmod 700 '{person.folder}'" in told.stderr
    used = person.run("key", "show")
    assert used.exit_code == 2
    assert "other users may use" in used.stderr


@posix
def test_a_key_that_others_may_read_is_not_used(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    person.file.chmod(0o644)
    told = person.run("task", "task-1")
    assert told.exit_code == 2
    assert str(person.file) in told.stderr
    assert "key set" in told.stderr
    assert person.run("key", "set", piped=KEY).exit_code == 0  # a new file takes its place
    assert mode(person.file) == 0o600


@posix
def test_no_link_is_followed(person: Person, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    person.folder.symlink_to(elsewhere)
    assert person.run("key", "set", piped=KEY).exit_code == 2
    assert list(elsewhere.iterdir()) == []
    person.folder.unlink()

    victim = tmp_path / "victim"
    victim.write_text("as it was")
    person.folder.mkdir(mode=0o700)
    person.file.symlink_to(victim)
    assert person.run("key", "show").exit_code == 2
    assert person.run("key", "set", piped=KEY).exit_code == 0
    assert (victim.read_text(), person.file.is_symlink()) == ("as it was", False)


@posix
@pytest.mark.parametrize("kind", ["folder", "fifo", "nonsense", "list", "another user's"])
def test_what_is_no_kept_key_is_a_sentence(kind: str, person: Person) -> None:
    person.folder.mkdir(mode=0o700)
    if kind == "folder":
        person.file.mkdir()
    elif kind == "fifo":
        os.mkfifo(person.file, 0o600)
    elif kind == "another user's":
        if os.geteuid() != 0:
            pytest.skip("only root may give a file away")
        person.file.touch(mode=0o600)
        os.chown(person.file, 12345, 12345)
    else:
        person.file.touch(mode=0o600)
        person.file.write_text("[]" if kind == "list" else f"{KEY}")
    told = person.run("key", "show")
    assert told.exit_code == 2
    assert str(person.file) in told.stderr


@posix
def test_a_folder_that_cannot_be_made_is_a_sentence(person: Person) -> None:
    person.folder.write_text("in the way")
    told = person.run("key", "set", piped=KEY)
    assert told.exit_code == 2
    assert "cannot be kept" in told.stderr
    assert "WAN25_API_KEY_FILE" in told.stderr
    read_only = person.run("key", "set", piped=KEY, XDG_CONFIG_HOME="/proc/nowhere")
    assert read_only.exit_code == 2
    assert "cannot be kept" in read_only.stderr


def test_a_full_disk_leaves_the_earlier_key_and_nothing_else(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    command = f"ulimit -f 0; exec {sys.executable} -m wan25_mcp key set --force"
    full = subprocess.run(
        ["/bin/sh", "-c", command],
        env=person.values | {"PYTHONDONTWRITEBYTECODE": "1"},
        input=OTHER.encode(),
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert full.returncode == 2, full.stderr
    assert b"cannot be kept" in full.stderr
    assert b"Traceback" not in full.stderr
    assert (person.kept(), names_in(person.folder)) == (KEY, ["key.json"])


def test_two_processes_that_set_a_key_at_once_leave_one_whole_key(person: Person) -> None:
    keys = [f"sk-live-{number}-{'x' * 3000}" for number in range(4)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(started(["key", "set", "--force"], person.values)) for _ in keys
        ]
        for process, key in zip(processes, keys, strict=True):
            assert process.stdin is not None
            process.stdin.write(key.encode())
            process.stdin.close()
        deadline = time.monotonic() + 40
        for process in processes:
            assert process.wait(timeout=deadline - time.monotonic()) == 0
    assert person.kept() in keys
    assert names_in(person.folder) == ["key.json"]


@posix
def test_a_killed_process_leaves_no_half_a_key(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    with started(["key", "set", "--force"], person.values) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
    assert person.kept() == KEY


def test_what_a_missing_key_needs_is_a_whole_link(person: Person) -> None:
    command = ["edit", "https://a.example/b.png", "--prompt", "p"]
    told = person.run(*command, WAN25_BASE_URL="https://ai.odkkk.com/apiv1")
    assert told.exit_code == 2
    assert "https://ai.odkkk.com/dashboard/keys" in told.stderr
    assert "wan25-mcp key set" in told.stderr
    other = person.run(*command)
    assert person.played.emulator.base_url.removesuffix("/apiv1") in other.stderr
    assert "dashboard" not in other.stderr


@posix
def test_a_refused_key_is_named_by_where_it_comes_from(person: Person) -> None:
    person.run("key", "set", piped=KEY)
    link = person.played.ask("sample_image_url")
    assert person.run("edit", link, "p").exit_code == 0
    for command in (["tasks"], ["credits"], ["edit", link, "p"]):
        told = person.run(*command, WAN25_API_KEY=OTHER)
        assert told.exit_code == 1
        words = " ".join(told.stderr.split())
        assert "did not accept the API key from WAN25_API_KEY (HTTP 401)" in words
        assert "precedence" in words
    person.run("key", "set", "--force", piped=OTHER)
    kept = person.run("credits")
    assert "WAN25_API_KEY" not in kept.stderr.partition("To do:")[0]
    assert "wan25-mcp key set" in kept.stderr


# --- the system's keyring ----------------------------------------------------------------------


BACKEND = """
import json, os, pathlib
from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError

PLACE = pathlib.Path(os.environ["TEST_KEYRING"])

class Plain(KeyringBackend):
    priority = 1

    def _all(self):
        return json.loads(PLACE.read_text()) if PLACE.exists() else {}

    def set_password(self, service, username, password):
        PLACE.write_text(json.dumps(self._all() | {f"{service} {username}": password}))

    def get_password(self, service, username):
        return self._all().get(f"{service} {username}")

    def delete_password(self, service, username):
        PLACE.write_text("{}")

class Broken(Plain):
    def set_password(self, service, username, password):
        raise RuntimeError(f"cannot keep {password}")

class Forgetful(Plain):
    def set_password(self, service, username, password):
        pass
"""


def with_keyring(person: Person, folder: Path, kind: str) -> dict[str, str]:
    """The environment of a process whose keyring is of this kind."""
    (folder / "backend_for_tests.py").write_text(BACKEND)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    keyring = {"PYTHON_KEYRING_BACKEND": kind, "TEST_KEYRING": str(folder / "keyring.json")}
    return {**person.values, **keyring, "PYTHONPATH": path}


def test_a_keyring_that_works_has_the_key_and_the_file_says_so(
    person: Person, tmp_path: Path
) -> None:
    values = with_keyring(person, tmp_path, "backend_for_tests.Plain")
    told = run(["key", "set"], values, stdin=KEY.encode())
    assert told.returncode == 0, told.stderr
    assert b"Kept in the system's keyring." in told.stdout
    assert KEY not in person.file.read_text()
    shown = run(["key", "show"], values)
    assert shown.stdout.decode() == f"{MASKED} (kept in the system's keyring)\n"
    assert run(["credits"], values).returncode == 0
    (tmp_path / "keyring.json").rename(tmp_path / "away.json")
    lost = run(["key", "show"], values)
    assert (lost.returncode, b"keyring" in lost.stderr) == (2, True)
    (tmp_path / "away.json").rename(tmp_path / "keyring.json")
    assert run(["key", "remove"], values).returncode == 0
    assert (tmp_path / "keyring.json").read_text() == "{}"
    assert names_in(person.folder) == []


@pytest.mark.parametrize(
    "kind",
    [
        "backend_for_tests.Broken",
        "backend_for_tests.Forgetful",
        "keyring.backends.fail.Keyring",
        pytest.param("keyring.backends.null.Keyring", marks=pytest.mark.thorough),
        pytest.param("no.such.backend", marks=pytest.mark.thorough),
    ],
)
def test_without_a_keyring_that_works_the_key_is_in_the_file(
    kind: str, person: Person, tmp_path: Path
) -> None:
    told = run(["key", "set"], with_keyring(person, tmp_path, kind), stdin=KEY.encode())
    assert told.returncode == 0, told.stderr
    assert f"Kept in the file {person.file}.".encode() in told.stdout
    assert person.kept() == KEY
    assert KEY.encode() not in told.stdout + told.stderr
