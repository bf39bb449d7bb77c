"""Links that add this server to a client with one click, with what `install` would write."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from wan25_mcp.cli.install.client import INPUT, KEY, NAME, Client, Server
from wan25_mcp.cli.install.launch import PUBLISHED


def published(client: Client) -> Server:
    """How a client starts this server from the package index.

    The key is asked for where the client can, and kept (`wan25-mcp key set`) elsewhere.
    """
    command, *arguments = PUBLISHED
    asked = {KEY: f"${{input:{INPUT['id']}}}"} if client.asks else {}
    return Server(command, (*arguments, "serve"), asked)


def link(client: Client) -> str:
    """The link that opens the client itself."""
    return _filled(client, client.link)


def web_link(client: Client) -> str:
    """The web page that opens the client, for places that allow no other links."""
    return _filled(client, client.web_link)


def _filled(client: Client, template: str) -> str:
    entry = client.entry(published(client))
    if not client.asks:  # the form of Cursor, and of LM Studio, which follows it
        config = base64.b64encode(_json(entry)).decode()
        return template.format(name=NAME, config=quote(config, safe=""))
    if "{name}" not in template:
        whole = _json({"name": NAME, **entry, "inputs": [INPUT]})
        return template.format(config=quote(whole, safe=""))
    filled = template.format(name=NAME, config=quote(_json(entry), safe=""))
    return f"{filled}&inputs={quote(_json([INPUT]), safe='')}"


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
