"""An account: who pays for edits, within which limits, and where their images go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from wan25_mcp.journal import Allowance


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account at the provider, as the operator configured it. Equal values are one account.

    Args:
        key: The provider's API key; None with the emulator.
        name: The operator's name for the account, which outlives its keys; None: the key
            identifies the account.
        allowance: The operator's limits on spending.
        output_dir: Where results are saved; None for the default folder.
        save: Whether completed edits are saved.
    """

    key: SecretStr | None = None
    name: str | None = None
    allowance: Allowance = field(default_factory=Allowance)
    output_dir: Path | None = None
    save: bool = True
