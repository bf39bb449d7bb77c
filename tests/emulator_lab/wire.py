"""Between the connection and the API: faults and records. Knows ASGI, not the API.

A dropped connection is `hang_up` in the scope where a real socket is served, and the exception
`Dropped` elsewhere, which the memory transport turns into what a client would see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import anyio

from tests.emulator_lab.faults import Fault, Script
from tests.emulator_lab.records import Read, Records, Submit
from wan25_mcp.emulator import EmulatorOptions
from wan25_mcp.emulator.refusals import Refusal, envelope

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HANG_UP = "wan25_emulator.hang_up"
MAX_BODY = 32 * 1024 * 1024
ENDPOINTS: tuple[tuple[str, str, re.Pattern[str]], ...] = (
    ("submit", "POST", re.compile(r"/apiv1/v1/images/generations")),
    ("query", "GET", re.compile(r"/apiv1/v1/tasks/[^/]+")),
    ("credits", "GET", re.compile(r"/apiv1/v1/credits")),
    ("upload", "POST", re.compile(r"/api/v1/files/upload/(stream|base64)")),
    ("quota", "GET", re.compile(r"/api/v1/files/quota")),
    ("file", "GET", re.compile(r"/files/.+")),
    ("result", "GET", re.compile(r"/results/.+")),
)
HTML = "<html>\r\n<head><title>{0}</title></head>\r\n<body><h1>{0}</h1><hr>nginx</body>\r\n</html>"
Record = Submit | Read | None
Ask = Callable[[], Awaitable["Answer"]]


@dataclass
class Answer:
    """A whole response, held back."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def send(self, send: Send, part: int | None = None) -> None:
        """Send all of it, or announce all of it and send `part` bytes."""
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        body = self.body[:part]
        await send({"type": "http.response.body", "body": body, "more_body": part is not None})


class Dropped(Exception):
    """The connection was cut; with `answer`, after the first half of that was sent."""

    def __init__(self, kind: str, answer: Answer | None = None) -> None:
        self.kind = kind
        self.answer = answer
        super().__init__(kind)


