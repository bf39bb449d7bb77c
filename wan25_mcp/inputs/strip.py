"""Takes what is not picture out of a file without touching the picture: places, names, previews.

What stays is what a decoder needs for the same pixels in the same colours. Everything else goes,
known or not, and so does whatever stands behind the end: a second image, an archive, a script.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from wan25_mcp.inputs.formats import Format, Malformed, Part, read_jpeg, read_png, read_webp

_JFIF, _ICC, _ADOBE = 0xE0, 0xE2, 0xEE
_PNG_KEPT: Final = frozenset(
    int.from_bytes(name, "big")
    for name in (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"iCCP", b"cICP")
)
_PNG_END: Final = int.from_bytes(b"IEND", "big")
_WEBP_PICTURE: Final = (int.from_bytes(b"VP8 ", "big"), int.from_bytes(b"VP8L", "big"))
_WEBP_ICC: Final = int.from_bytes(b"ICCP", "big")


def stripped(content: bytes, kind: Format) -> bytes | None:
    """The picture alone; `content` itself when nothing else is in it; None when it has no end."""
    try:
        match kind:
            case "JPEG":
                found = _jpeg(content)
            case "PNG":
                found = _png(content)
            case "WebP":
                found = _webp(content)
            case _:
                return None
    except Malformed:
        return None
    return content if found == content else found


def _jpeg(content: bytes) -> bytes | None:
    layout = read_jpeg(content)
    if layout.end is None:
        return None
    kept = [part for part in layout.parts if _is_picture(content, part)]
    return b"\xff\xd8" + _joined(content, kept) + b"\xff\xd9"


def _is_picture(content: bytes, part: Part) -> bool:
    marker, start, _ = part
    if marker == _JFIF:
        return content[start + 4 : start + 9] == b"JFIF\0"
    if marker == _ICC:
        return content[start + 4 : start + 16] == b"ICC_PROFILE\0"
    if marker == _ADOBE:
        return content[start + 4 : start + 9] == b"Adobe"
    return not 0xE0 <= marker <= 0xEF and marker != 0xFE


def _png(content: bytes) -> bytes | None:
    parts = read_png(content)
    if not parts or parts[-1][0] != _PNG_END:
        return None
    return content[:8] + _joined(content, [part for part in parts if part[0] in _PNG_KEPT])


def _webp(content: bytes) -> bytes | None:
    """Always in the simple form when there is no colour profile."""
    parts = read_webp(content)
    picture = next((part for part in parts if part[0] in _WEBP_PICTURE), None)
    if picture is None or picture[2] > len(content):
        return None
    profile = next((part for part in parts if part[0] == _WEBP_ICC), None)
    if profile is None:
        body = _joined(content, [picture])
    else:
        # Of the flags of the extended header only "has a profile" remains true.
        header = content[12:20] + b"\x20\0\0\0" + content[24:30]
        body = header + _joined(content, [profile, picture])
    return b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WEBP" + body


def _joined(content: bytes, parts: Iterable[Part]) -> bytes:
    return b"".join(content[start:end] for _, start, end in parts)
