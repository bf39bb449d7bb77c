"""The command `completion`: what the Tab key completes in bash, zsh and fish.

click writes the scripts. They ask the command itself, so they stay right when it changes.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from wan25_mcp.cli.running import fail
from wan25_mcp.errors import SettingsError

SHELLS: Final = ("bash", "zsh", "fish")
_PROGRAM: Final = "wan25-mcp"
_VARIABLE: Final = "_WAN25_MCP_COMPLETE"
_MARK: Final = f"# {_PROGRAM} completion"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a shell finds a script.

    Args:
        script: The file of the script.
        start: The shell's own file that must name the folder, and its line for it.
        hint: What else must be there.
    """

    script: Path
    start: tuple[Path, str] | None = None
    hint: str = ""


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write the script to where the shell finds it.")
def completion(shell: str | None, install: bool) -> None:
    """Complete commands, options and files with the Tab key, in bash, zsh or fish.

    Prints the script for SHELL; without it, for the shell that you use.
    """
    from wan25_mcp.cli.console import show

    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise click.UsageError(f"Name your shell: {', '.join(SHELLS)}.")
    script = _script(chosen)
    if not install:
        show(script.rstrip())
        return
    try:
        _install(script, _place(chosen))
    except (OSError, RuntimeError) as error:
        reason = (getattr(error, "strerror", None) or "no home directory").lower()
        fail(
            SettingsError(
                f"The completion could not be installed ({reason}).",
                fix=f"Write it yourself: {_PROGRAM} completion {chosen} > FILE",
            )
        )


def _script(shell: str) -> str:
    from click.shell_completion import get_completion_class

    made = get_completion_class(shell)
    assert made is not None  # noqa: S101  click has all three
    complete = made(click.Command(_PROGRAM), {}, _PROGRAM, _VARIABLE)
    return (
        f"{_MARK}\n{complete.source_template % complete.source_vars()}"
        if shell != "zsh"
        else (complete.source_template % complete.source_vars())
    )


def _place(shell: str) -> _Place:
    """Raises RuntimeError where there is no home directory."""
    home = Path.home()
    if shell == "fish":
        config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
        return _Place(config / "fish" / "completions" / f"{_PROGRAM}.fish")
    if shell == "zsh":
        folder = home / ".zfunc"
        start = Path(os.environ.get("ZDOTDIR") or home) / ".zshrc"
        line = "fpath=(~/.zfunc $fpath); autoload -Uz compinit && compinit"
        return _Place(folder / f"_{_PROGRAM}", (start, f"{line}  {_MARK}"))
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    user = Path(os.environ.get("BASH_COMPLETION_USER_DIR") or data / "bash-completion")
    hint = "It needs the package bash-completion, which most systems have."
    return _Place(user / "completions" / _PROGRAM, hint=hint)


def _install(script: str, place: _Place) -> None:
    from wan25_mcp.cli.console import say, show

    place.script.parent.mkdir(parents=True, exist_ok=True)
    place.script.write_text(script, encoding="utf-8")
    show(f"Written: {place.script}")
    if place.start is not None:
        path, line = place.start
        if path.exists() and not path.is_file() and not path.is_dir():
            raise OSError(errno.EINVAL, "not an ordinary file")  # a pipe would be waited for
        before = path.read_bytes() if path.exists() else b""  # in any encoding
        if _MARK.encode() not in before:
            gap = "\n" if before and not before.endswith(b"\n") else ""
            with path.open("a", encoding="utf-8") as file:
                file.write(f"{gap}{line}\n")
            show(f"Added to {path}: {line}")
    if place.hint:
        say(place.hint)
    say("Open a new terminal to use it.")
