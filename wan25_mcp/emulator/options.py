"""How the emulator behaves: one frozen value."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import httpx2

Generation = Literal["specification", "later"]
RunSeconds = float | Callable[[random.Random], float] | None


@dataclass(frozen=True)
class RateLimit:
    """At most `submits` in any `seconds`, for each key.

    `retry_after`: the form of the header; None sends none.
    """

    submits: int
    seconds: float = 60.0
    retry_after: Literal["seconds", "date"] | None = None


@dataclass(frozen=True, kw_only=True)
class EmulatorOptions:
    """How the emulator behaves.

    Args:
        key: The accepted bearer key or keys; None accepts any.
        denied_keys: Keys that are known and not allowed to use this model (403).
        accounts: The account of each key that shares one with other keys.
        balance: Credits to spend, shared by all accounts.
        price: Credits for each image.
        speed: Divides the emulator's own waits (run times, callback retries), never time limits.
        seed: The same seed gives the same ids and run times.
        clock: Epoch seconds for timestamps, link expiry and rate limits.
        generation: The published shape of errors and costs.
        allow_loopback: Whether images and callbacks may be at addresses of this machine.
        run_seconds: The run time of a task, before `speed`; None for the model's.
        public_url: The origin in links; None for the address that it listens on.
        rate_limit: The limit of submits for each key; a number is per minute.
        idempotency: Whether a repeated `Idempotency-Key` returns the first task.
        check_images: If false, no image is downloaded, and a sample is edited instead.
        refuse_library_agents: Whether result links refuse the default User-Agents of libraries.
        outside: The transport for images and callbacks; None for the real network.
    """

    key: str | Collection[str] | None = "emulator-key"
    denied_keys: Collection[str] = ()
    accounts: Mapping[str, str] = field(default_factory=dict)
    balance: float = 100.0
    price: float = 1.5
    speed: float = 1.0
    seed: int = 0
    clock: Callable[[], float] = time.time
    generation: Generation = "specification"
    allow_loopback: bool = False
    run_seconds: RunSeconds = None
    public_url: str | None = None
    rate_limit: RateLimit | int | None = None
    idempotency: bool = False
    check_images: bool = True
    refuse_library_agents: bool = True
    outside: httpx2.AsyncBaseTransport | None = None

    def accepts(self, key: str) -> bool:
        """Whether a bearer key is known."""
        known = {self.key} if isinstance(self.key, str) else self.key
        return known is None or key in known or key in self.denied_keys
