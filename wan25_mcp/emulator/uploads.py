"""The endpoints of the file service. Its answers have their own shape: `success`, `code`, `msg`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import wraps
from typing import Any

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from wan25_mcp.emulator.file_store import (
    MAX_FILE_BYTES,
    MAX_FILES,
    BadUpload,
    FileStore,
    from_base64,
)
from wan25_mcp.emulator.refusals import Refusal
from wan25_mcp.emulator.rules import read_json

Endpoint = Callable[["Uploads", Request], Awaitable[Response]]


class InMemoryParser(MultiPartParser):
    """Starlette's parser without its threads, which stall on virtual time."""

    spool_max_size = 2**31


def in_own_envelope(endpoint: Endpoint) -> Endpoint:
    """Answer refusals in the file service's own shape."""

    @wraps(endpoint)
    async def answering(self: Uploads, request: Request) -> Response:
        try:
            return await endpoint(self, request)
        except (BadUpload, Refusal) as error:
            body = {"success": False, "code": error.status, "msg": error.message}
            return JSONResponse(body, error.status)

    return answering


class Uploads:
    def __init__(self, files: FileStore, key_of: Callable[[Request], str]) -> None:
        self._files = files
        self._key_of = key_of

    @in_own_envelope
    async def stream(self, request: Request) -> Response:
        self._key_of(request)
        form = await _form(request)
        try:
            return self._store(*_file_in(form))
        finally:
            await form.close()

    @in_own_envelope
    async def base64(self, request: Request) -> Response:
        self._key_of(request)
        body = read_json(await request.body())
        for name in ("file_name", "upload_path"):
            if not isinstance(body.get(name, ""), str):
                raise BadUpload(400, f"{name} must be a string")
        return self._store(from_base64(body.get("base64_data")), body.get("file_name"))

    @in_own_envelope
    async def quota(self, request: Request) -> Response:
        """How many files may be stored. Says also that there is a file service."""
        self._key_of(request)
        counts = {
            "user_group": "default",
            "used_files": len(self._files),
            "max_files": MAX_FILES,
            "remain_files": max(MAX_FILES - len(self._files), 0),
            "is_custom": False,
            "quota_reason": "",
        }
        return JSONResponse({"success": True, "code": 200, "data": counts})

    async def download(self, request: Request) -> Response:
        stored = self._files.find(request.path_params["file_id"])
        if stored is None:
            raise Refusal(404, "File not found or expired")
        is_download = "download" in request.query_params
        headers = {"content-disposition": "attachment"} if is_download else {}
        return Response(stored.content, media_type=stored.mime_type, headers=headers)

    def _store(self, content: bytes, name: Any) -> Response:
        stored = self._files.upload(content, name if isinstance(name, str) else None)
        answer = {"success": True, "code": 200, "msg": "", "data": stored.described()}
        return JSONResponse(answer)


def _file_in(form: FormData) -> tuple[bytes, Any]:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise BadUpload(400, "file is required")
    return file.file.read(MAX_FILE_BYTES + 1), form.get("file_name") or file.filename


async def _form(request: Request) -> FormData:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        raise BadUpload(400, "multipart/form-data is required")
    try:
        async with aclosing(request.stream()) as stream:
            return await InMemoryParser(request.headers, stream).parse()
    except (MultiPartException, FormParserError) as error:  # the latter until starlette 1.0
        raise BadUpload(400, "Invalid multipart data") from error
