"""A web application that edits what its visitors upload, and shows them the progress.

    python examples/web_progress.py 8000

`POST /edits` takes a form with `image` and `prompt`, and returns the task id as soon as the
provider has accepted the edit. `GET /edits/{task_id}` is a stream of events until it is done. A
visitor who closes the page loses nothing: the edit goes on, and its result is saved.
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from wan25_mcp import Editor, InvalidRequest, Wan25Error


class State(TypedDict):
    editor: Editor


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """One editor for as long as the application runs."""
    async with Editor() as editor:
        yield {"editor": editor}


async def start(request: Request) -> Response:
    editor: Editor = request.state.editor
    async with request.form() as form:
        image, prompt = form.get("image"), form.get("prompt")
        content = await image.read() if isinstance(image, UploadFile) else b""
    edit = await editor.edit(content, str(prompt), wait=False)
    return JSONResponse({"task_id": edit.task_id}, status_code=202)


async def progress(request: Request) -> Response:
    editor: Editor = request.state.editor

    async def events() -> AsyncIterator[str]:
        async for progress in editor.follow(request.path_params["task_id"]):
            edit = progress.edit
            shown = {
                "status": edit.status,
                "progress": edit.progress,
                "image_urls": edit.image_urls,
                "error": str(edit.error) if edit.error else None,
            }
            yield f"data: {json.dumps(shown)}\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")


async def explain(_: Request, error: Exception) -> Response:
    """Every error of an edit says what to do and what it cost."""
    assert isinstance(error, Wan25Error)
    status = 400 if isinstance(error, InvalidRequest) else 502
    told = {"error": error.message, "fix": error.fix, "charged": error.charged}
    return JSONResponse(told, status_code=status)


app = Starlette(
    routes=[
        Route("/edits", start, methods=["POST"]),
        Route("/edits/{task_id}", progress),
    ],
    exception_handlers={Wan25Error: explain},
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
