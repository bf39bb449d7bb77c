"""The links to finished pictures: drawn when first asked for, gone after a day.

A key sent to such a link is refused and remembered as leaked. An expired link answers 403, as a
signed storage link does, one that never was 404; neither is documented.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from wan25_mcp.emulator.tasks import Task
from wan25_mcp.emulator.virtual import in_thread

if TYPE_CHECKING:
    from wan25_mcp.emulator.emulator import Emulator

LIBRARY_AGENT = re.compile(r"(python-httpx2?|python-requests|python-urllib)\b", re.IGNORECASE)
KEPT_PICTURES = 32
XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


class Results:
    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._pictures: OrderedDict[str, bytes] = OrderedDict()

    async def download(self, request: Request) -> Response:
        refused = self._refused_visitor(request)
        if refused is not None:
            return refused
        name = request.path_params["name"]
        task_id, _, index = name.rpartition("_")
        task = self._emulator.tasks.get(task_id)
        if task is None or index not in map(str, range(task.images)):
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        if self._has_expired(task):
            return _error(403, "AccessDenied", "Request has expired.")
        return Response(await self._picture(task, int(index)), media_type="image/png")

    def _refused_visitor(self, request: Request) -> Response | None:
        credentials = request.headers.get("authorization")
        if credentials is not None:
            self._emulator.leaked_keys.append(credentials)
            return _error(403, "AccessDenied", "No Authorization header is accepted here.")
        agent = request.headers.get("user-agent", "")
        if self._emulator.refuse_library_agents and LIBRARY_AGENT.match(agent):
            return _error(403, "AccessDenied", "This User-Agent is not allowed.")
        return None

    def _has_expired(self, task: Task) -> bool:
        settled_at = task.settled_at or 0.0
        return self._emulator.clock() >= settled_at + self._emulator.link_seconds

    async def _picture(self, task: Task, index: int) -> bytes:
        from wan25_mcp.emulator.pictures import render

        name = f"{task.id}_{index}"
        if name not in self._pictures:
            draw = partial(render, task.sources, task.order.prompt, task.id, index)
            self._pictures[name] = await in_thread(draw)
            while len(self._pictures) > KEPT_PICTURES:
                self._pictures.popitem(last=False)
        return self._pictures[name]


def _error(status: int, code: str, message: str) -> Response:
    return Response(XML.format(code, message), status, media_type="application/xml")
