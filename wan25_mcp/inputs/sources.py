"""The forms in which a caller may give a local image: a path, a `file:` URI, a `data:` URI. No I/O.

A path or URI becomes one absolute path, or is refused with the reason. Dots are resolved in the
text, so that `/a/b/../c` does not reveal whether `/a/b` exists.
"""

from __future__ import annotations

import binascii
import ntpath
import os
import posixpath
import re
import sys
from pathlib import PureWindowsPath
from typing import Final
from urllib.parse import unquote_to_bytes

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.misspelt import DRIVE, as_written, in_sandbox, on_another_machine, refused

MAX_DATA_BYTES: Final = 20_000_000
"""Limit of an image given as text. Any photograph fits. On every transport a whole message is held
in memory, several times while it is parsed. A larger image must be given as a file or a link."""

MAX_PATH_CHARACTERS: Final = 32_000
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_BASE64: Final = re.compile(r"^[^,]*;[ ]*base64[ ]*$", re.IGNORECASE)
_BLANK: Final = b" \t\r\n\f"


def display_name(path: str) -> str:
    """A file's own name, printable and short, for use in a sentence."""
    plain = path.replace("\\", "/") if os.sep == "\\" else path
    name = plain.rstrip("/").rpartition("/")[2].encode("utf-8", "replace").decode("utf-8")
    printable = "".join(letter if letter.isprintable() else "?" for letter in name) or "(no name)"
    return printable if len(printable) <= 60 else f"{printable[:40]}…{printable[-15:]}"


# --- paths ----------------------------------------------------------------------------------


def path_of(source: str, *, home: str | None = None, windows: bool = os.name == "nt") -> str:
    """The absolute path that a text stands for on this system.

    Raises:
        InvalidRequest: `image_not_allowed` for a form that is never read, `image_not_found` for
            one that cannot be a path here, `image_on_another_machine` for another system's.
    """
    if (refusal := as_written(source, windows=windows)) is not None:
        raise refusal
    text = _from_uri(source) if source[:5].lower() == "file:" else source
    if text[:1] == "~" and text[1:2] in ("", "/", "\\"):
        text = (os.path.expanduser("~") if home is None else home) + text[1:]  # noqa: PTH111 - text
    path = _windows_path(text) if windows else _posix_path(text)
    if "\0" in path or len(path) > MAX_PATH_CHARACTERS:
        raise refused("The image's path cannot exist on this system.", code="image_not_found")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise refused("The image's path is not valid text.", code="image_not_found") from None
    return path


def _from_uri(uri: str) -> str:
    rest = uri[5:]
    if rest.startswith("//"):
        host, slash, rest = rest[2:].partition("/")
        if host.lower() not in ("", "localhost", "127.0.0.1"):
            raise refused(
                "The file: URI names another computer; network shares are not read.",
                code="image_not_allowed",
                fix="Copy the image to this computer and give file:///its/path, or give a public "
                "link.",
            )
        rest = slash + rest
    path = os.fsdecode(unquote_to_bytes(rest.encode("utf-8", "surrogatepass")))
    return path[1:] if DRIVE.match(path[1:]) else path


def _posix_path(text: str) -> str:
    if text.startswith("/"):
        return "/" + posixpath.normpath(text).lstrip("/")
    if (refusal := as_written(text, windows=False)) is not None:  # inside a file: URI
        raise refusal
    raise _not_absolute(text)


def _windows_path(text: str) -> str:
    if in_sandbox(text):
        raise on_another_machine()
    if text.startswith(("\\\\", "//", "\\/", "/\\")):  # shares, and \\.\ and \\?\ devices
        raise refused(
            "The image is a network share or a device. Neither is read.",
            code="image_not_allowed",
            fix="Copy the image to a folder on a drive of this computer, or give a public link.",
        )
    if not DRIVE.match(text):
        raise _not_absolute(text)
    path = ntpath.normpath(text)
    if ":" in path[2:] or _is_device(path):
        raise refused("The path names a device or a file stream.", code="image_not_allowed")
    return path


def _is_device(path: str) -> bool:
    """Whether it is a device such as CON, NUL or COM1, in any folder and with any extension."""
    if sys.version_info >= (3, 13):
        return ntpath.isreserved(path)
    return any(PureWindowsPath(part).is_reserved() for part in path[3:].split("\\"))


def _not_absolute(text: str) -> InvalidRequest:
    if not text.strip():
        return refused("The image is an empty string.", code="image_not_found")
    if _SCHEME.match(text):
        return refused("Images cannot be read from that kind of address.", code="image_not_allowed")
    return refused(
        "The image is neither a link nor an absolute path. Relative paths are not accepted: the "
        "server does not know your working directory.",
        code="image_not_found",
    )


# --- data: URIs -----------------------------------------------------------------------------


def data_of(uri: str) -> bytes:
    """The bytes in a `data:` URI, of either form. Its media type is ignored.

    Raises:
        InvalidRequest: `image_unusable` if there are too many, `image_unreadable` if the text is
            not base64.
    """
    head, comma, body = uri[5:].partition(",") if "," in uri[:1000] else ("", "", "")
    if not comma:
        raise refused("The data: URI has no comma before its content.", code="image_unreadable")
    is_base64 = _BASE64.match(head) is not None
    # Checked before decoding: decoding a large text with many escapes takes minutes.
    if len(body) > MAX_DATA_BYTES * (4 / 3 if is_base64 else 1) + 1000 and _too_large(
        body, is_base64
    ):
        raise refused(
            f"The data: URI is larger than the limit of {MAX_DATA_BYTES // 1_000_000} MB.",
            code="image_unusable",
            fix="Save the image as a file and give its path, or make it smaller.",
        )
    content = unquote_to_bytes(body.encode("utf-8", "surrogatepass"))
    return _from_base64(content) if is_base64 else content


def _too_large(body: str, is_base64: bool) -> bool:
    """Whether it is too large even after every escape and line break is decoded."""
    longest = MAX_DATA_BYTES * 4 // 3 + 4 if is_base64 else MAX_DATA_BYTES
    if len(body) > 3 * longest + 1000:
        return True
    shrinks = 2 * body.count("%")
    if is_base64:
        shrinks += body.count("\n") + body.count("\r") + body.count(" ")
    return len(body) - shrinks > longest


def _from_base64(text: bytes) -> bytes:
    """Decode base64, standard or URL-safe, with or without padding and line breaks."""
    letters = text.translate(bytes.maketrans(b"-_", b"+/"), _BLANK).rstrip(b"=")
    try:
        return binascii.a2b_base64(letters + b"=" * (-len(letters) % 4), strict_mode=True)
    except binascii.Error:
        raise refused(
            "The content of the data: URI is not base64.",
            code="image_unreadable",
            fix="Encode the image's bytes as base64 without changes, or save it as a file and give "
            "its path.",
        ) from None
