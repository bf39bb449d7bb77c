"""Images made for tests: every kind an honest program writes, and the pieces of dishonest ones."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any, Final

import pillow_heif
from PIL import Image, ImageDraw

from wan25_mcp.inputs.read import Picture

RED, GREEN, BLUE, YELLOW = (220, 30, 30), (30, 180, 30), (30, 30, 220), (220, 220, 30)
CORNERS: Final = (RED, GREEN, BLUE, YELLOW)
TRANSPOSED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""What a camera held that way does to the picture, before the orientation undoes it."""


def quarters(width: int = 480, height: int = 400) -> Image.Image:
    """Four colours: red and green above, blue and yellow below."""
    image = Image.new("RGB", (width, height))
    draw = ImageDraw.Draw(image)
    middle, half = width // 2, height // 2
    draw.rectangle((0, 0, middle, half), RED)
    draw.rectangle((middle, 0, width, half), GREEN)
    draw.rectangle((0, half, middle, height), BLUE)
    draw.rectangle((middle, half, width, height), YELLOW)
    return image


def corners(image: Image.Image) -> tuple[Any, ...]:
    """The colours in the middle of each quarter."""
    width, height = image.size
    across, down = (width // 4, width * 3 // 4), (height // 4, height * 3 // 4)
    return tuple(image.getpixel((x, y)) for y in down for x in across)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def heic(image: Image.Image, **options: Any) -> bytes:
    """As an iPhone saves it."""
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=90, **options)
    return buffer.getvalue()


def picture(content: bytes, name: str = "cat.png") -> Picture:
    return Picture.of(content, name)


def exif(orientation: int | None = None, *, gps: bool = False) -> bytes:
    found = Image.Exif()
    if orientation is not None:
        found[0x0112] = orientation
    if gps:
        found[0x010F] = "A camera"
        found[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    return found.tobytes()


# --- by the byte ----------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, rows: bytes | None = None,
    before: bytes = b"",
) -> bytes:  # fmt: skip
    """A PNG of zeros, however large, made without holding it; or of `rows`."""
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    packer = zlib.compressobj(1)
    row = b"\0" + bytes((width * samples * depth + 7) // 8)
    packed = bytearray()
    if rows is not None:
        packed += packer.compress(rows)
    else:
        for _ in range(height):
            packed += packer.compress(row)
    packed += packer.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + before
        + chunk(b"IDAT", bytes(packed))
        + chunk(b"IEND")
    )


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def with_segment(jpeg: bytes, marker: int, body: bytes) -> bytes:
    """A JPEG with a segment more, right after its beginning."""
    return jpeg[:2] + segment(marker, body) + jpeg[2:]


def tall_jpeg(width: int, rows: int, *, mode: str = "RGB", filler: int = 0) -> bytes:
    """A baseline JPEG of `16 * rows` lines, however large, made from its first sixteen.

    Each row of blocks ends with a restart marker, so rows can be repeated without decoding.
    `filler` bytes of metadata make the file as large as wanted.
    """
    strip = saved(
        Image.new(mode, (width, 16), 128), "JPEG", quality=75, subsampling=2, restart_marker_rows=1
    )
    start = strip.index(b"\xff\xda")
    begin = start + 2 + int.from_bytes(strip[start + 2 : start + 4], "big")
    row = strip[begin:-2]
    frame = strip.index(b"\xff\xc0")
    head = bytearray(strip[:begin])
    head[frame + 5 : frame + 7] = struct.pack(">H", rows * 16)
    body = b"".join(
        row + (bytes((0xFF, 0xD0 + number % 8)) if number < rows - 1 else b"")
        for number in range(rows)
    )
    blocks, rest = divmod(filler, 65_000)
    fat = b"".join(segment(0xE9, bytes(65_000)) for _ in range(blocks)) + segment(0xE9, bytes(rest))
    return bytes(head[:2]) + (fat if filler else b"") + bytes(head[2:]) + body + b"\xff\xd9"


def patched(content: bytes, at: int, new: bytes) -> bytes:
    return content[:at] + new + content[at + len(new) :]
