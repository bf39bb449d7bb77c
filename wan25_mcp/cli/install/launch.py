"""The command that starts this server, as a client must write it: one that stays where it is."""

from __future__ import annotations

import json
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

PROGRAM: Final = "wan25-mcp"
PUBLISHED: Final = ("uvx", PROGRAM)
"""How it is started from the package index, without installing it."""

_CACHES: Final = (".cache", "Caches")


def command() -> tuple[str, ...]:
    """The installed command; `uvx` with what to install, if this environment is a temporary one."""
    if _is_temporary(Path(sys.prefix)):
        return _with_uvx()
    name = f"{PROGRAM}.exe" if os.name == "nt" else PROGRAM
    for folder in _script_folders():
        if (folder / name).is_file():
            return (str(folder / name),)
    return (sys.executable, "-m", "wan25_mcp")


def _script_folders() -> Iterator[Path]:
    """Where the commands of this environment are, and those of `pip install --user`."""
    yield Path(sysconfig.get_path("scripts"))
    yield Path(sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user")))


def _is_temporary(environment: Path) -> bool:
    """Whether the environment is in a cache, as those of `uvx` and `pipx run` are.

    Source: https://bford.info/cachedir for the tag, which uv writes into its cache, and into every
    environment as well.
    """
    return any(
        folder.name in _CACHES or (folder / "CACHEDIR.TAG").is_file()
        for folder in environment.parents
    )


def _with_uvx() -> tuple[str, ...]:
    uv = os.environ.get("UV", "")  # uv tells its path to what it starts
    beside = Path(uv).with_name("uvx.exe" if os.name == "nt" else "uvx") if uv else None
    uvx = str(beside) if beside and beside.is_file() else shutil.which("uvx") or "uvx"
    origin = _origin()
    return (uvx, "--from", origin, PROGRAM) if origin else (uvx, PROGRAM)


def _origin() -> str | None:
    """Where the package was installed from, as a requirement; None for the package index.

    Source: PEP 610.
    """
    try:
        origin = json.loads(distribution(PROGRAM).read_text("direct_url.json") or "{}")
        url: str = origin["url"]
        if vcs := origin.get("vcs_info"):
            revision = vcs.get("requested_revision")
            return f"{vcs['vcs']}+{url}{f'@{revision}' if revision else ''}"
        return url2pathname(urlsplit(url).path) if url.startswith("file:") else url
    except (PackageNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None
