"""Who calls: the connection and the client behind a request, in both protocol eras."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

from mcp.server.mcpserver import Context
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from wan25_mcp.outputs.previews import is_client
from wan25_mcp.server.patience import Caller

PATIENT: Final = {
    "claude-code": "30 minutes over stdio, 5 minutes over HTTP, restarted by progress",
    "codex-mcp-client": "5 minutes",
    "gemini-cli-mcp-client": "10 minutes",
    "goose": "5 minutes",
}
"""Clients that wait for minutes by default, and how long. From the code of released clients, as of
November 2026. One that asks for no progress is another program of that name, or an old one."""


class _Identity:
    """A hashable stand-in for an object: equal only for the same one, which it keeps alive."""

    __slots__ = ("_of",)

    def __init__(self, of: object) -> None:
        self._of = of

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other._of is self._of

    def __hash__(self) -> int:
        return id(self._of)


def caller_of(context: Context[Any, Any]) -> Caller:
    """Who makes a request."""
    request = context.request_context
    client = request.session.client_params
    name = client.client_info.name.strip().lower()[:100] if client else ""
    asks_for_progress = "progress_token" in (request.meta or {})
    return Caller(
        connection=_connection(context, name),
        name=name,
        is_patient=asks_for_progress and any(is_client(name, known) for known in PATIENT),
    )


def _connection(context: Context[Any, Any], name: str) -> Hashable:
    """What identifies a connection.

    In the older protocol that is what the client said when it connected: an object for each
    connection or session. In the newer one every request stands alone. Over stdio they are all of
    one client. Over HTTP, the client's name and address are all there is.
    """
    request = context.request_context
    client = request.session.client_params
    if client is not None and request.session.protocol_version not in MODERN_PROTOCOL_VERSIONS:
        return _Identity(client)
    peer = getattr(request.request, "client", None)
    return (name, getattr(peer, "host", None))
