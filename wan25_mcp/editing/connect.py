"""Connects to the provider as configured: the real API, an emulator that is already running, or the
built-in one. Opened when first needed, so that listing tools costs nothing and needs no key."""

from __future__ import annotations

import functools
import hashlib
import secrets
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

import httpx2
from pydantic import SecretStr

from wan25_mcp.editing.account import Account
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.engine import Engine, open_engine
from wan25_mcp.editing.journal_access import journal_of
from wan25_mcp.editing.options import Connect, Connection, Connector, Options
from wan25_mcp.errors import SettingsError
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.bucket import Bucket
from wan25_mcp.inputs.discovery import FileServiceSearch, known_file_service
from wan25_mcp.inputs.file_service import FileService
from wan25_mcp.inputs.publisher import FindPublisher, Publisher
from wan25_mcp.inputs.read import default_input_dirs
from wan25_mcp.journal import Allowance
from wan25_mcp.outputs.download import open_downloads
from wan25_mcp.outputs.save import default_directory
from wan25_mcp.provider.client import Client
from wan25_mcp.provider.dashboard import with_dashboard
from wan25_mcp.provider.exchange import open_http
from wan25_mcp.settings import Settings
from wan25_mcp.url_safety import origin_of, same_address

EMULATOR_KEY: Final = "emulator-key"
"""The emulator accepts any key; this one is recognisable."""

DEMO_SPEED: Final = 15.0
"""How much faster than the model the emulator is for a command: a minute is a few seconds."""

_AT_ANY_EMULATOR: Final = "emulator"
"""Takes the place of an emulator's address: each has a port of its own, and all are the same."""


def connect_as(
    settings: Settings, http: httpx2.AsyncClient | None = None, *, speed: float = 1.0
) -> Connect:
    """Return how to connect with these settings, by way of `http` if it is given.

    Args:
        speed: Of the built-in emulator.
    """
    if settings.emulator_url is not None:
        return lambda: _emulator_at(settings, settings.emulator_url or "", http)
    if settings.emulator:
        return lambda: _own_emulator(settings, http, speed)
    return lambda: _api(settings, settings.base_url, http)


def account_of(settings: Settings) -> Account:
    """The account that is configured."""
    return Account(
        # A key in the environment does not matter to an emulator.
        key=None if settings.emulator else settings.key,
        name=settings.account,
        allowance=Allowance(
            credit_limit=settings.credit_limit,
            credits_per_image=settings.credits_per_image,
            max_in_flight=settings.max_in_flight,
        ),
        output_dir=settings.output_dir,
        save=settings.save,
    )


def key_of(account: Account, settings: Settings) -> SecretStr:
    """The API key of an account.

    Raises:
        SettingsError: There is none; the error says how to set one.
    """
    if account.key is not None:
        return account.key
    fix = with_dashboard(CODES["missing_api_key"].fix, settings.base_url)
    raise SettingsError(settings.key_problem or None, code="missing_api_key", fix=fix)


@asynccontextmanager
async def _api(
    settings: Settings, base_url: str, given: httpx2.AsyncClient | None
) -> AsyncIterator[Connector]:
    origins = [origin_of(base_url), origin_of(settings.files_url or "")]
    opened = open_http() if given is None else nullcontext(given)  # the caller closes his own
    async with opened as http, open_downloads() as downloads:

        def connector(account: Account) -> Connection:
            key, place = _key_for_emulator(account), _AT_ANY_EMULATOR
            if not settings.emulator:
                key, place = key_of(account, settings), base_url
            return Connection(
                Client(
                    http,
                    base_url=base_url,
                    key=key,
                    secrets=settings.secrets,
                    key_source=_source(settings, key),
                ),
                key_id(place, key),
                frozenset(filter(None, origins)),
                _publisher(settings, http, key),
                downloads,
                same_address(base_url),
                _search(settings, http, key),
            )

        yield connector


def _publisher(settings: Settings, http: httpx2.AsyncClient, key: SecretStr) -> Publisher | None:
    """Where local images are uploaded to. The operator's own bucket has precedence."""
    if settings.bucket_url is not None:
        return Bucket(settings.bucket_url, clock=time.time)
    address = file_service_of(settings)
    return None if address is None else _file_service(settings, http, key, address)


def file_service_of(settings: Settings) -> str | None:
    """The address of the file service, as far as the settings tell."""
    return settings.files_url or known_file_service(settings.base_url)


