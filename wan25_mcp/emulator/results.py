"""The links to finished pictures, which are drawn on the first request and expire after a day.

A request that sends a key to such a link is refused. An expired link answers 403, as a signed
storage link does, and an unknown one 404. Neither is documented.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.tasks import Task

LIFETIME_SECONDS = 24 * 3600.0
LIBRARY_AGENT = re.compile(r"(python-httpx2?|python-requests|python-urllib)\b", re.IGNORECASE)
CACHED_PICTURES = 32
XML = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>'


class Results:
    def __init__(
        self,
        options: EmulatorOptions,
        tasks: Mapping[str, Task],
        in_thread: Callable[[Callable[[], bytes]], Awaitable[bytes]],
    ) -> None:
        self._options = options
        self._tasks = tasks
        self._in_thread = in_thread
        self._pictures: OrderedDict[str, bytes] = OrderedDict()

    async def download(self, request: Request) -> Response:
        refused = self._refuse(request)
        if refused is not None:
            return refused
        name = request.path_params["name"]
        task_id, _, index = name.rpartition("_")
        task = self._tasks.get(task_id)
        if task is None or index not in map(str, range(task.images)):
            return _error(404, "NoSuchKey", "The specified key does not exist.")
        if self._options.clock() >= (task.settled_at or 0.0) + LIFETIME_SECONDS:
            return _error(403, "AccessDenied", "Request has expired.")
        return Response(await self._picture(task, int(index)), media_type="image/png")

    def _refuse(self, request: Request) -> Response | None:
        if "authorization" in request.headers:
            return _error(403, "AccessDenied", "No Authorization header is accepted here.")
        agent = request.headers.get("user-agent", "")
        if self._options.refuse_library_agents and LIBRARY_AGENT.match(agent):
            return _error(403, "AccessDenied", "This User-Agent is not allowed.")
        return None

    async def _picture(self, task: Task, index: int) -> bytes:
        from wan25_mcp.emulator.pictures import render

        name = f"{task.id}_{index}"
        if name not in self._pictures:
            draw = partial(render, task.sources, task.order.prompt, task.id, index)
            self._pictures[name] = await self._in_thread(draw)
            while len(self._pictures) > CACHED_PICTURES:
                self._pictures.popitem(last=False)
        return self._pictures[name]


def _error(status: int, code: str, message: str) -> Response:
    return Response(XML.format(code, message), status, media_type="application/xml")
