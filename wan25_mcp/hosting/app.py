"""The ASGI app: Streamable HTTP at /mcp or SSE at /sse, behind Host, Origin and token checks.

The SDK checks Host and Origin by itself on loopback addresses only and checks nothing anywhere
else, so the rules are always passed to it.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any, Final, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import SecretStr
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from wan25_mcp.errors import SettingsError
from wan25_mcp.settings import Settings

HttpTransport = Literal["streamable-http", "sse"]
PATHS: Final[dict[HttpTransport, str]] = {"streamable-http": "/mcp", "sse": "/sse"}
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


def create_app(
    server: MCPServer[Any], transport: HttpTransport, *, host: str, settings: Settings
) -> ASGIApp:
    """The app that serves `server` on `host`.

    Raises:
        SettingsError: Beyond loopback without a token.
    """
    require_token_beyond_loopback(host, settings)
    security = security_for(host, settings)
    app: ASGIApp
    if transport == "sse":
        app = server.sse_app(sse_path=PATHS["sse"], transport_security=security)
    else:
        app = server.streamable_http_app(
            streamable_http_path=PATHS["streamable-http"], transport_security=security
        )
    return TokenGate(app, settings.server_token) if settings.server_token else app


def is_loopback(host: str) -> bool:
    """Whether an address to bind is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_token_beyond_loopback(host: str, settings: Settings) -> None:
    """Refuse to let strangers spend the operator's credits."""
    if settings.server_token is None and not is_loopback(host):
        raise SettingsError(
            f"Refusing to listen on {host} without a token: anyone who reaches it could spend "
            "your credits.",
            fix="Set WAN25_SERVER_TOKEN (callers send it as a bearer token), or listen on "
            "127.0.0.1.",
        )


def security_for(host: str, settings: Settings) -> TransportSecuritySettings:
    """The Host and Origin headers accepted: loopback's, the bound host's, and those configured."""
    bound = f"[{host}]" if ":" in host else host
    names = [*dict.fromkeys([*_LOOPBACK_NAMES, bound, *settings.allowed_hosts])]
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[form for name in names for form in (name, f"{name}:*")],
        allowed_origins=[
            form
            for name in names
            for scheme in ("http", "https")
            for form in (f"{scheme}://{name}", f"{scheme}://{name}:*")
        ],
    )


class TokenGate:
    """Lets a request through that carries the configured bearer token."""

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app = app
        self._expected = f"Bearer {token.get_secret_value()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open_to(scope):
            refusal = JSONResponse(
                {"error": "This server needs its bearer token in the Authorization header."},
                status_code=401,
                headers={"WWW-Authenticate": 'Bearer realm="wan25-mcp"'},
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _is_open_to(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name.lower() == b"authorization"]
        return len(given) == 1 and hmac.compare_digest(_canonical(given[0]), self._expected)


def _canonical(header: bytes) -> bytes:
    scheme, _, token = header.partition(b" ")
    return b"Bearer " + token.strip() if scheme.lower() == b"bearer" else header
