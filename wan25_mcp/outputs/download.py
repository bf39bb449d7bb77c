"""Downloads result images: whatever a link, its host's DNS or its server does, only public
addresses (or the operator's own) are spoken to, and only a whole image comes back.

A result link is the provider's word, so it is treated as a stranger's. Knows nothing of where the
bytes go; which addresses are connected to is `pinned_transport`'s.

Proxies of the environment are not used (`trust_env=False`): a proxy resolves by itself, so what was
judged would not be what is reached. SSL_CERT_FILE and SSL_CERT_DIR are honoured.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final
from urllib.parse import urljoin

import anyio
import httpx2

from wan25_mcp.errors import Wan25Error
from wan25_mcp.outputs.pinned_transport import TRUSTED_ORIGIN, Internal, PinnedTransport
from wan25_mcp.provider.exchange import USER_AGENT, TooLarge, cause_of, read_bounded, wait_asked
from wan25_mcp.url_safety import NotPublic, check_public, origin_of

MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
MAX_REDIRECTS: Final = 4
DOWNLOAD_SECONDS: Final = 120.0
TIMEOUTS: Final = httpx2.Timeout(connect=10, write=10, read=20, pool=None)
"""Seconds by phase; `read` is the longest silence, `DOWNLOAD_SECONDS` the end of a drip."""

_HEADERS: Final = {
    "User-Agent": USER_AGENT,
    "Accept": "image/*",
    # Images are compressed already; what would have to be unpacked could be a bomb.
    "Accept-Encoding": "identity",
}
_OPEN: Final = "The link itself is good until it expires: open it in a browser."
_AGAIN: Final = "Try again before the link expires, or open it in a browser."


class NotDownloaded(Wan25Error):
    """An image could not be downloaded. `retryable`: whether trying again can help.

    `is_lasting`: whether what the link leads to is known, and no later try can bring an image. A
    server that refuses may yet change its mind.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool,
        is_lasting: bool = False,
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
        self.is_lasting = is_lasting


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
        trusted: Origins (as `url_safety.origin_of` writes them) whose addresses need not be public.
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
    except Internal as reason:
        # A captive portal answers every name so; the link may be good on the next network.
        raise NotDownloaded(f"The image was not downloaded: {reason}.", retryable=True) from None
    except NotPublic as reason:
        raise _refused(f"its link {reason}") from None
    except httpx2.HTTPError as error:
        raise NotDownloaded(
            f"The image could not be downloaded: {cause_of(error)}.",
            retryable=not isinstance(error, httpx2.UnsupportedProtocol),
            fix="Check the network (downloads use no proxy), then try again before the link "
            "expires, or open it in a browser.",
        ) from error
    except (httpx2.InvalidURL, ValueError):
        raise _refused("its link is not a valid URL") from None


def _refused(why: str) -> NotDownloaded:
    return NotDownloaded(f"The image was not downloaded: {why}.", retryable=False, is_lasting=True)


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
            extensions={TRUSTED_ORIGIN: next(iter(trusted), None)},
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
    try:
        body = await read_bounded(response.aiter_raw(), most)
    except TooLarge:
        raise _too_large() from None
    if declared is not None and len(body) != declared:
        raise _cut_short()
    return body


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
            f"The image's link has expired (HTTP {status}). Links expire after 24 hours.",
            code="link_gone",
            fix="Ask for the task once more; if its links are the same, the image is gone.",
            retryable=False,
        )
    return NotDownloaded(
        f"The image could not be downloaded: its server answered HTTP {status}.",
        retryable=status >= 500 or status in (408, 425, 429),
        retry_after_seconds=wait_asked(response.headers),
    )


def _too_large() -> NotDownloaded:
    return _refused("it is larger than any result of this model")


def _cut_short() -> NotDownloaded:
    return NotDownloaded("The image arrived incomplete: its end is missing.", retryable=True)


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
    raise NotDownloaded(
        f"The link returned {kind}, not an image.",
        retryable=retryable,
        is_lasting=not retryable,
    )


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
