"""The files uploaded to the file service, until they expire. No HTTP."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

LIFETIME_SECONDS = 72 * 3600
MAX_FILE_BYTES = 10_000_000
MAX_FILES = 2000
# The model accepts BMP but the file service does not; for GIF it is the reverse.
SIGNATURES: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg", ".jpg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png", ".png"),
    (re.compile(rb"GIF8[79]a"), "image/gif", ".gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp", ".webp"),
)


class BadUpload(Exception):
    """An upload that the file service refuses."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(frozen=True)
class StoredFile:
    id: str
    name: str
    content: bytes
    mime_type: str
    stored_at: float
    link: str

    @property
    def expires_at(self) -> float:
        return self.stored_at + LIFETIME_SECONDS

    def described(self) -> dict[str, Any]:
        """The `data` in the answer to an upload."""
        return {
            "file_id": self.id,
            "file_name": self.name,
            "file_size": len(self.content),
            "mime_type": self.mime_type,
            "file_url": self.link,
            "download_url": f"{self.link}?download=1",
            "upload_time": _iso(self.stored_at),
            "expires_at": _iso(self.expires_at),
        }


class FileStore:
    """Files by id, until they expire. Their links begin with `origin`."""

    def __init__(
        self,
        clock: Callable[[], float],
        new_id: Callable[[int], str],
        origin: Callable[[], str],
    ) -> None:
        self._clock = clock
        self._new_id = new_id
        self._origin = origin
        self._files: dict[str, StoredFile] = {}

    def __len__(self) -> int:
        return len(self._files)

    def upload(self, content: bytes, name: str | None) -> StoredFile:
        """Store an image. Raises: BadUpload."""
        mime_type, extension = identify(content)
        return self.put(content, name or f"image{extension}", mime_type)

    def put(self, content: bytes, name: str, mime_type: str) -> StoredFile:
        """Store any file, even one that an upload refuses, such as HTML or HEIC."""
        file_id = f"file_{self._new_id(16)}"
        link = f"{self._origin()}/files/{file_id}/{quote(_safe_name(name))}"
        stored = StoredFile(file_id, _safe_name(name), content, mime_type, self._clock(), link)
        self._files[file_id] = stored
        return stored

    def find(self, file_id: str) -> StoredFile | None:
        found = self._files.get(file_id)
        return found if found and self._clock() < found.expires_at else None


def identify(content: bytes) -> tuple[str, str]:
    """MIME type and extension of an uploadable image, by its first bytes. Raises: BadUpload."""
    if not content:
        raise BadUpload(400, "File is empty")
    if len(content) > MAX_FILE_BYTES:
        raise BadUpload(413, "File too large")
    for signature, mime_type, extension in SIGNATURES:
        if signature.match(content):
            return mime_type, extension
    raise BadUpload(400, "Unsupported file type: only jpeg, png, gif and webp images")


def from_base64(text: Any) -> bytes:
    """The bytes of a bare base64 string or a data: URL. Raises: BadUpload."""
    if not isinstance(text, str) or not text:
        raise BadUpload(400, "base64_data is required")
    try:
        return base64.b64decode(re.sub(r"^data:[^,]*;base64,", "", text), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadUpload(400, "Invalid base64 data") from error


def _safe_name(name: str) -> str:
    safe = "".join(c for c in PurePosixPath(name.replace("\\", "/")).name if c.isprintable())
    return safe[:200] or "file"


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