class Wire:
    """Wraps the API's app; every request and every answer passes here."""

    def __init__(
        self, inner: ASGIApp, faults: Script[Fault], records: Records, options: EmulatorOptions
    ) -> None:
        self._inner = inner
        self._faults = faults
        self._records = records
        self._options = options

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        endpoint = name_endpoint(scope["method"], scope["path"])
        fault = self._faults.take(endpoint) if endpoint else None
        if fault and fault.kind == "refuse":
            await hang_up(scope, receive, Dropped("refuse"))
            return
        body = await _read_body(receive)
        record = self._record(endpoint, scope, body)
        receive = _replaying(body, receive)
        if isinstance(record, Submit):
            send = _noting_status(send, record)
        if fault is None:
            await (await self._answer(record, scope, receive)).send(send)
        else:
            ask = partial(self._answer, record, scope, receive)
            await self._play(fault, ask, scope, receive, send)

    def _record(self, endpoint: str, scope: Scope, body: bytes) -> Record:
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        now = self._records.clock()
        if endpoint == "result" and "authorization" in headers:
            self._records.leaked_keys.append(headers["authorization"])
        if endpoint == "submit":
            submit = Submit(_json_or_none(body), body, headers, now)
            self._records.submits.append(submit)
            return submit
        if endpoint == "query":
            read = Read(scope["path"].rsplit("/", 1)[1], now, None, headers)
            self._records.reads.append(read)
            self._records.queries[read.task_id] += 1
            return read
        return None

    async def _play(
        self, fault: Fault, ask: Ask, scope: Scope, receive: Receive, send: Send
    ) -> None:
        answer = await ask() if fault.carried_out else None
        await anyio.sleep(fault.seconds)
        if fault.kind in ("drop_before", "drop_after"):
            await hang_up(scope, receive, Dropped(fault.kind))
        elif fault.kind == "truncate":
            await self._truncate(answer or await ask(), scope, receive, send)
        elif fault.kind == "delay":
            await (answer or await ask()).send(send)
        else:
            await self._spoilt(fault).send(send)

    async def _answer(self, record: Record, scope: Scope, receive: Receive) -> Answer:
        """What the API answers. What it did is recorded, whatever becomes of the answer."""
        answer = Answer(0)

        async def hold(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status, answer.headers = message["status"], list(message["headers"])
            else:
                answer.body += message.get("body", b"")

        await self._inner(scope, receive, hold)
        if record is not None and answer.status == 200:
            _note_outcome(record, answer)
        return answer

    async def _truncate(self, answer: Answer, scope: Scope, receive: Receive, send: Send) -> None:
        if HANG_UP in scope:
            await answer.send(send, part=len(answer.body) // 2)
        await hang_up(scope, receive, Dropped("truncate", answer))

    def _spoilt(self, fault: Fault) -> Answer:
        """The answer of a fault that answers."""
        status = fault.code or (502 if fault.kind == "html" else 200)
        content, media_type = self._content(fault, status)
        headers = {
            "content-type": media_type,
            "content-length": str(len(content)),
            "x-request-id": f"faulty-{status}",
        }
        if fault.retry_after is not None:
            headers["retry-after"] = str(fault.retry_after)
        headers |= {name.lower(): value for name, value in fault.headers.items()}
        return Answer(status, [(k.encode(), v.encode()) for k, v in headers.items()], content)

    def _content(self, fault: Fault, status: int) -> tuple[bytes, str]:
        if isinstance(fault.body, str | bytes):
            given = fault.body.encode() if isinstance(fault.body, str) else fault.body
            return given, "text/html" if fault.kind == "html" else "application/json"
        if fault.kind == "html":
            return HTML.format(f"{status} Gateway").encode(), "text/html"
        if fault.kind == "garbage_json":
            return b'{"created": 17571564, "id": "task-uni', "application/json"
        if fault.kind == "empty":
            return b"", "application/json"
        return json.dumps(fault.body or self._envelope(fault, status)).encode(), "application/json"

    def _envelope(self, fault: Fault, status: int) -> dict[str, Any]:
        refusal = Refusal(
            status, fault.message, param=fault.param, suggestion=fault.fallback_suggestion
        )
        body = envelope(refusal, self._options.generation)
        if fault.type is not None:
            body["error"]["type"] = fault.type
        return body


def name_endpoint(method: str, path: str) -> str:
    """The endpoint a fault can name, or nothing."""
    method = "GET" if method == "HEAD" else method
    found = (name for name, verb, shape in ENDPOINTS if verb == method and shape.fullmatch(path))
    return next(found, "")


async def hang_up(scope: Scope, receive: Receive, dropped: Dropped) -> None:
    """Cut the connection, and return when it is gone."""
    if HANG_UP not in scope:
        raise dropped
    cut = cast("Callable[[bool], None]", scope[HANG_UP])
    cut(dropped.answer is None)
    while (await receive())["type"] != "http.disconnect":
        pass


async def _read_body(receive: Receive) -> bytes:
    """The whole body; of one above the limit, enough to be refused for it."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if len(body) <= MAX_BODY:
            body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


def _replaying(body: bytes, receive: Receive) -> Receive:
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


def _noting_status(send: Send, submit: Submit) -> Send:
    async def noting(message: Message) -> None:
        if message["type"] == "http.response.start":
            submit.status = message["status"]
        await send(message)

    return noting


def _note_outcome(record: Submit | Read, answer: Answer) -> None:
    task = json.loads(answer.body)
    if isinstance(record, Read):
        record.status = task["status"]
        return
    record.task_id = task["id"]
    record.replayed = any(name == b"idempotency-replayed" for name, _ in answer.headers)
    record.accepted = not record.replayed


def _json_or_none(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
