"""The command `edit`: its arguments and options."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from wan25_mcp.cli import options
from wan25_mcp.cli.running import fail, read_settings, run
from wan25_mcp.errors import InvalidRequest, Wan25Error

if TYPE_CHECKING:
    from wan25_mcp.settings import Settings


@click.command()
@click.argument("words", nargs=-1, metavar="IMAGE [IMAGE2] [PROMPT]", type=options.FileName())
@click.option(
    "-p",
    "--prompt",
    metavar="TEXT",
    help="What to change, and what must stay the same; @FILE reads it from a file.",
)
@click.option(
    "-n",
    "count",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Number of results, 1 to 4.",
)
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=options.FileName(),
    help="Where the results go: a folder, or a file that ends in .png, .jpg or .webp.",
)
@click.option(
    "--each",
    is_flag=True,
    help="Edit every IMAGE on its own. A folder stands for the images in it.",
)
@click.option(
    "--jobs",
    type=options.WholeNumber(1, 50),
    default=4,
    show_default=True,
    metavar="N",
    help="With --each: how many edits run at the same time.",
)
@click.option(
    "--force-new",
    is_flag=True,
    help="Start, and pay for, a new edit even if an identical one exists.",
)
@click.option("--yes", is_flag=True, help="Do not ask, even above WAN25_CONFIRM_CREDITS.")
@click.option("--open", "open_it", is_flag=True, help="Open the results with the system's viewer.")
@options.emulator
@options.as_json
@options.output
def edit(
    words: tuple[str, ...],
    prompt: str | None,
    each: bool,
    jobs: int,
    emulator: bool,
    **chosen: Any,
) -> None:
    """Edit an image, or combine two, wait, and save the results. Costs credits.

    IMAGE is a file, a public link, or - for stdin. PROMPT says what to change, and what must stay
    the same.

    \b
    wan25-mcp edit house.jpg "Make it night"
    wan25-mcp edit house.jpg "Make it night" -o night.png
    wan25-mcp edit --each *.jpg -p "Make it night"
    """
    settings = read_settings(emulator=emulator)
    try:
        _check_jobs(each=each)
        sys.exit(_edit(settings, words, prompt, jobs if each else None, chosen))
    except Wan25Error as error:
        fail(error)


def _check_jobs(*, each: bool) -> None:
    is_default = click.get_current_context().get_parameter_source("jobs") is ParameterSource.DEFAULT
    if not each and not is_default:
        raise InvalidRequest("--jobs needs --each.", fix="Add --each, or leave out --jobs.")


def _edit(
    settings: Settings,
    words: Sequence[str],
    prompt: str | None,
    jobs: int | None,
    chosen: Mapping[str, Any],
) -> int:
    """Returns the exit status.

    Args:
        jobs: How many run at the same time, if each image is edited on its own.
    """
    from wan25_mcp.cli import given

    found = given.read(words, prompt, each=jobs is not None)
    with given.stdin_as_file(found.images) as images:
        from wan25_mcp.cli.batch import edit_each
        from wan25_mcp.cli.edit import Wish, edit_and_save

        wish = Wish.of(images, found.prompt, **chosen)
        if jobs is not None:
            return int(run(partial(edit_each, settings, wish, jobs)))
        return int(run(partial(edit_and_save, settings, wish)))
