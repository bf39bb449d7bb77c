"""The records of the journal, and what a journal promises. No storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from wan25_mcp import errors
from wan25_mcp.error_codes import CODES
from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.models import LINK_LIFE_SECONDS, Task
from wan25_mcp.provider.statuses import is_settled

Stage = Literal["intent", "sending", "accepted", "refused", "unknown"]

DAY: Final = 24 * 3600.0


class Withheld(Wan25Error):
    """A limit of the operator's, not the provider, kept the submit from being sent."""


NOTHING_SENT: Final = " Nothing was sent."


class JournalUnusable(Wan25Error):
    """The journal cannot be read or written, so nothing that costs money is sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The journal, which prevents paying twice, is unavailable: {reason}." + NOTHING_SENT,
            code="journal_unusable",
        )

    @property
    def state(self) -> str:
        """The message without its second sentence, which is untrue once a submit was sent."""
        return self.message.removesuffix(NOTHING_SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A wish to edit, before anything was decided.

    Args:
        handle: Our own id of the edit, good in place of a task id from the first moment.
        owner: Whose money it is: equal for the same account at the same provider.
        fingerprint: Equal for equal content.
        n: How many images are asked for.
        prompt: Kept so that a person can recognise the edit in a list.
        holder: The process that would send it.
        callback: SHA-256, in hex, of the secret that only this submit's callback address carries.
        address: Where the API is.
    """

    handle: str
    owner: str
    fingerprint: str
    n: int
    prompt: str
    holder: str
    callback: str | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One wish to edit, and how far its submit has come. Times in epoch seconds.

    Args:
        credits: What it is counted with against the limit: estimated, then the larger of that and
            reserved, then used.
        task_id: The provider's id, once accepted.
        error: Why there is no task, once refused or unknown.
        callback: As in `ClaimRequest`.
    """

    handle: str
    owner: str
    created_at: float
    n: int
    prompt: str | None
    stage: Stage = "intent"
    credits: float = 0.0
    task_id: str | None = None
    error: Wan25Error | None = None
    callback: str | None = None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What the journal knows of an API key.

    Args:
        owner: Whose edits it may see; None for a key that was never used.
        others: For a new key: other owners with edits at the same address, the latest first, each
            with its latest task.
    """

    owner: str | None = None
    others: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """The intent that stands for a call, and whether an earlier call had made it."""

    intent: Intent
    deduplicated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the operator allows.

    Args:
        credit_limit: Credits in any 24 hours; None for no limit.
        credits_per_image: The price assumed until an answer has taught a better one.
        max_in_flight: Edits not yet settled at one time; None for no limit.
    """

    credit_limit: float | None = None
    credits_per_image: float = 1.5
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was last seen of a task, and the moments its end must lie between.

    Args:
        seen_at: When it was last seen.
        unfinished_at: When it was last seen unsettled, if ever.
        settled_at: When it was first seen settled, if it is.
    """

    task: Task
    seen_at: float
    unfinished_at: float | None = None
    settled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Why an image of a completed task is not saved, and when to try again. Epoch seconds.

    Args:
        problem: In sentences.
        failures: How many tries in a row failed.
        retry_at: None when no try can succeed.
    """

    problem: str
    failures: int
    tried_at: float
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Upload:
    """A local image that has an address for a while.

    Args:
        changes: What was changed to make it conform, in words.
    """

    url: str
    expires_at: float
    changes: tuple[str, ...] = ()


class Journal(Protocol):
    """Each method is atomic among all who share the journal, and durable when it returns.

    Only an unsettled sighting, and who looks, may be taken back by a power failure.
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
        """Join the live, equal intent made in the last `window` seconds, or make one.

        A refused intent, and one whose task failed or was cancelled, is not live.

        Args:
            lease: Seconds after which the holder counts as dead, unless it renews.
            refusal: Raised instead of making a new intent.

        Raises:
            Withheld: The allowance has no room for a new intent.
        """
        ...

    async def known_key(self, key: str, *, address: str | None) -> KnownKey:
        """Whose edits a key may see, or whose they might be."""
        ...

    async def join_owners(self, owner: str, keys: Collection[str]) -> str:
        """Have these keys, and the edits made under their own names, belong to one owner.

        Returns the owner: another process may have joined the first of the keys to one already.
        """
        ...

    async def begin(self, handle: str, *, now: float, lease: float) -> bool:
        """`intent` to `sending`, right before the wire. False: it is not ours to send any more."""
        ...

    async def pause(self, handle: str, *, now: float, lease: float) -> None:
        """`sending` back to `intent`: surely not accepted, and to be sent again later."""
        ...

    async def renew(self, handle: str, *, now: float, lease: float) -> None:
        """The holder lives."""
        ...

    async def accept(self, owner: str, handle: str, task: Task, *, now: float) -> bool:
        """The provider has the task; also for one thought to be unknown.

        False: the task is another's, that is another intent's, or was seen before this one was
        sent. The answer that named it is not believed: what came of the submit is unknown.
        """
        ...

    async def refuse(self, handle: str, error: Wan25Error) -> None:
        """The provider has no task and charges nothing."""
        ...

    async def mark_unknown(self, handle: str, error: Wan25Error) -> None:
        """What came of it is unknown."""
        ...

    async def find(self, name: str, owner: str, *, now: float) -> Intent | None:
        """The intent of a handle or of a task id."""
        ...

    async def record(self, owner: str, task: Task, *, now: float) -> Snapshot:
        """Note a look at a task, which ends the look. A settled task stays what it was."""
        ...

    async def acquire_poll(
        self, owner: str, task_id: str, *, seen_at: float | None, now: float, lease: float
    ) -> bool:
        """Take the next look at a task, so that one process at a time looks.

        False: another process is looking, or has looked since `seen_at`. True for a task that
        was never seen: nobody can know of it, so whoever asks may look.

        Args:
            seen_at: When the asker knows it to have been seen; None to look again in any case.
            lease: Seconds after which who looks counts as dead.
        """
        ...

    async def release_poll(self, owner: str, task_id: str) -> None:
        """The look failed; another may look."""
        ...

    async def last_seen(self, owner: str, task_id: str) -> Snapshot | None:
        """What was last seen of a task."""
        ...

    async def snapshots(self, owner: str, task_ids: Collection[str]) -> Mapping[str, Snapshot]:
        """What was last seen of many tasks, by task id; those never seen are left out."""
        ...

    async def seen_since(self, owner: str, since: float) -> Mapping[str, float]:
        """When each task that was seen at `since` or later was seen, by task id. Cheap."""
        ...

    async def past_runs(
        self, owner: str, *, n: int | None = None, limit: int = 100
    ) -> Sequence[float]:
        """How long the latest settled tasks of an account took, in seconds, last made first.

        Failures are among them; a task whose end is not known closely is not.

        Args:
            n: Only those of so many images.
        """
        ...

    async def orphaned(
        self, owner: str, *, now: float, unseen_for: float, address: str | None = None
    ) -> Sequence[str]:
        """Unsettled tasks made within a day at an address, not polled for `unseen_for` seconds.

        Says first what can be said of intents whose holder has died.
        """
        ...

    async def acquire_save(self, owner: str, task_id: str, *, now: float, lease: float) -> bool:
        """Take a task on for a while, so that one process at a time saves its images."""
        ...

    async def release_save(self, owner: str, task_id: str) -> None:
        """Let another take it on."""
        ...

    async def renew_save(self, owner: str, task_id: str, *, now: float, lease: float) -> None:
        """Whoever saves its images lives."""
        ...

    async def unsaved(
        self, owner: str, *, now: float, address: str | None = None, limit: int = 100
    ) -> Sequence[str]:
        """Tasks made at an address, and saved by nobody now, with an image to save.

        Those never tried come first, then those whose links expire first.

        An image is not among them once it is saved, before the time for another try has come, or
        when no try can succeed.
        """
        ...

    async def note_unsaved(self, owner: str, task_id: str, number: int, unsaved: Unsaved) -> None:
        """An image of a task could not be saved; forgotten when it is."""
        ...

    async def unsaved_images(self, owner: str, task_id: str) -> Mapping[int, Unsaved]:
        """Which images of a task could not be saved yet, by number."""
        ...

    async def note_saved(self, owner: str, task_id: str, number: int, path: str) -> None:
        """An image of a task is on this machine's disk; numbered from 1."""
        ...

    async def saved(self, owner: str, task_id: str) -> Mapping[int, str]:
        """Where the images of a task are, by number."""
        ...

    async def uploaded(self, owner: str, sha256: str, place: str, *, now: float) -> Upload | None:
        """The living address an equal image was given at a place before."""
        ...

    async def note_upload(self, owner: str, sha256: str, place: str, upload: Upload) -> None:
        """An image has an address."""
        ...

    async def recent(
        self, owner: str, *, now: float, limit: int
    ) -> Sequence[tuple[Intent, Snapshot | None]]:
        """The latest intents, newest first."""
        ...

    async def prune(self, *, now: float) -> None:
        """Forget what is too old, of all accounts. Opening the journal does it too."""
        ...


