"""What edits cost and what the account has left, for a person at a terminal."""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from dataclasses import replace
from typing import Final

import anyio
import click

from wan25_mcp.cli.as_json import error_as_json, show_error_as_json
from wan25_mcp.cli.console import is_json, say, show, show_error, show_json
from wan25_mcp.cli.running import FAILED, INTERRUPTED
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.edit import Edit, Price
from wan25_mcp.errors import InvalidRequest, Wan25Error
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import JournalUnusable, Spent
from wan25_mcp.provider.models import CreditReport, Usage
from wan25_mcp.settings import Settings

BALANCE_SECONDS: Final = 1.0
"""Time that the provider has to report the balance before an edit, which does not need it."""

_DECLINED: Final = Wan25Error(
    "The price was not agreed to, so nothing was sent.",
    code="never_sent",
    fix="Run it again and answer y, or add --yes.",
    retryable=False,
)
_DAY: Final = 24 * 3600.0


async def may_spend(
    editor: AccountEditor,
    edit_input: EditInput,
    settings: Settings,
    *,
    yes: bool,
    edits: int | None = None,
    note: str = "",
) -> int | None:
    """Say what an edit costs, and ask if it costs much. None: go on, or else the exit status.

    Args:
        edits: How many of it are made; None: it is one alone.
        note: What else is to be known about them.

    Raises:
        InvalidRequest: Nobody can be asked.
    """
    found: list[float] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read_balance, editor, found)
        price = await _price(editor, edit_input, settings)
    price = replace(price, credits=price.credits * (1 if edits is None else edits))
    left = found[0] if found else None
    text = _price_in_words(price, left, edits) + note
    # Too few credits: only some of many are made. One is refused by the provider, at no charge.
    is_short = edits is not None and left is not None and left < price.credits
    return _may_spend(text, price, settings, yes=yes, is_short=is_short)


def _may_spend(
    text: str, price: Price, settings: Settings, *, yes: bool, is_short: bool
) -> int | None:
    is_dear = price.credits > settings.confirm_credits
    if yes or not (is_dear or is_short):
        say(text)
        return None
    if not sys.stdin.isatty():
        limit = f"WAN25_CONFIRM_CREDITS ({amount(settings.confirm_credits)})"
        fewer = "Add --yes to edit as many as the credits are enough for, or name fewer images."
        raise InvalidRequest(
            f"{text}. That is more than {limit if is_dear else 'the account has left'}, and "
            "there is no terminal to ask at. Nothing was sent.",
            fix="Add --yes, or raise WAN25_CONFIRM_CREDITS." if is_dear else fewer,
        )
    answer = _ask(f"{text}. Edit?")
    if not answer:
        say("Nothing was sent.")
        if is_json():
            show_error_as_json(_DECLINED)
    return None if answer else INTERRUPTED if answer is None else FAILED


async def _read_balance(editor: AccountEditor, found: list[float]) -> None:
    """Add the credits left, if the provider reports them in time."""
    with anyio.move_on_after(BALANCE_SECONDS), suppress(Wan25Error):  # the edit says what is wrong
        left = _remaining(await (await editor.connection()).client.credits())
        found.extend([] if left is None else [left])


async def _price(editor: AccountEditor, edit_input: EditInput, settings: Settings) -> Price:
    try:
        return await editor.price(edit_input.n, edit_input.model)
    except JournalUnusable:
        return Price(settings.credits_per_image * edit_input.n, is_known=False)


def _price_in_words(price: Price, left: float | None, edits: int | None) -> str:
    text = f"{'' if price.is_known else 'about '}{in_credits(price.credits)}"
    if edits is not None:
        text += f" for {edits} edit{'' if edits == 1 else 's'}"
    if left is None:
        return f"Price: {text}"
    if left < price.credits:
        return f"Price: {text}, but only {amount(left)} left"
    return f"Price: {text}, {amount(left - price.credits)} left afterwards"


def _ask(question: str) -> bool | None:
    """The answer; None for Ctrl-C. Blocks the event loop, where nothing else runs yet.

    In a thread, the command could not end before Enter is pressed.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        say("")
        return None
    finally:
        signal.signal(signal.SIGINT, before)


async def show_credits(settings: Settings) -> int:
    """Show the balance and what was spent. Returns the exit status."""
    error: Wan25Error | None = None
    report: CreditReport | None = None
    async with open_configured_editor(settings, background=False) as editor:
        client = (await editor.connection()).client
        try:
            report = await client.credits()
        except Wan25Error as reason:
            error = reason
        spent = {"last_24_hours": await editor.spent(_DAY)}
        spent["last_30_days"] = await editor.spent(30 * _DAY)
    if is_json():
        left = _remaining(report) if report else None
        found = {name: {"charged": s.charged, "pending": s.pending} for name, s in spent.items()}
        failure = {"error": error_as_json(error)} if error else {}
        show_json({"credits_left": left, **found, **failure})
        return FAILED if error else 0
    if report:
        words = credits_left(report)
        show(f"{words[:1].upper()}{words[1:]}.")
    for name, each in spent.items():
        show(f"{name.replace('_', ' ').capitalize()}: {_spent_in_words(each)}")
    if error:
        show_error(error)
    return FAILED if error else 0


def _spent_in_words(spent: Spent) -> str:
    more = (
        f" ({amount(spent.pending)} more reserved or of unknown outcome)" if spent.pending else ""
    )
    return f"{in_credits(spent.charged)}{more}"


def credits_left(report: CreditReport) -> str:
    """The credits left, in words."""
    if report.token and report.token.unlimited_credits and report.user is None:
        return "the key itself has no credit limit"
    left = _remaining(report)
    if left is None:
        return "the provider does not say how many credits are left"
    return f"{in_credits(left)} {'is' if left == 1 else 'are'} left"


def cost_line(edit: Edit, *, is_earlier: bool) -> str:
    """What an edit has cost, and whether an earlier call paid for it."""
    usage = edit.usage or Usage()
    used = usage.credits_reserved if usage.credits_used is None else usage.credits_used
    if used is None:
        return f"Charged{' earlier' if is_earlier else ''}: {edit.charged}"
    if is_earlier:
        return (
            f"{'Reserved' if edit.charged == 'reserved' else 'Charged'} earlier: {in_credits(used)}"
        )
    return f"Charged: {edit.charged} ({in_credits(used)})"


def _remaining(report: CreditReport) -> float | None:
    balance = report.user or report.token
    return balance.remaining_credits if balance else None


def in_credits(number: float) -> str:
    """A number of credits, in words."""
    return f"{amount(number)} credit{'' if number == 1 else 's'}"


def amount(number: float) -> str:
    """A number of credits without needless zeros."""
    return f"{number:.2f}".rstrip("0").rstrip(".")
