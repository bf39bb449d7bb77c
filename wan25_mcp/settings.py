"""What an operator may configure: one frozen value, read from a mapping.

Each setting is declared once, as an attribute of `Settings`: its variable, its meaning, how its
text is read, its default. To add one, add its row and use it. The table in docs/settings.md,
`server.json` and the check for unknown settings derive from the rows (`SETTINGS`). Only the key's
file is opened here.
"""

# ruff: noqa: RUF009  the calls in the class body declare its fields

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, get_args
from urllib.parse import urlsplit

from pydantic import SecretStr

from wan25_mcp import setting_parsers as parse
from wan25_mcp.errors import SettingsError
from wan25_mcp.provider.catalogue import DEFAULT
from wan25_mcp.setting_parsers import Setting, Wrong, setting
from wan25_mcp.url_safety import NotPublic, check_public, is_loopback

Preview = Literal["auto", "always", "never"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

PREFIX: Final = "WAN25_"
DEFAULT_BASE_URL: Final = "https://ai.odkkk.com/apiv1"
CALLBACKS_NEED_HTTP: Final = (
    "WAN25_CALLBACK_URL takes effect with an HTTP transport only: over stdio, edits are polled."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The configuration, one attribute for each setting. Times are in seconds."""

    key: SecretStr | None = setting(
        "WAN25_API_KEY",
        "The provider's API key, from https://ai.odkkk.com/dashboard/keys. Without it: the key "
        "that `wan25-mcp key set` keeps.",
        parse.secret,
        secret=True,
    )
    key_file: str | None = setting(
        "WAN25_API_KEY_FILE", "A file that holds the key, in place of `WAN25_API_KEY`.", str
    )
    base_url: str = setting(
        "WAN25_BASE_URL", "Base URL of the API, path included.", parse.http_url, DEFAULT_BASE_URL
    )
    account: str | None = setting(
        "WAN25_ACCOUNT",
        "Any name for the account, so that its edits and limits outlive the key. Without one, a "
        "new key that can read the old key's tasks counts as the same account.",
        str,
    )
    data_dir: Path | None = setting(
        "WAN25_DATA_DIR", "Folder of the journal.", parse.own_folder, shown="your user data folder"
    )
    database_url: SecretStr | None = setting(
        "WAN25_DATABASE_URL",
        "A PostgreSQL database for the journal, shared by several machines (extra `postgres`).",
        parse.database_url,
        secret=True,
    )
    output_dir: Path | None = setting(
        "WAN25_OUTPUT_DIR",
        "Folder where finished images are saved.",
        parse.own_folder,
        shown="`wan25` in your pictures folder",
    )
    save: bool = setting(
        "WAN25_SAVE",
        "`auto`: save finished images. `off`: give links only.",
        parse.is_auto,
        True,
        shown="auto",
    )
    input_dirs: tuple[Path, ...] | None = setting(
        "WAN25_INPUT_DIRS",
        "Folders that local images may be read from, separated as in PATH. Over HTTP: none unless "
        "set.",
        parse.folders,
        shown="your pictures, downloads, desktop and documents, and the output folder",
    )
    files_url: str | None = setting(
        "WAN25_FILES_URL",
        "The provider's file service, which makes local images available at a link for 72 hours.",
        parse.http_url,
        shown="the API's own, found automatically",
    )
    bucket_url: str | None = setting(
        "WAN25_BUCKET_URL",
        "Your own bucket for local images: s3://, gs:// or az:// (extra `buckets`).",
        parse.bucket_url,
    )
    preview: Preview = setting(
        "WAN25_PREVIEW",
        "Small previews in answers: `auto` (clients known to show them), `always`, `never`.",
        parse.choice(get_args(Preview)),
        "auto",
    )
    wait_seconds: float | None = setting(
        "WAN25_WAIT_SECONDS",
        "Seconds `wait_for_task` waits unless the call says otherwise.",
        parse.seconds(0, 3600),
        shown="4, then 10, 25 and 50; less for a client that gave up sooner",
    )
    max_wait_seconds: float = setting(
        "WAN25_MAX_WAIT_SECONDS",
        "Longest wait a call may ask for, in seconds.",
        parse.seconds(1, 3600),
        50.0,
    )
    duplicate_window_seconds: float = setting(
        "WAN25_DUPLICATE_WINDOW_SECONDS",
        "Seconds within which an identical `edit_image` call returns the earlier task; 0 = never.",
        parse.seconds(0, 86400),
        600.0,
    )
    credit_limit: float | None = setting(
        "WAN25_CREDIT_LIMIT",
        "Credits that may be spent in any 24 hours. An edit above the limit is refused before it "
        "is sent.",
        parse.credit_amount,
        shown="no limit",
    )
    credits_per_image: float = setting(
        "WAN25_CREDITS_PER_IMAGE",
        "Price assumed until the provider has reported one.",
        parse.price,
        DEFAULT.credits_per_image,
    )
    confirm_credits: float = setting(
        "WAN25_CONFIRM_CREDITS",
        "`wan25-mcp edit` asks before an edit that costs more credits than this.",
        parse.credit_amount,
        10.0,
    )
    max_in_flight: int | None = setting(
        "WAN25_MAX_IN_FLIGHT",
        "Edits that may run at the same time.",
        parse.count,
        shown="no limit",
    )
    callback_url: str | None = setting(
        "WAN25_CALLBACK_URL",
        "The public https address, path included, where the provider reaches this server when an "
        "edit is done. With an HTTP transport only.",
        parse.callback_url,
    )
    server_token: SecretStr | None = setting(
        "WAN25_SERVER_TOKEN",
        "Bearer token callers must send over HTTP; required beyond loopback.",
        parse.secret,
        secret=True,
    )
    allowed_hosts: tuple[str, ...] = setting(
        "WAN25_ALLOWED_HOSTS",
        "Host names callers may use over HTTP, comma-separated, beyond loopback.",
        parse.names,
        (),
    )
    log_level: LogLevel = setting(
        "WAN25_LOG_LEVEL",
        "Lowest level that is logged to stderr.",
        parse.choice(get_args(LogLevel)),
        "WARNING",
    )
    emulated: str = setting(
        "WAN25_EMULATOR",
        "`1`: run against the built-in emulator. A URL: an emulator already running.",
        parse.switch_or_url,
        "",
    )
    """Empty, `on`, or the URL of an emulator that is already running."""

    # Derived when the settings are read:
    key_problem: str | None = None
    """Why the key that was set is unusable."""
    key_source: str = ""
    """Where the key comes from: a variable, or in words. Empty where a program set it."""
    unknown: tuple[str, ...] = ()
    """Names with the prefix that are not settings, probably misspelt."""

    @classmethod
    def from_mapping(cls, environ: Mapping[str, str], *, emulator: bool = False) -> Settings:
        """Read the settings from environment-like names; an empty one counts as unset.

        Args:
            emulator: Run against the emulator even without `WAN25_EMULATOR`.

        Raises:
            SettingsError: A value is invalid; the message names the variable.
        """
        texts = {row: text for row in SETTINGS if (text := environ.get(row.name, "").strip())}
        found: dict[str, Any] = {}
        for row, text in texts.items():
            try:
                found[row.attribute] = row.read(text)
            except SettingsError as error:
                if row.attribute != "key":
                    raise
                found["key_problem"] = error.message  # without a key the tools are still listed
        if "key" in found:
            found["key_source"] = "WAN25_API_KEY"
        if "key_file" in found and not found.keys() & {"key", "key_problem"}:
            found |= _key_in_file(found["key_file"])
        found["emulated"] = found.get("emulated") or ("on" if emulator else "")
        settings = cls(**found, unknown=_unknown(environ))
        _check_together(settings)
        return settings

    @property
    def emulator(self) -> bool:
        """Whether an emulator stands in for the provider."""
        return bool(self.emulated)

    @property
    def emulator_url(self) -> str | None:
        """The base URL of an emulator that is already running."""
        return self.emulated if "://" in self.emulated else None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that no log line may contain."""
        found = (getattr(self, row.attribute) for row in SETTINGS if row.secret)
        return tuple(value.get_secret_value() for value in found if value is not None)


SETTINGS: Final[tuple[Setting, ...]] = tuple(
    replace(one.metadata["row"], attribute=one.name) for one in fields(Settings) if one.metadata
)
"""Every setting, in the order they are documented."""


def _key_in_file(path: str) -> dict[str, Any]:
    """The key in a file, or why there is none."""
    problem = "is empty"
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            text = file.read(10_000).strip().split("\n")[0].strip()
    except OSError as error:
        text, problem = "", f"cannot be read ({(error.strerror or 'unknown').lower()})"
    except RuntimeError:
        text, problem = "", "cannot be read (no such home directory)"
    except ValueError:
        text, problem = "", "cannot be read (not text)"
    if not text:
        return {"key_problem": f"The file named by WAN25_API_KEY_FILE {problem}."}
    try:
        return {"key": parse.secret(text), "key_source": "WAN25_API_KEY_FILE"}
    except Wrong as wrong:
        return {"key_problem": f"WAN25_API_KEY_FILE {wrong.problem}."}


def _check_together(settings: Settings) -> None:
    """Check the rules that involve several settings.

    Raises:
        SettingsError: Two settings contradict each other.
    """
    longest = settings.max_wait_seconds
    if settings.wait_seconds is not None and settings.wait_seconds > longest:
        raise SettingsError(
            f"WAN25_WAIT_SECONDS is above WAN25_MAX_WAIT_SECONDS, {longest:g} seconds.",
            fix=f"Set WAN25_WAIT_SECONDS to {longest:g} or less, or raise WAN25_MAX_WAIT_SECONDS.",
        )
    link = settings.callback_url
    if link is None or (settings.emulator and is_loopback(urlsplit(link).hostname or "")):
        return
    try:
        check_public(link, schemes=("https",))
    except NotPublic as problem:
        raise SettingsError(
            f"WAN25_CALLBACK_URL {problem}.",
            fix=f"Set WAN25_CALLBACK_URL to {parse.CALLBACK_WANTED}.",
        ) from None


def _unknown(names: Iterable[str]) -> tuple[str, ...]:
    known = {row.name for row in SETTINGS}
    prefixed = (name for name in names if name.upper().startswith(PREFIX))
    return tuple(sorted(name for name in prefixed if name not in known))


def nearest(name: str) -> str | None:
    """The setting that was probably meant by an unknown name."""
    from difflib import get_close_matches  # imported only when a name was misspelt

    # Without the prefix, which would make any two names similar.
    rests = {row.name.removeprefix(PREFIX): row.name for row in SETTINGS}
    found = get_close_matches(name.upper().removeprefix(PREFIX), rests, n=1)
    return rests[found[0]] if found else None
