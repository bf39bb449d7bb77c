"""What a person may configure: one frozen value, read from a mapping. Nothing is opened here.

A wrong value is reported by `Settings.from_mapping` with the variable's name and what would be
right, never with the value itself when it may be a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

from wan25_mcp.errors import SettingsError
from wan25_mcp.url_safety import NotPublic, check_public, read_address
from wan25_mcp.variables import DEFAULT_BASE_URL, unread

Preview = Literal["auto", "always", "never"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
_T = TypeVar("_T")

CALLBACKS_NEED_HTTP: Final = (
    "WAN25_CALLBACK_URL takes effect with an HTTP transport only: over stdio, edits are polled."
)

_LONGEST_LINK: Final = 2047
"""What the provider takes is shorter than 2048 characters."""

_CALLBACK_TAIL: Final = 1 + 21 + 1 + 43
"""What a submit adds to the callback address: its handle and its secret, a slash before each."""

_CALLBACK_PATH: Final = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the product is told to do. Times in seconds."""

    key: SecretStr | None = None
    key_problem: str | None = None
    """Why there is no key, when it was set but cannot be one."""
    base_url: str = DEFAULT_BASE_URL
    account: str | None = None
    """Names the account whose edits the journal keeps; None: the key tells."""
    data_dir: Path | None = None
    database_url: SecretStr | None = None
    output_dir: Path | None = None
    save: bool = True
    input_dirs: tuple[Path, ...] | None = None
    """None: the usual folders of the user, or none at all over HTTP."""
    files_url: str | None = None
    bucket_url: str | None = None
    preview: Preview = "auto"
    wait_seconds: float = 25.0
    max_wait_seconds: float = 50.0
    duplicate_window_seconds: float = 600.0
    credit_limit: float | None = None
    credits_per_image: float = 1.5
    max_in_flight: int | None = None
    callback_url: str | None = None
    """Public address of our receiver; a submit adds its handle and secret as a path."""
    server_token: SecretStr | None = None
    allowed_hosts: tuple[str, ...] = ()
    log_level: LogLevel = "WARNING"
    emulator: bool = False
    emulator_url: str | None = None
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """Texts that no log line may hold."""
    unread: tuple[str, ...] = ()
    """Names set in our manner that nobody reads."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, str], *, emulator: bool = False) -> Settings:
        """Read the settings from environment-like names.

        Args:
            emulator: Run against the emulator, whatever `WAN25_EMULATOR` says.

        Raises:
            SettingsError: A value cannot work; the message names the variable.
        """
        read = _Reader(values)
        key, problem = read.key()
        token = read.secret("WAN25_SERVER_TOKEN")
        database = read.database_url()
        switch = read.text("WAN25_EMULATOR")
        emulator_url = _http_url("WAN25_EMULATOR", switch) if "://" in switch else None
        if emulator_url is not None or read.switch("WAN25_EMULATOR", switch):
            emulator = True
        callback_url = read.callback_url(emulator=emulator)
        wait, longest = read.waits()
        return cls(
            key=key,
            key_problem=problem,
            base_url=read.base_url(),
            account=read.text("WAN25_ACCOUNT") or None,
            data_dir=read.directory("WAN25_DATA_DIR"),
            database_url=database,
            output_dir=read.directory("WAN25_OUTPUT_DIR"),
            save=read.choice("WAN25_SAVE", ("auto", "off")) == "auto",
            input_dirs=read.directories("WAN25_INPUT_DIRS"),
            files_url=read.url("WAN25_FILES_URL"),
            bucket_url=read.bucket_url(),
            preview=read.choice("WAN25_PREVIEW", get_args(Preview)),  # type: ignore[arg-type]  # one of them
            wait_seconds=wait,
            max_wait_seconds=longest,
            duplicate_window_seconds=read.seconds(
                "WAN25_DUPLICATE_WINDOW_SECONDS", 600.0, least=0.0, most=86400.0
            ),
            credit_limit=read.number("WAN25_CREDIT_LIMIT", least=0.0),
            credits_per_image=read.price() or 1.5,
            max_in_flight=read.count("WAN25_MAX_IN_FLIGHT"),
            callback_url=callback_url,
            server_token=token,
            allowed_hosts=read.words("WAN25_ALLOWED_HOSTS"),
            log_level=read.log_level(),
            emulator=emulator,
            emulator_url=emulator_url,
            secrets=tuple(s.get_secret_value() for s in (key, token, database) if s is not None),
            unread=unread(values),
        )


class _Reader:
    """Reads one kind of value each; an unset and an empty variable are the same."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str) -> str:
        return self._values.get(name, "").strip()

    def key(self) -> tuple[SecretStr | None, str | None]:
        """The key, or why there is none. A bad key is no reason not to start: tools still list."""
        value, source = self.text("WAN25_API_KEY"), "WAN25_API_KEY"
        if not value and (path := self.text("WAN25_API_KEY_FILE")):
            source = "WAN25_API_KEY_FILE"
            try:
                value = _first_line(path)
            except (OSError, ValueError, RuntimeError) as error:
                return None, f"The file named by {source} cannot be read ({_reason(error)})."
            if not value:
                return None, f"The file named by {source} is empty."
        if not value:
            return None, None
        problem = _not_a_secret(value)
        return (None, f"{source} {problem}.") if problem else (SecretStr(value), None)

    def secret(self, name: str) -> SecretStr | None:
        value = self.text(name)
        if not value:
            return None
        if problem := _not_a_secret(value):
            raise SettingsError(f"{name} {problem}.", fix=f"Set {name} to the secret itself.")
        return SecretStr(value)

    def base_url(self) -> str:
        value = self.text("WAN25_BASE_URL")
        return _http_url("WAN25_BASE_URL", value) if value else DEFAULT_BASE_URL

    def url(self, name: str) -> str | None:
        value = self.text(name)
        return _http_url(name, value) if value else None

    def bucket_url(self) -> str | None:
        value = self.text("WAN25_BUCKET_URL")
        if value and not value.startswith(("s3://", "gs://", "az://")):
            raise SettingsError(
                "WAN25_BUCKET_URL is not a bucket's URL.",
                fix="Set it to s3://bucket/prefix, gs://bucket/prefix or az://container/prefix; "
                "credentials come from the environment, never from the URL.",
            )
        return value or None

    def callback_url(self, *, emulator: bool) -> str | None:
        value = self.text("WAN25_CALLBACK_URL")
        problem = _not_a_callback_url(value, emulator=emulator) if value else None
        if problem:
            raise SettingsError(
                f"WAN25_CALLBACK_URL {problem}.",
                fix="Set WAN25_CALLBACK_URL to the address under which the provider reaches this "
                "server, such as https://edits.example.com/wan25-callbacks.",
            )
        return value.rstrip("/") or None

    def choice(self, name: str, choices: Sequence[str]) -> str:
        """One of the words; the first when unset."""
        value = self.text(name).lower() or choices[0]
        if value not in choices:
            raise SettingsError(
                f"{name} is not one of {', '.join(choices)}.", fix=f"Set {name} to one of these."
            )
        return value

    def directories(self, name: str) -> tuple[Path, ...] | None:
        value = self.text(name)
        if not value:
            return None
        paths = [_expanded(part.strip()) for part in value.split(os.pathsep) if part.strip()]
        absolute = [path for path in paths if path is not None and path.is_absolute()]
        if len(absolute) < len(paths):
            raise SettingsError(
                f"{name} holds a path that is not absolute.",
                fix=f"Set {name} to absolute folders, separated by '{os.pathsep}'.",
            )
        return tuple(absolute)

    def seconds(self, name: str, default: float, *, least: float, most: float) -> float:
        value = self.text(name)
        if not value:
            return default
        number = _parsed(value, float)
        if number is None or not least <= number <= most:
            raise SettingsError(
                f"{name} is not a number of seconds from {least:g} to {most:g}.",
                fix=f"Set {name} to such a number, or unset it (default {default:g}).",
            )
        return number

    def waits(self) -> tuple[float, float]:
        """How long a wait lasts when not told, and at most."""
        longest = self.seconds("WAN25_MAX_WAIT_SECONDS", 50.0, least=1.0, most=3600.0)
        wait = self.seconds("WAN25_WAIT_SECONDS", min(25.0, longest), least=0.0, most=3600.0)
        if wait > longest:
            raise SettingsError(
                f"WAN25_WAIT_SECONDS is more than the longest wait allowed, {longest:g} seconds.",
                fix=f"Set WAN25_WAIT_SECONDS to {longest:g} or less, or raise "
                "WAN25_MAX_WAIT_SECONDS.",
            )
        return wait, longest

    def price(self) -> float | None:
        """Credits for each image, at first; no limit would hold if images were taken to be free."""
        price = self.number("WAN25_CREDITS_PER_IMAGE", least=0.0)
        if price == 0:
            raise SettingsError(
                "WAN25_CREDITS_PER_IMAGE is 0, but every image costs credits.",
                fix="Set WAN25_CREDITS_PER_IMAGE to a number above 0, or unset it (default 1.5).",
            )
        return price

    def number(self, name: str, *, least: float) -> float | None:
        value = self.text(name)
        if not value:
            return None
        number = _parsed(value, float)
        if number is None or not least <= number < float("inf"):
            raise SettingsError(
                f"{name} is not a number of credits.",
                fix=f"Set {name} to a number of {least:g} or more, or unset it.",
            )
        return number

    def count(self, name: str) -> int | None:
        value = self.text(name)
        if not value:
            return None
        number = _parsed(value, int)
        if number is None or number < 1:
            raise SettingsError(
                f"{name} is not a whole number of 1 or more.",
                fix=f"Set {name} to such a number, or unset it.",
            )
        return number

    def database_url(self) -> SecretStr | None:
        value = self.text("WAN25_DATABASE_URL")
        if not value:
            return None
        if not value.startswith(("postgresql://", "postgres://", "postgresql+psycopg://")):
            raise SettingsError(
                "WAN25_DATABASE_URL is not a PostgreSQL URL.",
                fix="Set it to postgresql://user:password@host/database, or unset it for SQLite.",
            )
        return SecretStr(value)

    def directory(self, name: str) -> Path | None:
        value = self.text(name)
        if not value:
            return None
        path = _expanded(value)
        if path is None or not path.is_absolute():
            raise SettingsError(
                f"{name} is not an absolute path.",
                fix=f"Set {name} to an absolute path: the directory a host starts us in varies.",
            )
        if path in (Path(path.anchor), Path.home()):
            raise SettingsError(
                f"{name} is the root or the bare home directory.",
                fix=f"Set {name} to a folder of its own.",
            )
        return path

    def words(self, name: str) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.text(name).split(",") if word.strip())

    def log_level(self) -> LogLevel:
        value = self.text("WAN25_LOG_LEVEL").upper() or "WARNING"
        for level in get_args(LogLevel):
            if value == level:
                return level  # type: ignore[no-any-return]  # get_args loses the literal's type
        raise SettingsError(
            "WAN25_LOG_LEVEL is not a log level.",
            fix=f"Set WAN25_LOG_LEVEL to one of {', '.join(get_args(LogLevel))}.",
        )

    def switch(self, name: str, value: str) -> bool:
        on, off = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")
        if value.lower() not in on + off:
            raise SettingsError(f"{name} is neither on nor off.", fix=f"Set {name} to 1 or 0.")
        return value.lower() in on


