"""The way to the provider, as configured: the real API, an emulator that runs already, or one of
our own. Opened when first needed, so that listing tools costs nothing and needs no key."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio.to_thread
import platformdirs
from pydantic import SecretStr

from wan25_mcp.addresses import origin_of
from wan25_mcp.client import Client, open_http
from wan25_mcp.editor import Connect, Connection, Editor, Rules, open_editor
from wan25_mcp.errors import SettingsError
from wan25_mcp.journal import Allowance, Journal
from wan25_mcp.settings import Settings

EMULATOR_KEY: Final = "emulator-key"
"""Any key opens the emulator; this one says where it belongs."""


def connect_as(settings: Settings) -> Connect:
    """How to connect as the settings say."""
    if settings.emulator and settings.emulator_url is None:
        return _own_emulator
    if settings.emulator_url is not None:
        return lambda: _api(settings.emulator_url or "", SecretStr(EMULATOR_KEY))
    return lambda: _api(settings.base_url, key_of(settings))


def key_of(settings: Settings) -> SecretStr:
    """The API key.

    Raises:
        SettingsError: There is none, with how to set it.
    """
    if settings.key is not None:
        return settings.key
    raise SettingsError(
        settings.key_problem or "No API key is set, so nothing can be sent to the provider.",
        code="missing_api_key",
        fix="Set WAN25_API_KEY in this server's environment (keys: the provider's dashboard, "
        "/dashboard/keys) and restart it, or try the emulator without a key: "
        "`wan25-mcp serve --emulator`.",
    )


@asynccontextmanager
async def _api(base_url: str, key: SecretStr) -> AsyncIterator[Connection]:
    async with open_http() as http:
        trusted = frozenset(filter(None, [origin_of(base_url)]))
        yield Connection(Client(http, base_url=base_url, key=key), _owner(base_url, key), trusted)


def _owner(base_url: str, key: SecretStr) -> str:
    """Tells the edits of one account from another's (and the emulator's) in one journal.

    A hash, because the journal never holds the key.
    """
    return hashlib.sha256(f"{base_url} {key.get_secret_value()}".encode()).hexdigest()[:24]


@asynccontextmanager
async def _own_emulator() -> AsyncIterator[Connection]:
    from wan25_mcp.emulator import Emulator

    emulator = Emulator(key=EMULATOR_KEY)
    async with (
        emulator.serving(),
        _api(emulator.base_url, SecretStr(EMULATOR_KEY)) as connection,
    ):
        yield connection


@asynccontextmanager
async def open_configured_editor(settings: Settings) -> AsyncIterator[Editor]:
    """An editor as the settings say, for as long as the block runs."""
    rules = Rules(
        is_emulator=settings.emulator,
        duplicate_window=settings.duplicate_window_seconds,
        allowance=Allowance(
            credit_limit=settings.credit_limit,
            credits_per_image=settings.credits_per_image,
            max_in_flight=settings.max_in_flight,
        ),
    )
    open_journal = functools.partial(_open_journal, settings)
    async with open_editor(connect_as(settings), open_journal, rules) as editor:
        yield editor


async def _open_journal(settings: Settings) -> Journal:
    """The journal the settings name, when it is first needed: SQLAlchemy is slow to import."""
    return await anyio.to_thread.run_sync(_journal_of, settings)


def _journal_of(settings: Settings) -> Journal:
    from wan25_mcp.journal.sql import SqlJournal

    if settings.database_url is not None and not settings.emulator:
        return SqlJournal(settings.database_url.get_secret_value())
    name = "emulator.sqlite3" if settings.emulator else "journal.sqlite3"
    return SqlJournal((settings.data_dir or default_data_dir()) / name)


def default_data_dir() -> Path:
    """Where what must outlive a process is kept, unless the settings say otherwise."""
    return platformdirs.user_data_path("wan25-mcp")
