"""The commands `key set`, `key show` and `key remove`. No output holds the key."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from wan25_mcp.cli import options
from wan25_mcp.cli.running import FAILED, INTERRUPTED, fail, read_settings, run
from wan25_mcp.errors import SettingsError, Wan25Error

if TYPE_CHECKING:
    from pydantic import SecretStr

    from wan25_mcp.settings import Settings


@click.group()
def key() -> None:
    """Keep the API key on this machine, for every assistant and terminal of this user."""


@key.command("set")
@click.option("--force", is_flag=True, help="Keep the key even if the provider did not accept it.")
def set_key(force: bool) -> None:
    """Ask for the key without showing it (or read it from stdin), try it for free, and keep it.

    WAN25_API_KEY and WAN25_API_KEY_FILE take precedence over the kept key. It is used for the API
    that it was set for only.
    """
    settings = read_settings()
    if settings.emulator:
        fail(
            SettingsError(
                "WAN25_EMULATOR is set, and the key cannot be tried with an emulator.",
                fix="Unset WAN25_EMULATOR, then run it again.",
            )
        )
    given = _asked(settings)
    if given is None:
        sys.exit(INTERRUPTED)
    sys.exit(run(partial(_try_and_keep, given, force=force)))


def _asked(settings: Settings) -> Settings | None:
    """The settings with the key that was typed or piped; None for Ctrl-C."""
    from wan25_mcp.cli import logs

    try:
        key = _read_key(settings)
    except click.Abort:
        return None
    except SettingsError as error:
        fail(error)
    given = replace(settings, key=key, key_problem=None, key_source="")
    logs.configure(given.log_level, given.secrets)
    return given


def _read_key(settings: Settings) -> SecretStr:
    """
    Raises:
        click.Abort: Ctrl-C.
        SettingsError: What was given cannot be a key.
    """
    from wan25_mcp import setting_parsers as parse
    from wan25_mcp.provider.dashboard import dashboard_of

    fix = f"Copy the key from {dashboard_of(settings.base_url)}, then run it again."
    try:
        if sys.stdin.isatty():
            text = click.prompt("API key (not shown)", hide_input=True, err=True)
        else:
            text = sys.stdin.read(10_000)
        lines = text.split()
    except ValueError:  # not text
        lines = ["\0"]
    if not lines:
        raise SettingsError("No key was given.", fix=fix)
    try:
        return parse.secret(" ".join(lines))
    except parse.Wrong as wrong:
        raise SettingsError(f"This {wrong.problem}.", fix=fix) from None


async def _try_and_keep(settings: Settings, *, force: bool) -> int:
    """Returns the exit status."""
    from wan25_mcp.cli.console import say, show, show_error
    from wan25_mcp.keys import kept_key

    try:
        state = await _try(settings)
    except Wan25Error as error:
        show_error(error)
        if not force:
            say("The key was not kept. `wan25-mcp key set --force` keeps it anyway.")
            return FAILED
    else:
        show(f"The provider accepts the key: {state}.")
    assert settings.key is not None  # noqa: S101  it was asked for
    where = await anyio.to_thread.run_sync(kept_key.keep, settings.key, settings.base_url)
    show(f"Kept in {where}.")
    if before := _in_environment():
        say(f"{before} is set too, and takes precedence.")
    return 0


async def _try(settings: Settings) -> str:
    from wan25_mcp.cli.cost import credits_left
    from wan25_mcp.editing.connect import account_of, connect_as

    async with connect_as(settings)() as connector:
        report = await connector(account_of(settings)).client.credits()
    return credits_left(report)


def _in_environment() -> str | None:
    """The variable that takes precedence over a kept key."""
    names = ("WAN25_API_KEY", "WAN25_API_KEY_FILE")
    return next((name for name in names if os.environ.get(name, "").strip()), None)


@key.command()
@options.as_json
def show() -> None:
    """Show which key is used: its first and last characters, and where it comes from."""
    from wan25_mcp.cli import console
    from wan25_mcp.editing.connect import account_of, key_of

    settings = read_settings()
    if settings.emulator:
        console.show("None: with WAN25_EMULATOR, no key is used.")
        _show_json(None, "WAN25_EMULATOR")
        return
    try:
        found = key_of(account_of(settings), settings)
    except SettingsError as error:
        fail(error)
    masked = _masked(found.get_secret_value())
    console.show(f"{masked} ({settings.key_source})")
    _show_json(masked, settings.key_source)


def _show_json(masked: str | None, source: str) -> None:
    from wan25_mcp.cli.console import is_json, show_json

    if is_json():
        show_json({"key": masked, "source": source})


def _masked(key: str) -> str:
    """At most four characters at each end, and never more than a third of the key."""
    shown = min(4, len(key) // 6)
    return f"{key[:shown]}...{key[-shown:]}" if shown else "..."


@key.command()
def remove() -> None:
    """Delete the kept key from this machine. It stays valid at the provider."""
    from wan25_mcp.cli.console import say, show
    from wan25_mcp.keys import kept_key

    try:
        where = kept_key.remove()
    except SettingsError as error:
        fail(error)
    show(f"Removed from {where}." if where else "No key is kept.")
    if before := _in_environment():
        say(f"{before} is still set.")
