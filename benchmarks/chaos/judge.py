"""What became of the promises: every answer and every journaled step against the emulator's ledger.

The ledger knows what was accepted, when, and what it cost; the idempotency key of each submit says
which intent of the journal it was. Times matter only as before and after.
"""

from __future__ import annotations

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks.chaos.books import Booked
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.servers import Trouble
from benchmarks.chaos.stories import Said, Wanted
from tests.emulator_lab import Emulator

PROMISES: Final = ("charged twice", "lost", "untrue", "unsaved")
_RUNNING: Final = ("pending", "processing")
_SETTLED: Final = ("completed", "failed", "cancelled")

Verdict = dict[str, list[str]]
"""By promise, what broke it."""


@dataclass(frozen=True, slots=True)
class Charge:
    """A submit that the provider accepted. Epoch seconds.

    Args:
        handle: The intent whose submit it was, by its idempotency key.
        credits: What was charged in the end; 0 for a task that failed.
    """

    handle: str
    task_id: str
    prompt: str
    status: str
    accepted_at: float
    settled_at: float | None
    credits: float

    def is_settled(self, moment: float) -> bool:
        return self.settled_at is not None and self.settled_at <= moment

    def counts(self, moment: float) -> bool:
        """Whether money was reserved or charged for it at a moment."""
        is_free = self.is_settled(moment) and self.credits == 0
        return self.accepted_at <= moment and not is_free


@dataclass(kw_only=True)
class Evidence:
    """What a run has left behind.

    Args:
        asked: What each task id or handle was last answered, once all was calm.
        listed: What `wan25-mcp tasks` printed, and of how many intents at most.
    """

    emulator: Emulator
    proxy: Proxy
    wanted: Sequence[Wanted]
    said: Sequence[Said]
    troubles: Sequence[Trouble]
    books: Mapping[str, Booked]
    asked: Mapping[str, Said] = field(default_factory=dict)
    listed: str = ""
    most_listed: int = 1000

    def charges(self) -> list[Charge]:
        """Every accepted submit, in order."""
        return [
            self._charge(submit.headers["idempotency-key"], submit.task_id, submit.time)
            for submit in self.emulator.submits
            if submit.accepted and submit.task_id is not None
        ]

    def _charge(self, handle: str, task_id: str, accepted_at: float) -> Charge:
        task = self.emulator.tasks[task_id]
        return Charge(
            handle,
            task_id,
            task.order.prompt,
            task.status,
            accepted_at,
            task.settled_at,
            self.emulator.ledger[task_id].charged,
        )


def judge(evidence: Evidence) -> Verdict:
    """What broke which promise; nothing, if all hold."""
    charges = evidence.charges()
    return {
        "charged twice": list(_charged_twice(evidence, charges)),
        "lost": list(_lost(evidence, charges)),
        "untrue": list(_untrue(evidence, charges)),
        "unsaved": list(unsaved(evidence.emulator, evidence.books.values())),
    }


# --- charged twice ----------------------------------------------------------------------------


def _charged_twice(evidence: Evidence, charges: Sequence[Charge]) -> Iterator[str]:
    made = defaultdict(list)
    for charge in charges:
        if charge.settled_at is None or charge.credits > 0:
            made[charge.prompt].append(charge.task_id)
    for wanted in evidence.wanted:
        if len(made[wanted.prompt]) > wanted.edits:
            yield f"{wanted.prompt}: {wanted.edits} wanted, charged {made[wanted.prompt]}"


# --- lost -------------------------------------------------------------------------------------


def _lost(evidence: Evidence, charges: Sequence[Charge]) -> Iterator[str]:
    told = {said.name for said in evidence.said}
    for charge in charges:
        booked = evidence.books.get(charge.handle)
        what = f"{charge.task_id} of {charge.handle}"
        if booked is None:
            yield f"{what} was accepted, and the journal knows nothing of it"
        elif booked.task_id == charge.task_id:
            yield from _unreachable(evidence, charge)
        elif booked.stage != "unknown" or booked.task_id is not None:
            yield f"{what} was accepted, and the journal says {booked.stage} {booked.task_id}"
        elif charge.task_id in told:
            yield f"{what} was answered, and the journal has forgotten its id"
    for booked in evidence.books.values():
        if booked.is_open:
            yield f"{booked.handle} is still said to be {booked.stage}"
    for name in sorted(name for name in told if name is not None):
        if name not in evidence.asked:
            yield f"{name} was answered, and nothing can be learnt of it any more"
    yield from _unlisted(evidence)


def _unreachable(evidence: Evidence, charge: Charge) -> Iterator[str]:
    said = evidence.asked.get(charge.task_id)
    if said is None:
        yield f"{charge.task_id} gives no answer"
    elif (said.name, said.answer["status"]) != (charge.task_id, charge.status):
        yield f"{charge.task_id} is {charge.status}, and reads as {said.answer}"


def _unlisted(evidence: Evidence) -> Iterator[str]:
    newest = sorted(evidence.books.values(), key=lambda booked: -booked.created_at)
    for booked in newest[: evidence.most_listed]:
        if (booked.task_id or booked.prompt[:60]) not in evidence.listed:
            yield f"{booked.task_id or booked.handle} is not listed"


# --- untrue -----------------------------------------------------------------------------------


