"""What is known of a client, and how it starts this server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from wan25_mcp.cli.install.places import Machine, System

NAME: Final = "wan25"
"""The name of this server in every configuration."""

KEY: Final = "WAN25_API_KEY"
INPUT: Final[dict[str, object]] = {
    "type": "promptString",
    "id": "wan25-key",
    "description": "wan2.5 API key",
    "password": True,
}
"""How VS Code asks for the key. It keeps the answer in the system's keyring."""

Format = Literal["json", "toml", "yaml"]
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Server:
    """How a client starts this server.

    Args:
        variables: What it sets in the server's environment.
        passes: Variables of its own environment that it passes on, for clients that list names.
    """

    command: str
    arguments: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    passes: tuple[str, ...] = ()

    @property
    def line(self) -> tuple[str, ...]:
        return (self.command, *self.arguments)


def common(server: Server) -> Entry:
    """The entry as most clients have it."""
    return {
        "command": server.command,
        "args": list(server.arguments),
        **({"env": dict(server.variables)} if server.variables else {}),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """One client.

    Args:
        file: Template of the path of its configuration (`places.Machine.path`).
        source: Where the facts are from.
        afterwards: What to do for the change to take effect.
        mark: Template of a folder that is there where the client is. The default is the file's.
        section: Where the servers are in the file.
        overrides: Templates that take precedence where the variable they name is set.
        elsewhere: Templates for other systems.
        older: A template that counts if there is a file there and none at `file`.
        programs: Commands that show that the client is installed.
        variables: The name of the entry's field that has the variables.
        reference: How a value takes a variable of the client's own environment. One that the client
            leaves as it is when the variable is unset would be an unusable key.
        lists_names: The entry lists the variables that are passed on.
        asks: The client can ask for the key.
        link: A link that adds the server, with the fields `name` and `config`.
        web_link: The same as a web page that opens it, for places that allow no other links.
        own_command: The client's own command for it, with the fields `line` and `json`.
    """

    name: str
    title: str
    file: str
    source: str
    afterwards: str
    mark: str = ""
    section: tuple[str, ...] = ("mcpServers",)
    format: Format = "json"
    entry: Callable[[Server], Entry] = common
    overrides: tuple[str, ...] = ()
    elsewhere: Mapping[System, str] = field(default_factory=dict)
    older: str = ""
    programs: tuple[str, ...] = ()
    variables: str = "env"
    reference: str = ""
    lists_names: bool = False
    asks: bool = False
    link: str = ""
    web_link: str = ""
    own_command: str = ""

    def _overridden(self, machine: Machine) -> Path | None:
        return next(filter(None, map(machine.path, self.overrides)), None)

    def path(self, machine: Machine) -> Path:
        """Its configuration on a machine, whether or not there is a file."""
        if overridden := self._overridden(machine):
            return overridden
        usual = machine.path(self.elsewhere.get(machine.system, self.file))
        older = machine.path(self.older) if self.older else None
        assert usual is not None  # noqa: S101  it names no variable that could be unset
        return older if older and older.is_file() and not usual.is_file() else usual

    def folder(self, machine: Machine) -> Path:
        """The folder that is there where the client is."""
        is_usual = self.mark and not self._overridden(machine)
        return (is_usual and machine.path(self.mark)) or self.path(machine).parent

    def is_on(self, machine: Machine) -> bool:
        """Whether the client is on a machine."""
        search = machine.environ.get("PATH", "")
        return (
            self.path(machine).is_file()
            or self.folder(machine).is_dir()
            or any(shutil.which(program, path=search) for program in self.programs)
        )

    @property
    def passes_variables(self) -> bool:
        return bool(self.reference or self.lists_names)
