"""Connects to judged addresses only, so that what was checked is what is reached.

A name is resolved once, every address it gave is judged, and the connection is made to one of
those very addresses: an answer that changes between the look and the connection changes nothing.
TLS still checks the certificate against the name. Knows nothing of images, links or redirects.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing, contextmanager
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

import anyio
import httpx2

from wan25_mcp.url_safety import NotPublic, is_public

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    import httpcore2

MAX_ADDRESSES: Final = 6
STAGGER_SECONDS: Final = 0.25
"""How long one address may be silent before the next is tried beside it (RFC 8305)."""

TRUSTED_ORIGIN: Final = "wan25_trusted_origin"
"""The request extension that names the origin (as `addresses.origin_of` writes it) whose addresses
need not be public."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as texts."""


class Internal(NotPublic):
    """The name is public; what it resolved to is not."""


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, as the operating system resolves it."""
    found = await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class PinnedTransport(httpx2.AsyncBaseTransport):
    """Connects to judged addresses only; to a trusted origin's wherever they are.

    Args:
        resolve: Tells the addresses of a host.
        dial: Opens connections to addresses (and to trusted hosts by name).
        tls: What certificates are checked with.
    """

    def __init__(
        self,
        *,
        resolve: Resolve = resolve,
        dial: httpcore2.AsyncNetworkBackend | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        import httpcore2  # brings trio along where it is installed: too slow for start-up

        dial = dial or httpcore2.AnyIOBackend()
        tls = tls or httpx2.create_ssl_context()
        # By its shape, not its base class, which would have to be imported at start-up.
        pinned = cast("httpcore2.AsyncNetworkBackend", _Pinned(resolve, dial))
        self._public, self._trusted = (
            httpcore2.AsyncConnectionPool(
                ssl_context=tls,
                network_backend=backend,
                max_connections=20,
                max_keepalive_connections=0,  # every download is judged anew
            )
            for backend in (pinned, dial)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        import httpcore2

        url = request.url
        asked = httpcore2.Request(
            request.method,
            httpcore2.URL(
                scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
            ),
            headers=request.headers.raw,
            content=cast("httpx2.AsyncByteStream", request.stream),
            extensions=request.extensions,
        )
        with _as_httpx2():
            answer = await self._pool_for(request).handle_async_request(asked)
        return httpx2.Response(
            answer.status,
            headers=answer.headers,
            stream=_Stream(answer.stream),
            extensions=answer.extensions,
        )

    def _pool_for(self, request: httpx2.Request) -> httpcore2.AsyncConnectionPool:
        url, trusted = request.url, request.extensions.get(TRUSTED_ORIGIN)
        port = url.port or {"http": 80, "https": 443}.get(url.scheme)
        return self._trusted if f"{url.scheme}://{url.host}:{port}" == trusted else self._public

    async def aclose(self) -> None:
        await self._public.aclose()
        await self._trusted.aclose()


class _Stream(httpx2.AsyncByteStream):
    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx2():
            async with aclosing(aiter(self._stream)) as parts:
                async for part in parts:
                    yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


@contextmanager
def _as_httpx2() -> Iterator[None]:
    """The transport's errors by the names its callers know; the two libraries share them."""
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


class _Pinned:
    """A network backend that connects to an address it has judged, never to a name."""

    def __init__(self, resolve: Resolve, dial: httpcore2.AsyncNetworkBackend) -> None:
        self._resolve = resolve
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        import httpcore2

        async def connect(address: str) -> httpcore2.AsyncNetworkStream:
            return await self._dial.connect_tcp(address, port, None, local_address, socket_options)

        try:
            with anyio.fail_after(timeout):
                addresses = _judged(await self._resolve(host, port))
                return await _first(connect, addresses)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except (OSError, UnicodeError) as error:  # trio raises the latter for impossible names
            raise httpcore2.ConnectError from error


def _judged(found: Sequence[str]) -> list[str]:
    """Up to `MAX_ADDRESSES` of them, both families in turn; none at all if one is not public.

    A name that is public and internal at once is how an internal address is smuggled in: no
    storage provider's is.
    """
    if not all(is_public(ip_address(address)) for address in found):
        raise Internal("its host's name leads to an internal or reserved address")
    new = [address for address in dict.fromkeys(found) if ":" in address]
    old = [address for address in dict.fromkeys(found) if ":" not in address]
    families = (new, old) if found and found[0] in new else (old, new)
    turns = itertools.chain.from_iterable(itertools.zip_longest(*families))
    return [address for address in turns if address][:MAX_ADDRESSES]


async def _first(
    connect: Callable[[str], Awaitable[httpcore2.AsyncNetworkStream]], addresses: Sequence[str]
) -> httpcore2.AsyncNetworkStream:
    """The first connection that stands, of several begun one after the other."""
    import httpcore2

    won: list[httpcore2.AsyncNetworkStream] = []

    async def attempt(address: str, ended: anyio.Event) -> None:
        try:
            won.append(await connect(address))
            attempts.cancel_scope.cancel()
        except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
            ended.set()

    try:
        async with anyio.create_task_group() as attempts:
            for address in addresses:
                ended = anyio.Event()
                attempts.start_soon(attempt, address, ended)
                with anyio.move_on_after(STAGGER_SECONDS):
                    await ended.wait()
    except BaseException:
        await _close(won)
        raise
    await _close(won[1:])
    if not won:
        raise OSError("no address took a connection")
    return won[0]


async def _close(streams: Sequence[httpcore2.AsyncNetworkStream]) -> None:
    with anyio.CancelScope(shield=True):
        for stream in streams:
            await stream.aclose()
