"""Downloads result images: connects only to public addresses (or the operator's own), whatever a
link, its host's DNS or its server says, and returns only a complete image.

A result link comes from the provider, so it is treated as untrusted. `pinned_transport` decides
which addresses are connected to; `save` writes the file.

Proxies from the environment are not used (`trust_env=False`): a proxy resolves names itself, so the
address that was checked would not be the one that is connected to. SSL_CERT_FILE and SSL_CERT_DIR
are honoured.
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
from wan25_mcp.provider.exchange import USER_AGENT, TooLarge, cause_of, read_bounded, requested_wait
from wan25_mcp.url_safety import NotPublic, check_public, origin_of

MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
MAX_REDIRECTS: Final = 4
DOWNLOAD_SECONDS: Final = 120.0
TIMEOUTS: Final = httpx2.Timeout(connect=10, write=10, read=20, pool=None)
"""Seconds by phase. `read` limits each pause of a server, `DOWNLOAD_SECONDS` the whole download."""

_HEADERS: Final = {
    "User-Agent": USER_AGENT,
    "Accept": "image/*",
    # Images are compressed already, and a compressed body could be a decompression bomb.
    "Accept-Encoding": "identity",
}
_TRY_AGAIN: Final = "Try again before the link expires, or open it in a browser."


class NotDownloaded(Wan25Error):
    """An image could not be downloaded.

    Args:
        is_lasting: Whether no later try can succeed, because it is known what the link returns. A
            server's refusal may be temporary, so it is neither retryable nor lasting.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        is_lasting: bool = False,
        code: str = "not_downloaded",
        fix: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(
            message,
            code=code,
            fix=_TRY_AGAIN if fix is None and retryable else fix,
            retryable=retryable,
            retry_after_seconds=retry_after_seconds,
        )
        self.is_lasting = is_lasting


