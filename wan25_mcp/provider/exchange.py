"""One HTTP exchange with the vendor: sent once, read within limits, recorded as it happens.

Also has what all HTTP code shares: the deadline, the bounded body, `Retry-After`, and the causes of
a failed connection in words. Nothing is retried here.
"""

from __future__ import annotations

import email.utils
import json
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

import anyio
import httpx2
from pydantic import SecretStr

from wan25_mcp.errors import SettingsError
from wan25_mcp.provider.models import ErrorBody
from wan25_mcp.redaction import Redactor, one_line

USER_AGENT: Final = f"wan25-mcp/{version('wan25-mcp')}"
"""The result CDN refuses the default names of HTTP libraries."""

TIMEOUTS: Final = httpx2.Timeout(connect=10, write=30, read=60, pool=10)
"""Seconds by phase. The read timeout is long, because giving up on the answer to a submit loses the
id of a paid task."""

_NOT_CHOSEN: Final = httpx2.Timeout(5)
"""What a client has whose maker said nothing about timeouts: too short for a submit."""

MAX_EXCHANGE_SECONDS: Final = 120.0
MAX_BODY_BYTES: Final = 1_000_000
_MAX_REQUESTED_WAIT: Final = 24 * 3600.0


def open_http(
    *,
    proxy: str | httpx2.URL | httpx2.Proxy | None = None,
    verify: ssl.SSLContext | bool = True,
    trust_env: bool = True,
) -> httpx2.AsyncClient:
    """An HTTP client that is safe for paid submits. The caller closes it.

    Idle connections are not kept. The provider may close one at the moment a submit is written to
    it, and that is indistinguishable from an accepted submit whose answer was lost.

    Args:
        proxy: The address of a proxy.
        verify: How certificates are verified, such as by your own authority.
        trust_env: Whether the proxies in the environment are used.
    """
    return httpx2.AsyncClient(
        timeout=TIMEOUTS,
        limits=httpx2.Limits(max_connections=100, max_keepalive_connections=0),
        headers={"User-Agent": USER_AGENT},
        follow_redirects=False,
        proxy=proxy,
        verify=verify,
        trust_env=trust_env,
    )


def check_http(http: object) -> httpx2.AsyncClient:
    """Check that a client of the caller's own is safe for paid submits, as far as can be seen.

    A transport that is not httpx2's own is trusted to send a request at most once, and to raise
    `ConnectError` only if nothing was sent.

    Raises:
        SettingsError: It is no client, is closed, keeps idle connections, or speaks HTTP/2, which
            shares them.
    """
    if not isinstance(http, httpx2.AsyncClient):
        raise _wrong_http("is not an httpx2.AsyncClient")
    if http.is_closed:
        raise _wrong_http("is closed")
    for transport in (http._transport, *http._mounts.values()):  # noqa: SLF001  nothing public
        pool = getattr(transport, "_pool", None)
        if getattr(pool, "_max_keepalive_connections", 0):
            raise _wrong_http(
                "keeps idle connections. A submit that is sent over one may be lost and charged"
            )
        if getattr(pool, "_http2", False):
            raise _wrong_http("speaks HTTP/2, so submits would share a connection")
    return http


def _wrong_http(problem: str) -> SettingsError:
    return SettingsError(
        f"The HTTP client {problem}.",
        fix="Make it with wan25_mcp.open_http(), which takes a proxy and certificates, or with "
        "httpx2.AsyncClient(limits=httpx2.Limits(max_keepalive_connections=0)).",
    )


@dataclass(slots=True)
class Exchange:
    """What was actually sent and read of one request.

    Args:
        redact: Hides secrets in the provider's texts.
    """

    redact: Redactor
    sent: bool = False
    status: int | None = None
    headers: httpx2.Headers = field(default_factory=httpx2.Headers)
    body: bytes = b""

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Record when sending the request begins. The transport reports each phase.

        The CONNECT request to a proxy does not count.
        """
        if event.endswith("send_request_headers.started"):
            self.sent = getattr(info.get("request"), "method", None) != b"CONNECT"

    @property
    def request_id(self) -> str | None:
        found = self.headers.get("x-request-id") or self.headers.get("x-oneapi-request-id")
        return one_line(self.redact(found), 200) if found else None

    @property
    def json(self) -> Any:
        """The body as JSON, or None if it is not JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def error(self) -> ErrorBody:
        """The body as an error; an empty error if it is not one."""
        return ErrorBody.model_validate(self.json, context=self.context)

    @property
    def context(self) -> dict[str, Any]:
        """The context for validating the provider's answers."""
        return {"redact": self.redact}

    @property
    def requested_wait(self) -> float | None:
        """Seconds that the provider asks to wait: `Retry-After`, else its suggestion in words."""
        requested = requested_wait(self.headers)
        return self.error.wait_seconds if requested is None else requested


