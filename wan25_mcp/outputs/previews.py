"""Small pictures of results for a chat, and the table of the clients that show them well.

A preview is an extra: what cannot be made is left out, and never spoils a result that was paid for.
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
"""In base64 a third more: far from the megabyte at which clients refuse a result."""

MAX_PIXELS: Final = 40_000_000
_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP")
_STEPS: Final = ((768, 82), (768, 65), (640, 60), (512, 50), (384, 40), (256, 30))
"""Longest side and JPEG quality: the first that fits is taken; the last fits even for noise."""

Run = Callable[..., Awaitable[Any]]
"""Where blocking work runs; `anyio.to_thread.run_sync` unless a test's clock is virtual."""


async def make_previews(
    bodies: Sequence[bytes], *, run: Run = anyio.to_thread.run_sync
) -> list[bytes | None]:
    """A small JPEG of each image, in order; None where none could be made.

    One after the other, so that no more than one image is held unpacked.
    """
    most = min(MAX_PREVIEW_BYTES, MAX_TOGETHER_BYTES // max(len(bodies), 1))
    return [cast("bytes | None", await run(partial(_preview, body, most))) for body in bodies]


def _preview(body: bytes, most: int) -> bytes | None:
    from PIL import Image

    try:
        with Image.open(BytesIO(body), formats=_FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:  # known before anything is unpacked
                return None
            return _smallest_change(image, most)
    except Exception:  # noqa: BLE001  decoders raise anything at broken bytes
        return None


def _smallest_change(image: Image, most: int) -> bytes | None:
    image.draft("RGB", (_STEPS[0][0],) * 2)  # a JPEG is unpacked no larger than needed
    flat = _flat(image)
    for side, quality in _STEPS:
        flat.thumbnail((side, side))
        packed = BytesIO()
        flat.save(packed, "JPEG", quality=quality)
        if packed.tell() <= most:
            return packed.getvalue()
    return None


def _flat(image: Image) -> Image:
    """Upright, in RGB, what is transparent on white."""
    from PIL import Image as Images
    from PIL import ImageOps

    if image.mode in ("1", "P"):  # which cannot be scaled smoothly
        image = image.convert("RGBA")
    image.thumbnail((_STEPS[0][0],) * 2)  # first: the rest is then little work
    upright = ImageOps.exif_transpose(image)
    if not upright.has_transparency_data:
        return upright.convert("RGB")
    layer = upright.convert("RGBA")
    white = Images.new("RGBA", layer.size, "white")
    return Images.alpha_composite(white, layer).convert("RGB")


# --- who is shown them -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Showing:
    """A client, by the name it gives itself (in lower case), and what becomes of an image there."""

    name: str
    shows: bool
    reason: str


_STRUCTURE_ONLY: Final = "shows the model the structured content and drops the rest"

SHOWINGS: Final = (
    Showing("claude-ai", True, "shown to the person under the call (anthropics/claude-code#54737)"),
    Showing("mcp-inspector", True, "shown to the developer"),
    Showing("inspector-client", True, "shown to the developer"),
    Showing("gemini-cli-mcp-client", True, "reaches the model as an image (its mcp-tool.ts)"),
    Showing("claude-code", False, _STRUCTURE_ONLY + " (anthropics/claude-code#54737)"),
    Showing("codex", False, _STRUCTURE_ONLY),
    Showing("codex-mcp-client", False, _STRUCTURE_ONLY),
    Showing("opencode", False, _STRUCTURE_ONLY + " (anomalyco/opencode#32868)"),
    Showing("visual studio code", False, _STRUCTURE_ONLY),
    Showing("visual-studio-code", False, _STRUCTURE_ONLY),
    Showing("chatgpt", False, _STRUCTURE_ONLY + " when there is a widget"),
    Showing("cursor-vscode", False, "reports of what the model sees contradict each other"),
    Showing(
        "mcp",
        False,
        "the Python SDK's own name, of whatever is built on it: LlamaIndex and ADK give the model "
        "base64 as text, semantic-kernel and AutoGen break on blocks they do not know",
    ),
)
"""Only a client known to do well is sent previews by `auto`; the others are here for the reason.

From clients.md, and from what was reported or read in shipped clients by November 2026.
"""


def shows_images(client_name: str | None) -> bool:
    """Whether a client is known to do well with image blocks; an unknown one is not.

    Some add to their name: `gemini-cli-mcp-client-v1`, `claude-ai (via mcp-remote 0.1.16)`.
    """
    named = (client_name or "").strip().lower()
    known = [one for one in SHOWINGS if named == one.name or named.startswith(_longer(one.name))]
    return bool(known) and max(known, key=lambda one: len(one.name)).shows


def _longer(name: str) -> tuple[str, str]:
    return f"{name}-", f"{name} ("
