"""How every command reads its settings, runs its job, and turns errors into exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, NoReturn

import anyio

from wan25_mcp.errors import SettingsError, Wan25Error

if TYPE_CHECKING:
    from wan25_mcp.settings import Settings

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


def read_settings(*, emulator: bool = False) -> Settings:
    """Read the settings of this process and its kept key, and set up logging from them.

    Args:
        emulator: Use the built-in emulator, if no other one is configured.
    """
    from wan25_mcp.cli import logs, options
    from wan25_mcp.keys import kept_key
    from wan25_mcp.settings import Settings

    try:
        settings = kept_key.completed(Settings.from_mapping(os.environ, emulator=emulator))
    except SettingsError as error:
        fail(error)
    level = options.log_level()
    logs.configure(level or settings.log_level, settings.secrets, own_only=level is not None)
    return settings


def run(job: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a job on the event loop. Errors of this package become messages and exit statuses."""
    try:
        return anyio.run(job)
    except Wan25Error as error:
        fail(error)
    except ExceptionGroup as group:
        inner = _only_error_in(group)
        if isinstance(inner, BrokenPipeError):  # nobody reads the results: click ends without words
            raise inner from None
        if not isinstance(inner, Wan25Error):
            raise
        fail(inner)


def _only_error_in(group: ExceptionGroup[Exception]) -> Exception | None:
    """The error that task groups have wrapped, if it is the only one."""
    if len(group.exceptions) > 1:
        return None
    inner = group.exceptions[0]
    if isinstance(inner, ExceptionGroup):
        return _only_error_in(inner)
    return inner


def fail(error: Wan25Error) -> NoReturn:
    """Show an error, and exit with its status."""
    from wan25_mcp.cli.console import is_json, show_error
    from wan25_mcp.errors import InvalidRequest

    if is_json():
        from wan25_mcp.cli.as_json import show_error_as_json

        show_error_as_json(error)
    else:
        show_error(error)
    sys.exit(WRONG_USE if isinstance(error, SettingsError | InvalidRequest) else FAILED)
