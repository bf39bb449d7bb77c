"""The documents' parts about installing, from the rows of the clients."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Final

from scripts import one_click
from scripts.markdown import block, table
from scripts.project import ADDRESS, repository
from wan25_mcp.cli.install.change import snippet
from wan25_mcp.cli.install.client import KEY, NAME, Client
from wan25_mcp.cli.install.clients import CLIENTS
from wan25_mcp.cli.install.places import Machine, System
from wan25_mcp.cli.install.plan import Plan


def install() -> str:
    """From nothing to a client that has the server: the lines, and a table by client."""
    lines = [
        f"uv tool install {'wan25-mcp' if repository() else '.'}",
        "wan25-mcp key set               # tries the key for free, and keeps it for every client",
        "wan25-mcp install claude-code   # or another client of the table",
    ]
    rows = [
        (client.title, f"`wan25-mcp install {client.name}`", _one_click(client))
        for client in CLIENTS
    ]
    parts = [
        f"{'With' if repository() else 'From a checkout, with'} [uv](https://docs.astral.sh/uv/) "
        "(or with the `.venv/bin/wan25-mcp` of above):",
        block("sh", "\n".join(lines)),
        "If `wan25-mcp` is not found, run `uv tool update-shell` and open a new terminal.",
        *(
            []
            if repository()
            else [
                "Nothing is published yet: there is no address to `git clone`, and the one-click "
                "links do not work."
            ]
        ),
        table(("Client", "One command", "One click"), rows),
    ]
    return "\n\n".join(parts)


def _one_click(client: Client) -> str:
    if client.name == "claude-desktop":
        latest = "/releases/latest/download/wan25-mcp.mcpb"
        address = repository()
        return f"[bundle]({f'{address}{latest}' if address else 'docs/install.md#the-bundle'})"
    return f"[add to {client.title}]({one_click.web_link(client)})" if client.web_link else ""


def clients() -> str:
    """Each client: where its configuration is, what to write there, and what to do then."""
    origin = f"--from git+{repository() or ADDRESS}"
    parts = [
        "`uvx wan25-mcp` runs the newest release without installing it, and "
        f"`uvx {origin} wan25-mcp` the repository's own state. Write the absolute path of "
        "`wan25-mcp` instead if it is installed.",
        *([] if repository() else [_unpublished(origin)]),
        *map(_client, CLIENTS),
    ]
    return "\n\n".join(parts)


def _unpublished(origin: str) -> str:
    return (
        f"Nothing is published yet: {ADDRESS} is where you have this repository from. Until it is, "
        f"write `uvx {origin} wan25-mcp` or that path."
    )


def _client(client: Client) -> str:
    server = one_click.published(client)
    entry = json.dumps({"name": NAME, **client.entry(server)})
    own = client.own_command.format(line=" ".join(server.line), json=entry)
    ways = [f"wan25-mcp install {client.name}", *([own] if own else [])]
    by_hand = f"By hand, in {_places(client)} ([source]({client.source})):"
    parts = [
        f"### {client.title}",
        block("sh", "\n".join(ways)),
        by_hand,
        block(client.format, snippet(Plan(client, server, client.asks, ()))),
        f"{client.afterwards}{_key_in(client)}",
    ]
    if client.link:
        parts.append(f"[One click]({one_click.web_link(client)}), or the link itself:")
        parts.append(block("text", one_click.link(client)))
    return "\n\n".join(parts)


_SYSTEMS: Final[tuple[tuple[System, str], ...]] = (
    ("linux", "Linux"),
    ("macos", "macOS"),
    ("windows", "Windows"),
)


def _places(client: Client) -> str:
    """Its configuration on each system, and the variables that move it."""
    paths: dict[str, list[str]] = {}
    for system, name in _SYSTEMS:
        paths.setdefault(_place(client, system), []).append(name)
    shown = [f"`{path}` ({' and '.join(systems)})" for path, systems in paths.items()]
    moved = sorted({name for one in client.overrides for name in re.findall(r"{([A-Z_]+)}", one)})
    return ", ".join(shown) + (f", unless {' or '.join(moved)} moves it" if moved else "")


def _place(client: Client, system: System) -> str:
    environ = {"APPDATA": "/%APPDATA%"} if system == "windows" else {}
    path = str(client.path(Machine(system, Path("/~"), environ)))[1:]
    if system != "windows":
        return path
    return path.replace("~", "%USERPROFILE%").replace("/", "\\")


def _key_in(client: Client) -> str:
    if client.asks:
        return " It asks for the key once; leave the answer empty if the key is kept."
    if client.lists_names:
        field = "env_vars =" if client.format == "toml" else "env_keys:"
        return f' To pass the key on: `{field} ["{KEY}"]`.'
    if client.reference:
        return f' To pass the key on: `"{client.variables}": {{"{KEY}": "{client.reference}"}}`.'
    return " It passes no variables on, so keep the key with `wan25-mcp key set`."
