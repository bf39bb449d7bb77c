"""What other processes need: the state, scripted faults and outcomes, the OpenAPI document."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from tests.emulator_lab.faults import Fault
from tests.emulator_lab.openapi import describe
from tests.emulator_lab.outcomes import Outcome
from wan25_mcp.emulator.app import answer_refusals
from wan25_mcp.emulator.refusals import Refusal
from wan25_mcp.emulator.rules import read_json

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from tests.emulator_lab.emulator import Emulator


def with_admin(app: ASGIApp, emulator: Emulator) -> ASGIApp:
    """The app with addresses for tests. Its lifespan runs the emulator."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None, None]:
        async with emulator.running():
            yield

    async def openapi(request: Request) -> Response:
        origin = str(request.base_url).rstrip("/")
        return JSONResponse(describe(origin, emulator.options.generation))

    admin = Admin(emulator)
    scripted = [
        Route("/_emulator/state", admin.state, methods=["GET"]),
        Route("/_emulator/faults", admin.faults, methods=["POST"]),
        Route("/_emulator/outcomes", admin.outcomes, methods=["POST"]),
        Route("/_emulator/samples", admin.samples, methods=["POST"]),
    ]
    routes = [
        Route("/openapi.json", openapi, methods=["GET"]),
        *(scripted if emulator.admin else []),
        Mount("/", app),
    ]
    outer = Starlette(routes=routes, lifespan=lifespan)
    outer.router.redirect_slashes = False
    answer_refusals(outer, emulator.options)
    return outer


MAX_SAMPLE = 6000


class Admin:
    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator

    async def state(self, _: Request) -> Response:
        return JSONResponse(self._emulator.state())

    async def faults(self, request: Request) -> Response:
        return await _scripted(request, Fault, self._emulator.fault)

    async def outcomes(self, request: Request) -> Response:
        return await _scripted(request, Outcome, self._emulator.outcome)

    async def samples(self, request: Request) -> Response:
        """Host a sample picture; answers `{"url": …}`. Body: `{"width", "height"}`, optional."""
        size = {"width": 640, "height": 480} | read_json(await request.body() or b"{}")
        if not all(type(side) is int and 1 <= side <= MAX_SAMPLE for side in size.values()):
            raise Refusal(400, f"width and height are integers up to {MAX_SAMPLE}")
        link = self._emulator.sample_image_url(size["width"], size["height"])
        return JSONResponse({"url": link})


async def _scripted(request: Request, kind: type[Any], script: Callable[[Any], None]) -> Response:
    fields = read_json(await request.body())
    try:
        item = kind(**fields)
        _check_types(item)
        script(item)
    except (TypeError, ValueError) as error:
        raise Refusal(400, str(error)) from error
    return JSONResponse({"scripted": fields})


def _check_types(item: Any) -> None:
    """What a type checker does for callers in this process. Raises: TypeError."""
    for name, hint in get_type_hints(type(item)).items():
        if not _fits(getattr(item, name), hint):
            raise TypeError(f"{name} is not what it should be")


def _fits(value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is UnionType:
        return any(_fits(value, choice) for choice in get_args(hint))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is (get_origin(hint) or hint)
