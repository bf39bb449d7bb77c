"""What an editor is given: the way to the provider, and how to behave."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from wan25_mcp.journal import Allowance, Journal
from wan25_mcp.provider.client import Client

if TYPE_CHECKING:
    import httpx2

    from wan25_mcp.inputs.publisher import Publisher


@dataclass(frozen=True, slots=True)
class Connection:
    """The way to the provider.

    Args:
        client: The provider's API.
        key: Stands for the API key at this address, without telling it.
        address: Where the API is, as `url_safety.same_address` writes it.
        account: What the operator calls the account, if anything.
        trusted: Origins that links may name although they are not public.
        publisher: Gives local images an address; None when nothing is configured for it.
        downloads: The client results are downloaded with, if they are.
    """

    client: Client
    key: str
    trusted: frozenset[str] = frozenset()
    publisher: Publisher | None = None
    downloads: httpx2.AsyncClient | None = None
    address: str | None = None
    account: str | None = None


Connect = Callable[[], AbstractAsyncContextManager[Connection]]
OpenJournal = Callable[[], Awaitable[Journal]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the editor behaves. Times in seconds.

    Args:
        is_emulator: Whether the far side only plays the provider.
        resumes: Whether edits of an earlier process may go on there; not where it dies with us.
        duplicate_window: How long an equal call joins the earlier edit.
        allowance: What the operator allows to be spent.
        input_dirs: The folders local images may be read from.
        output_dir: Where results are saved; None for the default folder.
        save: Whether completed edits are saved.
        attends: Whether tasks nobody asks about are looked at, and their images saved.
        callback_url: The public address under which `called_back` is reached; None: it is not.
        run: Where blocking work on images runs.
        clock: Epoch seconds.
        chance: Random numbers in [0, 1).
    """

    is_emulator: bool = False
    resumes: bool = True
    duplicate_window: float = 600.0
    allowance: Allowance = field(default_factory=Allowance)
    input_dirs: tuple[Path, ...] = ()
    output_dir: Path | None = None
    save: bool = True
    attends: bool = True
    callback_url: str | None = None
    run: Callable[..., Awaitable[Any]] = anyio.to_thread.run_sync
    clock: Callable[[], float] = time.time
    chance: Callable[[], float] = random.random
