"""The interface of a journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from wan25_mcp.errors import Wan25Error
from wan25_mcp.journal.records import (
    Allowance,
    Claim,
    ClaimRequest,
    Intent,
    KnownKey,
    Snapshot,
    Spent,
    Unsaved,
    Upload,
    Withheld,
)
from wan25_mcp.provider.catalogue import MODEL
from wan25_mcp.provider.models import Task


class Journal(Protocol):
    """Each method is atomic among all processes that share the journal.

    What a method wrote is durable when it returns, except for what can be lost on power failure:
    snapshots of unsettled tasks, poll leases, renewals of save leases, and previews of inputs.

    Times are epoch seconds. A `lease` is a number of seconds: its process counts as dead when it
    has neither renewed nor released the lease by then.

    Every method raises `JournalUnusable` when the storage fails.
    """

    async def claim(
        self,
        request: ClaimRequest,
        *,
        now: float,
        window: float,
        lease: float,
        allowance: Allowance,
        refusal: Withheld | None = None,
    ) -> Claim:
        """Return the live intent of an identical call, or make a new one.

        Live means made in the last `window` seconds, or of unknown outcome and made up to a day
        before that. An intent that was refused, or whose task failed or was cancelled, is not live.

        Args:
            refusal: Raised instead of making a new intent.

        Raises:
            Withheld: The allowance has no room for a new intent.
        """
        ...

    async def live(
        self,
        owner: str,
        fingerprints: Collection[str],
        *,
        address: str | None,
        now: float,
        window: float,
    ) -> frozenset[str]:
        """Those fingerprints of which `claim` would return a live intent that was sent.

        One that was not may be refused yet, and then be made and paid for again.
        """
        ...

    async def known_key(self, key: str, *, address: str | None) -> KnownKey:
        """Which owner's edits a key may see, or which owners it might belong to."""
        ...

    async def join_owners(self, owner: str, keys: Collection[str]) -> str:
        """Assign these keys, and the edits made under their own names, to one owner.

        Returns that owner. It differs from `owner` when another process has already assigned the
        first of the keys to someone.
        """
        ...

    async def begin(self, handle: str, *, now: float, lease: float) -> bool:
        """Move `intent` to `sending`, before the request is sent.

        Returns whether this process may send it; False when its lease was lost.
        """
        ...

    async def pause(self, handle: str, *, now: float, lease: float) -> None:
        """Move `sending` back to `intent`: certainly not accepted, to be sent again later."""
        ...

    async def renew(self, handle: str, *, now: float, lease: float) -> None:
        """Renew the lease of a submit."""
        ...

    async def accept(self, owner: str, handle: str, task: Task, *, now: float) -> bool:
        """Record that the provider has the task; also for a submit of unknown outcome.

        Returns False, and marks the outcome as unknown, when the task id cannot be right: it
        belongs to another intent, or was observed before this one was sent.
        """
        ...

    async def refuse(self, handle: str, error: Wan25Error) -> None:
        """Record that the provider has no task and charges nothing."""
        ...

    async def mark_unknown(self, handle: str, error: Wan25Error) -> None:
        """Record that the outcome of the submit is unknown."""
        ...

    async def find(self, name: str, owner: str, *, now: float) -> Intent | None:
        """The intent with this handle or task id."""
        ...

    async def record(self, owner: str, task: Task, *, now: float) -> Snapshot:
        """Store the polled state of a task, and release the poll lease.

        Returns the snapshot of the task. Once settled, it does not change.
        """
        ...

    async def acquire_poll(
        self, owner: str, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        """Acquire the lease to poll a task, so that one process polls it at a time.

        Returns False when another process holds the lease, or has polled since `seen_at`. Returns
        True for a task without a snapshot: no other process can know of it.

        Args:
            seen_at: Time of the caller's snapshot; None to poll in any case.
        """
        ...

    async def release_poll(self, owner: str, task_id: str) -> None:
        """Release the lease after a failed poll."""
        ...

    async def last_seen(self, owner: str, task_id: str) -> Snapshot | None:
        """The latest snapshot of a task."""
        ...

    async def snapshots(self, owner: str, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        """The latest snapshots by task id; tasks without one are left out."""
        ...

    async def seen_since(self, owner: str, since: float) -> Mapping[str, float]:
        """Time of the latest snapshot, by task id, of tasks polled at `since` or later.

        Cheap: reads an index only.
        """
        ...

    async def past_runs(
        self, owner: str, *, n: int | None = None, model: str = MODEL, limit: int = 100
    ) -> Sequence[float]:
        """Durations in seconds of an owner's settled tasks of a model, the latest submit first.

        Includes failed tasks; leaves out those whose end is not known closely.

        Args:
            n: Only tasks with this number of images.
        """
        ...

    async def orphaned(
        self, owner: str, *, now: float, unseen_for: float, address: str | None = None
    ) -> Sequence[str]:
        """Unsettled tasks made within a day at an address, not polled for `unseen_for` seconds.

        First settles the intents of processes that died.
        """
        ...

    async def acquire_save(self, owner: str, task_id: str, *, now: float, lease: float) -> bool:
        """Acquire the lease to save a task's images; False when another process holds it."""
        ...

    async def release_save(self, owner: str, task_id: str) -> None:
        """Release the lease to save."""
        ...

    async def renew_save(self, owner: str, task_id: str, *, now: float, lease: float) -> None:
        """Renew the lease to save."""
        ...

    async def unsaved(
        self, owner: str, *, now: float, address: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """Tasks made at an address with an image to save, and whose save lease is free.

        Tasks without a failed attempt come first, then those whose links expire first. An image
        counts when it is not saved, its links are valid, and no retry is pending or ruled out.
        """
        ...

    async def note_unsaved(self, owner: str, task_id: str, number: int, unsaved: Unsaved) -> None:
        """Record a failed attempt to save an image. `note_saved` deletes this record."""
        ...

    async def unsaved_images(self, owner: str, task_id: str) -> Mapping[int, Unsaved]:
        """The failed attempts of a task's unsaved images, by image number."""
        ...

    async def note_saved(self, owner: str, task_id: str, number: int, path: str) -> None:
        """Record the path of a saved image; numbers start at 1."""
        ...

    async def saved(self, owner: str, task_id: str) -> Mapping[int, str]:
        """The paths of a task's saved images, by image number."""
        ...

    async def uploaded(self, owner: str, sha256: str, place: str, *, now: float) -> Upload | None:
        """The unexpired upload of an identical image to the same place."""
        ...

    async def note_upload(self, owner: str, sha256: str, place: str, upload: Upload) -> None:
        """Record the address of an uploaded image."""
        ...

    async def keep_input(
        self, owner: str, handle: str, number: int, preview: bytes, *, now: float
    ) -> None:
        """Keep a small preview of a local image of an edit; numbers start at 1.

        It is kept as long as the edit, and only the latest 200 of an owner are.
        """
        ...

    async def kept_input(self, owner: str, name: str, number: int) -> bytes | None:
        """The preview of a local image of the edit with this handle or task id."""
        ...

    async def recent(
        self, owner: str, *, now: float, limit: int
    ) -> Sequence[tuple[Intent, Snapshot | None]]:
        """The latest intents with their snapshots, newest first."""
        ...

    async def price(self, owner: str, model: str) -> float | None:
        """Credits per image of a model, as last reported; None if none was reported."""
        ...

    async def spent(self, owner: str, since: float) -> Spent:
        """What an owner's edits since then cost. Edits are kept for 30 days."""
        ...

    async def prune(self, *, now: float) -> None:
        """Delete what is too old, for all owners. Opening the journal does this too."""
        ...