def fingerprint(content: Mapping[str, Any]) -> str:
    """The same for the same content, whatever the order of its keys."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def mixed_up(task_id: str) -> errors.OutcomeUnknown:
    """What came of a submit whose answer names the task of another."""
    return errors.OutcomeUnknown(
        f"The provider answered the submit with the id of another task ({task_id}), so the edit "
        "may or may not have been accepted.",
        code="outcome_unknown",
    )


def observe(before: Snapshot | None, task: Task, now: float) -> Snapshot:
    """What is known of a task after a look; a settled one stays what it was."""
    if before and is_settled(before.task.status):
        return before
    unfinished = before.unfinished_at if before else None
    if is_settled(task.status):
        return Snapshot(task, seen_at=now, unfinished_at=unfinished, settled_at=now)
    return Snapshot(task, seen_at=now, unfinished_at=now)


def expires_at(snapshot: Snapshot) -> float:
    """When the links expire at the earliest: the provider never says when a task was completed."""
    task, latest = snapshot.task, snapshot.settled_at or snapshot.seen_at
    reported = task.created + task.duration if task.created and task.duration else None
    completed = max(filter(None, (reported, snapshot.unfinished_at, task.created)), default=latest)
    return min(completed, latest) + LINK_LIFE_SECONDS


_VAGUE: Final = 0.2
"""A run is not learnt from when its end is known less closely than this share of it."""


def run_duration(sent_at: float, snapshot: Snapshot) -> float | None:
    """Seconds from submit to end of a settled task; None when that is not known closely.

    What the provider tells comes first, within what was seen; else the end is taken to lie in the
    middle between the last look that saw the task unfinished and the first that saw it settled.
    """
    if snapshot.settled_at is None:
        return None
    unfinished = sent_at if snapshot.unfinished_at is None else snapshot.unfinished_at
    if snapshot.task.duration:
        shortest, longest = unfinished - sent_at, snapshot.settled_at - sent_at
        return min(max(snapshot.task.duration, shortest), longest) or None
    run = (unfinished + snapshot.settled_at) / 2 - sent_at
    known = 0 <= snapshot.settled_at - unfinished <= run * _VAGUE
    return run if known and run > 0 else None


_CLASSES: Final[Mapping[str, type[Wan25Error]]] = {
    "settings": errors.SettingsError,
    "request": errors.InvalidRequest,
    "unreachable": errors.Unreachable,
    "refused": errors.Refused,
    "outcome_unknown": errors.OutcomeUnknown,
    "withheld": Withheld,
    "not_published": errors.NotPublished,
}
"""The class of each kind of error that a submit ends with. Any other is restored as the base class:
that the journal was unusable then must not look as if it were unusable now."""

_EARLIER_KINDS: Final = {
    "OutcomeUnknown": "outcome_unknown",
    "Refused": "refused",
    "Unreachable": "unreachable",
    "Withheld": "withheld",
}
"""What rows of earlier versions hold: the class's name of then, whatever it is called today."""


def error_to_json(error: Wan25Error) -> dict[str, Any]:
    """An error as the journal keeps it: its code and its words, not its class."""
    return {
        "code": error.code,
        "message": error.message,
        "fix": error.fix,
        "retryable": error.retryable,
        "retry_after_seconds": error.retry_after_seconds,
        "request_id": error.request_id,
        "charged": error.charged,
    }


def error_from_json(kept: Mapping[str, Any]) -> Wan25Error:
    """An error as it was kept, of the class that its code's row names."""
    words = dict(kept)
    row = CODES.get(kept["code"])
    kind = _EARLIER_KINDS.get(words.pop("kind")) if "kind" in words else row and row.kind
    family = _CLASSES.get(kind or "", Wan25Error)
    error = family.__new__(family)
    # Not the class's own constructor: that would say again what the kept words say already.
    Wan25Error.__init__(error, words.pop("message"), **words)
    return error
