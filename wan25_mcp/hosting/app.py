"""The ASGI app: Streamable HTTP at /mcp or SSE at /sse, behind Host, Origin and token checks.
The provider's callbacks cannot pass these checks, so they are routed before them.

By default the SDK checks Host and Origin on loopback addresses only, so the rules are always
passed to it.
"""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Literal

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import SecretStr
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from wan25_mcp.errors import SettingsError
from wan25_mcp.hosting.bodies import MAX_BODY_BYTES, MAX_HELD_BYTES, BodyBudget
from wan25_mcp.hosting.callbacks import CallbackReceiver
from wan25_mcp.hosting.connections import Admission
from wan25_mcp.hosting.sessions import IDLE_SECONDS, MAX_SESSIONS, SessionLimit
from wan25_mcp.settings import Settings

HttpTransport = Literal["streamable-http", "sse"]
PATHS: Final[dict[HttpTransport, str]] = {"streamable-http": "/mcp", "sse": "/sse"}
_MCP_SEGMENTS: Final = ("mcp", "sse", "messages")
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")


def create_app(
    server: MCPServer[Any],
    transport: HttpTransport,
    *,
    host: str,
    settings: Settings,
    callbacks: CallbackReceiver | None = None,
) -> ASGIApp:
    """The app that serves `server` on `host`, and `callbacks` if given.

    Raises:
        SettingsError: The host is beyond loopback and there is no token, or the callbacks' path is
            one of MCP.
    """
    require_token_beyond_loopback(host, settings)
    if callbacks:
        _require_path_of_its_own(callbacks.path)
    app = Admission(
        BodyBudget(
            _mcp_app(server, transport, security_for(host, settings)),
            MAX_BODY_BYTES,
            MAX_HELD_BYTES,
        )
    )
    gated: ASGIApp = TokenGate(app, settings.server_token) if settings.server_token else app
    gated = AddressGate(gated, names_for(host, settings))
    return CallbackEntrance(gated, callbacks) if callbacks else gated


def _mcp_app(
    server: MCPServer[Any], transport: HttpTransport, security: TransportSecuritySettings
) -> ASGIApp:
    """The SDK's app for a transport."""
    if transport == "sse":
        return server.sse_app(
            sse_path=PATHS["sse"],
            max_request_body_size=MAX_BODY_BYTES,
            transport_security=security,
        )
    app = server.streamable_http_app(
        streamable_http_path=PATHS["streamable-http"],
        max_request_body_size=MAX_BODY_BYTES,
        session_idle_timeout=IDLE_SECONDS,
        transport_security=security,
    )
    return SessionLimit(app, MAX_SESSIONS)


def is_loopback(host: str) -> bool:
    """Whether an address to bind is reachable from this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_token_beyond_loopback(host: str, settings: Settings) -> None:
    """Refuse to listen beyond loopback without a token: strangers could spend the credits."""
    if settings.server_token is None and not is_loopback(host):
        raise SettingsError(
            f"Refusing to listen on {host} without a token: anyone who reaches it could spend "
            "your credits.",
            fix="Set WAN25_SERVER_TOKEN (callers send it as a bearer token), or listen on "
            "127.0.0.1.",
        )


def _require_path_of_its_own(path: str) -> None:
    if path.split("/")[1] in _MCP_SEGMENTS:
        raise SettingsError(
            f"WAN25_CALLBACK_URL has the path {path}, where MCP itself is served.",
            fix="Set WAN25_CALLBACK_URL to another path, such as /wan25-callbacks.",
        )


def names_for(host: str, settings: Settings) -> tuple[str, ...]:
    """The host names that callers may use: loopback, the bound host, and those configured."""
    bound = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys([*_LOOPBACK_NAMES, bound, *settings.allowed_hosts]))


def security_for(host: str, settings: Settings) -> TransportSecuritySettings:
    """The SDK's own checks of Host and Origin, behind `AddressGate`, which is stricter."""
    names = names_for(host, settings)
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


class CallbackEntrance:
    """Routes requests below the callbacks' path to the receiver, and all others to the gates.

    The receiver forwards nothing, so no spelling of a path can bypass the gates this way.
    """

    def __init__(self, app: ASGIApp, callbacks: CallbackReceiver) -> None:
        self._app = app
        self._callbacks = callbacks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._callbacks if self._callbacks.is_below(scope) else self._app
        await app(scope, receive, send)


class AddressGate:
    """Requires that Host, and Origin if there is one, is an allowed name.

    The SDK reads `name:*` as a prefix, so `localhost:1.evil.example` would pass its check.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        # A configured name may include a port. Without one, any port is allowed.
        name = "|".join(re.escape(name.lower()) for name in names)
        self._host = re.compile(rf"({name})(:[0-9]{{1,5}})?")
        self._origin = re.compile(rf"https?://({name})(:[0-9]{{1,5}})?")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        with suppress(ClientDisconnect):  # uvicorn would log a traceback for each
            await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._host.fullmatch(hosts[0].lower()):
            return PlainTextResponse("Host not allowed. Add it to WAN25_ALLOWED_HOSTS.", 421)
        if not all(self._origin.fullmatch(origin.lower()) for origin in origins):
            return PlainTextResponse("Origin not allowed.", 403)
        return None


class TokenGate:
    """Requires the configured bearer token."""

    def __init__(self, app: ASGIApp, token: SecretStr) -> None:
        self._app = app
        self._expected = f"Bearer {token.get_secret_value()}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open_to(scope):
            refusal = JSONResponse(
                {"error": "Send this server's bearer token in the Authorization header."},
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
