"""Downloads result images: whatever a link, its host's DNS or its server does, only public
addresses (or the operator's own) are spoken to, and only a whole image comes back.

A result link is the provider's word, so it is treated as a stranger's. Knows nothing of where the
bytes go.

A name is resolved once, every address it gave is judged, and the connection is made to one of
those very addresses: an answer that changes between the look and the connection changes nothing.
TLS still checks the certificate against the name. Proxies of the environment are not used
(`trust_env=False`): a proxy resolves by itself, so what was judged would not be what is reached.
SSL_CERT_FILE and SSL_CERT_DIR are honoured.
"""

from __future__ import annotations

import itertools
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import aclosing, contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urljoin

import anyio
import httpx2

from wan25_mcp.addresses import NotPublic, check_public, is_public, origin_of
from wan25_mcp.client import USER_AGENT
from wan25_mcp.errors import Wan25Error

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

    import httpcore2

MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
MAX_REDIRECTS: Final = 4
DOWNLOAD_SECONDS: Final = 120.0
TIMEOUTS: Final = httpx2.Timeout(connect=10, write=10, read=20, pool=None)
"""Seconds by phase; `read` is the longest silence, `DOWNLOAD_SECONDS` the end of a drip."""

MAX_ADDRESSES: Final = 6
STAGGER_SECONDS: Final = 0.25
"""How long one address may be silent before the next is tried beside it (RFC 8305)."""

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, as texts."""

_TRUSTED: Final = "wan25_trusted_origin"
_HEADERS: Final = {
    "User-Agent": USER_AGENT,
    "Accept": "image/*",
    # Images are compressed already; what would have to be unpacked could be a bomb.
    "Accept-Encoding": "identity",
}
_OPEN: Final = "The link itself is good until it expires: open it in a browser."
_AGAIN: Final = "Try again before the link expires, or open it in a browser."


class NotDownloaded(Wan25Error):
    """An image could not be downloaded. `retryable`: whether trying again can help."""

    def __init__(
        self,
        message: str,
        *,
        retryable: bool,
        code: str = "not_downloaded",
        fix: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            fix=fix or (_AGAIN if retryable else _OPEN),
            retryable=retryable,
            retry_after_seconds=retry_after_seconds,
            charged="yes",
        )


class _Internal(NotPublic):
    """The name is public; what it resolved to is not."""


def open_downloads(transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """The HTTP client to download with. It holds no key and no cookies; the caller closes it.

    Args:
        transport: What carries the requests, instead of real connections to judged addresses.
    """
    return httpx2.AsyncClient(
        transport=transport or PinnedTransport(),
        timeout=TIMEOUTS,
        headers={"User-Agent": USER_AGENT},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        follow_redirects=False,
        trust_env=False,
    )


async def download(
    link: str,
    *,
    http: httpx2.AsyncClient,
    trusted: Collection[str] = (),
    seconds: float = DOWNLOAD_SECONDS,
    most: int = MAX_IMAGE_BYTES,
) -> bytes:
    """The whole image a link leads to: PNG, JPEG, WebP or BMP.

    Args:
        link: Where the provider says the image is.
        http: A client as `open_downloads` makes it.
        trusted: Origins (as `addresses.origin_of` writes them) whose addresses need not be public.
        seconds: The longest the whole of it may take.
        most: The largest body accepted, in bytes.

    Raises:
        NotDownloaded: With `retryable`.
    """
    with _told():
        with anyio.fail_after(seconds):
            body = await _follow(http, link, frozenset(trusted), most)
        ending_of(body)
        return body


@contextmanager
def _told() -> Iterator[None]:
    """Everything that can go wrong on the way, as one error that says whether to try again."""
    try:
        yield
    except TimeoutError:
        raise NotDownloaded("Downloading the image took too long.", retryable=True) from None
    except _Internal as reason:
        # A captive portal answers every name so; the link may be good on the next network.
        raise NotDownloaded(f"The image was not downloaded: {reason}.", retryable=True) from None
    except NotPublic as reason:
        raise _refused(f"its link {reason}") from None
    except httpx2.HTTPError as error:
        raise NotDownloaded(
            f"The image could not be downloaded: {_cause(error)}.",
            retryable=not isinstance(error, httpx2.UnsupportedProtocol),
            fix="Check the network (downloads use no proxy), then try again before the link "
            "expires, or open it in a browser.",
        ) from error
    except (httpx2.InvalidURL, ValueError):
        raise _refused("its link is not a valid URL") from None


def _refused(why: str) -> NotDownloaded:
    return NotDownloaded(f"The image was not downloaded: {why}.", retryable=False)


async def _follow(http: httpx2.AsyncClient, link: str, trusted: frozenset[str], most: int) -> bytes:
    secure = False
    for _hop in range(MAX_REDIRECTS + 1):
        url = httpx2.URL(link)
        # Judged as the HTTP library reads it: a second reading could differ.
        link = str(url)
        # Trust is for the link itself and ends where a redirect leaves it: neither a public
        # server nor another trusted one gets to choose what we ask of an internal one.
        trusted &= {origin_of(link) or ""}
        check_public(link, trusted=trusted)
        if secure and url.scheme != "https":
            raise _refused("its link leads from https to http")
        secure = url.scheme == "https"
        async with http.stream(
            "GET",
            url,
            headers=_HEADERS,
            follow_redirects=False,
            extensions={_TRUSTED: next(iter(trusted), None)},
        ) as response:
            if not response.has_redirect_location:
                return await _body(response, most)
            link = urljoin(link, response.headers["location"])
    raise _refused("its link leads from redirect to redirect")


async def _body(response: httpx2.Response, most: int) -> bytes:
    if response.status_code != 200:
        raise _answered(response)
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _refused("its server compressed it without being asked to")
    declared = _declared(response)
    if declared is not None and declared > most:
        raise _too_large()
    body = bytearray()
    async with aclosing(response.aiter_raw()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > most:
                raise _too_large()
    if declared is not None and len(body) != declared:
        raise _cut_short()
    return bytes(body)


def _declared(response: httpx2.Response) -> int | None:
    """The length promised, unless it is delimited otherwise."""
    said = response.headers.get("content-length", "")
    if "transfer-encoding" in response.headers or not (said.isascii() and said.isdigit()):
        return None
    return int(said[:20])


def _answered(response: httpx2.Response) -> NotDownloaded:
    status = response.status_code
    if status in (403, 404, 410):
        return NotDownloaded(
            f"The image's link is dead (HTTP {status}); links die 24 hours after completion.",
            code="link_gone",
            fix="Ask for the task once more; if its links are the same, the image is gone.",
            retryable=False,
        )
    return NotDownloaded(
        f"The image could not be downloaded: its server answered HTTP {status}.",
        retryable=status >= 500 or status in (408, 425, 429),
        retry_after_seconds=_wait_asked(response),
    )


def _wait_asked(response: httpx2.Response) -> float | None:
    said = response.headers.get("retry-after", "").strip()
    return float(said) if said.isascii() and said.isdigit() and len(said) < 6 else None


def _too_large() -> NotDownloaded:
    return _refused("it is larger than any result of this model")


def _cut_short() -> NotDownloaded:
    return NotDownloaded("The image arrived incomplete: its end is missing.", retryable=True)


_CAUSES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (httpx2.ConnectTimeout, "connecting took too long"),
    (httpx2.TimeoutException, "its server fell silent"),
    (httpx2.ConnectError, "no connection to its server"),
    (httpx2.RemoteProtocolError, "the answer broke off"),
    (httpx2.UnsupportedProtocol, "the address cannot be used"),
)


def _cause(error: BaseException) -> str:
    """A few words of ours: a library's text may quote addresses."""
    chain: BaseException | None = error
    while chain is not None:
        if type(chain).__name__ == "SSLCertVerificationError":
            return "its server's certificate could not be verified"
        chain = chain.__cause__ or chain.__context__
    return next((words for kind, words in _CAUSES if isinstance(error, kind)), "it broke off")


