"""One setting, and how its text becomes a value. Nothing is opened here.

An error says what is wrong and what is expected. It never quotes the text, which may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import SecretStr

from wan25_mcp.errors import SettingsError

T = TypeVar("T")

_MAX_CALLBACK_CHARACTERS: Final = 2047 - (1 + 21 + 1 + 43)
"""The provider accepts links of less than 2048 characters. A submit appends its handle and its
secret, each after a slash."""

_CALLBACK_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")
CALLBACK_WANTED: Final = (
    "the address under which the provider reaches this server, such as "
    "https://edits.example.com/wan25-callbacks"
)


class Wrong(ValueError):
    """A text that is not valid for its setting.

    Args:
        problem: Completes "WAN25_X …".
        wanted: Completes "Set WAN25_X to …".
    """

    def __init__(self, problem: str, wanted: str) -> None:
        super().__init__(problem)
        self.problem: Final = problem
        self.wanted: Final = wanted


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: how it is read, and how docs, `server.json` and `doctor` describe it."""

    name: str
    meaning: str
    parse: Callable[[str], object]
    default: str
    """The default as documented: a value, or a description of one."""
    secret: bool
    attribute: str = ""
    """The attribute of `Settings` that holds it."""

    def read(self, text: str) -> object:
        """Turn a text into the setting's value.

        Raises:
            SettingsError: The text is not valid for this setting.
        """
        try:
            return self.parse(text)
        except Wrong as wrong:
            default = f", or unset it (default {self.default})" if self.default else ""
            raise SettingsError(
                f"{self.name} {wrong.problem}.", fix=f"Set {self.name} to {wrong.wanted}{default}."
            ) from None


def setting(
    name: str,
    meaning: str,
    parse: Callable[[str], T],
    default: T | None = None,
    *,
    shown: str = "",
    secret: bool = False,
) -> T:
    """Declare a field of `Settings` with its row. `shown` describes a default in words."""
    if not shown and default:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    row = Setting(name, meaning, parse, shown, secret)
    return field(default=cast("T", default), metadata={"row": row})


def secret(text: str) -> SecretStr:
    if text.startswith(("${", "{{")) or text in ("YOUR_API_KEY", "sk-..."):
        problem = "is a placeholder that the host did not replace"
    elif not text.isascii() or not text.isprintable() or " " in text:
        problem = "contains spaces or characters that no key has"
    elif len(text) > 4096:
        problem = "is too long"
    else:
        return SecretStr(text)
    raise Wrong(problem, "the secret itself")


def http_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    plain = text.isascii() and text.isprintable() and " " not in text
    if not usable or parts.username or parts.query or parts.fragment or not plain:
        raise Wrong(
            "is not an http(s) URL of a server (no user name, query or fragment)",
            "a URL such as https://api.example.com/v1",
        )
    return text.rstrip("/")


def callback_url(text: str) -> str:
    try:
        link = http_url(text)
    except Wrong as wrong:
        raise Wrong(wrong.problem, CALLBACK_WANTED) from None
    if len(link) > _MAX_CALLBACK_CHARACTERS:
        problem = f"is longer than {_MAX_CALLBACK_CHARACTERS} characters"
        raise Wrong(problem, CALLBACK_WANTED)
    # A proxy might rewrite any other character, and the path would no longer be recognised.
    if not _CALLBACK_PATH.fullmatch(urlsplit(link).path):
        problem = "has no path of its own of letters, digits, '.', '_', '~' and '-'"
        raise Wrong(problem, CALLBACK_WANTED)
    return link


def bucket_url(text: str) -> str:
    if not text.startswith(("s3://", "gs://", "az://")):
        raise Wrong(
            "is not a bucket's URL",
            "s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; credentials come "
            "from the environment, never from the URL",
        )
    return text


def database_url(text: str) -> SecretStr:
    if not text.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
        raise Wrong("is not a PostgreSQL URL", "postgresql://user:password@host/database")
    return SecretStr(text)


def _folder(text: str) -> Path:
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # a user that does not exist
        path = Path()
    if not path.is_absolute():
        raise Wrong(
            "is not an absolute path",
            "an absolute path, because hosts start this server in varying folders",
        )
    return path


def own_folder(text: str) -> Path:
    path = _folder(text)
    if path in (Path(path.anchor), Path.home()):
        raise Wrong("is the root or the home directory itself", "a folder of its own")
    return path


def folders(text: str) -> tuple[Path, ...]:
    try:
        return tuple(_folder(part.strip()) for part in text.split(os.pathsep) if part.strip())
    except Wrong:
        wanted = f"absolute folders, separated by '{os.pathsep}'"
        raise Wrong("contains a path that is not absolute", wanted) from None


def choice(words: tuple[str, ...]) -> Callable[[str], Any]:
    by_text = {word.lower(): word for word in words}

    def parse(text: str) -> str:
        if text.lower() not in by_text:
            raise Wrong("is not one of its values", f"one of {', '.join(words)}")
        return by_text[text.lower()]

    return parse


def is_auto(text: str) -> bool:
    return bool(choice(("auto", "off"))(text) == "auto")


def _number(text: str, low: float, high: float, problem: str, wanted: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise Wrong(problem, wanted)
    return number


def seconds(low: float, high: float) -> Callable[[str], float]:
    wanted = f"a number of seconds from {low:g} to {high:g}"
    return lambda text: _number(text, low, high, f"is not {wanted}", wanted)


def credit_amount(text: str) -> float:
    return _number(text, 0.0, 1e12, "is not a number of credits", "a number of 0 or more")


def price(text: str) -> float:
    price = credit_amount(text)
    if price == 0:  # no credit limit would work if images counted as free
        raise Wrong("is 0, but every image costs credits", "a number above 0")
    return price


def count(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text)):
        raise Wrong("is not a whole number of 1 or more", "a whole number of 1 or more")
    return int(text)


def names(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def switch_or_url(text: str) -> str:
    if "://" in text:
        return http_url(text)
    if text.lower() in ("1", "true", "yes", "on"):
        return "on"
    if text.lower() in ("0", "false", "no", "off"):
        return ""
    raise Wrong("is neither on nor off nor a URL", "1 or 0, or to the URL of an emulator")
