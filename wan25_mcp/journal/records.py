"""The values a journal stores and returns, and what follows from them. No storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from wan25_mcp.errors import Wan25Error
from wan25_mcp.provider.catalogue import MODEL, model_named
from wan25_mcp.provider.models import Task
from wan25_mcp.provider.statuses import is_settled

Stage = Literal["intent", "sending", "accepted", "refused", "unknown"]

DAY: Final = 24 * 3600.0
KEPT_FOR: Final = 30 * DAY
"""Seconds for which intents, prompts and links are kept."""


class Withheld(Wan25Error):
    """A limit set by the operator, not by the provider, refuses to send the submit."""


NOTHING_SENT: Final = " Nothing was sent."


class JournalUnusable(Wan25Error):
    """The journal cannot be read or written, so no paid request is sent."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The journal, which prevents paying twice, is unavailable: {reason}." + NOTHING_SENT,
            code="journal_unusable",
        )

    @property
    def state(self) -> str:
        """The message without its last sentence, which is wrong once a submit was sent."""
        return self.message.removesuffix(NOTHING_SENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A requested edit, before the journal decides about it.

    Args:
        handle: Our own id of the edit, valid in place of a task id from the start.
        owner: The account that pays.
        fingerprint: The `fingerprint` of the content; identical content has the same one.
        n: Number of images requested.
        prompt: Stored so that a person can recognise the edit in a list.
        holder: The process that would send the submit.
        callback: SHA-256, in hex, of the secret in this submit's callback address.
        address: Address of the API.
        model: The name of the model.
    """

    handle: str
    owner: str
    fingerprint: str
    n: int
    prompt: str
    holder: str
    callback: str | None = None
    address: str | None = None
    model: str = MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One edit and the stage of its submit. Times in epoch seconds.

    Args:
        credits: What it counts against the limit: first the estimate, then the larger of estimate
            and reserved credits, in the end the credits used.
        task_id: The provider's id, once accepted.
        error: Why there is no task, once refused or unknown.
        callback, model: As in `ClaimRequest`.
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
    model: str = MODEL


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What the journal knows about an API key.

    Args:
        owner: The owner whose edits the key may see; None for a key that was never used.
        others: For a new key: other owners with edits at the same address, the most recent first,
            each with its latest task id.
    """

    owner: str | None = None
    others: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """The intent for a call, and whether it is the intent of an earlier, identical call."""

    intent: Intent
    deduplicated: bool


@dataclass(frozen=True, slots=True)
class Spent:
    """Credits of an account's edits in some time.

    Args:
        charged: Of settled edits.
        pending: Of edits that run, and of those of unknown outcome; estimated or reserved.
    """

    charged: float
    pending: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The limits set by the operator.

    Args:
        credit_limit: Max credits in any 24 hours; None for no limit.
        credits_per_image: The price assumed until the provider has reported one.
        max_in_flight: Max edits not yet settled at one time; None for no limit.
    """

    credit_limit: float | None = None
    credits_per_image: float = 1.5
    max_in_flight: int | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The latest observed state of a task, and when it was observed. Times in epoch seconds.

    Args:
        seen_at: Time of the latest observation.
        unfinished_at: Latest time the task was observed unsettled, if ever.
        settled_at: First time the task was observed settled, if it is.
    """

    task: Task
    seen_at: float
    unfinished_at: float | None = None
    settled_at: float | None = None


@dataclass(frozen=True, slots=True)
class Unsaved:
    """Why an image of a completed task is not saved, and when to retry. Times in epoch seconds.

    Args:
        problem: In sentences.
        failures: Number of consecutive failed attempts.
        retry_at: None when no retry can succeed.
    """

    problem: str
    failures: int
    tried_at: float
    retry_at: float | None


@dataclass(frozen=True, slots=True)
class Upload:
    """The address of an uploaded local image, until it expires at `expires_at` (epoch seconds).

    Args:
        changes: What was changed to make the image conform, in words.
    """

    url: str
    expires_at: float
    changes: tuple[str, ...] = ()


def fingerprint(content: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of the content; the order of keys does not matter."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def observe(before: Snapshot | None, task: Task, now: float) -> Snapshot:
    """The snapshot after polling a task; once settled it does not change."""
    if before and is_settled(before.task.status):
        return before
    unfinished = before.unfinished_at if before else None
    if is_settled(task.status):
        return Snapshot(task, seen_at=now, unfinished_at=unfinished, settled_at=now)
    return Snapshot(task, seen_at=now, unfinished_at=now)


def expires_at(snapshot: Snapshot) -> float:
    """Earliest time, in epoch seconds, at which the result links expire.

    An estimate: the provider never reports when a task was completed.
    """
    task, latest = snapshot.task, snapshot.settled_at or snapshot.seen_at
    reported = task.created + task.duration if task.created and task.duration else None
    completed = max(filter(None, (reported, snapshot.unfinished_at, task.created)), default=latest)
    return min(completed, latest) + model_named(task.model).link_life_seconds


_MAX_UNCERTAINTY: Final = 0.2
"""Max uncertainty of a run's end, as a share of its duration, for the run to be used."""


def run_duration(sent_at: float, snapshot: Snapshot) -> float | None:
    """Seconds from submit to settling; None when that is not known closely enough.

    Takes the duration the provider reports, limited to what the observations allow. Without one,
    assumes the middle between the last unsettled and the first settled observation.
    """
    if snapshot.settled_at is None:
        return None
    unfinished = sent_at if snapshot.unfinished_at is None else snapshot.unfinished_at
    if snapshot.task.duration:
        shortest, longest = unfinished - sent_at, snapshot.settled_at - sent_at
        return min(max(snapshot.task.duration, shortest), longest) or None
    run = (unfinished + snapshot.settled_at) / 2 - sent_at
    known = 0 <= snapshot.settled_at - unfinished <= run * _MAX_UNCERTAINTY
    return run if known and run > 0 else None
