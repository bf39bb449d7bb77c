"""Finds the file service that belongs to the configured API (provider-api.md §5).

A known API has a known service. Another API is asked, with the account's key, for the quota of
files that such a service has. The key goes to the API's own origin only: no redirect is followed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final
from urllib.parse import urlsplit

import anyio
import httpx2
from pydantic import SecretStr

from wan25_mcp.errors import NotPublished, Refused
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.file_service import TRANSIENT
from wan25_mcp.inputs.publisher import Publisher
from wan25_mcp.provider.dashboard import about_key, with_dashboard
from wan25_mcp.provider.exchange import NO_CONNECTION, Exchange, TooLarge, cause_of, send
from wan25_mcp.redaction import Redactor
from wan25_mcp.url_safety import origin_of, same_address

SEARCH_SECONDS: Final = 20.0
"""Seconds that a search takes at most, however patient the caller is."""

_QUOTA: Final = "/api/v1/files/quota"
_COUNTS: Final = ("max_files", "used_files", "remain_files")
_MAX_ANSWER_BYTES: Final = 100_000
_KNOWN: Final = {"https://api.evolink.ai:443": "https://files-api.evolink.ai"}
"""The file service of an API, by the API's origin."""

Verdict = bool | NotPublished | Refused
"""Whether a file service answered, or why that is not known."""


def known_file_service(base_url: str) -> str | None:
    """The file service that is known to belong to an API, without asking anyone."""
    return _KNOWN.get(origin_of(base_url) or "")


class FileServiceSearch:
    """Finds the file service at the origin of an API, for one account.

    Args:
        http: The HTTP client to use; the caller opens and closes it.
        base_url: The base of the API, path included.
        key: The account's API key.
        publisher_at: Makes the publisher for a file service at an address.
        secrets: More texts to hide in what the API says.
        key_source: Where the key comes from (`Settings.key_source`), for the error about it.
    """

    def __init__(
        self,
        http: httpx2.AsyncClient,
        *,
        base_url: str,
        key: SecretStr,
        publisher_at: Callable[[str], Publisher],
        secrets: Collection[str] = (),
        key_source: str = "",
    ) -> None:
        self._http = http
        self._base = same_address(base_url)
        self._key = key
        self._refused = about_key(CODES["authentication"], key_source)
        self._publisher_at = publisher_at
        self._redact = Redactor([key.get_secret_value(), *secrets])
        self._searching = anyio.Lock()
        self._found: tuple[Publisher | None] | None = None

    async def find(self, patience: float) -> Publisher | None:
        """The file service, or None if the API has none. Remembers the answer.

        Args:
            patience: Seconds to search at most.

        Raises:
            NotPublished: It could not be found out; the next call asks again.
            Refused: The API did not accept the key.
        """
        until = anyio.current_time() + min(patience, SEARCH_SECONDS)
        async with self._searching:
            if self._found is None:
                address = await self._search(until)
                self._found = (None if address is None else self._publisher_at(address),)
            return self._found[0]

    async def _search(self, until: float) -> str | None:
        root = self._base.removesuffix(urlsplit(self._base).path)
        verdicts: dict[str, Verdict] = dict.fromkeys((self._base, root), _not_known("no answer"))
        # Together, because one that never answers must not hide the other.
        with anyio.CancelScope(deadline=until):
            async with anyio.create_task_group() as tasks:
                for address in list(verdicts):
                    tasks.start_soon(self._ask, address, verdicts)
        for address, verdict in verdicts.items():
            if verdict is True:
                return address
        for verdict in verdicts.values():
            if isinstance(verdict, Exception):
                raise verdict
        return None

    async def _ask(self, address: str, verdicts: dict[str, Verdict]) -> None:
        answer = Exchange(self._redact)
        try:
            await send(
                self._http,
                answer,
                "GET",
                address + _QUOTA,
                key=self._key,
                max_bytes=_MAX_ANSWER_BYTES,
            )
        except TooLarge:
            verdicts[address] = False
        except httpx2.HTTPError as error:
            is_away = isinstance(error, NO_CONNECTION)
            verdicts[address] = (_unreachable if is_away else _not_known)(cause_of(error))
        else:
            verdicts[address] = self._verdict(answer, is_base=address == self._base)

    def _verdict(self, answer: Exchange, *, is_base: bool) -> Verdict:
        body = answer.json if isinstance(answer.json, dict) else {}
        status = answer.status or 0
        code = body.get("code")
        # The file service's own form of an error, which may come under a 200.
        is_own = body.get("success") is False and isinstance(code, int) and "msg" in body
        if is_own and isinstance(code, int) and code > 299:
            status = code
        # Without the key's rights, an API hides what it has. The root may be another application's.
        if status in (401, 403) and (is_own or (is_base and isinstance(body.get("error"), dict))):
            message = f"{self._refused.sentence} (HTTP {status})."
            fix = with_dashboard(self._refused.fix, self._base)
            return Refused(message, code="authentication", fix=fix)
        if status in TRANSIENT:
            return _not_known(f"HTTP {status}")
        return status == 200 and body.get("success") is True and _is_quota(body.get("data"))


def _is_quota(described: Any) -> bool:
    """Whether it counts files as the provider's file service does, and not as another product's."""
    counts = described if isinstance(described, dict) else {}
    return any(type(counts.get(name)) is int for name in _COUNTS)


def _not_known(why: str) -> NotPublished:
    sentence = CODES["image_host_unknown"].sentence
    return NotPublished(f"{sentence} ({why}).", code="image_host_unknown")


def _unreachable(why: str) -> NotPublished:
    row = CODES["unreachable"]
    return NotPublished(f"The provider could not be reached ({why}).", code=row.code, fix=row.fix)
