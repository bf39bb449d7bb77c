"""The commands `credits` and `doctor`, which tell about the account and the settings."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import click

from wan25_mcp.cli import options
from wan25_mcp.cli.running import FAILED, read_settings, run

_INDENT = len("FAIL ")

if TYPE_CHECKING:
    from wan25_mcp.cli.doctor import Finding
    from wan25_mcp.settings import Settings


@click.command("credits")
@options.emulator
@options.as_json
@options.output
def show_credits(emulator: bool) -> None:
    """Show the credits left, and what the last 24 hours and 30 days cost. Free."""
    from wan25_mcp.cli import cost

    sys.exit(run(partial(cost.show_credits, read_settings(emulator=emulator))))


@click.command()
@options.emulator
@options.as_json
@options.output
def doctor(emulator: bool) -> None:
    """Check settings, folders, network and key, and say what to fix. Free."""
    sys.exit(run(partial(_check, read_settings(emulator=emulator))))


async def _check(settings: Settings) -> int:
    from wan25_mcp.cli.console import is_json, show, show_json
    from wan25_mcp.cli.doctor import run_checks

    findings: list[Finding] = []
    async for finding in run_checks(settings):
        findings.append(finding)
        _show(finding)
    verdicts = [finding.verdict for finding in findings]
    problems, warnings = verdicts.count("FAIL"), verdicts.count("WARN")
    if is_json():
        found = [{"verdict": f.verdict, "what": f.what, "fix": f.fix} for f in findings]
        show_json({"checks": found, "problems": problems, "warnings": warnings})
        return FAILED if problems else 0
    found_in_words = f"{problems} problem{'' if problems == 1 else 's'} found"
    warned = f", {warnings} warning{'' if warnings == 1 else 's'}" if warnings else ""
    show(f"{found_in_words if problems else 'All checks passed'}{warned}.")
    return FAILED if problems else 0


def _show(finding: Finding) -> None:
    from wan25_mcp.cli.console import show, wrapped
    from wan25_mcp.cli.wording import at_terminal

    show(wrapped(f"{finding.verdict:<4} {at_terminal(finding.what)}", sys.stdout, _INDENT))
    if finding.fix:
        fix = " " * _INDENT + at_terminal(finding.fix)
        show(wrapped(fix, sys.stdout, _INDENT))
