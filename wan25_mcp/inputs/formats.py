"""The format of a file by its first bytes, and what its container holds, before any decoder runs.

The file's name does not matter. The error for an unusable format names the format, because "not an
image" does not help somebody who gave a photograph.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.misspelt import refused
from wan25_mcp.inputs.read import Picture

Format = Literal["JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF", "AVIF", "HEIC"]

_READABLE: Final[tuple[tuple[re.Pattern[bytes], Format], ...]] = (
    (re.compile(rb"\xff\xd8\xff"), "JPEG"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "PNG"),
    (re.compile(rb"RIFF.{4}WEBPVP8[ LX]", re.DOTALL), "WebP"),
    (re.compile(rb"GIF8[79]a"), "GIF"),
    # A text may begin with BM, so the size of the header counts too.
    (re.compile(rb"BM.{12}[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0", re.DOTALL), "BMP"),
    (re.compile(rb"II\x2a\0(?!.{4}CR)|MM\0\x2a", re.DOTALL), "TIFF"),
)

_EXPORT: Final = CODES["image_unusable"].fix
_AVIF: Final = frozenset((b"avif", b"avis"))
_HEIC: Final = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
)
_OTHERS: Final = (
    (re.compile(rb"II\x2a\0.{4}CR|IIRO|IIU\0|FUJIFILMCCD-RAW", re.DOTALL), "a camera raw file"),
    (re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "), "a JPEG XL image"),
    (re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"), "a JPEG 2000 image"),
    (re.compile(rb"[II]{2}\x2b\0|MM\0\x2b"), "a BigTIFF image"),
    (re.compile(rb"%PDF-"), "a PDF document"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"\0\0[\x01\x02]\0"), "an icon file"),
    (re.compile(rb"PK\x03\x04"), "a ZIP archive or an office document"),
    (re.compile(rb"\x1f\x8b"), "a compressed file"),
    (re.compile(rb"%!PS"), "a PostScript document"),
    (re.compile(rb"gimp xcf"), "a GIMP document"),
    (re.compile(rb"\x1aE\xdf\xa3"), "a video"),
    (re.compile(rb"RIFF.{4}AVI ", re.DOTALL), "a video"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer, not the image itself"),
)
_SVG: Final = re.compile(rb"<svg[\s>]", re.IGNORECASE)
_HTML: Final = re.compile(rb"<(!doctype html|html|head|body|script)\b", re.IGNORECASE)


def recognise(picture: Picture) -> Format:
    """The format of an image.

    Raises:
        InvalidRequest: `image_unusable`, naming the format of the file.
    """
    head = picture.content[:1024]
    for signature, found in _READABLE:
        if signature.match(head):
            return found
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & _AVIF:  # first, because some AVIF files also name the general brand mif1
            return "AVIF"
        if brands & _HEIC:
            return "HEIC"
    if not head:
        raise unusable(picture, "is empty", "Save or copy it again and give that file.")
    if (name := _named(head)) is not None:
        raise unusable(picture, f"is {name}, which cannot be used", _EXPORT)
    why = f'"{picture.name}" is not an image, or its format is not supported.'
    raise refused(why, code="image_unusable", fix=_EXPORT)


def _brands(head: bytes) -> frozenset[bytes]:
    """The brands of a file: the main one and the compatible ones."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    return frozenset((head[8:12], *(head[at : at + 4] for at in range(16, end, 4))))


def _named(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return "a camera raw file" if head[8:12] == b"crx " else "a video"
    for signature, name in _OTHERS:
        if signature.match(head):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if _SVG.search(text):
        return "an SVG drawing"
    return "a web page" if _HTML.match(text) else None


def unusable(picture: Picture, why: str, fix: str) -> InvalidRequest:
    """The error for an intact image that the model cannot use."""
    return refused(f'The image "{picture.name}" {why}.', code="image_unusable", fix=fix)


def damaged(
    picture: Picture, why: str = "is damaged or cut short, so it cannot be read"
) -> InvalidRequest:
    """The error for a damaged or incomplete image."""
    fix = CODES["image_unreadable"].fix
    return refused(f'The image "{picture.name}" {why}.', code="image_unreadable", fix=fix)


# --- containers -----------------------------------------------------------------------------


class Malformed(ValueError):
    """A container that is damaged or hostile."""


Part = tuple[int, int, int]
"""The kind of a segment or chunk, where it begins and where it ends."""

_MAX_PARTS: Final = 100_000
_MAX_SCANS: Final = 100
_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BITS_PER_BLOCK: Final = {0xC0: 2, 0xC1: 2, 0xC2: 1}
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD9)})
_MARKER: Final = re.compile(rb"\xff([^\x00\xff])", re.DOTALL)
_AFTER_SCAN: Final = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])", re.DOTALL)
_FRAME_SIZE, _SCAN, _END = 0xC0, 0xDA, 0xD9


@dataclass(frozen=True)
class Jpeg:
    """The segments of a JPEG file, as libjpeg reads them."""

    parts: tuple[Part, ...]
    end: int | None
    """The position after the end marker; None if there is none."""
    is_buffered: bool
    """Whether a decoder must hold the coefficients of the whole image: several scans."""
    is_hollow: bool
    """Whether it contains less data than an image of the declared size needs."""


