"""Which account an API key belongs to: an account outlives its keys.

A key that was never used here may belong to the account of an earlier key. The provider can tell: a
key that may read a task belongs to the task's account. The provider is asked once, before anything
is sent, because an identical edit made with the earlier key must not be paid for again.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Final

import anyio

from wan25_mcp.editing.options import Connection
from wan25_mcp.errors import Refused, Wan25Error
from wan25_mcp.journal import Journal, JournalUnusable
from wan25_mcp.journal.records import NOTHING_SENT

CHECK_SECONDS: Final = 3.0
"""Time limit of the check: a call waits for it and must answer in time."""

_PAUSE_SECONDS: Final = 5.0
"""Pause after a check that failed."""

_NAMED: Final = "account-"
"""Prefix of the owners that the operator named. The others are named after their first key."""

_NOT_THEIRS: Final = ("not_found", "permission", "invalid_request")


_FIX: Final = (
    "Call again in a few seconds. If this repeats, set WAN25_ACCOUNT to a name for the account: "
    "the provider is then not asked."
)


class OwnerUnknown(JournalUnusable):
    """The account of the key is not known now, so nothing that costs money is sent."""

    def __init__(self, cause: Wan25Error | None) -> None:
        reason = cause.message if cause else "The provider did not answer in time."
        Wan25Error.__init__(
            self,
            f"{reason} So it is not known whether this new API key belongs to the account of "
            f"earlier edits.{NOTHING_SENT}",
            code=cause.code if cause else "read_failed",
            fix=_FIX if cause is None or cause.retryable else cause.fix,
            retryable=cause.retryable if cause else True,
            retry_after_seconds=cause.retry_after_seconds if cause else None,
        )


class Ownership:
    """Finds the owner of an account's edits.

    Args:
        name: The operator's name for the account; None: the key identifies it.
        may_ask: Whether the provider is asked about a key that was never used here.
    """

    def __init__(
        self,
        connection: Connection,
        journal: Journal,
        name: str | None = None,
        *,
        may_ask: bool = True,
    ) -> None:
        self._connection = connection
        self._name = name
        self._journal = journal
        self._may_ask = may_ask
        self._owner: str | None = None
        self._failure: OwnerUnknown | None = None
        self._ask_again_at = -math.inf
        self._asking = anyio.Lock()

    async def owner(self) -> str:
        """The owner's name in the journal.

        Raises:
            JournalUnusable: The journal cannot be read, or the provider could not be asked.
        """
        async with self._asking:
            if self._owner is None:
                self._owner = await self._find()
            return self._owner

    async def _find(self) -> str:
        key, account = self._connection.key, self._name
        known = await self._journal.known_key(key, address=self._connection.address)
        if account is not None:
            owner = _named(account, self._connection.address if self._may_ask else None)
            if known.owner is not None and not known.owner.startswith(_NAMED):
                # Edits from before the account had a name, made with any key.
                await self._journal.join_owners(owner, [known.owner])
            return owner
        if known.owner is not None:
            return known.owner
        same = await self._same_account(known.others) if self._may_ask else []
        return await self._journal.join_owners(same[0], [key, *same[1:]]) if same else key

    async def _same_account(self, others: Sequence[tuple[str, str]]) -> list[str]:
        """The owners whose tasks the key may read."""
        if self._failure is not None and anyio.current_time() < self._ask_again_at:
            raise self._failure
        try:
            with anyio.fail_after(CHECK_SECONDS):
                return [owner for owner, task_id in others if await self._may_read(task_id)]
        except TimeoutError:
            self._failure = OwnerUnknown(None)
        except Wan25Error as error:
            self._failure = OwnerUnknown(error)
        self._ask_again_at = anyio.current_time() + _PAUSE_SECONDS
        raise self._failure

    async def _may_read(self, task_id: str) -> bool:
        try:
            await self._connection.client.query(task_id)
        except Refused as error:
            if error.code in _NOT_THEIRS:
                return False
            raise
        return True


def _named(account: str, address: str | None) -> str:
    return _NAMED + hashlib.sha256(f"account {address} {account}".encode()).hexdigest()[:24]
