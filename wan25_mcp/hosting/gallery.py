"""The journal's edits as a page on this machine: before and after, what they cost, what expires.

Read-only. It listens on loopback, checks Host, and answers only below a secret path. The page loads
nothing from elsewhere, and no request to it makes one to the provider: pictures come from the saved
files and the journal.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.connect import open_configured_editor
from wan25_mcp.editing.edit import PastEdit
from wan25_mcp.hosting.app import AddressGate
from wan25_mcp.hosting.connections import Lobby, max_connections
from wan25_mcp.hosting.listening import main_server
from wan25_mcp.hosting.serving import bound, run_until_signal
from wan25_mcp.outputs.previews import Run, make_previews
from wan25_mcp.server import apps
from wan25_mcp.settings import Settings

HOST: Final = "127.0.0.1"
LISTED: Final = 1000
"""Limit of edits on the page. The journal keeps those of 30 days."""

_PAGE: Final = Path(__file__).with_name("gallery.html")
_STYLE: Final = re.compile(r"<style>(.*?)</style>", re.DOTALL)
_TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
_PRIVATE: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


async def serve_gallery(settings: Settings, *, port: int, announce: Callable[[str], None]) -> int:
    """Serve the gallery until SIGTERM or SIGINT.

    Args:
        announce: Called with the address of the page.

    Returns:
        The exit status: 128 + the signal's number.

    Raises:
        SettingsError: The port cannot be listened on, or there is no key.
        JournalUnusable: The journal cannot be read.
    """
    async with open_configured_editor(settings, background=False) as editor:
        await editor.recent(1)  # what is wrong is said here, not on the page
        token = secrets.token_urlsafe(24)
        app = gallery_app(editor, token)
        with bound(HOST, port, fix="Choose another --port; 0 picks a free one.") as listener:
            address = f"http://{HOST}:{listener.getsockname()[1]}/{token}/"
            served = main_server(app, settings.log_level, Lobby(max_connections()))
            return await run_until_signal(served, listener, partial(announce, address))


def gallery_app(
    editor: AccountEditor, token: str, *, run: Run = anyio.to_thread.run_sync
) -> ASGIApp:
    """The app of the gallery, behind its checks.

    Args:
        run: Runs blocking work.
    """
    gallery = _Gallery(editor, token, run)
    below = "/{token}/edits/{task_id}"
    routes = [
        Route("/{token}/", gallery.page),
        Route("/{token}/edits.json", gallery.edits),
        Route(f"{below}/images/{{number:int}}", gallery.image),
        Route(f"{below}/previews/{{number:int}}", gallery.preview),
        Route(f"{below}/inputs/{{number:int}}", gallery.input),
    ]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return AddressGate(app, (HOST, "localhost"))


class _Gallery:
    """Answers the requests of the page."""

    def __init__(self, editor: AccountEditor, token: str, run: Run) -> None:
        self._editor = editor
        self._token = token
        self._run = run
        self._past: dict[str, PastEdit] = {}

    def _admit(self, request: Request) -> None:
        given = str(request.path_params["token"])
        if not hmac.compare_digest(given.encode(), self._token.encode()):
            raise HTTPException(404)

    async def page(self, request: Request) -> Response:
        self._admit(request)
        nonce = secrets.token_urlsafe(16)
        page = (await self._run(_page)).replace("NONCE", nonce)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'"
        )
        unkept = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
        return HTMLResponse(page, headers={**_PRIVATE, **unkept})

    async def edits(self, request: Request) -> Response:
        self._admit(request)
        past = await self._editor.recent(LISTED)
        self._past = {each.edit.task_id: each for each in past if each.edit.task_id}
        listed = {
            "emulator": self._editor.is_emulator,
            "edits": [_listed(each) for each in past],
        }
        return JSONResponse(listed, headers={**_PRIVATE, "Cache-Control": "no-store"})

    async def image(self, request: Request) -> Response:
        path = self._saved(request)
        return _picture(await self._content(path), _TYPES.get(path.suffix.lower(), "image/png"))

    async def preview(self, request: Request) -> Response:
        content = await self._content(self._saved(request))
        [small] = await make_previews([content], run=self._run)
        if small is None:
            raise HTTPException(404)
        return _picture(small, "image/jpeg")

    async def input(self, request: Request) -> Response:
        self._admit(request)
        name, number = request.path_params["task_id"], request.path_params["number"]
        kept = await self._editor.original(name, number)
        if kept is None:
            raise HTTPException(404)
        return _picture(kept, "image/jpeg")

    def _saved(self, request: Request) -> Path:
        """A file that the journal names. No path comes from a request."""
        self._admit(request)
        past = self._past.get(request.path_params["task_id"])
        number = request.path_params["number"]
        if past is None or not 1 <= number <= len(past.edit.saved):
            raise HTTPException(404)
        return Path(past.edit.saved[number - 1])

    async def _content(self, path: Path) -> bytes:
        try:
            content: bytes = await self._run(path.read_bytes)
        except OSError:  # moved or deleted since it was listed
            raise HTTPException(404) from None
        return content


def _page() -> str:
    """The page, which looks as the view does."""
    found = _STYLE.search(apps.FILE.read_text(encoding="utf-8"))
    page = _PAGE.read_text(encoding="utf-8")
    return page.replace("/* the view's style */", found[1] if found else "")


def _picture(content: bytes, media_type: str) -> Response:
    headers = {**_PRIVATE, "Cache-Control": "private, max-age=3600"}
    return Response(content, media_type=media_type, headers=headers)


def _listed(past: PastEdit) -> dict[str, Any]:
    edit = past.edit
    return {
        "id": edit.task_id,
        "status": edit.status,
        "created_at": past.created_at.timestamp(),
        "prompt": past.prompt or "",
        "n": past.n,
        "credits": past.credits,
        "charged": edit.charged,
        "links": list(edit.image_urls),
        "expires_at": edit.expires_at.timestamp() if edit.expires_at else None,
        "saved": list(edit.saved),
        "error": {"message": edit.error.message, "fix": edit.error.fix} if edit.error else None,
    }
