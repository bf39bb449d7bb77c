"""Small previews of results for a chat, and the table of clients that can show them.

A preview is optional. If one cannot be made it is left out, and the result is returned without it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, cast

import anyio.to_thread

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PREVIEW_BYTES: Final = 100_000
MAX_TOGETHER_BYTES: Final = 400_000
"""A third more in base64: well below the megabyte at which clients refuse a result."""

MAX_PIXELS: Final = 40_000_000
FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP")
_STEPS: Final = ((768, 82), (768, 65), (640, 60), (512, 50), (384, 40), (256, 30))
"""Longest side and JPEG quality. The first that fits is used. The last fits even for noise."""

Run = Callable[..., Awaitable[Any]]
"""Runs blocking work; `anyio.to_thread.run_sync` unless a test's clock is virtual."""


async def make_previews(
    bodies: Sequence[bytes], *, run: Run = anyio.to_thread.run_sync
) -> list[bytes | None]:
    """A small JPEG of each image, in order; None where it could not be made.

    They are made one after another, so that only one decoded image at a time is in memory.
    """
    limit = min(MAX_PREVIEW_BYTES, MAX_TOGETHER_BYTES // max(len(bodies), 1))
    return [cast("bytes | None", await run(partial(_preview, body, limit))) for body in bodies]


def _preview(body: bytes, limit: int) -> bytes | None:
    """A JPEG of at most `limit` bytes, or None."""
    from PIL import Image

    try:
        with Image.open(BytesIO(body), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # known before anything is decoded
                return None
            image.draft("RGB", (_STEPS[0][0],) * 2)  # a JPEG is decoded no larger than needed
            flat = _flat(image)
            for side, quality in _STEPS:
                flat.thumbnail((side, side))
                packed = BytesIO()
                flat.save(packed, "JPEG", quality=quality)
                if packed.tell() <= limit:
                    return packed.getvalue()
    except Exception:  # noqa: BLE001  for broken bytes a decoder may raise anything
        return None
    return None


def _flat(image: Image) -> Image:
    """The image upright, in RGB, with white in place of transparency."""
    from PIL import Image as Images
    from PIL import ImageOps

    if image.mode in ("1", "P"):  # which cannot be scaled smoothly
        image = image.convert("RGBA")
    image.thumbnail((_STEPS[0][0],) * 2)  # first, so that the rest is little work
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    white = Images.new("RGBA", layer.size, "white")
    return Images.alpha_composite(white, layer).convert("RGB")


# --- which clients get them ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClientSupport:
    """What a client does with an image. `name` is what the client reports, in lower case."""

    name: str
    shows: bool
    reason: str


_STRUCTURE_ONLY: Final = "shows the model the structured content and drops the rest"

CLIENTS: Final = (
    ClientSupport(
        "claude-ai", True, "shown to the person under the call (anthropics/claude-code#54737)"
    ),
    ClientSupport("mcp-inspector", True, "shown to the developer"),
    ClientSupport("inspector-client", True, "shown to the developer"),
    ClientSupport("gemini-cli-mcp-client", True, "reaches the model as an image (its mcp-tool.ts)"),
    ClientSupport("claude-code", False, _STRUCTURE_ONLY + " (anthropics/claude-code#54737)"),
    ClientSupport("codex", False, _STRUCTURE_ONLY),
    ClientSupport("codex-mcp-client", False, _STRUCTURE_ONLY),
    ClientSupport("opencode", False, _STRUCTURE_ONLY + " (anomalyco/opencode#32868)"),
    ClientSupport("visual studio code", False, _STRUCTURE_ONLY),
    ClientSupport("visual-studio-code", False, _STRUCTURE_ONLY),
    ClientSupport("chatgpt", False, _STRUCTURE_ONLY + " when there is a widget"),
    ClientSupport("cursor-vscode", False, "reports of what the model sees contradict each other"),
    ClientSupport(
        "mcp",
        False,
        "the Python SDK's default name, reported by whatever is built on it: LlamaIndex and ADK "
        "give the model base64 as text, semantic-kernel and AutoGen break on unknown blocks",
    ),
)
"""With `auto`, only a client that is known to show images gets previews. The others are listed to
record why not. From reports and from the code of released clients, as of November 2026."""


def is_client(reported: str, known: str) -> bool:
    """Whether the name that a client reports is a known one.

    Some clients add to their name: `gemini-cli-mcp-client-v1`, `claude-ai (via mcp-remote 0.1.16)`.
    """
    return reported == known or reported.startswith((f"{known}-", f"{known} ("))


def shows_images(client_name: str | None) -> bool:
    """Whether a client is known to show image blocks."""
    name = (client_name or "").strip().lower()
    known = [one for one in CLIENTS if is_client(name, one.name)]
    return bool(known) and max(known, key=lambda one: len(one.name)).shows