# --- what is an image ------------------------------------------------------------------------


def ending_of(body: bytes) -> str:
    """The file name ending of a whole image, told by its bytes alone: `.png`, `.jpg` …

    Raises:
        NotDownloaded: It is no such image, or its end is missing.
    """
    for ending, begins, is_whole in _FORMATS:
        if begins(body):
            if not is_whole(body):
                raise _cut_short()
            return ending
    kind, retryable = _what_else(body)
    raise NotDownloaded(f"What the link gave is not an image but {kind}.", retryable=retryable)


_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"  # length, type and checksum of the last chunk


def _jpeg_is_whole(body: bytes) -> bool:
    """After the last start of scan, FF D9 can only be the end: coded bytes never hold it."""
    return 0 <= body.rfind(b"\xff\xda") < body.rfind(b"\xff\xd9")


def _little(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "little")


_FORMATS: Final[tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], bool]], ...]] = (
    (".png", lambda b: b.startswith(b"\x89PNG\r\n\x1a\n"), lambda b: _PNG_END in b),
    (".jpg", lambda b: b.startswith(b"\xff\xd8\xff"), _jpeg_is_whole),
    (
        ".webp",
        lambda b: b.startswith(b"RIFF") and b[8:12] == b"WEBP",
        lambda b: _little(b, 4) + 8 <= len(b),
    ),
    (
        ".bmp",  # "BM" alone is too little: the size of its second header is one of seven
        lambda b: b.startswith(b"BM") and _little(b, 14) in (12, 40, 52, 56, 64, 108, 124),
        lambda b: _little(b, 2) <= len(b),
    ),
)


def _what_else(body: bytes) -> tuple[str, bool]:
    """What it is instead, and whether another try may bring the image."""
    text = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not body:
        return "nothing at all", True
    if b"<html" in text or text.startswith(b"<!doctype html"):
        return "a web page", True
    if text.startswith((b"<", b"{", b"[")):
        return "an error message", True
    if text.startswith(b"gif8") or body[4:8] == b"ftyp":
        return "a GIF, AVIF, HEIC or video", False
    return "bytes of no known image format", False


# --- connections -----------------------------------------------------------------------------


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
        url, trusted = request.url, request.extensions.get(_TRUSTED)
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
        raise _Internal("its host's name leads to an internal or reserved address")
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