def has_image_host(settings: Settings) -> bool:
    """Whether the settings tell where local images are uploaded to. Else the API is asked."""
    return bool(settings.emulator or settings.bucket_url or file_service_of(settings))


def _file_service(
    settings: Settings, http: httpx2.AsyncClient, key: SecretStr, address: str
) -> FileService:
    return FileService(
        http,
        url=address,
        key=key,
        clock=time.time,
        # An emulator that was restarted on its port no longer has the images it had. So uploads
        # remembered by another process are not reused.
        instance=uuid.uuid4().hex if settings.emulator else "",
        secrets=settings.secrets,
    )


def _search(settings: Settings, http: httpx2.AsyncClient, key: SecretStr) -> FindPublisher | None:
    """Finds the API's own file service, where the settings name no place."""
    if has_image_host(settings):
        return None
    return FileServiceSearch(
        http,
        base_url=settings.base_url,
        key=key,
        publisher_at=functools.partial(_file_service, settings, http, key),
        secrets=settings.secrets,
        key_source=_source(settings, key),
    ).find


def _source(settings: Settings, key: SecretStr) -> str:
    """Where a key comes from; empty for one that the settings do not have."""
    return settings.key_source if key == settings.key else ""


def key_id(base_url: str, key: SecretStr) -> str:
    """Identifies a key at an address. A hash, because the journal never holds the key."""
    text = f"{same_address(base_url)} {key.get_secret_value()}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _key_for_emulator(account: Account) -> SecretStr:
    """Another key for each account, made up: real ones are not sent to an emulator."""
    if account.key is None:
        return SecretStr(EMULATOR_KEY)
    return SecretStr(f"{EMULATOR_KEY}-{key_id(_AT_ANY_EMULATOR, account.key)}")


def _emulator_at(
    settings: Settings, base_url: str, http: httpx2.AsyncClient | None
) -> AbstractAsyncContextManager[Connector]:
    """Connect to an emulator, which has its own file service at its origin."""
    with_file_service = replace(settings, files_url=origin_of(base_url), bucket_url=None)
    return _api(with_file_service, base_url, http)


@asynccontextmanager
async def _own_emulator(
    settings: Settings, http: httpx2.AsyncClient | None, speed: float
) -> AsyncIterator[Connector]:
    from wan25_mcp.emulator import Emulator, EmulatorOptions

    options = EmulatorOptions(
        key=None,
        # Task ids must differ: the journal keeps the tasks of all emulators.
        seed=secrets.randbits(32),
        speed=speed,
        # Callbacks come to this machine. The links of callers are checked here, not there.
        allow_loopback=settings.callback_url is not None,
    )
    emulator = Emulator(options)
    async with (
        emulator.serving(),
        _emulator_at(settings, emulator.base_url, http) as connector,
    ):
        yield connector


@asynccontextmanager
async def open_configured_editor(
    settings: Settings, *, background: bool = True
) -> AsyncIterator[AccountEditor]:
    """An editor as configured, for as long as the block runs.

    Args:
        background: Whether edits are followed while nobody waits; False for a single command.
    """
    async with open_configured_engine(settings, background=background) as engine:
        yield engine.editor(account_of(settings))


@asynccontextmanager
async def open_configured_engine(
    settings: Settings, *, background: bool = True, http: httpx2.AsyncClient | None = None
) -> AsyncIterator[Engine]:
    """An engine as configured, for any number of accounts, for as long as the block runs.

    Args:
        background: Whether edits are followed while nobody waits; False for a single command.
        http: The client for the provider's calls, as `exchange.check_http` wants it; the caller
            closes it.
    """
    options = Options(
        is_emulator=settings.emulator,
        resumes=settings.emulator_url is not None or not settings.emulator,
        duplicate_window=settings.duplicate_window_seconds,
        input_dirs=_input_dirs(settings),
        has_image_host=has_image_host(settings),
        background=background,
        # A single command receives no callbacks, so it must poll as often as without them.
        callback_url=settings.callback_url if background else None,
    )
    async with (
        journal_of(settings) as opening,
        open_engine(
            connect_as(settings, http, speed=1.0 if background else DEMO_SPEED), opening, options
        ) as engine,
    ):
        yield engine


def _input_dirs(settings: Settings) -> tuple[Path, ...]:
    if settings.input_dirs is not None:
        return settings.input_dirs
    return default_input_dirs(settings.output_dir or default_directory())
