"""The emulator's outgoing requests: downloads of images, and callbacks.

The only module that opens connections. The emulator's own origin is reached in memory, so that a
file uploaded to it can be an input without a socket. All other requests go through `outside` if it
is given (then no name is resolved), else through the real network. There an address is checked by
its text and after resolving it. A host that changes its address after the check is not detected.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import anyio

from wan25_mcp.emulator.addresses import BadAddress, check_host, check_resolved, origin, split
from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.tasks import TaskFailed

if TYPE_CHECKING:
    import httpx2

# "10MB" can mean 10,000,000 or 10,485,760 bytes. A client that works with the smaller limit works
# with both.
MAX_BYTES = 10_000_000
MAX_REDIRECTS = 3
DOWNLOAD_SECONDS = 30.0
CALLBACK_SECONDS = 10.0
HEADERS = {"user-agent": "wan25-emulator", "accept-encoding": "identity"}


class Network:
    """Downloads and posts within the API's limits and address rules.

    Args:
        own_origin: Returns the emulator's origin, reached through the transport of `inside`.
    """

    def __init__(
        self,
        options: EmulatorOptions,
        own_origin: Callable[[], str],
        inside: Callable[[], httpx2.AsyncBaseTransport],
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._outside = options.outside
        self._allow_loopback = options.allow_loopback
        self._own_origin = own_origin
        self._inside = inside
        self._in_thread = in_thread
        self._clients: dict[bool, httpx2.AsyncClient] = {}

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def download(self, url: str) -> bytes:
        """Download the bytes of a link. Raises: TaskFailed."""
        import httpx2

        reason = "the link could not be reached"
        try:
            with anyio.fail_after(DOWNLOAD_SECONDS):
                return await self._follow(url)
        except TimeoutError:
            reason = "the download timed out"
        except BadAddress as error:
            reason = str(error)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError):
            pass
        raise _unreachable(reason)

    async def post(self, url: str, body: bytes) -> int:
        """Post to a callback address; return the status. Raises: BadAddress, TimeoutError,
        HTTPError."""
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
        raise _unreachable("too many redirects")

    async def _client_for(self, url: str) -> httpx2.AsyncClient:
        is_own = origin(url) == origin(self._own_origin())
        if not is_own:
            await self._check(split(url).hostname or "")
        if is_own not in self._clients:
            self._clients[is_own] = await self._open(self._inside() if is_own else self._outside)
        return self._clients[is_own]

    async def _check(self, host: str) -> None:
        check_host(host, allow_loopback=self._allow_loopback)
        if self._outside is None:
            await check_resolved(host, allow_loopback=self._allow_loopback)

    async def _open(self, transport: httpx2.AsyncBaseTransport | None) -> httpx2.AsyncClient:
        import httpx2

        def client() -> httpx2.AsyncClient:
            return httpx2.AsyncClient(
                transport=transport, trust_env=False, timeout=DOWNLOAD_SECONDS
            )

        # Without a transport, the client reads certificates from the disk, which blocks.
        found: httpx2.AsyncClient = await self._in_thread(client)
        return found


async def _read(answer: httpx2.Response) -> bytes:
    if answer.status_code != 200:
        raise _unreachable(f"the link answered {answer.status_code}")
    announced = answer.headers.get("content-length", "")
    if announced.isdecimal() and (len(announced) > 9 or int(announced) > MAX_BYTES):
        raise _unreachable("the image is larger than 10 MB")
    found = bytearray()
    async with aclosing(answer.aiter_raw()) as chunks:
        async for chunk in chunks:
            found += chunk
            if len(found) > MAX_BYTES:
                raise _unreachable("the image is larger than 10 MB")
    return bytes(found)


def _unreachable(reason: str) -> TaskFailed:
    message = f"The image could not be downloaded: {reason}."
    return TaskFailed("image_processing_error", message)
