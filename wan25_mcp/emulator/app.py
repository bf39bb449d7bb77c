"""The API's addresses, over HTTP. Decides nothing: reads requests, words answers."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wan25_mcp.emulator import admin, uploads
from wan25_mcp.emulator.openapi import describe
from wan25_mcp.emulator.records import Submit
from wan25_mcp.emulator.refusals import Generation, Refusal, envelope
from wan25_mcp.emulator.results import Results
from wan25_mcp.emulator.wire import RECORD, Wire

if TYPE_CHECKING:
    from wan25_mcp.emulator.emulator import Emulator

MAX_SUBMIT_BYTES = 1024 * 1024
Endpoint = Callable[[Request], Awaitable[Response]]


def build(emulator: Emulator) -> Wire:
    """The ASGI app of one emulator."""
    api, results = Api(emulator), Results(emulator)
    files = uploads.Uploads(emulator, api.key_of)
    routes = [
        Route("/apiv1/v1/images/generations", api.submit, methods=["POST"]),
        Route("/apiv1/v1/tasks/{task_id}", api.query, methods=["GET"]),
        Route("/apiv1/v1/credits", api.credits, methods=["GET"]),
        Route("/api/v1/files/upload/stream", files.stream, methods=["POST"]),
        Route("/api/v1/files/upload/base64", files.base64, methods=["POST"]),
        Route("/files/{file_id}/{name}", files.download, methods=["GET"]),
        Route("/results/{name}.png", results.download, methods=["GET"]),
        Route("/openapi.json", _openapi(emulator), methods=["GET"]),
        *admin.routes(emulator),
    ]
    app = Starlette(routes=routes, lifespan=_lifespan(emulator))
    app.router.redirect_slashes = False
    _word_refusals(app, emulator.generation)
    return Wire(app, emulator)


class Api:
    """The three addresses under `/apiv1`."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    def key_of(self, request: Request) -> str:
        """The bearer key of a request. Raises: Refusal 401."""
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        key, known = key.strip(), self._emulator.keys
        allowed = known is None or key in known or key in self._emulator.denied_keys
        if scheme.lower() != "bearer" or not key or not allowed:
            raise Refusal(401)
        return key

    async def submit(self, request: Request) -> Response:
        record = cast("Submit", request.scope[RECORD])
        key = self.key_of(request)
        if len(record.raw) > MAX_SUBMIT_BYTES:
            raise Refusal(413)
        if not _is_json(request):
            raise Refusal(400)
        answer = self._emulator.gateway.submit(key, record.raw, record)
        headers = {"idempotency-replayed": "true"} if record.replayed else None
        return JSONResponse(answer, headers=headers)

    async def query(self, request: Request) -> Response:
        key = self.key_of(request)
        answer = self._emulator.gateway.query(key, request.path_params["task_id"])
        request.scope[RECORD].status = answer["status"]
        return JSONResponse(answer)

    async def credits(self, request: Request) -> Response:
        self.key_of(request)
        return JSONResponse(self._emulator.gateway.credits())


def _is_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return bool(re.fullmatch(r"application/(.+\+)?json", media_type))


def _openapi(emulator: Emulator) -> Endpoint:
    async def openapi(request: Request) -> Response:
        return JSONResponse(describe(str(request.base_url).rstrip("/"), emulator.generation))

    return openapi


def _lifespan(
    emulator: Emulator,
) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        async with emulator.running():
            yield

    return lifespan


def _word_refusals(app: Starlette, generation: Generation) -> None:
    def refused(_: Request, error: Exception) -> Response:
        refusal = cast("Refusal", error)
        headers = {"retry-after": refusal.retry_after} if refusal.retry_after else None
        return JSONResponse(envelope(refusal, generation), refusal.status, headers)

    def unrouted(request: Request, error: Exception) -> Response:
        stranger = cast("HTTPException", error)
        answer = refused(request, Refusal(stranger.status_code))
        answer.headers.update(stranger.headers or {})
        return answer

    app.add_exception_handler(Refusal, _asynchronous(refused))
    app.add_exception_handler(HTTPException, _asynchronous(unrouted))


def _asynchronous(
    word: Callable[[Request, Exception], Response],
) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Starlette runs plain functions in threads, which virtual time does not see."""

    @wraps(word)
    async def worded(request: Request, error: Exception) -> Response:
        return word(request, error)

    return worded
