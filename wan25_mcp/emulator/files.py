"""The file service's shelf: what was uploaded, and for how long. No HTTP."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

LIFETIME_SECONDS = 72 * 3600
MAX_FILE_BYTES = 10_000_000
# BMP is fine for the model and not uploadable; GIF the reverse.
SIGNATURES: tuple[tuple[re.Pattern[bytes], str, str], ...] = (
    (re.compile(rb"\xff\xd8\xff"), "image/jpeg", ".jpg"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "image/png", ".png"),
    (re.compile(rb"GIF8[79]a"), "image/gif", ".gif"),
    (re.compile(rb"RIFF.{4}WEBP", re.DOTALL), "image/webp", ".webp"),
)


class BadUpload(Exception):
    """An upload the file service refuses."""

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

    @property
    def expires_at(self) -> float:
        return self.stored_at + LIFETIME_SECONDS

    def described(self, origin: str) -> dict[str, Any]:
        """The `data` of an upload's answer."""
        link = f"{origin}/files/{self.id}/{quote(self.name)}"
        return {
            "file_id": self.id,
            "file_name": self.name,
            "file_size": len(self.content),
            "mime_type": self.mime_type,
            "file_url": link,
            "download_url": f"{link}?download=1",
            "upload_time": _iso(self.stored_at),
            "expires_at": _iso(self.expires_at),
        }


class Shelf:
    """Files by id, until they expire."""

    def __init__(self) -> None:
        self._files: dict[str, StoredFile] = {}

    def __len__(self) -> int:
        return len(self._files)

    def put(self, file_id: str, content: bytes, name: str | None, now: float) -> StoredFile:
        """Store an image. Raises: BadUpload."""
        mime_type, ending = identify(content)
        name = _safe_name(name or f"{file_id}{ending}")
        self._files[file_id] = StoredFile(file_id, name, content, mime_type, now)
        return self._files[file_id]

    def put_anything(
        self, file_id: str, content: bytes, name: str, mime_type: str, now: float
    ) -> StoredFile:
        """For tests: a file the service itself would refuse, such as HTML or HEIC."""
        self._files[file_id] = StoredFile(file_id, _safe_name(name), content, mime_type, now)
        return self._files[file_id]

    def find(self, file_id: str, now: float) -> StoredFile | None:
        found = self._files.get(file_id)
        return found if found and now < found.expires_at else None


def identify(content: bytes) -> tuple[str, str]:
    """The type and usual ending of an uploadable image, by its first bytes. Raises: BadUpload."""
    if not content:
        raise BadUpload(400, "File is empty")
    if len(content) > MAX_FILE_BYTES:
        raise BadUpload(413, "File too large")
    for signature, mime_type, ending in SIGNATURES:
        if signature.match(content):
            return mime_type, ending
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
    kept = "".join(c for c in PurePosixPath(name.replace("\\", "/")).name if c.isprintable())
    return kept[:200] or "file"


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
