"""What the emulator reaches on the network: images to read, callbacks to make.

The one place that opens connections. Its own origin is reached in memory, so that a file uploaded
to it can be an input without a socket. Everything else goes through `outside` when given (tests
play the world with it, and no name is looked up then), else through the real network, where
addresses are checked by spelling and by look-up. A host that changes its address between the
look-up and the connection is not caught.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import anyio

from wan25_mcp.emulator.addresses import BadAddress, check_host, check_resolved, origin, split
from wan25_mcp.emulator.virtual import in_thread

if TYPE_CHECKING:
    import httpx2

# "10MB" can mean 10,000,000 or 10,485,760 bytes; a client that survives the smaller survives both.
MAX_BYTES = 10_000_000
MAX_REDIRECTS = 3
DOWNLOAD_SECONDS = 30.0
CALLBACK_SECONDS = 10.0
HEADERS = {"user-agent": "wan25-emulator", "accept-encoding": "identity"}


class Unreachable(Exception):
    """A download that gave no bytes, with the reason."""


class Reach:
    """Downloads and posts within the API's limits and address rules."""

    def __init__(
        self,
        inside: Callable[[], httpx2.AsyncBaseTransport],
        outside: httpx2.AsyncBaseTransport | None,
        own_origin: Callable[[], str],
        allow_loopback: bool,
    ) -> None:
        self._inside = inside
        self._world = outside
        self._own_origin = own_origin
        self.allow_loopback = allow_loopback
        self._clients: dict[bool, httpx2.AsyncClient] = {}

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def download(self, url: str) -> bytes:
        """The bytes behind a link. Raises: Unreachable."""
        import httpx2

        try:
            with anyio.fail_after(DOWNLOAD_SECONDS):
                return await self._follow(url)
        except TimeoutError as error:
            raise Unreachable("the download timed out") from error
        except BadAddress as error:
            raise Unreachable(str(error)) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise Unreachable("the link could not be reached") from error

    async def post(self, url: str, body: bytes) -> int:
        """The status a callback address answers. Raises: BadAddress, TimeoutError, HTTPError."""
        client = await self._client_for(url)
        headers = HEADERS | {"content-type": "application/json"}
        with anyio.fail_after(CALLBACK_SECONDS):
            answer = await client.post(url, content=body, headers=headers)
        return int(answer.status_code)

    async def _follow(self, url: str) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            client = await self._client_for(url)
            async with client.stream("GET", url, headers=HEADERS) as answer:
                if not answer.has_redirect_location:
                    return await _read(answer)
                url = urljoin(url, answer.headers["location"])
        raise Unreachable("too many redirects")

    async def _client_for(self, url: str) -> httpx2.AsyncClient:
        own = origin(url) == origin(self._own_origin())
        if not own:
            await self._check(split(url).hostname or "")
        return await self._client(own)

    async def _check(self, host: str) -> None:
        check_host(host, allow_loopback=self.allow_loopback)
        if self._world is None:
            await check_resolved(host, allow_loopback=self.allow_loopback)

    async def _client(self, own: bool) -> httpx2.AsyncClient:
        if own not in self._clients:
            self._clients[own] = await self._open(self._inside() if own else self._world)
        return self._clients[own]

    async def _open(self, transport: httpx2.AsyncBaseTransport | None) -> httpx2.AsyncClient:
        import httpx2

        settings: dict[str, Any] = {"trust_env": False, "timeout": DOWNLOAD_SECONDS}
        if transport is not None:
            return httpx2.AsyncClient(transport=transport, **settings)
        # Reading the certificates from disk blocks: in a thread.
        return await in_thread(lambda: httpx2.AsyncClient(**settings))


async def _read(answer: httpx2.Response) -> bytes:
    if answer.status_code != 200:
        raise Unreachable(f"the link answered {answer.status_code}")
    announced = answer.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 9 or int(announced) > MAX_BYTES):
        raise Unreachable("the image is larger than 10 MB")
    found = bytearray()
    async with aclosing(answer.aiter_raw()) as chunks:
        async for chunk in chunks:
            found += chunk
            if len(found) > MAX_BYTES:
                raise Unreachable("the image is larger than 10 MB")
    return bytes(found)
