"""Where programs keep their configuration on Linux, macOS and Windows."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

System = Literal["linux", "macos", "windows"]

_VARIABLE: Final = re.compile(r"\{(\w+)\}")


def this_system() -> System:
    return {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Machine:
    """What decides where files are."""

    system: System
    home: Path
    environ: Mapping[str, str]

    def path(self, template: str) -> Path | None:
        """The path of a template such as `{home}/.cursor`; None if it names an unset variable.

        Besides the variables of the environment there are `home`; `config`, where programs for
        terminals keep their settings; `app`, where programs with windows do; and `lmstudio`.
        """
        values = {name: self._folder(name) for name in _VARIABLE.findall(template)}
        if not all(values.values()):
            return None
        return Path(template.format_map(values))

    def _folder(self, name: str) -> str:
        match name:
            case "home":
                return str(self.home)
            case "config":
                return self._variable("XDG_CONFIG_HOME") or f"{self.home}/.config"
            case "app" if self.system == "macos":
                return f"{self.home}/Library/Application Support"
            case "app" if self.system == "windows":
                return self._variable("APPDATA") or f"{self.home}/AppData/Roaming"
            case "app":
                return self._folder("config")
            case "lmstudio":
                return self._lmstudio()
        return self._variable(name)

    def _variable(self, name: str) -> str:
        """An absolute path of the environment; empty for any other value, as XDG demands."""
        value = self.environ.get(name, "").strip()
        return value if value and Path(value).is_absolute() else ""

    def _lmstudio(self) -> str:
        """LM Studio's folder, which a file in the home folder may name.

        Source: findLMStudioHome in github.com/lmstudio-ai/lmstudio.js.
        """
        try:
            named = (self.home / ".lmstudio-home-pointer").read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            named = ""
        older = self.home / ".cache" / "lm-studio"
        return named or str(older if older.is_dir() else self.home / ".lmstudio")