def _expanded(path: str) -> Path | None:
    try:
        return Path(path).expanduser()
    except RuntimeError:  # the home directory of nobody
        return None


def _first_line(path: str) -> str:
    with Path(path).expanduser().open(encoding="utf-8") as file:
        return file.read(10_000).strip().split("\n")[0].strip()


def _reason(error: Exception) -> str:
    if isinstance(error, RuntimeError):
        return "no such home directory"
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number).lower() if number else "not text"


def _not_a_secret(value: str) -> str | None:
    """Why a value cannot be a key or token; the text completes "VARIABLE …"."""
    if value.startswith(("${", "{{")) or value in ("YOUR_API_KEY", "sk-..."):
        return "holds a placeholder that the host did not replace"
    if not value.isascii() or not value.isprintable() or " " in value:
        return "holds spaces or characters that no key has"
    return "is too long" if len(value) > 4096 else None


def _http_url(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    plain = value.isascii() and value.isprintable() and " " not in value
    if not usable or parts.username or parts.query or parts.fragment or not plain:
        raise SettingsError(
            f"{name} is not an http(s) URL of a server (no user name, query or fragment).",
            fix=f"Set {name} to a URL such as {DEFAULT_BASE_URL}.",
        )
    return value.rstrip("/")


def _not_a_callback_url(value: str, *, emulator: bool) -> str | None:
    """Why the provider could not call there; the text completes "WAN25_CALLBACK_URL …"."""
    try:
        link = _http_url("WAN25_CALLBACK_URL", value)
    except SettingsError:
        return "is not the URL of a server (no user name, query or fragment)"
    if len(link) + _CALLBACK_TAIL > _LONGEST_LINK:
        return f"is longer than {_LONGEST_LINK - _CALLBACK_TAIL} characters"
    if not (emulator and _is_loopback(link)):
        try:
            check_public(link, schemes=("https",))
        except NotPublic as problem:
            return str(problem)
    # What a proxy might rewrite on the way would no longer be the path that we expect.
    if not _CALLBACK_PATH.fullmatch(urlsplit(link).path):
        return "has no path of its own of letters, digits, '.', '_', '~' and '-'"
    return None


def _is_loopback(link: str) -> bool:
    host = urlsplit(link).hostname or ""
    try:
        address = read_address(host)
    except NotPublic:
        return False
    return host == "localhost" if address is None else address.is_loopback


def _parsed(value: str, parse: Callable[[str], _T]) -> _T | None:
    try:
        return parse(value)
    except ValueError:
        return None
