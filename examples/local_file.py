"""Edit an image on this machine, in one call.

    python examples/local_file.py house.jpg "Make it night"

Uses the settings of the command `wan25-mcp`: its key, and its folder for results. Without a key,
`WAN25_EMULATOR=1` in the environment lets the built-in emulator play the provider.
"""

from __future__ import annotations

import sys

import anyio

from wan25_mcp import Wan25Error, edit


async def main(path: str, prompt: str) -> None:
    try:
        done = await edit(path, prompt=prompt)
    except Wan25Error as error:
        # What happened, what to do about it, and whether it cost anything.
        sys.exit(f"{error}\n{error.fix}\nCharged: {error.charged}")
    print("Saved:", *done.saved)
    print("Link, for 24 hours:", *done.image_urls)
    print("Charged:", done.charged)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
