"""One edit, asked for by a client that nobody here wrote, and what its model must be shown.

Every client plays the same story: list the tools, edit, look, ask again, wait, be refused twice.
Standard library only: it runs in each client's own environment, where nothing of ours is installed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from answers import Said, Shown, said
from provider import Provider, fetch, picture

TOOLS = ["edit_image", "get_task", "wait_for_task"]
ARGUMENTS = ["prompt", "image_urls", "n", "callback_url", "model", "force_new"]
SETTLED = ("completed", "failed", "cancelled")
PRICE = 1.5
CALL_SECONDS, WAIT_SECONDS, MOST_WAITS = 45.0, 20.0, 4
_Result = TypeVar("_Result")


class Client(Protocol):
    @property
    def shows(self) -> tuple[str, ...]:
        """The views its model gets: text, structure, or both."""
        ...

    async def list_tools(self) -> list[str]: ...
    async def call(self, tool: str, arguments: dict[str, Any]) -> Shown: ...


@dataclass(frozen=True)
class Server:
    """Our server as a client is configured for it.

    `place`: the interpreter that starts it over stdio, or the URL where it listens. `variables`:
    its environment; clients pass a process only what they are told to.
    """

    place: str
    variables: Mapping[str, str]

    @classmethod
    def from_environment(cls) -> Server:
        """As `run` says."""
        ours = {name: value for name, value in os.environ.items() if name.startswith("WAN25_")}
        return cls(os.environ["FOREIGN_SERVER"], ours)

    @property
    def is_http(self) -> bool:
        return self.place.startswith("http")

    @property
    def transport(self) -> str:
        return "HTTP" if self.is_http else "stdio"

    @property
    def arguments(self) -> list[str]:
        """What follows the interpreter."""
        return ["-m", "wan25_mcp", "serve"]


class Wrong(Exception):
    """What a step found instead."""


@dataclass
class Story:
    client: Client
    who: str
    """Who plays it, over what: also marks this story's edits at the provider."""
    provider: Provider = field(default_factory=lambda: Provider(os.environ["WAN25_EMULATOR"]))
    failed: int = 0
    answers: list[Shown] = field(default_factory=list)

    async def play(self) -> None:
        """All of it. After a step that went wrong, the next is tried all the same."""
        link = self.provider.upload(picture())
        asked = {"prompt": f"{self.who}: a red hat", "image_urls": [link]}
        extra = {**asked, "prompt": f"{self.who}: unknown argument", "quality": "best"}
        inner = {"prompt": f"{self.who}: bad link", "image_urls": ["http://127.0.0.1/x.png"]}
        await self.step("lists the three tools", self._lists())
        task_id = await self.step("an edit answers with its id and cost", self._begins(asked))
        await self.step("one look finds the edit", self._looks(task_id))
        await self.step("the same call again joins the edit", self._repeats(asked, task_id))
        await self.step("waiting ends in a link, its expiry and the cost", self._waits(task_id))
        await self.step(
            "an unknown argument is refused, and why", self._refused(extra, "quality", *ARGUMENTS)
        )
        await self.step("an inner link is refused, and why", self._refused(inner, "image_urls[0]"))
        if len(self.client.shows) > 1:
            await self.step("text and structure agree in every answer", self._agrees())
        await self.step("the provider charged one edit, once", self._charged(task_id))

    async def stands_on(self, generation: str, version: str, sdk: str) -> None:
        """For clients that are here for the generation of the SDK under them."""
        is_right = sdk.startswith(f"{generation}.")
        wanted = self._expects(is_right, f"wanted SDK {generation}")
        await self.step(f"its version {version} stands on SDK {sdk}", wanted)

    async def heard_progress(self, reports: list[float]) -> None:
        """For clients that pass progress on."""
        rose = bool(reports) and reports == sorted(set(reports))
        await self.step("progress came and rose", self._expects(rose, f"reports: {reports}"))

    async def step(self, what: str, doing: Awaitable[_Result]) -> _Result | None:
        """Take a step, and say how it ended."""
        began, result, problem = time.monotonic(), None, ""
        try:
            result = await doing
        except Wrong as wrong:
            problem = str(wrong)
        except Exception as error:  # noqa: BLE001  a foreign client raises whatever it likes
            traceback.print_exc()
            problem = f"{type(error).__name__}: {error}"[:600]
        self.failed += bool(problem)
        verdict, reason = ("FAIL", f"\n       {problem}") if problem else ("ok  ", "")
        seconds = time.monotonic() - began
        sys.stdout.write(f"{verdict}  {self.who}: {what} ({seconds:.1f} s){reason}\n")
        sys.stdout.flush()
        return result

    # --- the steps --------------------------------------------------------------------------

    async def _lists(self) -> None:
        async with asyncio.timeout(CALL_SECONDS):
            names = await self.client.list_tools()
        _expect(names == TOOLS, f"listed {names}")

    async def _begins(self, asked: dict[str, Any]) -> str:
        answers = _successes(await self._call("edit_image", **asked))
        for answer in answers:
            _expect(answer.status in ("pending", "processing"), answer)
            _expect(answer.charged == "reserved" and answer.cost == PRICE, answer)
            _expect("wait_for_task" in answer.next_step, answer)
        return _known(answers[0].task_id)

    async def _looks(self, task_id: str | None) -> None:
        for answer in _successes(await self._call("get_task", task_id=_known(task_id))):
            _expect(answer.task_id == task_id, answer)

    async def _repeats(self, asked: dict[str, Any], task_id: str | None) -> None:
        for answer in _successes(await self._call("edit_image", **asked)):
            _expect(answer.task_id == _known(task_id) and answer.deduplicated, answer)

    async def _waits(self, task_id: str | None) -> None:
        asked = {"task_id": _known(task_id), "timeout_seconds": WAIT_SECONDS}
        for _ in range(MOST_WAITS):
            answers = _successes(await self._call("wait_for_task", **asked))
            if answers[0].status in SETTLED:
                break
        for answer in answers:
            _expect(answer.status == "completed" and bool(answer.expires), answer)
            _expect(answer.charged == "yes" and answer.cost == PRICE, answer)
            _expect(len(answer.links) == 1, answer)
            _expect(answer.links[0].startswith(self.provider.origin), answer)
            _expect(fetch(answer.links[0]).startswith(b"\x89PNG"), "the link is no picture")

    async def _refused(self, asked: dict[str, Any], *words: str) -> None:
        shown = await self._call("edit_image", **asked)
        _expect(shown.is_error, f"not shown as an error: {shown}")
        for answer in map(said, shown.views.values()):
            _expect(all(word in (answer.error or "") for word in words), answer)
            _expect(answer.charged == "no" and bool(answer.next_step), answer)

    async def _agrees(self) -> None:
        _expect(bool(self.answers), "there was no answer")
        for shown in self.answers:
            facts = {said(view) for view in shown.views.values()}
            _expect(len(facts) == 1, facts)

    async def _charged(self, task_id: str | None) -> None:
        state = self.provider.state()
        sent = [s for s in state["submits"] if f'"{self.who}: ' in json.dumps(s["body"])]
        _expect([s["task_id"] for s in sent] == [_known(task_id)], f"{len(sent)} submits: {sent}")
        charges = [e["charged"] for e in state["ledger"]["entries"] if e["task_id"] == task_id]
        _expect(charges == [PRICE], f"charged {charges}")

    async def _expects(self, condition: bool, otherwise: str) -> None:
        _expect(condition, otherwise)

    async def _call(self, tool: str, **arguments: Any) -> Shown:
        async with asyncio.timeout(CALL_SECONDS):
            shown = await self.client.call(tool, arguments)
        _expect(tuple(shown.views) == self.client.shows, f"the model is shown {[*shown.views]}")
        self.answers.append(shown)
        return shown


def _expect(condition: bool, otherwise: object) -> None:
    if not condition:
        raise Wrong(str(otherwise))


def _known(task_id: str | None) -> str:
    if task_id is None:
        raise Wrong("there is no task id")
    return task_id


def _successes(shown: Shown) -> list[Said]:
    _expect(not shown.is_error, f"shown as an error: {shown}")
    return [said(view) for view in shown.views.values()]
