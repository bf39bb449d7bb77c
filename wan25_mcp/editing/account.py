"""An account: who pays for edits, within which limits, and where their images go."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from wan25_mcp.errors import SettingsError
from wan25_mcp.journal import Allowance


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account at the provider, as the operator configured it.

    Equal values share what an engine knows of the account. Another value with the same key reads
    and writes the same edits, as another process does.

    Args:
        key: The provider's API key. Not needed with an emulator, where each key is an account.
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

    def __post_init__(self) -> None:
        if self.key is not None and not isinstance(self.key, SecretStr):
            raise SettingsError(
                "The key of an account is not a SecretStr, which keeps it out of logs.",
                fix="Pass Account(key=SecretStr(...)), with SecretStr from pydantic.",
            )
        if self.output_dir is not None and not Path(self.output_dir).is_absolute():
            raise SettingsError(
                "The output folder of an account is not an absolute path.",
                fix="Pass Account(output_dir=Path(...)) with an absolute path.",
            )
        if self.output_dir is not None:
            object.__setattr__(self, "output_dir", Path(self.output_dir))
