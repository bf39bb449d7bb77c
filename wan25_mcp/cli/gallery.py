"""The command `gallery`: the edits of the journal in a browser on this machine."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from wan25_mcp.cli import options
from wan25_mcp.cli.running import read_settings, run

if TYPE_CHECKING:
    from wan25_mcp.settings import Settings


@click.command()
@click.option(
    "--port",
    type=options.WholeNumber(0, 65535),
    default=0,
    help="Port to listen on; 0, the default, picks a free one.",
)
@click.option("--open", "opens", is_flag=True, help="Open the page in your browser.")
@click.option("--emulator", is_flag=True, help="Show the edits made with the emulator.")
def gallery(port: int, opens: bool, emulator: bool) -> None:
    """Show your edits as a page: before and after, cost, what expires when. Free.

    Prints the page's address, for a browser on this machine. The page changes nothing, and loads
    nothing from elsewhere. Stop it with Ctrl-C.
    """
    sys.exit(run(partial(_serve, read_settings(emulator=emulator), port, opens=opens)))


async def _serve(settings: Settings, port: int, *, opens: bool) -> int:
    from wan25_mcp.cli.console import say, show
    from wan25_mcp.hosting.gallery import serve_gallery

    def announce(address: str) -> None:
        show(address)
        say("Whoever has this address can see your edits, from this machine. Stop: Ctrl-C.")
        if opens and click.launch(address) != 0:
            say("No browser could be opened: open the address yourself.")

    return await serve_gallery(settings, port=port, announce=announce)
