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

from wan25_mcp.cli.gallery import gallery
from wan25_mcp.cli.install.commands import install, uninstall
from wan25_mcp.cli.key import key
from wan25_mcp.cli.running import FAILED, INTERRUPTED, read_settings, run
from wan25_mcp.errors import SettingsError

if TYPE_CHECKING:
    from wan25_mcp.settings import Settings

Transport = Literal["stdio", "streamable-http", "sse"]
_HELP = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class _Path(click.Path):
    """click's path parameter, with values of type `Path`."""

    def __init__(self, **rules: Any) -> None:
        super().__init__(path_type=Path, **rules)


class _Command(click.Group):
    """The group of commands. Ctrl-C exits with 130 at any moment; click's default is 1."""

    def invoke(self, ctx: click.Context) -> Any:
        from wan25_mcp.cli.console import prepare_streams, wants_colour

        prepare_streams()
        ctx.color = wants_colour()
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(
    cls=_Command,
    commands={"gallery": gallery, "install": install, "key": key, "uninstall": uninstall},
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
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--emulator", is_flag=True, help="Use the built-in emulator: no key, no cost, no real edit."
)
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

    say("Waiting for MCP messages on stdin. An assistant starts this command automatically.")
    say("Try it here: wan25-mcp demo. Check your settings: wan25-mcp doctor. Stop: Ctrl-C.")


def _warn_of_unknown(settings: Settings) -> None:
    import logging

    from wan25_mcp.settings import nearest

    names = ((name, nearest(name)) for name in settings.unknown)
    names_shown = [f"{name} ({meant}?)" if meant else name for name, meant in names]
    if names_shown:
        logging.getLogger(__name__).warning("Unknown setting %s.", ", ".join(names_shown))


@main.command()
@click.argument("images", nargs=-1, metavar="[IMAGE]...", type=_Path(exists=True, dir_okay=False))
@click.option("--prompt", default="Replace the background with a starry sky", show_default=True,
              help="What to change, and what must stay the same.")  # fmt: skip
@click.option("--output", type=_Path(file_okay=False), help="Folder for the result.")
def demo(images: tuple[Path, ...], prompt: str, output: Path | None) -> None:
    """Edit a picture now, without a key: the emulator plays the provider.

    Starts the emulator and the MCP server on this machine and calls the server as an assistant
    does. IMAGE: one or two of your pictures. The default is a picture that comes with the program.
    """
    from wan25_mcp.cli.console import say

    say("The emulator plays the provider: no key, no cost. The result is a stand-in picture, not")
    say("an edit by the model.\n")
    from wan25_mcp.cli.demo import run_demo  # takes a second, so the lines above come first

    directory = output or read_settings().output_dir
    sys.exit(run(partial(run_demo, list(images), prompt, directory)))


@main.command()
@click.argument("images", nargs=-1, required=True, metavar="IMAGE [IMAGE2]")
@click.option("--prompt", required=True, help="What to change, and what must stay the same.")
@click.option(
    "-n", "count", type=int, default=1, show_default=True, help="Number of results, 1 to 4."
)
@click.option(
    "--force-new",
    is_flag=True,
    help="Start, and pay for, a new edit even if an identical one exists.",
)
@click.option("--output", type=_Path(file_okay=False), help="Folder for the results.")
@click.option("--yes", is_flag=True, help="Do not ask, even above WAN25_CONFIRM_CREDITS.")
def edit(
    images: tuple[str, ...],
    prompt: str,
    count: int,
    force_new: bool,
    output: Path | None,
    yes: bool,
) -> None:
    """Edit IMAGE (a file or a public link), wait, and save the results. Costs credits."""
    from wan25_mcp.cli.edit import edit_and_save

    settings = read_settings()
    given = {"prompt": prompt, "image_urls": list(images), "n": count}
    job = partial(edit_and_save, settings, given, output, force_new=force_new, yes=yes)
    sys.exit(run(job))


@main.command()
@click.argument("task_id")
@click.option("--wait", is_flag=True, help="Wait until it is done, and save the images.")
@click.option("--output", type=_Path(file_okay=False), help="Folder for the results.")
def task(task_id: str, wait: bool, output: Path | None) -> None:
    """Show an edit by its task id. Free."""
    from wan25_mcp.cli.edit import show_task

    settings = read_settings()
    directory = output or settings.output_dir
    sys.exit(run(partial(show_task, settings, task_id, directory, wait=wait)))


@main.command()
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True,
              help="Number of edits to list.")  # fmt: skip
def tasks(limit: int) -> None:
    """List recent edits with their state and cost, newest first. Free, and works offline."""
    from wan25_mcp.cli.edit import list_tasks

    run(partial(list_tasks, read_settings(), limit))


@main.command("credits")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_credits(as_json: bool) -> None:
    """Show the credits left, and what the last 24 hours and 30 days cost. Free."""
    from wan25_mcp.cli import cost

    sys.exit(run(partial(cost.show_credits, read_settings(), as_json=as_json)))


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=8100, show_default=True,
              help="Port to listen on; 0 picks a free one.")  # fmt: skip
@click.option("--speed", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True,
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


@main.command()
def doctor() -> None:
    """Check settings, folders, network and key, and say what to fix. Free."""
    sys.exit(run(partial(_check, read_settings())))


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


async def _check(settings: Settings) -> int:
    from wan25_mcp.cli.console import show
    from wan25_mcp.cli.doctor import run_checks

    counts = {"FAIL": 0, "WARN": 0}
    async for finding in run_checks(settings):
        show(f"{finding.verdict:<4} {finding.what}")
        if finding.verdict != "ok":
            show(f"     {finding.fix}")
            counts[finding.verdict] += 1
    problems = counts["FAIL"]
    found = f"{problems} problem{'' if problems == 1 else 's'} found"
    warned = f", {counts['WARN']} warning" if counts["WARN"] else ""
    show(f"{found if problems else 'All checks passed'}{warned}.")
    return FAILED if problems else 0
