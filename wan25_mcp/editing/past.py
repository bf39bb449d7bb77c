"""The edits of an account that the journal knows. Polls nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Final

from wan25_mcp.editing.edit import Edit, PastEdit, seen, unseen
from wan25_mcp.editing.live_account import LiveAccount
from wan25_mcp.inputs.prepare import EditInput
from wan25_mcp.journal import Intent, Snapshot, fingerprint
from wan25_mcp.provider.statuses import Status

_SEARCHED: Final = 10_000
"""Number of edits that are read to find those of a status or time. They are kept for 30 days."""


async def recent(
    account: LiveAccount,
    limit: int,
    *,
    since: datetime | None = None,
    statuses: Collection[Status] = (),
) -> Sequence[PastEdit]:
    """The latest edits, newest first, as last seen.

    Raises:
        JournalUnusable: The journal cannot be read.
    """
    read = _SEARCHED if since or statuses else limit
    owner = await account.ownership.owner()
    rows = await account.journal.recent(owner, now=account.options.clock(), limit=read)
    earliest = since.timestamp() if since else 0.0
    found = ((intent, _edit(intent, snapshot)) for intent, snapshot in rows)
    wanted = [
        (intent, edit)
        for intent, edit in found
        if intent.created_at >= earliest and (not statuses or edit.status in statuses)
    ]
    return [await _past(account, intent, edit) for intent, edit in wanted[:limit]]


async def _past(account: LiveAccount, intent: Intent, edit: Edit) -> PastEdit:
    return PastEdit(
        edit=await account.results.with_files(edit),
        created_at=datetime.fromtimestamp(intent.created_at, UTC),
        prompt=intent.prompt,
        n=intent.n,
        credits=intent.credits,
    )


def _edit(intent: Intent, snapshot: Snapshot | None) -> Edit:
    return seen(snapshot, intent) if snapshot else unseen(intent)


async def known(
    account: LiveAccount, wanted: Sequence[EditInput], window: float | None
) -> Sequence[bool]:
    """Whether there is an earlier edit identical to each, made in the last `window` seconds.

    Args:
        window: None: as configured.

    Raises:
        JournalUnusable: The journal cannot be read.
    """
    names = [fingerprint(one.content()) for one in wanted]
    live = await account.journal.live(
        await account.ownership.owner(),
        names,
        address=account.connection.address,
        now=account.options.clock(),
        window=account.options.duplicate_window if window is None else window,
    )
    return [name in live for name in names]
