"""What the Tab key completes, and where the scripts for it are written."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import ShellComplete

from tests.cli.stage import invoke
from tests.systems import posix
from wan25_mcp.cli.main import main

SHELLS = ["bash", "zsh", "fish"]
PLACES = {
    "bash": ".local/share/bash-completion/completions/wan25-mcp",
    "zsh": ".zfunc/_wan25-mcp",
    "fish": ".config/fish/completions/wan25-mcp.fish",
}


def home(path: Path, shell: str = "/bin/bash") -> dict[str, str | None]:
    unset = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR", "BASH_COMPLETION_USER_DIR")
    return {"HOME": str(path), "SHELL": shell, **dict.fromkeys(unset)}


def completed(arguments: list[str], incomplete: str = "") -> list[tuple[str, str]]:
    """What is offered, each with its kind."""
    shell = ShellComplete(main, {}, "wan25-mcp", "_WAN25_MCP_COMPLETE")
    return [(one.value, one.type) for one in shell.get_completions(arguments, incomplete)]


def test_commands_options_choices_and_files_are_completed() -> None:
    assert ("edit", "plain") in completed([])
    assert completed([], "ta") == [("task", "plain"), ("tasks", "plain")]
    assert ("--each", "plain") in completed(["edit"], "--")
    assert completed(["edit"], "hou") == [("hou", "file")]
    assert completed(["edit", "house.jpg", "-o"], "ni") == [("ni", "file")]
    assert completed(["tasks", "--status"], "comp") == [("completed", "plain")]
    assert completed(["completion"], "") == [(shell, "plain") for shell in SHELLS]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed_and_installed_as_it_is(shell: str, tmp_path: Path) -> None:
    printed = invoke(home(tmp_path), "completion", shell)
    assert printed.exit_code == 0
    assert "_WAN25_MCP_COMPLETE" in printed.stdout
    assert list(tmp_path.iterdir()) == []
    for _ in range(2):  # once more changes nothing
        told = invoke(home(tmp_path), "completion", shell, "--install")
        assert told.exit_code == 0
        assert (tmp_path / PLACES[shell]).read_text() == printed.stdout
        assert str(tmp_path / PLACES[shell]) in told.stdout
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {PLACES[shell]} | ({".zshrc"} if shell == "zsh" else set())


def test_a_shells_own_file_is_only_added_to_once_and_never_silently(tmp_path: Path) -> None:
    start = tmp_path / ".zshrc"
    start.write_text("alias l=ls")
    first = invoke(home(tmp_path, "/usr/bin/zsh"), "completion", "--install")
    assert f"Added to {start}: " in first.stdout
    lines = start.read_text().splitlines()
    assert lines[0] == "alias l=ls"
    assert len(lines) == 2
    again = invoke(home(tmp_path, "/usr/bin/zsh"), "completion", "--install")
    assert "Added" not in again.stdout
    assert start.read_text().splitlines() == lines


@pytest.mark.parametrize("shell", ["/bin/tcsh", ""])
def test_another_shell_is_asked_for_by_name(shell: str, tmp_path: Path) -> None:
    told = invoke(home(tmp_path, shell), "completion")
    assert told.exit_code == 2
    assert "bash, zsh, fish" in told.stderr


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / ".local").touch()
    told = invoke(home(tmp_path), "completion", "bash", "--install")
    assert told.exit_code == 2
    assert "wan25-mcp completion bash > FILE" in told.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_reads_the_script(tmp_path: Path) -> None:
    invoke(home(tmp_path), "completion", "bash", "--install")
    script = tmp_path / PLACES["bash"]
    ran = subprocess.run(
        [shutil.which("bash") or "", "-c", f'source "{script}" && complete -p wan25-mcp'],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert "wan25-mcp" in ran.stdout


def test_a_shells_file_in_another_encoding_is_added_to_as_well(tmp_path: Path) -> None:
    start = tmp_path / ".zshrc"
    start.write_bytes(b"export CAF=caf\xe9")
    told = invoke(home(tmp_path), "completion", "zsh", "--install")
    assert told.exit_code == 0
    first, second, *rest = start.read_bytes().split(b"\n")
    assert (first, second[:6], rest) == (b"export CAF=caf\xe9", b"fpath=", [b""])


@posix
def test_a_pipe_in_place_of_a_shells_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".zshrc")
    told = invoke(home(tmp_path), "completion", "zsh", "--install")
    assert told.exit_code == 2
    assert "not an ordinary file" in told.stderr
