"""Checks what an edit needs, and says what to fix. No check costs credits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import anyio
import anyio.to_thread
import httpx2

from wan25_mcp.cli.cost import credits_left
from wan25_mcp.editing.connect import (
    account_of,
    connect_as,
    file_service_of,
    key_of,
)
from wan25_mcp.editing.journal_access import close_journal, default_data_dir, open_journal
from wan25_mcp.errors import SettingsError, Wan25Error
from wan25_mcp.inputs.bucket import Bucket
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.outputs.save import default_directory
from wan25_mcp.provider.exchange import open_http
from wan25_mcp.settings import CALLBACKS_NEED_HTTP, Settings, nearest
from wan25_mcp.url_safety import NotPublic, check_public

PROBE_SECONDS: Final = 5.0
"""Seconds within which the service for local images must answer."""


NO_LOCAL_IMAGES: Final = (
    "Local images cannot be edited, only public links: this API has no file service, and the "
    "provider downloads images itself."
)
TWO_WAYS: Final = (
    "To edit local images, set WAN25_BUCKET_URL (your own bucket) or WAN25_FILES_URL (a file "
    "service of the provider at another address)."
)

_SAID_BELOW: Final = ("missing_api_key", "authentication", "unreachable")
"""What the check of the provider reports as well."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    verdict: Literal["ok", "WARN", "FAIL"]
    """WARN: edits work, but not with every kind of image."""
    what: str
    fix: str = ""


async def run_checks(settings: Settings) -> AsyncIterator[Finding]:
    """Check the settings, the folders, the journal, the provider and the key, in this order."""
    yield _base_url(settings)
    for name in settings.unknown:
        yield _unread(name)
    if settings.callback_url is not None:
        yield Finding("ok", CALLBACKS_NEED_HTTP)
    for check in (_output_directory, _data_directory):
        yield await anyio.to_thread.run_sync(check, settings)
    yield await _journal(settings)
    yield await _local_images(settings)
    async for finding in _provider(settings):
        yield finding


def _base_url(settings: Settings) -> Finding:
    if settings.emulator:
        where = settings.emulator_url or "built in, started when needed"
        return Finding("ok", f"The emulator plays the provider: {where}.")
    if not settings.base_url.startswith("https://"):
        try:
            check_public(settings.base_url)
        except NotPublic:
            return Finding(
                "ok", f"The API is {settings.base_url}, on this computer or a private network."
            )
        return Finding(
            "FAIL",
            f"The connection to the API is not encrypted: {settings.base_url}.",
            "Set WAN25_BASE_URL to an https:// address, because every request carries the key.",
        )
    return Finding("ok", f"The API is {settings.base_url}.")


def _unread(name: str) -> Finding:
    meant = nearest(name)
    return Finding(
        "FAIL",
        f"Unknown setting {name}.",
        f"Set {meant} instead, if that is what you meant." if meant else "Unset it.",
    )


def _output_directory(settings: Settings) -> Finding:
    return _directory("Images", settings.output_dir or default_directory(), "WAN25_OUTPUT_DIR")


def _data_directory(settings: Settings) -> Finding:
    if settings.database_url is not None:
        return Finding("ok", "The journal is in a database.")
    return _directory("The journal", settings.data_dir or default_data_dir(), "WAN25_DATA_DIR")


def _directory(what: str, directory: Path, variable: str) -> Finding:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        return Finding(
            "FAIL",
            f"{what} cannot be saved in {directory} ({(error.strerror or 'unknown').lower()}).",
            f"Set {variable} to a folder that you may write to.",
        )
    return Finding("ok", f"{what} can be saved in {directory}.")


async def _journal(settings: Settings) -> Finding:
    """Read the journal, as every submit does. Without it nothing is sent."""
    journal = await open_journal(settings)
    try:
        await journal.recent("doctor", now=0.0, limit=1)
    except JournalUnusable as error:
        return Finding("FAIL", error.message, error.fix)
    finally:
        await close_journal(journal)
    return Finding("ok", "The journal can be read.")


async def _local_images(settings: Settings) -> Finding:
    """Check where local images are uploaded to, without uploading one."""
    if settings.emulator:
        return Finding("ok", "Local images can be edited: the emulator accepts uploads.")
    if settings.bucket_url:  # checked first, as in an edit
        return await _bucket(settings.bucket_url)
    if (address := file_service_of(settings)) is not None:
        return await _file_service(address)
    return await _search(settings)


async def _search(settings: Settings) -> Finding:
    """Ask the API for its own file service, as the first local image does."""
    try:
        async with connect_as(settings)() as connector:
            await connector(account_of(settings)).image_host(PROBE_SECONDS)
    except Wan25Error as error:
        if error.code == "no_image_host":
            return Finding("FAIL", NO_LOCAL_IMAGES, TWO_WAYS)
        if error.code in _SAID_BELOW:
            return Finding("WARN", "Local images were not checked: see the failure below.")
        why = error.message.removesuffix(".")
        return Finding(
            "WARN",
            f"Whether local images can be edited cannot be checked now: {why}.",
            f"Run doctor again later. {TWO_WAYS}",
        )
    return Finding("ok", "The API has a file service for local images. An upload was not tried.")


async def _bucket(url: str) -> Finding:
    try:
        with anyio.fail_after(PROBE_SECONDS):
            await Bucket(url, clock=time.time).check()
    except Wan25Error as error:
        return Finding("FAIL", error.message, error.fix)
    except TimeoutError:
        return Finding(
            "FAIL",
            f"The bucket's credentials were not found within {PROBE_SECONDS:g} seconds.",
            "Set them in the environment of this server, or check the network to the cloud's "
            "service for credentials.",
        )
    return Finding(
        "ok",
        f"Credentials for the bucket {url} were found. An upload was not tried.",
    )


async def _file_service(url: str) -> Finding:
    """Check that it answers. No key is sent, and nothing is uploaded, which would leave a file."""
    try:
        with anyio.fail_after(PROBE_SECONDS):
            async with open_http() as http, http.stream("HEAD", url):
                pass
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, TimeoutError):
        return Finding(
            "FAIL",
            f"The file service {url} does not answer, so local images cannot be edited.",
            "Check the network and WAN25_FILES_URL.",
        )
    return Finding("ok", f"The file service {url} answers. An upload was not tried.")


async def _provider(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.emulator:
        try:
            key_of(account_of(settings), settings)
        except SettingsError as error:
            yield Finding("FAIL", error.message, error.fix)
            return
        yield Finding("ok", f"An API key is set ({settings.key_source}).")
    try:
        async with connect_as(settings)() as connector:
            connection = connector(account_of(settings))
            report = await connection.client.credits()
    except Wan25Error as error:
        yield Finding("FAIL", error.message, error.fix)
        return
    yield Finding("ok", f"The provider accepts the key: {credits_left(report)}.")
