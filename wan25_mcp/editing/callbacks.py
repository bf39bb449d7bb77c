"""Callback addresses, and what a callback does.

Each submit has its own address, with a secret. A callback is only a hint, so the API is polled. A
callback also proves that a submit of unknown outcome was accepted, because only that submit carried
the address. The API must still confirm which task it is.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio

from wan25_mcp.editing.shared import Shared
from wan25_mcp.errors import ReadFailed, Unreachable, Wan25Error
from wan25_mcp.journal import DegradedJournal, Intent
from wan25_mcp.polling.schedule import pause_after_failure
from wan25_mcp.polling.shared_poller import SharedPoller
from wan25_mcp.provider.protocol import Provider

logger: Final = logging.getLogger(__name__)

_TRIES: Final = 6
"""Number of tries to query the API, or an unavailable journal, because of one callback."""

_MAX_REMEMBERED: Final = 10_000

_NO_HASH: Final = "0" * 64


@dataclass(frozen=True, slots=True)
class CallbackAddress:
    """Where the provider can report the end of one submit's task.

    Args:
        url: The address that is sent to the provider; a secret.
        digest: SHA-256 of its secret, in hex, for the journal.
    """

    url: str
    digest: str


def new_address(base: str, handle: str) -> CallbackAddress:
    """A new address."""
    secret = secrets.token_urlsafe(32)
    return CallbackAddress(f"{base}/{handle}/{secret}", _digest(secret))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class Callbacks:
    """Receives callbacks for one account in this process.

    Args:
        client: Confirms what callbacks say.
        journal: Has what was sent, and with which address.
        poller: Polls the tasks that callbacks name.
        submitted: Waits until the submit of a handle has ended, and returns its intent.
        shared: The task group that outlives the callback.
    """

    def __init__(
        self,
        client: Provider,
        journal: DegradedJournal,
        poller: SharedPoller,
        submitted: Callable[[str], Awaitable[Intent | None]],
        shared: Shared,
    ) -> None:
        self._client = client
        self._journal = journal
        self._poller = poller
        self._submitted = submitted
        self._tasks = shared.tasks
        self._clock = shared.options.clock
        self._under_way: set[str] = set()
        self._digests: dict[str, str] = {}

    def note(self, handle: str, address: CallbackAddress) -> None:
        """Remember an address made here, so that it is recognised without the journal."""
        self._digests[handle] = address.digest
        if len(self._digests) > _MAX_REMEMBERED:
            del self._digests[next(iter(self._digests))]

    def knows(self, handle: str, secret: str) -> bool:
        """Whether this process made that address; False says nothing about other processes."""
        return hmac.compare_digest(_digest(secret), self._digests.get(handle, _NO_HASH))

    async def called(self, handle: str, secret: str, hint: str | None) -> bool:
        """Receive a callback for a submit. Returns at once whether its secret is right.

        The task is polled after the return.

        Args:
            hint: The task id that the callback names.

        Raises:
            JournalUnusable: The journal cannot be read, so the secret cannot be checked.
        """
        # An address made here is checked without the journal: the provider tries only 4 times.
        if not self.knows(handle, secret):
            intent = await self._journal.find_or_fail(handle, now=self._clock())
            expected = (intent.callback if intent else None) or _NO_HASH
            if not hmac.compare_digest(_digest(secret), expected):
                return False
        if handle not in self._under_way:
            self._under_way.add(handle)
            self._tasks.start_soon(self._process, handle, hint)
        return True

    async def _process(self, handle: str, hint: str | None) -> None:
        try:
            intent = await self._ended(handle)
            if intent is not None and intent.stage == "unknown" and hint is not None:
                intent = await self._resolve(intent, hint)
            if intent is not None and intent.task_id is not None:
                await self._poller.wake(intent.task_id, intent)
        except Exception:
            logger.exception("Processing a callback of %s ended unexpectedly", handle)
        finally:
            self._under_way.discard(handle)

    async def _ended(self, handle: str) -> Intent | None:
        """The intent of a submit that has ended. A callback can arrive before the answer does."""
        for failures in range(1, _TRIES + 1):
            if (intent := await self._submitted(handle)) is not None:
                return intent
            await anyio.sleep(pause_after_failure(failures, None, 0.5))
        return None

    async def _resolve(self, intent: Intent, task_id: str) -> Intent | None:
        """Resolve a submit of unknown outcome, if the API confirms the named task."""
        now = self._clock()
        if await self._journal.find(task_id, now=now) is not None:
            logger.warning("A callback of %s names the task of another edit", intent.handle)
            return None
        for failures in range(1, _TRIES + 1):
            try:
                task = await self._client.query(task_id)
            except (ReadFailed, Unreachable) as error:
                await anyio.sleep(pause_after_failure(failures, error.retry_after_seconds, 0.5))
            except Wan25Error as error:
                logger.warning("A callback of %s names no task: %s", intent.handle, error.message)
                return None
            else:
                found = await self._journal.accept(intent, task, now=self._clock())
                if found.task_id is not None:
                    logger.info("A callback resolved %s: it is task %s", intent.handle, task_id)
                return found
        return None