async def send(
    http: httpx2.AsyncClient,
    exchange: Exchange,
    method: str,
    url: str,
    *,
    key: SecretStr,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_BODY_BYTES,
    **content: Any,
) -> None:
    """Send and read one request, recording each step in `exchange` as it happens.

    `content` is passed to httpx: `json`, `data`, `files`.

    Raises:
        httpx2.HTTPError: It failed; `exchange` records how much was sent and read.
    """
    if http.is_closed:
        raise httpx2.LocalProtocolError("The HTTP client is closed")
    content |= _options(http, key, headers or {})
    trace = {"trace": exchange.trace}
    async with _deadline(), http.stream(method, url, extensions=trace, **content) as response:
        exchange.sent = True
        exchange.status = response.status_code
        exchange.headers = response.headers
        exchange.body = await read_bounded(response.aiter_bytes(), max_bytes)


def _options(
    http: httpx2.AsyncClient, key: SecretStr, headers: Mapping[str, str]
) -> dict[str, Any]:
    """What is the same for every request. The client may be the caller's own: with other defaults,
    or with another authentication."""
    usual = {
        "Authorization": f"Bearer {key.get_secret_value()}",
        "Accept": "application/json",
        "User-Agent": USER_AGENT,
    }
    return {
        "headers": {**usual, **headers},
        "follow_redirects": False,
        "timeout": TIMEOUTS if http.timeout == _NOT_CHOSEN else http.timeout,
        "auth": None,
    }


@asynccontextmanager
async def _deadline() -> AsyncIterator[None]:
    """Limit the whole exchange: timeouts by phase never end an answer that arrives byte by byte.

    An unusable address becomes an HTTPError too; on trio it raises a UnicodeError.
    """
    try:
        with anyio.fail_after(MAX_EXCHANGE_SECONDS):
            yield
    except TimeoutError:
        raise httpx2.ReadTimeout("The exchange took too long") from None
    except (httpx2.InvalidURL, UnicodeError):
        raise httpx2.UnsupportedProtocol("The address cannot be used") from None


class TooLarge(httpx2.RemoteProtocolError):
    """A body above its size limit."""


async def read_bounded(chunks: AsyncGenerator[bytes, None], max_bytes: int) -> bytes:
    """Read a body from httpx's `aiter_bytes` or `aiter_raw`.

    Raises:
        TooLarge: It is above the limit; the rest is not read.
    """
    found = bytearray()
    async with aclosing(chunks):
        async for chunk in chunks:
            found += chunk
            if len(found) > max_bytes:
                raise TooLarge("The answer is too large")
    return bytes(found)


def requested_wait(headers: httpx2.Headers) -> float | None:
    """Seconds that `Retry-After` asks for, in either form, at most a day."""
    header = headers.get("retry-after", "").strip()
    if header.isascii() and header.isdigit() and len(header) < 10:
        return min(float(header), _MAX_REQUESTED_WAIT)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return min(max(moment.timestamp() - time.time(), 0.0), _MAX_REQUESTED_WAIT)


NO_CONNECTION: Final = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.ProxyError,
    httpx2.UnsupportedProtocol,
)
"""The errors of a provider that cannot be reached."""

_CAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (httpx2.ConnectTimeout, "connecting took too long"),
    (httpx2.ReadTimeout, "it took too long to answer"),
    (httpx2.WriteTimeout, "sending took too long"),
    (httpx2.PoolTimeout, "too many requests at once"),
    (httpx2.ProxyError, "the proxy refused"),
    (httpx2.ConnectError, "no connection"),
    (httpx2.UnsupportedProtocol, "the address cannot be used"),
    (httpx2.LocalProtocolError, "the request could not be formed"),
    (httpx2.ProtocolError, "the connection closed before the answer was complete"),
    (httpx2.NetworkError, "the connection broke"),
)


def cause_of(error: httpx2.HTTPError) -> str:
    """The cause in a few words. A library's own text is not used: it may quote headers."""
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__name__ == "SSLCertVerificationError":
            return "the server's certificate could not be verified"
        chain = chain.__cause__ or chain.__context__
    return next(
        (words for kind, words in _CAUSES if isinstance(error, kind)), "the connection failed"
    )
