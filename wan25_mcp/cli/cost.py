"""What an edit costs and what the account has left, for a person at a terminal."""

from __future__ import annotations

from wan25_mcp.provider.models import CreditReport


def credits_left(report: CreditReport) -> str:
    """The credits left, in words."""
    if report.token and report.token.unlimited_credits and report.user is None:
        return "the key itself has no credit limit"
    balance = report.user or report.token
    if balance is None or balance.remaining_credits is None:
        return "it does not say how many credits are left"
    return f"{balance.remaining_credits:g} credits are left"