def read_jpeg(content: bytes) -> Jpeg:
    """Read the segments of a JPEG.

    Raises:
        Malformed: Also for more scans than any encoder writes, because each costs a pass.
    """
    parts: list[Part] = []
    frame: _Frame | None = None
    scans, coded, is_buffered = 0, 0, False
    for marker, start, body_end, end in _segments(content):
        if marker == _END:
            is_hollow = frame is None or 8 * coded < frame.min_bits
            return Jpeg(tuple(parts), end, is_buffered, is_hollow)
        parts.append((marker, start, end))
        if marker in _FRAMES:
            if frame is not None:
                raise Malformed  # libjpeg and Pillow would disagree on the size
            frame = _Frame(marker, content[start + 4 : body_end])
            is_buffered = marker in _PROGRESSIVE
        elif marker == _SCAN:
            scans += 1
            coded += end - body_end
            is_buffered |= frame is not None and content[start + 4] < frame.components
        if len(parts) > _MAX_PARTS or scans > _MAX_SCANS:
            raise Malformed
    return Jpeg(tuple(parts), None, is_buffered, frame is None or 8 * coded < frame.min_bits)


def _segments(content: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Marker, its start, the end of its body, and the end of the coded data after it.

    Advances as libjpeg does: skips garbage and fill bytes, and after a scan continues at the next
    marker that is not a restart.
    """
    position, pattern = 2, _MARKER
    while (found := pattern.search(content, position)) is not None:
        marker, start, position = found.group(1)[0], found.start(), found.end()
        pattern = _MARKER
        if marker == _END:
            yield marker, start, position, position
            return
        if marker in _ALONE:
            continue
        length = int.from_bytes(content[position : position + 2], "big")
        if length < 2 or position + length > len(content):
            raise Malformed
        body_end = position = position + length
        if marker == _SCAN:
            pattern = _AFTER_SCAN
            after = pattern.search(content, position)
            position = after.start() if after else len(content)
        yield marker, start, body_end, position


class _Frame:
    """The header of a JPEG."""

    def __init__(self, marker: int, body: bytes) -> None:
        if len(body) < 9 or len(body) < 6 + 3 * body[5] or not body[5]:
            raise Malformed
        self._marker = marker
        self._height, self._width = (
            int.from_bytes(body[1:3], "big"),
            int.from_bytes(body[3:5], "big"),
        )
        self.components = body[5]
        self._sampling = [
            (body[at] >> 4 or 1, body[at] & 15 or 1) for at in range(7, 7 + 3 * body[5], 3)
        ]

    @property
    def min_bits(self) -> int:
        """The minimum number of bits that an image of this size needs.

        A block needs one bit for its mean and one for its end; in a progressive JPEG only the
        first. Decoders silently fill missing data with grey.
        """
        across, down = (max(factors) for factors in zip(*self._sampling, strict=True))
        blocks: int = sum(
            -(-self._width * h // (8 * across)) * -(-self._height * v // (8 * down))
            for h, v in self._sampling
        )
        return blocks * _BITS_PER_BLOCK.get(self._marker, 0)


def webp_size(content: bytes) -> tuple[int, int]:
    """Width and height, read before the decoder is opened, which already allocates memory."""
    kind, body = content[12:16], content[20:30]
    if len(body) < 10:
        raise Malformed
    if kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return (
        int.from_bytes(body[6:8], "little") & 0x3FFF,
        int.from_bytes(body[8:10], "little") & 0x3FFF,
    )


# --- whether a file holds anything but its picture ------------------------------------------

_CODING: Final = frozenset({*range(0xC0, 0xD0), *range(0xDA, 0xDE)})
_JFIF, _ICC, _ADOBE = 0xE0, 0xE2, 0xEE
_JFIF_WITHOUT_PREVIEW: Final = 18
_PNG_PICTURE: Final = frozenset(
    (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"sRGB", b"gAMA", b"cHRM", b"iCCP", b"cICP")
)


def is_bare(content: bytes, kind: Format) -> bool:
    """Whether a file contains nothing but its picture and its colour profile.

    Anything unknown counts as more, and so do places, names, previews and bytes after the end.
    """
    match kind:
        case "JPEG":
            return _is_bare_jpeg(content)
        case "PNG":
            return _is_bare_png(content)
        case "WebP":  # in its simple form
            end = 20 + int.from_bytes(content[16:20], "little")
            return content[12:16] in (b"VP8 ", b"VP8L") and len(content) == end + (end & 1)
    return False


def _is_bare_jpeg(content: bytes) -> bool:
    layout, position = read_jpeg(content), 2
    for marker, start, end in layout.parts:
        if start != position or not _is_of_picture(
            content[start : start + 16], marker, end - start
        ):
            return False
        position = end
    return layout.end == position + 2 == len(content)


def _is_of_picture(head: bytes, marker: int, length: int) -> bool:
    if marker == _JFIF:
        return head[4:9] == b"JFIF\0" and length == _JFIF_WITHOUT_PREVIEW
    if marker == _ICC:
        return head[4:16] == b"ICC_PROFILE\0"
    if marker == _ADOBE:
        return head[4:9] == b"Adobe"
    return marker in _CODING


def _is_bare_png(content: bytes) -> bool:
    position, kind = 8, b""
    while position < len(content) and kind != b"IEND":
        kind = content[position + 4 : position + 8]
        if kind not in _PNG_PICTURE:
            return False
        position += 12 + int.from_bytes(content[position : position + 4], "big")
    return position == len(content)
