"""The ASGI app: Streamable HTTP at /mcp or SSE at /sse, behind Host, Origin and token checks.
Callbacks of the provider, which cannot pass these, are taken out in front of them.

The SDK checks Host and Origin by itself on loopback addresses only and checks nothing anywhere
else, so the rules are always passed to it.
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
from wan25_mcp.hosting.bodies import MOST_BODY_BYTES, MOST_HELD_BYTES, BodyBudget
from wan25_mcp.hosting.callbacks import CallbackReceiver
from wan25_mcp.hosting.connections import Admission
from wan25_mcp.hosting.sessions import IDLE_SECONDS, MOST_SESSIONS, SessionBound
from wan25_mcp.settings import Settings

HttpTransport = Literal["streamable-http", "sse"]
PATHS: Final[dict[HttpTransport, str]] = {"streamable-http": "/mcp", "sse": "/sse"}
_TAKEN: Final = ("mcp", "sse", "messages")
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
        SettingsError: Beyond loopback without a token, or callbacks where MCP is.
    """
    require_token_beyond_loopback(host, settings)
    if callbacks:
        _require_path_of_its_own(callbacks.path)
    security = security_for(host, settings)
    app: ASGIApp
    if transport == "sse":
        app = server.sse_app(
            sse_path=PATHS["sse"],
            max_request_body_size=MOST_BODY_BYTES,
            transport_security=security,
        )
    else:
        app = server.streamable_http_app(
            streamable_http_path=PATHS["streamable-http"],
            max_request_body_size=MOST_BODY_BYTES,
            session_idle_timeout=IDLE_SECONDS,
            transport_security=security,
        )
        app = SessionBound(app, MOST_SESSIONS)
    app = Admission(BodyBudget(app, MOST_BODY_BYTES, MOST_HELD_BYTES))
    app = TokenGate(app, settings.server_token) if settings.server_token else app
    app = AddressGate(app, names_for(host, settings))
    return CallbackEntrance(app, callbacks) if callbacks else app


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


def _require_path_of_its_own(path: str) -> None:
    if path.split("/")[1] in _TAKEN:
        raise SettingsError(
            f"WAN25_CALLBACK_URL has the path {path}, where MCP itself is served.",
            fix="Set WAN25_CALLBACK_URL to another path, such as /wan25-callbacks.",
        )


def names_for(host: str, settings: Settings) -> tuple[str, ...]:
    """The names callers may use for us: loopback's, the bound host's, and those configured."""
    bound = f"[{host}]" if ":" in host else host
    return tuple(dict.fromkeys([*_LOOPBACK_NAMES, bound, *settings.allowed_hosts]))


def security_for(host: str, settings: Settings) -> TransportSecuritySettings:
    """The SDK's own checks of Host and Origin. They run behind ours, which are stricter."""
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
    """Sends what is below the callbacks' path there, and everything else on to the gates.

    The receiver passes nothing on, so no spelling of a path gets past the gates this way.
    """

    def __init__(self, app: ASGIApp, callbacks: CallbackReceiver) -> None:
        self._app = app
        self._callbacks = callbacks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._callbacks if self._callbacks.is_below(scope) else self._app
        await app(scope, receive, send)


class AddressGate:
    """Lets a request through whose Host, and Origin if it has one, is one of our names.

    The SDK takes `name:*` for a prefix, so that `localhost:1.evil.example` would pass it.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str]) -> None:
        self._app = app
        # A configured name may carry a port of its own; any other may be used with any port.
        name = "|".join(re.escape(name.lower()) for name in names)
        self._host = re.compile(rf"({name})(:[0-9]{{1,5}})?")
        self._origin = re.compile(rf"https?://({name})(:[0-9]{{1,5}})?")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Headers(scope=scope)) if scope["type"] == "http" else None
        with suppress(ClientDisconnect):  # uvicorn would log a traceback for each who leaves
            await (refusal or self._app)(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or not self._host.fullmatch(hosts[0].lower()):
            return PlainTextResponse("Host not allowed. Add it to WAN25_ALLOWED_HOSTS.", 421)
        if not all(self._origin.fullmatch(origin.lower()) for origin in origins):
            return PlainTextResponse("Origin not allowed.", 403)
        return None


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
