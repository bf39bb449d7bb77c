"""Saves result images: downloaded carefully, written whole or not at all, never over a file.

A result link is the provider's word, so it is treated as a stranger's: no key is sent to it, every
hop must be public (or the configured API's own origin), size and time are capped, and what comes
back must be an image by its bytes.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Collection, Sequence
from contextlib import aclosing, suppress
from datetime import date
from pathlib import Path
from typing import Final
from urllib.parse import urljoin

import anyio
import anyio.to_thread
import httpx2
import platformdirs

from wan25_mcp.addresses import NotPublic, check_public
from wan25_mcp.client import USER_AGENT
from wan25_mcp.errors import Wan25Error

MAX_IMAGE_BYTES: Final = 64 * 1024 * 1024
MAX_HOPS: Final = 4
DOWNLOAD_SECONDS: Final = 120.0
_SIGNATURES: Final = ((b"\x89PNG\r\n\x1a\n", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"BM", ".bmp"))


class NotSaved(Wan25Error):
    """An image could not be saved; its link is still good."""

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(message, code="not_saved", fix=fix, retryable=True, charged="yes")


_AGAIN: Final = "The link is still good until it expires: open it, or run the command again."


def default_directory() -> Path:
    """A folder of ours in the user's pictures folder; never the working directory."""
    return platformdirs.user_pictures_path() / "wan25"


def stem_of(prompt: str, task_id: str, day: date) -> str:
    """A file name without its ending: date, words of the prompt, short id. Safe on every system."""
    words = re.findall(r"[a-z0-9]+", prompt.lower())[:6]
    short = re.sub(r"[^A-Za-z0-9]", "", task_id)[-6:]
    return "-".join([day.isoformat(), "-".join(words)[:40].strip("-") or "edit", short or "task"])


async def save_images(
    http: httpx2.AsyncClient,
    links: Sequence[str],
    directory: Path,
    *,
    stem: str,
    trusted: Collection[str] = (),
) -> list[Path]:
    """Save each link's image into `directory`, as `stem-1.png` and so on.

    Args:
        trusted: Origins exempt from the rule that links must be public.

    Raises:
        NotSaved: A download or a write failed. Files already saved stay.
    """
    saved = []
    for number, link in enumerate(links, 1):
        body = await _download(http, link, trusted)
        ending = _ending(body)
        saved.append(
            await anyio.to_thread.run_sync(_write, directory, f"{stem}-{number}", ending, body)
        )
    return saved


async def _download(http: httpx2.AsyncClient, link: str, trusted: Collection[str]) -> bytes:
    try:
        with anyio.fail_after(DOWNLOAD_SECONDS):
            return await _follow(http, link, trusted)
    except TimeoutError:
        raise NotSaved("Downloading the image took too long.", fix=_AGAIN) from None
    except (httpx2.HTTPError, httpx2.InvalidURL):
        raise NotSaved(
            "The image could not be downloaded: the connection broke.", fix=_AGAIN
        ) from None


async def _follow(http: httpx2.AsyncClient, link: str, trusted: Collection[str]) -> bytes:
    for _hop in range(MAX_HOPS):
        _check(link, trusted)
        async with http.stream(
            "GET", link, headers={"User-Agent": USER_AGENT}, follow_redirects=False
        ) as response:
            if not response.is_redirect:
                return await _body(response)
            link = _joined(link, response.headers.get("location", ""))
    raise NotSaved("The image's link leads from redirect to redirect.", fix=_AGAIN)


def _joined(link: str, location: str) -> str:
    try:
        return urljoin(link, location)
    except ValueError:  # such as a bracket without its pair
        return location


def _check(link: str, trusted: Collection[str]) -> None:
    try:
        check_public(link, trusted=trusted)
    except NotPublic as reason:
        raise NotSaved(f"The image was not downloaded: its link {reason}.", fix=_AGAIN) from None


async def _body(response: httpx2.Response) -> bytes:
    if response.status_code != 200:
        gone = " (links die after 24 hours)" if response.status_code in (403, 404, 410) else ""
        raise NotSaved(
            f"The image could not be downloaded: HTTP {response.status_code}{gone}.", fix=_AGAIN
        )
    body = bytearray()
    async with aclosing(response.aiter_bytes()) as chunks:
        async for chunk in chunks:
            body += chunk
            if len(body) > MAX_IMAGE_BYTES:
                raise NotSaved("The image is larger than any result of this model.", fix=_AGAIN)
    return bytes(body)


def _ending(body: bytes) -> str:
    for signature, ending in _SIGNATURES:
        if body.startswith(signature):
            return ending
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return ".webp"
    raise NotSaved("What the link gave is not an image.", fix=_AGAIN)


def _write(directory: Path, stem: str, ending: str, body: bytes) -> Path:
    """Write under a temporary name, then give the final one, which no earlier file may hold."""
    temporary = directory / f".{stem}-{secrets.token_hex(4)}.part"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        return _rename(temporary, directory, stem, ending)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = (error.strerror or "unknown").lower()
        raise NotSaved(
            f"The image could not be written to {directory} ({reason}).",
            fix="Set WAN25_OUTPUT_DIR or --output to a folder with room that you may write to.",
        ) from None


def _rename(temporary: Path, directory: Path, stem: str, ending: str) -> Path:
    for attempt in range(1, 1000):
        final = directory / (f"{stem}{ending}" if attempt == 1 else f"{stem}-{attempt}{ending}")
        try:
            final.open("xb").close()  # claims the name: no two savers get the same one
        except FileExistsError:
            continue
        try:
            temporary.replace(final)
        except OSError:
            final.unlink(missing_ok=True)  # the claim: an empty file is not an image
            raise
        return final
    raise FileExistsError(17, "too many files of that name")
