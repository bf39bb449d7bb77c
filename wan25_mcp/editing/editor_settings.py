"""The settings of an `Editor`: what a program passes, over the environment and the kept key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from wan25_mcp.errors import SettingsError
from wan25_mcp.inputs.nearest import IMAGES
from wan25_mcp.keys import kept_key
from wan25_mcp.provider.dashboard import PASSED
from wan25_mcp.settings import Settings

_VARIABLES: Final = {
    "key": "WAN25_API_KEY",
    "base_url": "WAN25_BASE_URL",
    "emulator": "WAN25_EMULATOR",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What a program passes to `Editor`; None where it leaves the choice to the settings."""

    key: str | SecretStr | None
    base_url: str | None
    output: str | os.PathLike[str] | None
    save: bool | None
    emulator: bool | str | None
    settings: Settings | Mapping[str, str] | None

    def __post_init__(self) -> None:
        """
        Raises:
            SettingsError: One of them is of another type.
        """
        self._check("key", str | SecretStr | None, "text")
        self._check("base_url", str | None, "text")
        self._check("output", str | os.PathLike | None, "the path of a folder")
        self._check("save", bool | None, "True or False")
        self._check("emulator", bool | str | None, "True, False or the URL of an emulator")
        self._check("settings", Settings | Mapping | None, "Settings or a mapping")

    def _check(self, name: str, kinds: object, wanted: str) -> None:
        if not isinstance(getattr(self, name), kinds):  # type: ignore[arg-type]  # unions are fine
            raise SettingsError(
                f"{name} is of the wrong type.", fix=f"Pass {wanted} as {name}, or leave it out."
            )

    def read(self) -> Settings:
        """The settings to use. Reads files, and perhaps the keyring: call it in a worker thread.

        Raises:
            SettingsError: One of them is invalid.
        """
        if isinstance(self.settings, Settings):
            settings = self.settings
            if self._texts():
                raise SettingsError(
                    f"{', '.join(self._texts())} cannot be combined with a Settings value.",
                    fix="Pass one or the other, or a mapping with WAN25_ names as settings.",
                )
        else:
            settings = self._from_texts()
        return replace(
            settings,
            output_dir=settings.output_dir if self.output is None else _folder(self.output),
            save=settings.save if self.save is None else self.save,
            input_dirs=(),  # the editor reads any file
            callback_url=None,  # nothing here receives callbacks, so edits are polled
        )

    def _from_texts(self) -> Settings:
        environ: Mapping[str, str] = os.environ if self.settings is None else self.settings  # type: ignore[assignment]  # `read` has the other case
        passed = self._texts()
        try:
            settings = Settings.from_mapping(
                {**environ, **{_VARIABLES[name]: text for name, text in passed.items()}}
            )
        except SettingsError as error:
            raise _named(error, passed) from None
        except (TypeError, AttributeError):
            raise SettingsError(
                "settings has names or values that are not text.",
                fix='Pass a mapping such as {"WAN25_CREDIT_LIMIT": "10"}.',
            ) from None
        if settings.key_problem is not None and "key" in passed:
            problem = settings.key_problem.replace(_VARIABLES["key"], "key")
            return replace(settings, key_problem=problem)
        if "key" in passed:
            settings = replace(settings, key_source=PASSED)
        # A key that was passed, even an empty one, is the program's choice.
        is_own = self.settings is None and "key" not in passed
        return kept_key.completed(settings) if is_own else settings

    def _texts(self) -> dict[str, str]:
        """What was passed, as the environment would have it."""
        found = {"key": self.key, "base_url": self.base_url, "emulator": self.emulator}
        return {name: _text(value) for name, value in found.items() if value is not None}


def _text(value: str | SecretStr | bool) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return value if isinstance(value, str) else str(int(value))


def _folder(path: str | os.PathLike[str]) -> Path:
    try:
        folder = Path(path).expanduser().absolute()
        is_file = folder.suffix.lower() in IMAGES and not folder.is_dir()
    except (RuntimeError, ValueError, TypeError):
        raise SettingsError(
            "output is not the path of a folder.", fix="Pass the path of a folder as output."
        ) from None
    if is_file:  # as the command takes it
        raise SettingsError(
            f"output is the name of an image, {folder.name}, not a folder.",
            fix="Pass the path of a folder as output. The names of the results are in edit.saved.",
        )
    return folder


def _named(error: SettingsError, passed: Mapping[str, str]) -> SettingsError:
    """The error in the names that the program used."""
    message, fix = error.message, error.fix
    for name in passed:
        message = message.replace(_VARIABLES[name], name)
        fix = fix.replace(f"Set {_VARIABLES[name]}", f"Pass as {name}").replace(
            ", or unset it", ", or leave it out"
        )
    return SettingsError(message, code=error.code, fix=fix)
