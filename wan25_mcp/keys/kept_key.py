"""The API key that `wan25-mcp key set` keeps, for when the environment has none.

It is kept together with the address it was set for, and used for no other: a host that changes
WAN25_BASE_URL must not send it there. The file says where the key is, so that the keyring, which is
slow to import and may ask for a password, is only opened when the key is in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import platformdirs
from pydantic import SecretStr

from wan25_mcp import setting_parsers as parse
from wan25_mcp.errors import SettingsError
from wan25_mcp.keys import keyring_store, private_file
from wan25_mcp.settings import Settings
from wan25_mcp.url_safety import same_address

_ELSEWHERE: Final = (
    "Set WAN25_API_KEY, or WAN25_API_KEY_FILE to the path of a file that holds the key."
)
_KEYRING: Final = "the system's keyring"


class Unusable(Exception):
    """Why the kept key cannot be used: a sentence without a key in it."""


@dataclass(frozen=True, slots=True)
class KeptKey:
    """A kept key.

    Args:
        address: The base URL that it was set for.
        place: Where it is, in words.
    """

    key: SecretStr
    address: str
    place: str


def path() -> Path:
    """The file that has the key."""
    return platformdirs.user_config_path("wan25-mcp") / "key.json"


def completed(settings: Settings) -> Settings:
    """The settings with the kept key, where they have none and it is for their API."""
    if settings.emulator or settings.key is not None or settings.key_problem is not None:
        return settings
    try:
        kept = read()
    except Unusable as unusable:
        return replace(settings, key_problem=str(unusable))
    if kept is None:
        return settings
    if kept.address != same_address(settings.base_url):
        problem = f"The kept key is for {kept.address}, and WAN25_BASE_URL names another API."
        return replace(settings, key_problem=problem)
    return replace(settings, key=kept.key, key_source=kept.place)


def read() -> KeptKey | None:
    """The kept key; None if there is none.

    Raises:
        Unusable: It is there, and cannot be used.
    """
    place = path()
    if not place.is_absolute():  # no home directory
        return None
    try:
        content = private_file.read(place)
    except private_file.NotPrivate as error:
        raise Unusable(f"The kept key is not used, because {error.problem}.") from None
    except OSError as error:
        raise Unusable(f"The kept key cannot be read: {_reason(error)} ({place}).") from None
    return None if content is None else _kept(content, place)


def _kept(content: bytes, place: Path) -> KeptKey:
    try:
        found: Any = json.loads(content)
        address = found["base_url"]
        if found.get("in_keyring"):
            return KeptKey(parse.secret(keyring_store.get(address)), address, f"kept in {_KEYRING}")
        return KeptKey(parse.secret(found["key"]), address, f"kept in {place}")
    except keyring_store.KeyringUnusable as error:
        raise Unusable(f"The kept key cannot be read from {_KEYRING}: {error}.") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Unusable(f"{place} does not hold a key as `wan25-mcp key set` writes it.") from None


def keep(key: SecretStr, base_url: str) -> str:
    """Keep a key in place of an earlier one: in the keyring if it works, else in the file.

    Returns where, in words.

    Raises:
        SettingsError: It cannot be kept; an earlier one is as it was.
    """
    address, text = same_address(base_url), key.get_secret_value()
    try:
        keyring_store.put(address, text)
    except keyring_store.KeyringUnusable:
        _write({"base_url": address, "key": text})
        return f"the file {path()}"
    _write({"base_url": address, "in_keyring": True})
    return _KEYRING


def _write(record: dict[str, Any]) -> None:
    """
    Raises:
        SettingsError: It cannot be written; an earlier file is as it was.
    """
    place = path()
    try:
        if not place.is_absolute():
            raise FileNotFoundError(2, "No home directory")
        private_file.write(place, json.dumps(record).encode())
    except private_file.NotPrivate as error:
        problem = f"The key was not kept, because {error.problem}."
        raise SettingsError(problem, fix=f"{error.fix} Then run it again.") from None
    except OSError as error:
        problem = f"The key cannot be kept in {place.parent} ({_reason(error)})."
        raise SettingsError(problem, fix=_ELSEWHERE) from None


def remove() -> str | None:
    """Delete the kept key, usable or not. Returns where it was; None if there was none.

    Raises:
        SettingsError: It cannot be deleted.
    """
    place = path()
    try:
        address = _address_in_keyring(private_file.read(place))
        if address is not None:
            keyring_store.delete(address)
        private_file.remove(place)
    except FileNotFoundError:
        return None
    except keyring_store.KeyringUnusable as error:
        problem = f"The kept key cannot be removed from {_KEYRING}: {error}."
        raise SettingsError(problem, fix=f"Remove it there, then delete {place}.") from None
    except OSError as error:
        raise SettingsError(
            f"The kept key cannot be removed ({_reason(error)}).", fix=f"Delete {place} yourself."
        ) from None
    return f"the file {place}" if address is None else _KEYRING


def _address_in_keyring(content: bytes | None) -> str | None:
    """The API whose key is in the keyring, by the content of the file."""
    try:
        found: Any = json.loads(content or b"{}")
        return str(found["base_url"]) if found.get("in_keyring") else None
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None


def _reason(error: OSError) -> str:
    if isinstance(error, private_file.NotPrivate):
        return error.problem
    return (error.strerror or "unknown").lower()