def _untrue(evidence: Evidence, charges: Sequence[Charge]) -> Iterator[str]:
    by_task = {charge.task_id: charge for charge in charges}
    wanted = {one.prompt: one for one in evidence.wanted}
    by_prompt = defaultdict(list)
    for charge in charges:
        by_prompt[charge.prompt].append(charge)
    refusals = Counter(one.prompt for one in evidence.books.values() if one.stage == "refused")
    for said in evidence.said:
        task_id = said.name if said.name and not said.name.startswith("edit-") else None
        if task_id is not None:
            lie = _lie_of_task(said, by_task.get(task_id))
        else:
            refused = refusals[said.prompt]
            lie = _lie_without_task(said, by_prompt[said.prompt], wanted[said.prompt], refused)
        lie = lie or _lie_by_itself(said)
        if lie:
            yield f"{said.tool} {said.asked or ''}: {lie}: {said.answer}"
    yield from _untrue_journal(evidence, charges)


def _lie_by_itself(said: Said) -> str | None:
    """What an answer need not be compared with anything for."""
    if said.missing:
        return f"it names files that are not there: {said.missing}"
    if said.answer["status"] in ("failed", "cancelled") and said.answer["error"] is None:
        return "it failed, and no error says why"
    return None


def _lie_of_task(said: Said, charge: Charge | None) -> str | None:
    """What is wrong about an answer that names a task, if anything."""
    status, charged = said.answer["status"], said.answer["charged"]
    if charge is None:
        return "the provider has no such task"
    if charge.prompt != said.prompt:
        return "it is another edit's task"
    settled = charge.is_settled(said.ended)
    if status in _SETTLED and not (settled and charge.status == status):
        return f"the task is {charge.status}"
    truth = {
        "no": settled and charge.credits == 0,
        "yes": settled and charge.credits > 0,
        "reserved": status in _RUNNING,
        "unknown": status == "unknown",
    }
    return None if truth[charged] else f"{charge.credits:g} credits were charged"


def _lie_without_task(
    said: Said, charges: Sequence[Charge], wanted: Wanted, refused: int
) -> str | None:
    """What is wrong about an answer without a task id, if anything.

    "Not charged" is about one intent. Of a handle it is known which. A call that was not forced
    would have joined whatever was charged before it began; a charge that came while it ran is its
    own, unless another call ran as well or the journal knows an intent that was refused.

    Args:
        refused: How many intents of this prompt were refused, as the journal has it.
    """
    charged = said.answer["charged"]
    if charged == "unknown":
        return None  # whether it had to be is told by how the intent ends, in the journal
    if charged != "no":
        return "no task is named"
    if said.asked is not None:
        charges = [charge for charge in charges if charge.handle == said.asked]
        known = sum(charge.counts(said.ended) for charge in charges)
    elif said.is_forced:
        known = sum(charge.accepted_at > said.began for charge in charges)
    else:
        beside = sum(began < said.ended and said.began < ended for began, ended in wanted.calls) - 1
        is_other = beside > 0 or refused > 0 or said.answer["error"]["code"] in _NEVER_INTENDED
        known = sum(charge.counts(said.began if is_other else said.ended) for charge in charges)
    return "the ledger has a charge" if known else None


_NEVER_INTENDED: Final = ("provider_failing", "journal_unusable", "too_many_in_flight")
"""Codes of answers that no intent was made for."""


def _untrue_journal(evidence: Evidence, charges: Sequence[Charge]) -> Iterator[str]:
    accepted = {charge.handle for charge in charges}
    for booked in evidence.books.values():
        if booked.stage == "refused" and booked.handle in accepted:
            yield f"{booked.handle} is said not to be charged, and it is"
        if booked.stage == "unknown" and _was_plain(evidence, booked):
            yield f"{booked.handle} is said to be unknown, though nothing disturbed its submit"


def _was_plain(evidence: Evidence, booked: Booked) -> bool:
    """Whether a submit's answer arrived whole, at a server that lived and moved on."""
    if not evidence.proxy.clean(booked.handle):
        return False
    passed = max(one.began for one in evidence.proxy.passages if one.name == booked.handle)
    # Troubles of any server count: which one it was sent from cannot be seen from outside.
    return not any(
        trouble.began <= passed + _MOMENT and booked.created_at <= trouble.ended + _MOMENT
        for trouble in evidence.troubles
    )


_MOMENT: Final = 10.0
"""Seconds after an exchange began in which its answer may have been lost with its server."""


# --- unsaved ----------------------------------------------------------------------------------


def unsaved(emulator: Emulator, books: Iterable[Booked], *, whole: bool = True) -> Iterator[str]:
    """Images of completed tasks the journal knows that are not on disk.

    Args:
        whole: Read each file, and see that it is the right image to its last byte.
    """
    for booked in books:
        task = emulator.tasks.get(booked.task_id or "")
        if task is None or task.status != "completed":
            continue
        for number in range(task.images):
            path = booked.saved.get(number + 1)
            name = f"{task.id}_{number}"
            if path is None or not Path(path).is_file():
                yield f"{name} is not on disk ({booked.status})"
            elif whole and not _is_image(Path(path), name):
                yield f"{path} is not the whole image {name}"


def partial_files(folder: Path) -> Iterator[str]:
    """Files that look finished and are no whole images."""
    for path in sorted(folder.rglob("*.png")) if folder.exists() else ():
        if not path.name.startswith(".") and not _is_image(path, None):
            yield f"{path} is not a whole image"


def _is_image(path: Path, name: str | None) -> bool:
    try:
        with Image.open(io.BytesIO(path.read_bytes())) as image:
            image.load()
            return name is None or image.info.get("Task") == name
    except (OSError, ValueError, SyntaxError):
        return False
