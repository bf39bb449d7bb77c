"""Edit every image of a folder, a few at a time.

    python examples/batch.py photos "Remove the watermark" edited

One failure stops nothing. Run it again after an interruption: edits that were started before, in
the last 30 days, are returned at no charge. Without a key, set `WAN25_EMULATOR=1`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import anyio

from wan25_mcp import Editor

IMAGES = {".jpg", ".jpeg", ".png", ".webp"}
DAYS = 30


def requests(photos: list[Path], prompt: str) -> Iterator[dict[str, object]]:
    """The arguments of `Editor.edit` for each. They are made as they are needed."""
    for photo in photos:
        yield {"images": photo, "prompt": prompt, "duplicate_window": DAYS * 24 * 3600}


async def main(folder: str, prompt: str, output: str) -> None:
    photos = sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in IMAGES)  # noqa: ASYNC240  nothing else runs yet
    failed = 0
    async with Editor(output=output) as editor:
        price = await editor.price()
        print(f"{len(photos)} images, about {price.credits * len(photos):g} credits")
        async for edit in editor.edit_many(requests(photos, prompt), limit=4):
            assert edit.index is not None  # its place among the requests
            name = photos[edit.index].name
            if edit.error is not None:
                failed += 1
                print(f"{name}: {edit.error} {edit.error.fix}")
            else:
                print(f"{name}: {edit.saved[0] if edit.saved else edit.image_urls[0]}")
    print(f"{len(photos) - failed} edited, {failed} failed")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
