"""Connects to checked addresses only, so that the address that was checked is the one connected to.

A name is resolved once, all its addresses are checked, and the connection is made to one of these
addresses. A DNS answer that changes in between has no effect. TLS still checks the certificate
against the name. This module does not deal with images, links or redirects.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import httpx2

from wan25_mcp.url_safety import NotPublic, is_public

if TYPE_CHECKING:
    import ssl

    import httpcore2

MAX_ADDRESSES: Final = 4
NEXT_ADDRESS_SECONDS: Final = 3.0
"""The connect timeout of every address except the last, which has the request's own timeout."""

TRUSTED_ORIGIN: Final = "wan25_trusted_origin"
"""The request extension that names the origin (as `url_safety.origin_of` writes it) whose addresses
need not be public."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host and port, as texts."""


class Internal(NotPublic):
    """The name is public, but an address that it resolved to is not."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the operating system resolves it."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Connects to checked addresses, and to a trusted origin at any address.

    Args:
        dial: Opens connections to addresses, and to trusted hosts by name.
        tls: The context that checks certificates.
        next_after: Seconds to wait for an address before trying the next one.
    """

    def __init__(
        self,
        *,
        resolve: Resolve = resolve,
        dial: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
        next_after: float = NEXT_ADDRESS_SECONDS,
    ) -> None:
        import httpcore2  # imports trio if it is installed, which is too slow for start-up

        self._resolve = resolve
        self._next_after = next_after
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=tls or httpx2.create_ssl_context(),
            network_backend=dial,
            max_connections=20,
            max_keepalive_connections=0,  # so that each download checks its address
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        port = url.port or {"http": 80, "https": 443}.get(url.scheme, 0)
        if f"{url.scheme}://{url.host}:{port}" == request.extensions.get(TRUSTED_ORIGIN):
            return await self._send_to(url.raw_host, request)
        *others, last = await self._addresses(request, port)
        for address in others:
            with contextlib.suppress(httpx2.ConnectError, httpx2.ConnectTimeout):
                return await self._send_to(address.encode(), request, self._next_after)
        return await self._send_to(last.encode(), request)

    async def _send_to(
        self, host: bytes, request: httpx2.Request, connect_limit: float = math.inf
    ) -> httpx2.Response:
        """Send to one host. The `Host` header and the certificate's name stay those of the link."""
        import httpcore2

        url, timeout = request.url, dict(request.extensions.get("timeout", {}))
        if (timeout.get("connect") or math.inf) > connect_limit:
            timeout["connect"] = connect_limit
        name = url.raw_host.decode("ascii")
        pinned = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=url.raw_scheme, host=host, port=url.port, target=url.raw_path),
            headers=request.headers.raw,
            content=cast("httpx2.AsyncByteStream", request.stream),
            extensions={**request.extensions, "timeout": timeout, "sni_hostname": name},
        )
        with _as_httpx2():
            answer = await self._pool.handle_async_request(pinned)
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Stream(answer.stream),
            extensions=answer.extensions,
        )

    async def _addresses(self, request: httpx2.Request, port: int) -> list[str]:
        """Up to `MAX_ADDRESSES` addresses, alternating between IPv4 and IPv6.

        If one of them is not public, all are refused. A name with both public and internal
        addresses is an attempt to reach the internal one; no storage provider has such names.
        """
        host = request.url.raw_host.decode("ascii")
        try:
            with anyio.fail_after(request.extensions.get("timeout", {}).get("connect")):
                found = await self._resolve(host, port)
        except TimeoutError as error:
            raise httpx2.ConnectTimeout("the name was not resolved in time") from error
        except (OSError, UnicodeError) as error:  # trio raises the latter for impossible names
            raise httpx2.ConnectError("the name was not resolved") from error
        if not found:
            raise httpx2.ConnectError("the name has no address")
        if not all(is_public(ip_address(address)) for address in found):
            raise Internal("its host's name resolves to an internal or reserved address")
        families = [
            [one for one in dict.fromkeys(found) if (":" in one) is is_new]
            for is_new in (":" in found[0], ":" not in found[0])
        ]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*families))
        return [address for address in turns if address][:MAX_ADDRESSES]

    async def aclose(self) -> None:
        await self._pool.aclose()


class _Stream(httpx2.AsyncByteStream):
    """Closes what it iterates over. httpx2's own stream leaves that to the garbage collector."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx2():
            async with aclosing(aiter(self._stream)) as parts:
                async for part in parts:
                    yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextlib.contextmanager
def _as_httpx2() -> Iterator[None]:
    """Raise the pool's errors as those of httpx2, which have the same names."""
    import httpcore2

    try:
        yield
    except (
        httpcore2.TimeoutException,
        httpcore2.NetworkError,
        httpcore2.ProtocolError,
        httpcore2.UnsupportedProtocol,
    ) as error:
        raise getattr(httpx2, type(error).__name__)(str(error)) from error
