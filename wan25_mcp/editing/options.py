"""What an engine is given: the connection to the provider, and its options."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from wan25_mcp.editing.account import Account
from wan25_mcp.errors import SettingsError
from wan25_mcp.journal import Journal
from wan25_mcp.provider.protocol import Provider

if TYPE_CHECKING:
    import httpx2

    from wan25_mcp.inputs.publisher import FindPublisher, Publisher


@dataclass(frozen=True, slots=True)
class Connection:
    """One account's connection to the provider.

    Args:
        client: The provider's API, with the account's key.
        key: Identifies the API key at this address, without revealing it: a hash.
        trusted: Origins that links may have although they are not public.
        publisher: Uploads local images; None if nothing is configured for it.
        find_publisher: Finds one when the first local image needs it; None: there is none to find.
        downloads: The client that downloads results; None: they are not downloaded.
        address: The address of the API, as `url_safety.same_address` writes it.
    """

    client: Provider
    key: str
    trusted: frozenset[str] = frozenset()
    publisher: Publisher | None = None
    downloads: httpx2.AsyncClient | None = None
    address: str | None = None
    find_publisher: FindPublisher | None = None

    async def image_host(self, patience: float) -> Publisher:
        """Where local images are uploaded to.

        Args:
            patience: Seconds that finding it may take.

        Raises:
            SettingsError: There is no place for them.
            NotPublished, Refused: Whether there is one could not be found out.
        """
        found = self.publisher
        if found is None and self.find_publisher is not None:
            found = await self.find_publisher(patience)
        if found is None:
            raise SettingsError(code="no_image_host")
        return found


Connector = Callable[[Account], Connection]
"""Returns the connection of an account, over HTTP connections that all accounts share. Raises
`SettingsError` for an account without a usable key."""

Connect = Callable[[], AbstractAsyncContextManager[Connector]]
OpenJournal = Callable[[], Awaitable[Journal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How an engine behaves, for all accounts. Times are in seconds.

    Args:
        is_emulator: Whether the provider is an emulator.
        resumes: Whether edits of an earlier process can still be running; False if the provider
            ends with this process.
        duplicate_window: How long an identical call returns the earlier edit.
        input_dirs: The folders that local images may be read from.
        has_image_host: Whether local images certainly have a place to be uploaded to; False if the
            first of them finds out.
        background: Whether tasks are polled, and their images saved, while nobody waits.
        callback_url: The public address whose requests reach `AccountEditor.called_back`; None:
            there is none.
        run: Runs blocking work on images.
        clock: Epoch seconds.
        random: Random numbers in [0, 1).
    """

    is_emulator: bool = False
    resumes: bool = True
    duplicate_window: float = 600.0
    input_dirs: tuple[Path, ...] = ()
    has_image_host: bool = True
    background: bool = True
    callback_url: str | None = None
    run: Callable[..., Awaitable[Any]] = anyio.to_thread.run_sync
    clock: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
