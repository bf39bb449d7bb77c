"""What clients do: edit, give up, call again, wait, come back, or never come back.

A story is one edit from its first call to the last that anybody makes about it. What a client does
depends on the seed and the number of the story; what it is answered is kept for the judge.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from mcp_types import TextContent

from benchmarks.chaos.servers import ERAS, Server
from wan25_mcp.emulator.pictures import sample

SIDE: Final = 400
TRIES: Final = 5
_PATIENT: Final = 30.0
_LONGEST_WAIT_TO_RETRY: Final = 3.0
_SETTLED: Final = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Said:
    """One answer that a client was given. Epoch seconds.

    Args:
        asked: The task id or handle that was asked about; None of `edit_image`.
        is_forced: Whether a new edit was asked for though there was an identical one.
        missing: Files that the answer names and that were not there.
    """

    prompt: str
    tool: str
    asked: str | None
    is_forced: bool
    began: float
    ended: float
    answer: dict[str, Any]
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str | None:
        """The task id or handle it gives."""
        found: str | None = self.answer["task_id"]
        return found


@dataclass(slots=True)
class Wanted:
    """What one story wants, and when it asked for it.

    Args:
        edits: How many edits of this prompt its client means to pay for.
        calls: When each call of `edit_image` began and ended, answered or not.
    """

    prompt: str
    edits: int = 1
    calls: list[tuple[float, float]] = field(default_factory=list)


class Clients:
    """Calls servers, and keeps what they say.

    Args:
        servers: Any of them is called about any edit.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.servers = servers
        self.said: list[Said] = []
        self.calls = 0
        self.unanswered = 0
        self.problems: list[str] = []

    async def call(
        self,
        chance: random.Random,
        tool: str,
        given: dict[str, Any],
        *,
        prompt: str,
        patience: float,
    ) -> Said | None:
        """One call to any server; None if no answer came, whatever the reason."""
        server, era = chance.choice(self.servers), chance.choice(ERAS)
        began, result = time.time(), None
        self.calls += 1
        try:
            with anyio.move_on_after(patience):
                async with server.client(era) as client:
                    result = await client.call_tool(tool, given)
        except Exception:  # noqa: BLE001, S110  a killed server breaks its clients in every way
            pass
        if result is None:
            self.unanswered += 1
            return None
        answer, text = result.structured_content, result.content[0]
        if answer is None or not isinstance(text, TextContent):
            self.problems.append(f"{tool} gave an answer without structure or text: {result}")
            return None
        if f"Charged: {answer['charged']}" not in text.text:
            self.problems.append(f"text and structure say different things: {answer} {text.text}")
        said = Said(
            prompt,
            tool,
            given.get("task_id"),
            bool(given.get("force_new")),
            began,
            time.time(),
            answer,
            _missing(answer["saved"]),
        )
        self.said.append(said)
        return said


def _missing(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(path for path in paths if not Path(path).is_file())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a story's images are.

    Args:
        link: To a picture that the provider hosts.
        folder: Where servers may read local images.
    """

    link: str
    folder: Path

    def image(self, chance: random.Random, number: int) -> str:
        """A link mostly; else a picture of this machine that no other story has."""
        rolled = chance.random()
        if rolled < 0.75:
            return self.link
        content = sample(SIDE, SIDE, number)
        if rolled < 0.9:
            return f"data:image/png;base64,{base64.b64encode(content).decode()}"
        path = self.folder / f"{number}.png"
        path.write_bytes(content)
        return str(path)


class Story:
    """One edit, as one client and its repetitions see it."""

    def __init__(self, clients: Clients, place: Place, seed: int, number: int) -> None:
        self._clients = clients
        self._chance = random.Random(f"{seed} story {number}")
        self.wanted = Wanted(f"Chaos {seed}, edit {number}: make it night")
        self._given = {
            "prompt": self.wanted.prompt,
            "image_urls": [place.image(self._chance, number)],
            "n": self._chance.choice((1, 1, 1, 2)),
        }

    async def run(self) -> None:
        """From the first call to the last."""
        name = await self._begin()
        if name is None:
            return
        rolled = self._chance.random()
        if rolled < 0.45:
            settled = await self._see_settled(name)
            if settled and self._chance.random() < 0.08:
                await self._one_more()
        elif rolled < 0.7:
            await self._come_back(name)
        # The others never come back.

    # --- editing ----------------------------------------------------------------------------

    async def _begin(self) -> str | None:
        """Edit, by several identical calls at once at times; the name of the edit, if known."""
        names: list[str | None] = []

        async def one(chance: random.Random) -> None:
            names.append(await self._insist(chance))

        crowd = self._chance.choice((1, 1, 1, 1, 2, 3))
        async with anyio.create_task_group() as calls:
            for _ in range(crowd):
                calls.start_soon(one, random.Random(self._chance.random()))
        return next((name for name in names if name is not None), None)

    async def _insist(self, chance: random.Random) -> str | None:
        """Call until there is an answer to go on with, as clients that retry do."""
        name: str | None = None
        for _ in range(TRIES):
            said = await self._edit(chance)
            if said is not None and said.answer["charged"] == "no":
                error = said.answer["error"] or {}
                if not error.get("retryable"):
                    return None
                pause = min(error["retry_after_seconds"] or 0.0, _LONGEST_WAIT_TO_RETRY)
                await anyio.sleep(pause + chance.random())
                continue
            name = said.name if said is not None and said.name else name
            if said is not None and chance.random() < 0.7:
                break
            await anyio.sleep(chance.random())
        return name

    async def _edit(self, chance: random.Random, **more: Any) -> Said | None:
        impatient = chance.random() < 0.25
        patience = chance.uniform(0.05, 2.5) if impatient else _PATIENT
        began = time.time()
        try:
            return await self._clients.call(
                chance,
                "edit_image",
                {**self._given, **more},
                prompt=self.wanted.prompt,
                patience=patience,
            )
        finally:
            self.wanted.calls.append((began, time.time()))

    async def _one_more(self) -> None:
        """Pay again, on purpose: one call, which nobody repeats."""
        self.wanted.edits += 1
        await self._edit(self._chance, force_new=True)

    # --- following --------------------------------------------------------------------------

    async def _see_settled(self, name: str) -> bool:
        for _ in range(4 * TRIES):
            seconds = self._chance.choice((0.5, 2.0, 4.0))
            said = await self._ask(name, "wait_for_task", timeout_seconds=seconds)
            said = await self._ask(name, "get_task") or said
            if said is None:
                continue
            status: str = said.answer["status"]
            if status in (*_SETTLED, "unknown"):
                return status == "completed"
            name = said.name or name
        return False

    async def _come_back(self, name: str) -> None:
        for _ in range(2):
            await anyio.sleep(self._chance.uniform(0.0, 4.0))
            await self._ask(name, "get_task")

    async def _ask(self, name: str, tool: str, **more: Any) -> Said | None:
        gives_up = self._chance.random() < 0.2
        return await self._clients.call(
            self._chance,
            tool,
            {"task_id": name, **more},
            prompt=self.wanted.prompt,
            patience=self._chance.uniform(0.05, 2.0) if gives_up else _PATIENT,
        )
