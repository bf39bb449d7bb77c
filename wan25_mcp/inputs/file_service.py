"""The provider's file service (provider-api.md §5): accepts an image, returns a link for 72 hours.

The key is sent to the configured address only. Answers are not trusted: an error may have status
200, a time may lack its time zone, and a link may point anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import httpx2
from pydantic import SecretStr

from wan25_mcp.errors import NotPublished
from wan25_mcp.inputs.conform import Conformed
from wan25_mcp.inputs.publisher import MARGIN_SECONDS, Published, published_name
from wan25_mcp.provider.exchange import Exchange, requested_wait, send
from wan25_mcp.redaction import Redactor, one_line
from wan25_mcp.url_safety import NotPublic, check_public, origin_of

LIFE_SECONDS: Final = 72 * 3600.0
_MAX_ANSWER_BYTES: Final = 100_000
_PAUSES: Final = (0.5, 2.0)
"""Seconds before an upload is sent again. It is free, so a transient failure is retried."""

_MAX_PAUSE: Final = 10.0
TRANSIENT: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
"""HTTP statuses after which the same request may succeed."""


class FileService:
    """The provider's file service.

    Args:
        http: The HTTP client to use; the caller opens and closes it.
        url: The service's address, such as `https://files.example.com`.
        key: The API key.
        clock: Epoch seconds.
        instance: Distinguishes runs of a service that loses its uploads when it ends.
        secrets: More texts to hide in the service's answers.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        url: str,
        key: SecretStr,
        clock: Callable[[], float],
        instance: str = "",
        secrets: Collection[str] = (),
    ) -> None:
        self._http = http
        self._instance = instance
        self._url = url.rstrip("/")
        self._key = key
        self._clock = clock
        self._redact = Redactor([key.get_secret_value(), *secrets])

    @property
    def place(self) -> str:
        """See `Publisher`."""
        return f"file service {self._url} {self._instance}".rstrip()

    async def publish(self, image: Conformed, name: str) -> Published:
        """See `Publisher`."""
        for pause in (*_PAUSES, None):
            began = self._clock()
            answer = Exchange(self._redact)
            try:
                await self._send(answer, image)
            except httpx2.HTTPError as error:
                failure = _broke(name, error)
                again = pause
            else:
                if answer.status == 200 and _body_of(answer).get("success") is True:
                    return self._published(answer, name, began)
                failure = _refused(name, answer)
                again = None if pause is None else max(pause, requested_wait(answer.headers) or 0.0)
            if again is None or again > _MAX_PAUSE or not failure.retryable:
                raise failure
            await anyio.sleep(again)
        raise AssertionError("the last pause is None")

    async def _send(self, answer: Exchange, image: Conformed) -> None:
        name = published_name(image)
        await send(
            self._http,
            answer,
            "POST",
            f"{self._url}/api/v1/files/upload/stream",
            key=self._key,
            max_bytes=_MAX_ANSWER_BYTES,
            files={"file": (name, image.content, image.mime_type)},
            data={"file_name": name},
        )

    def _published(self, answer: Exchange, name: str, began: float) -> Published:
        described = _body_of(answer).get("data")
        described = described if isinstance(described, dict) else {}
        link = described.get("file_url")
        link = link if isinstance(link, str) and len(link) <= 8192 else ""
        try:
            check_public(link, trusted=frozenset(filter(None, [origin_of(self._url)])))
        except NotPublic as reason:
            raise NotPublished(
                f'The file service accepted the image "{name}", but its link {reason}.',
                code="upload_unreadable",
                request_id=answer.request_id,
            ) from None
        return Published(link, _end(described.get("expires_at"), began) - MARGIN_SECONDS)


def _body_of(answer: Exchange) -> dict[str, Any]:
    body = answer.json
    return body if isinstance(body, dict) else {}


def _end(stated: object, began: float) -> float:
    """When a link expires (epoch seconds): at most the documented 72 hours from now.

    A time without a time zone may be Beijing's. Read as UTC, it is then eight hours too late.
    """
    return min(_moment(stated) or math.inf, began + LIFE_SECONDS)


def _moment(value: object) -> float | None:
    try:
        if isinstance(value, str):
            moment = datetime.fromisoformat(value.strip())
            return moment.timestamp() if moment.tzinfo else moment.replace(tzinfo=UTC).timestamp()
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            return value / 1000 if value > 1e11 else float(value)  # milliseconds
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


def _refused(name: str, answer: Exchange) -> NotPublished:
    body = _body_of(answer)
    status, code_in_body, words = answer.status or 0, body.get("code"), body.get("msg")
    if status == 200 and isinstance(code_in_body, int) and code_in_body > 299:
        status = code_in_body  # an error under a 200
    words = one_line(answer.redact(words), 200).rstrip(".") if isinstance(words, str) else ""
    message = f'The file service did not accept the image "{name}" (HTTP {status})'
    message = f"{message}: {words}." if words else f"{message}."
    if status in TRANSIENT:
        return NotPublished(
            message,
            code="upload_failed",
            retry_after_seconds=requested_wait(answer.headers),
            request_id=answer.request_id,
        )
    code, fix = "upload_refused", "Check WAN25_FILES_URL, or give a public https:// link."
    if status in (401, 403):
        code, fix = "authentication", "Check the API key and WAN25_FILES_URL."
    elif status in (400, 413, 415, 422):
        fix = "Give another image, or a public https:// link to this one."
    elif 200 <= status < 400:
        code = "upload_unreadable"
    return NotPublished(message, code=code, fix=fix, request_id=answer.request_id)
