"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_LEVELS: Final = (None, "INFO", "DEBUG")


class PathType(click.Path):
    """click's path parameter, with values of type `Path`."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(path_type=Path, **rules)


class FileName(click.types.StringParamType):
    """Text that is completed as the name of a file."""

    name = "text"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002  as click calls it
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class _InWords:
    """A range that is shown as "1 to 50"."""

    def _describe_range(self) -> str:  # click's own has the form 1<=x<=50
        limits: Any = self
        return f"{limits.min:g} to {limits.max:g}"


class WholeNumber(_InWords, click.IntRange):
    """A whole number within limits."""


class Number(_InWords, click.FloatRange):
    """A number within limits."""


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Keep the value for as long as the command runs; `console` reads it."""
    context.meta[f"wan25_mcp.{parameter.name}"] = value


def output(command: Decorated) -> Decorated:
    """`-q` and `-v`: how much is written to stderr."""
    quiet = click.option(
        "-q",
        "--quiet",
        "quiet",
        is_flag=True,
        expose_value=False,
        callback=_remember,
        help="Write results and errors only.",
    )
    verbose = click.option(
        "-v",
        "--verbose",
        "verbose",
        count=True,
        expose_value=False,
        callback=_remember,
        help="Log what is done to stderr; -vv logs more.",
    )
    return quiet(verbose(command))


as_json: Final = click.option(
    "--json",
    "json",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_remember,
    help="Print one JSON object.",
)

emulator: Final = click.option(
    "--emulator", is_flag=True, help="Use the built-in emulator: no key, no cost, no real edit."
)


def log_level() -> str | None:
    """The level that `-v` asks for; None without it."""
    context = click.get_current_context(silent=True)
    count = context.meta.get("wan25_mcp.verbose", 0) if context else 0
    return _LEVELS[min(count, len(_LEVELS) - 1)]
