"""The provider's file service (provider-api.md §5): takes an image, gives a link for 72 hours.

The key goes to the configured address only. Answers are read suspiciously: an error may come under
a 200, a moment may come without its time zone, and a link may lead anywhere.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import httpx2
from pydantic import SecretStr

from wan25_mcp.errors import NotPublished
from wan25_mcp.inputs.conform import Conformed
from wan25_mcp.inputs.publisher import MARGIN_SECONDS, Published, published_name
from wan25_mcp.provider.client import USER_AGENT
from wan25_mcp.redaction import Redactor, one_line
from wan25_mcp.url_safety import NotPublic, check_public, origin_of

LIFE_SECONDS: Final = 72 * 3600.0
MAX_EXCHANGE_SECONDS: Final = 120.0
_MAX_ANSWER_BYTES: Final = 100_000
_PAUSES: Final = (0.5, 2.0)
"""An upload is free, so what failed for no fault of ours is sent again, as often as stands here."""

_LONGEST_PAUSE: Final = 10.0
_TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})


@dataclass(frozen=True)
class _Answer:
    """`status` is the HTTP status, or the code in the body when that is an error under a 200."""

    status: int
    body: dict[str, Any]
    headers: httpx2.Headers
    redact: Redactor

    @property
    def is_success(self) -> bool:
        return self.status == 200 and self.body.get("success") is True

    @property
    def pause(self) -> float | None:
        asked = self.headers.get("retry-after", "").strip()
        return float(asked) if asked.isascii() and asked.isdigit() and len(asked) < 7 else None

    @property
    def request_id(self) -> str | None:
        found = self.headers.get("x-request-id") or self.headers.get("x-oneapi-request-id")
        return one_line(self.redact(found), 200) if found else None

    @property
    def words(self) -> str:
        said = self.body.get("msg")
        words = one_line(self.redact(said), 200).rstrip(".") if isinstance(said, str) else ""
        return f" (HTTP {self.status}): {words}." if words else f" (HTTP {self.status})."


class FileService:
    """The provider's file service.

    Args:
        http: The HTTP client to use; the caller opens and closes it.
        url: The service's address, such as `https://files.example.com`.
        key: The API key.
        clock: Epoch seconds.
        lives: Tells this life of a service from others, if it forgets everything at its end.
        secrets: What else than the key must not be quoted, should the service say it.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        url: str,
        key: SecretStr,
        clock: Callable[[], float],
        lives: str = "",
        secrets: Collection[str] = (),
    ) -> None:
        self._http = http
        self._lives = lives
        self._url = url.rstrip("/")
        self._key = key
        self._clock = clock
        self._redact = Redactor([key.get_secret_value(), *secrets])

    @property
    def place(self) -> str:
        """See `Publisher`."""
        return f"file service {self._url} {self._lives}".rstrip()

    async def publish(self, image: Conformed, name: str) -> Published:
        """See `Publisher`."""
        for pause in (*_PAUSES, None):
            began = self._clock()
            try:
                answer = await self._send(image)
            except httpx2.HTTPError as error:
                failure = _broke(name, error)
                again = pause
            else:
                if answer.is_success:
                    return self._published(answer, name, began)
                failure = _refused(name, answer)
                again = None if pause is None else max(pause, answer.pause or 0.0)
            if again is None or again > _LONGEST_PAUSE or not failure.retryable:
                raise failure
            await anyio.sleep(again)
        raise AssertionError("the last pause is None")

    async def _send(self, image: Conformed) -> _Answer:
        """Raises: HTTPError."""
        name = published_name(image)
        try:
            with anyio.fail_after(MAX_EXCHANGE_SECONDS):
                async with self._http.stream(
                    "POST",
                    f"{self._url}/api/v1/files/upload/stream",
                    files={"file": (name, image.content, image.mime_type)},
                    data={"file_name": name},
                    headers={
                        "Authorization": f"Bearer {self._key.get_secret_value()}",
                        "Accept": "application/json",
                        "User-Agent": USER_AGENT,
                    },
                    follow_redirects=False,
                ) as response:
                    return await _read(response, self._redact)
        except TimeoutError:
            raise httpx2.ReadTimeout("the upload took too long") from None
        except (httpx2.InvalidURL, UnicodeError):
            raise httpx2.UnsupportedProtocol("the address cannot be used") from None

    def _published(self, answer: _Answer, name: str, began: float) -> Published:
        described = answer.body.get("data")
        described = described if isinstance(described, dict) else {}
        link = described.get("file_url")
        link = link if isinstance(link, str) and len(link) <= 8192 else ""
        try:
            check_public(link, trusted=frozenset(filter(None, [origin_of(self._url)])))
        except NotPublic as reason:
            raise NotPublished(
                f'The file service took the image "{name}", but the link it returned {reason}.',
                code="upload_unreadable",
                request_id=answer.request_id,
            ) from None
        return Published(link, _end(described.get("expires_at"), began) - MARGIN_SECONDS)


async def _read(response: httpx2.Response, redact: Redactor) -> _Answer:
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > _MAX_ANSWER_BYTES:
                raise httpx2.RemoteProtocolError("the answer is too large")
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    said = said if isinstance(said, dict) else {}
    status, code = response.status_code, said.get("code")
    if status == 200 and said.get("success") is not True and isinstance(code, int) and code > 299:
        status = code
    return _Answer(status, said, response.headers, redact)


def _end(said: object, began: float) -> float:
    """When a link dies (epoch seconds): as said, and never later than the documented 72 hours.

    A moment without a time zone may be Beijing's: read as UTC, it would be eight hours too late.
    """
    return min(_moment(said) or math.inf, began + LIFE_SECONDS)


def _moment(said: object) -> float | None:
    try:
        if isinstance(said, str):
            moment = datetime.fromisoformat(said.strip())
            return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp()
        if isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said):
            return said / 1000 if said > 1e11 else float(said)  # milliseconds
    except (ValueError, OverflowError):
        pass
    return None


def _broke(name: str, error: httpx2.HTTPError) -> NotPublished:
    slow = isinstance(error, httpx2.TimeoutException)
    why = "took too long" if slow else "could not be reached, or closed the connection"
    return NotPublished(
        f'The image "{name}" was not uploaded: the file service {why}.',
        code="upload_failed",
        fix="Check the network and WAN25_FILES_URL. Call again later, or give a public https:// "
        "link.",
        retryable=not isinstance(error, httpx2.UnsupportedProtocol | httpx2.LocalProtocolError),
    )


def _refused(name: str, answer: _Answer) -> NotPublished:
    said = f'The file service did not take the image "{name}"{answer.words}'
    if answer.status in _TRANSIENT:
        return NotPublished(
            said,
            code="upload_failed",
            retry_after_seconds=answer.pause,
            request_id=answer.request_id,
        )
    code, fix = "upload_refused", "Check WAN25_FILES_URL, or give a public https:// link."
    if answer.status in (401, 403):
        code, fix = "authentication", "Check the API key and WAN25_FILES_URL."
    elif answer.status in (400, 413, 415, 422):
        fix = "Give another image, or a public https:// link to this one."
    elif 200 <= answer.status < 400:
        code = "upload_unreadable"
    return NotPublished(said, code=code, fix=fix, request_id=answer.request_id)
