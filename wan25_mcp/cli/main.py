"""The command `wan25-mcp`: its options, its settings and its exit statuses.

Exit statuses: 0 success, 1 the edit or a check failed, 2 wrong usage or settings, 130 interrupted.
Heavy modules are imported only by the commands that need them.
"""

from __future__ import annotations

import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import click

from wan25_mcp.cli import options
from wan25_mcp.cli.account_commands import doctor, show_credits
from wan25_mcp.cli.completion import completion
from wan25_mcp.cli.edit_command import edit
from wan25_mcp.cli.gallery import gallery
from wan25_mcp.cli.install.commands import install, uninstall
from wan25_mcp.cli.key import key
from wan25_mcp.cli.options import PathType
from wan25_mcp.cli.running import INTERRUPTED, WRONG_USE, read_settings, run
from wan25_mcp.cli.task_commands import task, tasks
from wan25_mcp.errors import SettingsError

if TYPE_CHECKING:
    from wan25_mcp.settings import Settings

Transport = Literal["stdio", "streamable-http", "sse"]
_ASKS_JSON = "wan25_mcp.asks_json"
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Command(click.Group):
    """The group of commands. Ctrl-C exits with 130 at any moment; click's default is 1."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # Wrong usage is noticed before the options of the command are read.
        ctx.meta[_ASKS_JSON] = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            _show_wrong_use(error, ctx)
            ctx.exit(WRONG_USE)

    def invoke(self, ctx: click.Context) -> Any:
        from wan25_mcp.cli.console import prepare_streams, wants_colour

        prepare_streams()
        ctx.color = wants_colour()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)
        except click.UsageError as error:
            _show_wrong_use(error, ctx)
            ctx.exit(WRONG_USE)


def _show_wrong_use(error: click.UsageError, ctx: click.Context) -> None:
    from wan25_mcp.errors import InvalidRequest

    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        raise error  # which shows the help
    used = (error.ctx or ctx).command_path
    wrong = InvalidRequest(error.format_message(), fix=f"`{used} --help` shows how it is used.")
    if ctx.meta[_ASKS_JSON]:
        from wan25_mcp.cli.as_json import show_error_as_json

        show_error_as_json(wrong, ctx.invoked_subcommand)
    else:
        from wan25_mcp.cli.console import show_error

        show_error(wrong)


@click.group(
    cls=_Command,
    commands={
        "edit": edit,
        "task": task,
        "tasks": tasks,
        "credits": show_credits,
        "key": key,
        "doctor": doctor,
        "gallery": gallery,
        "install": install,
        "uninstall": uninstall,
        "completion": completion,
    },
    invoke_without_command=True,
    context_settings=_HELP,
)
@click.version_option(version("wan25-mcp"), prog_name="wan25-mcp")
@click.pass_context
def main(context: click.Context) -> None:
    """Edit images with wan2.5-image-to-image, from an AI assistant or from this terminal.

    Without a command, serves MCP over stdio, as assistants start it.

    \b
    Try it without a key:   wan25-mcp demo
    Add it to an assistant: wan25-mcp install CLIENT
    Check your settings:    wan25-mcp doctor
    """
    if context.invoked_subcommand is None:
        context.invoke(serve)


@main.command()
@click.option(
    "--transport",
    type=click.Choice(get_args(Transport)),
    default="stdio",
    show_default=True,
    help="How assistants connect. The MCP specification deprecates sse.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=options.WholeNumber(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@options.emulator
def serve(transport: Transport, host: str, port: int, emulator: bool) -> None:
    """Serve MCP over stdin and stdout, at /mcp (streamable-http) or at /sse (sse).

    Listening beyond this machine requires WAN25_SERVER_TOKEN.
    """
    settings = read_settings(emulator=emulator)
    _warn_of_unknown(settings)
    if transport == "stdio":
        from wan25_mcp.server.stdio import serve_stdio

        if sys.stdin.isatty():
            _explain_stdio()
        run(partial(serve_stdio, settings))
        return
    from wan25_mcp.hosting import serve_http

    sys.exit(run(partial(serve_http, settings, transport, host=host, port=port)))


def _explain_stdio() -> None:
    from wan25_mcp.cli.console import say

    say("Waiting for MCP messages on stdin. Assistants start this command themselves.")
    say("Try it here: wan25-mcp demo. Check settings: wan25-mcp doctor. Stop: Ctrl-C.")


def _warn_of_unknown(settings: Settings) -> None:
    import logging

    from wan25_mcp.settings import nearest

    names = ((name, nearest(name)) for name in settings.unknown)
    names_shown = [f"{name} ({meant}?)" if meant else name for name, meant in names]
    if names_shown:
        logging.getLogger(__name__).warning("Unknown setting %s.", ", ".join(names_shown))


@main.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=PathType())
@click.option(
    "-p", "--prompt", default="Replace the background with a starry sky", show_default=True,
    help="What to change, and what must stay the same.",
)  # fmt: skip
@click.option("-o", "--output", type=PathType(file_okay=False), help="Folder for the result.")
@options.as_json
def demo(images: tuple[Path, ...], prompt: str, output: Path | None) -> None:
    """Edit a picture now, without a key: the emulator plays the provider.

    Starts the emulator and the MCP server on this machine and calls the server as an assistant
    does. IMAGE: one or two of your pictures. The default is a picture that comes with the program.
    """
    from wan25_mcp.cli.console import say

    say(
        "The emulator plays the provider: no key, no cost. The result is a stand-in picture, not "
        "an edit by the model."
    )
    say("")
    from wan25_mcp.cli.demo import run_demo  # takes a second, so the lines above come first

    directory = output or read_settings().output_dir
    sys.exit(run(partial(run_demo, list(images), prompt, directory)))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=options.WholeNumber(0, 65535), default=8100, show_default=True,
              help="Port to listen on; 0 picks a free one.")  # fmt: skip
@click.option("--speed", type=options.Number(0.01, 1000), default=1.0, show_default=True,
              help="How many times faster than the real model.")  # fmt: skip
@click.option("--allow-loopback", is_flag=True,
              help="Allow callbacks to, and images from, this machine, which the real API "
              "refuses.")  # fmt: skip
def emulator(host: str, port: int, speed: float, allow_loopback: bool) -> None:
    """Run the emulator of the provider's API on its own.

    Prints its base URL. Set WAN25_EMULATOR to it.
    """
    job = partial(_serve_emulator, host, port, speed=speed, allow_loopback=allow_loopback)
    sys.exit(run(job))


async def _serve_emulator(host: str, port: int, *, speed: float, allow_loopback: bool) -> int:
    import signal

    from wan25_mcp.cli.console import say, show
    from wan25_mcp.emulator import Emulator, EmulatorOptions
    from wan25_mcp.server.signals import stop_signals

    emulator = Emulator(EmulatorOptions(key=None, speed=speed, allow_loopback=allow_loopback))
    try:
        async with emulator.serving(host, port):
            with stop_signals() as signals:
                show(emulator.base_url)
                say(f"The emulator accepts any key. Use it: WAN25_EMULATOR={emulator.base_url}")
                async for number in signals:
                    return INTERRUPTED if number == signal.SIGINT else 0
    except OSError as error:
        raise SettingsError(
            f"Cannot listen on {host} port {port} ({(error.strerror or 'unknown').lower()}).",
            fix="Choose another --port (0 picks a free one) or --host.",
        ) from None
    return 0