def open_downloads(transport: httpx2.AsyncBaseTransport | None = None) -> httpx2.AsyncClient:
    """The HTTP client for downloads. It has no key and no cookies. The caller closes it.

    Args:
        transport: Replaces the real connections to checked addresses.
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
    max_bytes: int = MAX_IMAGE_BYTES,
) -> bytes:
    """Download the complete image of a link: PNG, JPEG, WebP or BMP.

    Args:
        http: A client made by `open_downloads`.
        trusted: Origins (as `url_safety.origin_of` writes them) whose addresses need not be public.
        seconds: The time limit for the whole download.

    Raises:
        NotDownloaded: The image could not be downloaded; `retryable` says whether to try again.
    """
    with _as_not_downloaded():
        with anyio.fail_after(seconds):
            body = await _follow(http, link, frozenset(trusted), max_bytes)
        extension_of(body)
        return body


@contextmanager
def _as_not_downloaded() -> Iterator[None]:
    """Turn every failure of a download into one error that says whether to try again."""
    try:
        yield
    except TimeoutError:
        raise NotDownloaded("Downloading the image took too long.", retryable=True) from None
    except Internal as reason:
        # A captive portal resolves every name like this. On another network the link may work.
        raise NotDownloaded(f"The image was not downloaded: {reason}.", retryable=True) from None
    except NotPublic as reason:
        raise _never(f"its link {reason}") from None
    except httpx2.HTTPError as error:
        raise NotDownloaded(
            f"The image could not be downloaded: {cause_of(error)}.",
            retryable=not isinstance(error, httpx2.UnsupportedProtocol),
            fix="Check the network (downloads use no proxy), then try again before the link "
            "expires, or open it in a browser.",
        ) from error
    except (httpx2.InvalidURL, ValueError):
        raise _never("its link is not a valid URL") from None


def _never(why: str) -> NotDownloaded:
    return NotDownloaded(f"The image was not downloaded: {why}.", is_lasting=True)


async def _follow(
    http: httpx2.AsyncClient, link: str, trusted: frozenset[str], max_bytes: int
) -> bytes:
    was_secure = False
    for _hop in range(MAX_REDIRECTS + 1):
        url = httpx2.URL(link)
        # Checked as the HTTP library parses it: another parser could read it differently.
        link = str(url)
        # Trust applies to the link itself and ends when a redirect leaves its origin: no other
        # server, public or trusted, may choose what is requested from an internal one.
        trusted &= {origin_of(link) or ""}
        check_public(link, trusted=trusted)
        if was_secure and url.scheme != "https":
            raise _never("its link leads from https to http")
        was_secure = url.scheme == "https"
        async with http.stream(
            "GET",
            url,
            headers=_HEADERS,
            follow_redirects=False,
            extensions={TRUSTED_ORIGIN: next(iter(trusted), None)},
        ) as response:
            if not response.has_redirect_location:
                return await _body(response, max_bytes)
            link = urljoin(link, response.headers["location"])
    raise _never(f"its link leads through more than {MAX_REDIRECTS} redirects")


async def _body(response: httpx2.Response, max_bytes: int) -> bytes:
    _check_status(response)
    if response.headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _never("its server sent it compressed although that was not requested")
    declared = _declared_length(response)
    too_large = _never("it is larger than any result of this model")
    if declared is not None and declared > max_bytes:
        raise too_large
    try:
        body = await read_bounded(response.aiter_raw(), max_bytes)
    except TooLarge:
        raise too_large from None
    if declared is not None and len(body) != declared:
        raise _incomplete()
    return body


def _declared_length(response: httpx2.Response) -> int | None:
    """The length that the server declares; None if the body is delimited in another way."""
    length = response.headers.get("content-length", "")
    if "transfer-encoding" in response.headers or not (length.isascii() and length.isdigit()):
        return None
    return int(length[:20])


def _check_status(response: httpx2.Response) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in (403, 404, 410):
        raise NotDownloaded(
            f"The image's link has expired (HTTP {status}). Links expire after 24 hours.",
            code="link_gone",
        )
    raise NotDownloaded(
        f"The image could not be downloaded: its server answered HTTP {status}.",
        retryable=status >= 500 or status in (408, 425, 429),
        retry_after_seconds=requested_wait(response.headers),
    )


def _incomplete() -> NotDownloaded:
    return NotDownloaded("The image arrived incomplete: its end is missing.", retryable=True)


# --- image formats ---------------------------------------------------------------------------


def extension_of(body: bytes) -> str:
    """The file extension of a complete image, by its bytes alone: `.png`, `.jpg`, `.webp`, `.bmp`.

    Raises:
        NotDownloaded: It is not such an image, or its end is missing.
    """
    for extension, begins, is_complete in _FORMATS:
        if begins(body):
            if not is_complete(body):
                raise _incomplete()
            return extension
    kind, retryable = _what_else(body)
    raise NotDownloaded(
        f"The link returned {kind}, not an image.", retryable=retryable, is_lasting=not retryable
    )


_PNG_END: Final = b"\0\0\0\0IEND\xaeB`\x82"  # length, type and checksum of the last chunk


def _little_endian(body: bytes, at: int) -> int:
    return int.from_bytes(body[at : at + 4], "little")


_FORMATS: Final[tuple[tuple[str, Callable[[bytes], bool], Callable[[bytes], bool]], ...]] = (
    (".png", lambda b: b.startswith(b"\x89PNG\r\n\x1a\n"), lambda b: _PNG_END in b),
    (
        ".jpg",
        lambda b: b.startswith(b"\xff\xd8\xff"),
        # After the last start of scan, FF D9 can only be the end: coded data never contains it.
        lambda b: 0 <= b.rfind(b"\xff\xda") < b.rfind(b"\xff\xd9"),
    ),
    (
        ".webp",
        lambda b: b.startswith(b"RIFF") and b[8:12] == b"WEBP",
        lambda b: _little_endian(b, 4) + 8 <= len(b),
    ),
    (
        ".bmp",  # "BM" alone is not enough: the size of its second header is one of seven
        lambda b: b.startswith(b"BM") and _little_endian(b, 14) in (12, 40, 52, 56, 64, 108, 124),
        lambda b: _little_endian(b, 2) <= len(b),
    ),
)
"""Extension, test of the first bytes, test of completeness."""


def _what_else(body: bytes) -> tuple[str, bool]:
    """What the body is instead of an image, and whether another try may return the image."""
    text = body[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not body:
        return "an empty body", True
    if b"<html" in text or text.startswith(b"<!doctype html"):
        return "a web page", True
    if text.startswith((b"<", b"{", b"[")):
        return "an error message", True
    if text.startswith(b"gif8") or body[4:8] == b"ftyp":
        return "a GIF, AVIF, HEIC or video", False
    return "data of an unknown format", False
