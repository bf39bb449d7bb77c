"""The commands `task` and `tasks`: their arguments and options."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import partial
from typing import Any, get_args

import click

from wan25_mcp.cli import options
from wan25_mcp.cli.running import fail, read_settings, run
from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.statuses import Status


class _Moment(click.types.StringParamType):
    """A moment in the past."""

    name = "TIME"

    def convert(
        self,
        value: Any,
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> Any:
        from wan25_mcp.cli.tasks import moment

        try:
            return value if isinstance(value, datetime) else moment(value)
        except (ValueError, OverflowError):
            wrong = f"{value!r} is neither like 30m, 2h, 3d or 2w nor like 2026-11-20."
            self.fail(wrong, param, ctx)


@click.command()
@click.argument("task_id")
@click.option("--wait", is_flag=True, help="Wait until it is done, and save the images.")
@click.option(
    "-o",
    "--output",
    metavar="PATH",
    type=options.FileName(),
    help="With --wait: where the results go, a folder or a file.",
)
@click.option(
    "--open",
    "open_it",
    is_flag=True,
    help="With --wait: open the results with the system's viewer.",
)
@options.emulator
@options.as_json
@options.output
def task(task_id: str, wait: bool, output: str | None, open_it: bool, emulator: bool) -> None:
    """Show an edit by its task id. Free."""
    from wan25_mcp.cli.destination import Destination
    from wan25_mcp.cli.tasks import show_task

    settings = read_settings(emulator=emulator)
    try:
        destination = Destination.of(output)
    except Wan25Error as error:
        fail(error)
    job = partial(show_task, settings, task_id, destination, wait=wait, open_it=open_it)
    sys.exit(run(job))


@click.command()
@click.option(
    "--limit",
    type=options.WholeNumber(1, 1000),
    default=20,
    show_default=True,
    help="Number of edits to list.",
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(get_args(Status)),
    metavar="STATUS",
    help=f"Only these: {', '.join(get_args(Status))}. May be repeated.",
)
@click.option("--since", type=_Moment(), help="Only those made since then: 2h, 3d, 2026-11-20.")
@options.emulator
@options.as_json
@options.output
def tasks(limit: int, statuses: tuple[Status, ...], since: datetime | None, emulator: bool) -> None:
    """List recent edits with their state and cost, newest first. Free, and works offline."""
    from wan25_mcp.cli.tasks import list_tasks

    run(partial(list_tasks, read_settings(emulator=emulator), limit, since, statuses))
