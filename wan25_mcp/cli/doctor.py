"""Checks what an edit needs, and says what to fix. Nothing it does costs credits."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import httpx2

from wan25_mcp.editing.connect import account_of, connect_as, default_data_dir, key_of, open_journal
from wan25_mcp.errors import SettingsError, Wan25Error
from wan25_mcp.inputs.bucket import Bucket
from wan25_mcp.journal import JournalUnusable
from wan25_mcp.outputs.save import default_directory
from wan25_mcp.provider.exchange import open_http
from wan25_mcp.provider.models import CreditReport
from wan25_mcp.settings import CALLBACKS_NEED_HTTP, Settings, nearest
from wan25_mcp.url_safety import NotPublic, check_public

PROBE_SECONDS: Final = 5.0
"""How long the place for local images may take to answer."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked."""

    good: bool
    what: str
    fix: str = ""


async def examine(settings: Settings) -> AsyncIterator[Finding]:
    """Check the settings, the directories, the provider's reachability and the key, in turn."""
    yield _base_url(settings)
    for name in settings.unknown:
        yield _unread(name)
    if settings.callback_url is not None:
        yield Finding(True, CALLBACKS_NEED_HTTP)
    for check in (_output_directory, _data_directory):
        yield await anyio.to_thread.run_sync(check, settings)
    yield await _journal(settings)
    yield await _local_images(settings)
    async for finding in _provider(settings):
        yield finding


def _base_url(settings: Settings) -> Finding:
    if settings.emulator:
        where = settings.emulator_url or "one of our own, started when needed"
        return Finding(True, f"The emulator stands in for the provider: {where}.")
    if not settings.base_url.startswith("https://"):
        try:
            check_public(settings.base_url)
        except NotPublic:
            return Finding(True, f"The API is a private one: {settings.base_url}.")
        return Finding(
            False,
            f"The API is reached without encryption: {settings.base_url}.",
            "Set WAN25_BASE_URL to an https:// address; the key travels with every request.",
        )
    return Finding(True, f"The API is {settings.base_url}.")


def _unread(name: str) -> Finding:
    meant = nearest(name)
    return Finding(
        False,
        f"Unknown setting {name}.",
        f"Set {meant} instead, if that is what you meant." if meant else "Unset it.",
    )


def _output_directory(settings: Settings) -> Finding:
    return _directory("Images", settings.output_dir or default_directory(), "WAN25_OUTPUT_DIR")


def _data_directory(settings: Settings) -> Finding:
    if settings.database_url is not None:
        return Finding(True, "The journal is in a database.")
    return _directory("The journal", settings.data_dir or default_data_dir(), "WAN25_DATA_DIR")


def _directory(what: str, directory: Path, variable: str) -> Finding:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        return Finding(
            False,
            f"{what} cannot be saved in {directory} ({(error.strerror or 'unknown').lower()}).",
            f"Set {variable} to a folder you may write to.",
        )
    return Finding(True, f"{what} can be saved in {directory}.")


async def _journal(settings: Settings) -> Finding:
    """Read it as every submit will: without it nothing is sent."""
    try:
        await (await open_journal(settings)).recent("doctor", now=0.0, limit=1)
    except JournalUnusable as error:
        return Finding(False, error.message, error.fix)
    return Finding(True, "The journal can be read.")


async def _local_images(settings: Settings) -> Finding:
    """Try the place local images go to, as far as that leaves nothing there."""
    if settings.emulator:
        return Finding(True, "Local images can be given an address: the emulator takes them.")
    if settings.bucket_url:  # first, as when an edit is made
        return await _bucket(settings.bucket_url)
    if settings.files_url:
        return await _file_service(settings.files_url)
    return Finding(
        True,
        "Only public links can be edited: for local images set WAN25_FILES_URL or "
        "WAN25_BUCKET_URL.",
    )


async def _bucket(url: str) -> Finding:
    try:
        with anyio.fail_after(PROBE_SECONDS):
            await Bucket(url, clock=time.time).check()
    except Wan25Error as error:
        return Finding(False, error.message, error.fix)
    except TimeoutError:
        return Finding(
            False,
            f"The bucket's credentials were not found within {PROBE_SECONDS:g} seconds.",
            "Set them in the environment of this server, or check the network to the cloud's "
            "service for credentials.",
        )
    return Finding(
        True,
        f"Credentials for the bucket {url} are there; that it exists and takes images was not "
        "tried.",
    )


async def _file_service(url: str) -> Finding:
    """Whether it answers at all. The key is not sent; an upload would leave a file."""
    try:
        with anyio.fail_after(PROBE_SECONDS):
            async with open_http() as http, http.stream("HEAD", url):
                pass
    except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, TimeoutError):
        return Finding(
            False,
            f"The file service {url} does not answer, so local images get no address.",
            "Check the network and WAN25_FILES_URL.",
        )
    return Finding(True, f"The file service {url} answers; an upload was not tried.")


async def _provider(settings: Settings) -> AsyncIterator[Finding]:
    if not settings.emulator:
        try:
            key_of(account_of(settings), settings)
        except SettingsError as error:
            yield Finding(False, error.message, error.fix)
            return
        yield Finding(True, "An API key is set.")
    try:
        async with connect_as(settings)() as connector:
            connection = connector(account_of(settings))
            report = await connection.client.credits()
    except Wan25Error as error:
        yield Finding(False, error.message, error.fix)
        return
    yield Finding(True, f"The provider accepts the key; {_credits(report)}.")


def _credits(report: CreditReport) -> str:
    if report.token and report.token.unlimited_credits and report.user is None:
        return "the key has no limit of its own"
    balance = report.user or report.token
    if balance is None or balance.remaining_credits is None:
        return "it does not say how many credits are left"
    return f"{balance.remaining_credits:g} credits are left"
