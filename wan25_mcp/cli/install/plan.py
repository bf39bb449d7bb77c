"""What this server needs to know in a client: its settings, and where its key comes from.

The key itself is never written into a client's file. A kept key needs nothing there, so it comes
first: a client that can ask would ask for what is known already.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wan25_mcp.cli.install.client import INPUT, KEY, Client, Entry, Server
from wan25_mcp.keys import kept_key
from wan25_mcp.settings import SETTINGS, Settings

_ELSEWHERE: Final = {
    "WAN25_CALLBACK_URL", "WAN25_ALLOWED_HOSTS", "WAN25_SERVER_TOKEN", "WAN25_CONFIRM_CREDITS", KEY,
}  # fmt: skip
"""Settings of the HTTP transports and of the terminal, and the key."""

_OF_THE_API: Final = frozenset(
    {
        "WAN25_EMULATOR",
        "WAN25_BASE_URL",
        "WAN25_API_KEY_FILE",
        "WAN25_FILES_URL",
        "WAN25_BUCKET_URL",
    }
)
"""Settings that `--emulator` replaces."""

_ASKED: Final = f"${{input:{INPUT['id']}}}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write.

    Args:
        asks: The client asks for the key.
        notes: Sentences about the key and the settings.
    """

    client: Client
    server: Server
    asks: bool
    notes: tuple[str, ...]

    def entry(self, earlier: object) -> Entry:
        """The entry, with what somebody else has added to an earlier one, such as a time limit."""
        new = self.client.entry(self.server)
        if not isinstance(earlier, dict) or not new.keys() & {"command", "cmd"} & earlier.keys():
            return new
        field = self.client.variables
        before = earlier.get(field)
        kept = before if isinstance(before, dict) else {}
        variables = {name: value for name, value in kept.items() if not _is_reference(value)}
        variables |= new.get(field, {})
        merged = {**earlier, **new}
        merged.pop(field, None)
        return {**merged, **({field: variables} if variables or field in new else {})}


def _is_reference(value: object) -> bool:
    """Whether an earlier version of our entry took the key from elsewhere."""
    return (isinstance(value, str) and KEY in value) or value == _ASKED


def plan(
    client: Client, command: tuple[str, ...], environ: Mapping[str, str], *, emulator: bool
) -> Plan:
    """
    Args:
        emulator: Start the server with `--emulator`.

    Raises:
        SettingsError: A setting of this environment is invalid.
    """
    variables, notes = _copied(environ, _OF_THE_API if emulator else frozenset())
    arguments = ["serve", "--emulator"] if emulator else ["serve"]
    key = _key(client, environ, emulator=emulator)
    server = Server(
        command[0],
        (*command[1:], *arguments),
        variables | ({KEY: key.value} if key.value else {}),
        (KEY,) if key.is_passed else (),
    )
    return Plan(client, server, key.value == _ASKED, (*notes, key.note))


@dataclass(frozen=True, slots=True)
class _Key:
    """How the server gets its key: by a value of its variable, or the variable is passed on."""

    note: str
    value: str = ""
    is_passed: bool = False


def _key(client: Client, environ: Mapping[str, str], *, emulator: bool) -> _Key:
    settings = Settings.from_mapping(environ, emulator=emulator)
    if settings.emulator:
        return _Key("No key is needed: the emulator plays the provider, and no edit is real.")
    kept = kept_key.completed(Settings.from_mapping({**environ, KEY: ""}))
    if kept.key:
        return _Key(f"Its key: {kept.key_source}.")
    if client.asks:
        return _Key(f"{client.title} asks for the key when it starts the server.", _ASKED)
    if settings.key is None or not client.passes_variables:
        return _Key("There is no key for it yet. Run `wan25-mcp key set`.")
    note = (
        f"{client.title} passes {KEY} on from the environment that it is started in. "
        "`wan25-mcp key set` keeps the key for every client."
    )
    return _Key(note, client.reference, client.lists_names)


def _copied(
    environ: Mapping[str, str], without: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """The settings of this environment, which a client started from a desktop would not have."""
    given = {row: environ[row.name] for row in SETTINGS if environ.get(row.name, "").strip()}
    given = {row: text for row, text in given.items() if row.name not in {*_ELSEWHERE, *without}}
    copied = {row.name: text for row, text in given.items() if not row.secret}
    if path := copied.get("WAN25_API_KEY_FILE"):  # the one that may be relative to this folder
        copied["WAN25_API_KEY_FILE"] = str(Path(path).expanduser().absolute())
    notes = [f"Copied from this environment: {', '.join(copied)}."] if copied else []
    notes += [
        f"{row.name} holds a secret and was not copied. Set it where the client starts."
        for row in given
        if row.secret
    ]
    return copied, notes
