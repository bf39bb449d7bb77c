"""What this server needs to know in a client: its settings, and where its key comes from.

The key itself is never written into a client's file. A kept key needs nothing there, so it comes
first: a client that can ask would ask for what is known already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from wan25_mcp.cli import kept_key
from wan25_mcp.cli.install.client import INPUT, KEY, Client, Entry, Server
from wan25_mcp.settings import SETTINGS, Settings

_ELSEWHERE: Final = {
    "WAN25_CALLBACK_URL", "WAN25_ALLOWED_HOSTS", "WAN25_SERVER_TOKEN", "WAN25_CONFIRM_CREDITS", KEY,
}  # fmt: skip
"""Settings of the HTTP transports and of the terminal, and the key."""


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
        kept = (
            {name: value for name, value in before.items() if not _is_reference(value)}
            if (isinstance(before, dict))
            else {}
        )
        variables = {**kept, **new.get(field, {})}
        merged = {**earlier, **new}
        merged.pop(field, None)
        return {**merged, **({field: variables} if variables or field in new else {})}


def _is_reference(value: object) -> bool:
    """Whether an earlier version of our entry took the key from elsewhere."""
    return (isinstance(value, str) and KEY in value) or value == f"${{input:{INPUT['id']}}}"


def plan(
    client: Client, command: tuple[str, ...], environ: Mapping[str, str], *, emulator: bool
) -> Plan:
    """
    Args:
        emulator: Start the server with `--emulator`.

    Raises:
        SettingsError: A setting of this environment is invalid.
    """
    settings = Settings.from_mapping(environ, emulator=emulator)
    variables, notes = _copied(environ)
    if emulator:
        variables.pop("WAN25_EMULATOR", None)
    passes: tuple[str, ...] = ()
    kept = kept_key.completed(Settings.from_mapping({**environ, KEY: ""}, emulator=emulator))
    asks = client.asks and not kept.key and not settings.emulator
    if settings.emulator:
        notes.append("No key is needed: the emulator plays the provider, and no edit is real.")
    elif kept.key:
        notes.append(f"The key is {kept.key_source}." if "kept" in kept.key_source else
                     f"The key comes from {kept.key_source}.")  # fmt: skip
    elif asks:
        variables[KEY] = f"${{input:{INPUT['id']}}}"
        notes.append(f"{client.title} asks for the key when it starts the server.")
    elif settings.key and client.passes_variables:
        if client.lists_names:
            passes = (KEY,)
        else:
            variables[KEY] = client.reference
        notes.append(
            f"{client.title} passes {KEY} on from the environment that it is started in. "
            "`wan25-mcp key set` keeps the key for every client."
        )
    else:
        notes.append("There is no key for it yet. Run `wan25-mcp key set`.")
    server = Server(command[0], (*command[1:], "serve", *(["--emulator"] if emulator else [])),
                    variables, passes)  # fmt: skip
    return Plan(client, server, asks, tuple(notes))


def _copied(environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The settings of this environment, which a client started from a desktop would not have."""
    given = {row: environ[row.name] for row in SETTINGS if environ.get(row.name, "").strip()}
    given = {row: text for row, text in given.items() if row.name not in _ELSEWHERE}
    copied = {row.name: text for row, text in given.items() if not row.secret}
    notes = [f"Set as in this environment: {', '.join(copied)}."] if copied else []
    notes += [
        f"{row.name} holds a secret and was not copied. Set it where the client starts."
        for row in given
        if row.secret
    ]
    return copied, notes
