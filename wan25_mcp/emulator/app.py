"""The API's endpoints over HTTP. They only read requests and write answers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wan25_mcp.emulator.file_store import FileStore
from wan25_mcp.emulator.gateway import Gateway
from wan25_mcp.emulator.options import EmulatorOptions
from wan25_mcp.emulator.refusals import Refusal, envelope
from wan25_mcp.emulator.results import Results
from wan25_mcp.emulator.uploads import Uploads

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_SUBMIT_BYTES = 1024 * 1024


def build(
    options: EmulatorOptions, gateway: Gateway, files: FileStore, results: Results
) -> Starlette:
    """The ASGI app of one emulator."""
    api = Api(options, gateway)
    uploads = Uploads(files, api.key_of)
    routes = [
        Route("/apiv1/v1/images/generations", api.submit, methods=["POST"]),
        Route("/apiv1/v1/tasks/{task_id}", api.query, methods=["GET"]),
        Route("/apiv1/v1/credits", api.credits, methods=["GET"]),
        Route("/api/v1/files/upload/stream", uploads.stream, methods=["POST"]),
        Route("/api/v1/files/upload/base64", uploads.base64, methods=["POST"]),
        Route("/api/v1/files/quota", uploads.quota, methods=["GET"]),
        Route("/files/{file_id}/{name}", uploads.download, methods=["GET"]),
        Route("/results/{name}.png", results.download, methods=["GET"]),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    answer_refusals(app, options)
    return app


class Api:
    """The three endpoints under `/apiv1`."""

    def __init__(self, options: EmulatorOptions, gateway: Gateway) -> None:
        self._options = options
        self._gateway = gateway

    def key_of(self, request: Request) -> str:
        """The bearer key of a request. Raises: Refusal 401."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key or not self._options.accepts(key):
            raise Refusal(401)
        return key

    async def submit(self, request: Request) -> Response:
        raw = await _body(request)
        key = self.key_of(request)
        if len(raw) > MAX_SUBMIT_BYTES:
            raise Refusal(413)
        if not _is_json(request):
            raise Refusal(400)
        name = request.headers.get("idempotency-key", "")
        task, is_replay = self._gateway.submit(key, raw, name)
        headers = {"idempotency-replayed": "true"} if is_replay else None
        return JSONResponse(self._gateway.read(task), headers=headers)

    async def query(self, request: Request) -> Response:
        key = self.key_of(request)
        return JSONResponse(self._gateway.query(key, request.path_params["task_id"]))

    async def credits(self, request: Request) -> Response:
        self.key_of(request)
        return JSONResponse(self._gateway.credits())


async def _body(request: Request) -> bytes:
    """The whole body; of a body above the limit, enough to refuse it."""
    body = bytearray()
    async for chunk in request.stream():
        if len(body) <= MAX_SUBMIT_BYTES:
            body += chunk
    return bytes(body)


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(re.fullmatch(r"application/(.+\+)?json", media_type))


def answer_refusals(app: Starlette, options: EmulatorOptions) -> None:
    """Answer refusals, and requests for unknown paths, in the API's envelope."""

    def refused(_: Request, error: Exception) -> Response:
        refusal = cast("Refusal", error)
        headers = {"retry-after": refusal.retry_after} if refusal.retry_after else None
        return JSONResponse(envelope(refusal, options.generation), refusal.status, headers)

    def not_routed(request: Request, error: Exception) -> Response:
        cause = cast("HTTPException", error)
        answer = refused(request, Refusal(cause.status_code))
        answer.headers.update(cause.headers or {})
        return answer

    app.add_exception_handler(Refusal, _asynchronous(refused))
    app.add_exception_handler(HTTPException, _asynchronous(not_routed))


def _asynchronous(
    answer: Callable[[Request, Exception], Response],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Make a function async: Starlette runs plain ones in threads, which stall on virtual time."""

    @wraps(answer)
    async def answering(request: Request, error: Exception) -> Response:
        return answer(request, error)

    return answering


def with_request_ids(app: ASGIApp, new_id: Callable[[int], str]) -> ASGIApp:
    """Give each answer an `x-request-id`."""

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        request_id = (b"x-request-id", new_id(16).encode())

        async def send_identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], request_id]
            await send(message)

        await app(scope, receive, send_identified)

    return identified
