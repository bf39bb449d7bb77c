"""The commands `install` and `uninstall`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wan25_mcp.cli.install.client import Client
from wan25_mcp.cli.install.clients import BY_NAME, CLIENTS
from wan25_mcp.cli.install.places import Machine, this_system
from wan25_mcp.cli.install.texts import CannotEdit
from wan25_mcp.cli.running import FAILED, fail, read_settings

if TYPE_CHECKING:
    from wan25_mcp.cli.install.change import Change, Make

_CLIENT = click.Choice(list(BY_NAME))


@click.command()
@click.argument("clients", nargs=-1, type=_CLIENT, metavar="[CLIENT]...")
@click.option("--list", "lists", is_flag=True, help="List the clients that are known.")
@click.option("--json", "as_json", is_flag=True, help="With --list: print one JSON object.")
@click.option("--dry-run", is_flag=True, help="Show the change, and write nothing.")
@click.option("--emulator", is_flag=True, help="Use the built-in emulator: no key, no real edit.")
@click.option("--force", is_flag=True, help="Write the file even if the client is not found.")
def install(
    clients: tuple[str, ...],
    lists: bool,
    as_json: bool,
    dry_run: bool,
    emulator: bool,
    force: bool,
) -> None:
    """Add this server to CLIENT, an assistant on this machine.

    CLIENT: claude-desktop, claude-code, cursor, vscode, codex, gemini, windsurf, zed, cline,
    lmstudio, goose, opencode.

    What is configured there stays. A backup of the configuration is left beside it, and the API
    key is never written into it.
    """
    machine = _this_machine()
    if lists:
        _list(machine, as_json=as_json)
        return
    if not clients:
        raise click.UsageError("Name a CLIENT. `wan25-mcp install --list` lists them.")
    read_settings(emulator=emulator)  # an invalid one would be copied otherwise
    results = [
        _install(BY_NAME[name], machine, dry_run=dry_run, emulator=emulator, force=force)
        for name in dict.fromkeys(clients)
    ]
    sys.exit(0 if all(results) else FAILED)


@click.command()
@click.argument("clients", nargs=-1, type=_CLIENT, required=True, metavar="CLIENT...")
@click.option("--dry-run", is_flag=True, help="Show the change, and write nothing.")
def uninstall(clients: tuple[str, ...], dry_run: bool) -> None:
    """Remove this server from CLIENT. Edits, images and a kept key stay."""
    machine = _this_machine()
    results = [
        _uninstall(BY_NAME[name], machine, dry_run=dry_run) for name in dict.fromkeys(clients)
    ]
    sys.exit(0 if all(results) else FAILED)


def _this_machine() -> Machine:
    from wan25_mcp.errors import SettingsError

    try:
        return Machine(this_system(), Path.home(), os.environ)
    except RuntimeError:
        fail(SettingsError("This user has no home folder.", fix="Set HOME, then run it again."))


def _install(
    client: Client, machine: Machine, *, dry_run: bool, emulator: bool, force: bool
) -> bool:
    """Returns whether the server is in the client's configuration now."""
    from wan25_mcp.cli.console import say, show
    from wan25_mcp.cli.install import change, launch, plan

    if not force and not client.is_on(machine) and not _not_found(client, machine, dry_run=dry_run):
        return False
    path = client.path(machine)
    was_there = change.state(client, path) == "yes"
    made = plan.plan(client, launch.command(), os.environ, emulator=emulator)
    try:
        done, backup = _made(path, change.adding(made), dry_run=dry_run)
    except CannotEdit as problem:
        _failed(f"{path} {problem}. It was left as it is.", "Add this to it yourself:")
        show(change.snippet(made).rstrip())
        return False
    if done.is_none:
        show(f"wan25 is in {client.title} already: {path}")
    else:
        _show(done, backup, in_full=dry_run or was_there)
    is_new = not dry_run and not done.is_none
    if is_new:
        done_to = "Updated wan25 in" if was_there else "Added wan25 to"
        show(f"{done_to} {client.title}: {path}")
    show(f"It runs: {_as_typed(made.server.line)}")
    for note in (*made.notes, *([client.afterwards] if is_new else [])):
        say(note)
    return True


def _as_typed(line: tuple[str, ...]) -> str:
    return subprocess.list2cmdline(line) if os.name == "nt" else shlex.join(line)


def _uninstall(client: Client, machine: Machine, *, dry_run: bool) -> bool:
    """Returns whether the server is not in the client's configuration now."""
    from wan25_mcp.cli.console import show
    from wan25_mcp.cli.install import change

    path = client.path(machine)
    try:
        done, backup = _made(path, change.removing(client), dry_run=dry_run)
    except CannotEdit as problem:
        _failed(f"{path} {problem}. It was left as it is.", "Remove wan25 from it yourself.")
        return False
    if done.is_none:
        show(f"wan25 is not in {client.title}: {path}")
        return True
    _show(done, backup, in_full=dry_run)
    if not dry_run:
        show(f"Removed wan25 from {client.title}: {path}")
    return True


def _made(path: Path, make: Make, *, dry_run: bool) -> tuple[Change, Path | None]:
    """The change, written unless it is only to be shown, and the backup.

    Raises:
        CannotEdit: It cannot be made. Nothing was written.
    """
    from wan25_mcp.cli.install import change

    return (change.planned(path, make), None) if dry_run else change.written(path, make)


def _show(done: Change, backup: Path | None, *, in_full: bool) -> None:
    from wan25_mcp.cli.console import say, show

    for line in done.diff() if in_full else ():
        show(line)
    if backup is not None:
        say(f"Backup: {backup}")


def _not_found(client: Client, machine: Machine, *, dry_run: bool) -> bool:
    """Say that a client was not found. Returns whether its change is shown in any case."""
    from wan25_mcp.cli.console import say

    programs = f", and no command `{client.programs[0]}`" if client.programs else ""
    problem = f"{client.title} was not found: there is no {client.folder(machine)}{programs}."
    if dry_run:
        say(f"{problem} Without --dry-run, this change needs --force.")
        return True
    _failed(
        problem,
        f"Start {client.title} once, then run this again. Or add --force, which writes "
        f"{client.path(machine)} in any case.",
    )
    return False


def _failed(message: str, fix: str) -> None:
    from wan25_mcp.cli.console import show_error
    from wan25_mcp.errors import SettingsError

    show_error(SettingsError(message, fix=fix))


def _list(machine: Machine, *, as_json: bool) -> None:
    """Each client, whether it is on this machine, whether this server is in it, and the file."""
    from wan25_mcp.cli.console import is_narrow, show
    from wan25_mcp.cli.install.change import state

    places = [(client, client.path(machine)) for client in CLIENTS]
    rows = [
        (client.name, "yes" if client.is_on(machine) else "no", state(client, path), str(path))
        for client, path in places
    ]
    if as_json:
        names = ("client", "found", "wan25", "configuration")
        show(json.dumps({"clients": [dict(zip(names, row, strict=True)) for row in rows]}))
        return
    for name, found, inside, path in [("CLIENT", "FOUND", "WAN25", "CONFIGURATION"), *rows]:
        row = f"{name:<14}  {found:<5}  {inside:<10}"
        fits = not is_narrow(len(row) + len(path) + 2)
        show(f"{row}  {path}" if fits else f"{row.rstrip()}\n    {path}")
