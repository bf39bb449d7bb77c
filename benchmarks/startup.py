"""How much later our server gives its first answers than the SDK alone would.

    python benchmarks/startup.py [PAIRS]

Starts our server and a bare one with a single tool in turn, as an assistant does over stdio, and
measures from the start of the process to the tools listed, in both protocol eras. Exits with 1
when the median ratio of the pairs is above the bar.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from typing import Final, Literal

import anyio
from mcp import StdioServerParameters, stdio_client
from mcp.client import Client

BAR: Final = 1.15
PAIRS: Final = 15

BARE: Final = """
from mcp.server.mcpserver import MCPServer

server = MCPServer("bare")

@server.tool()
async def answer() -> str:
    return "42"

server.run("stdio")
"""

Era = Literal["auto", "legacy"]


def _server(arguments: list[str], folder: str) -> StdioServerParameters:
    # Bytecode is cached as it is for a user, whatever this shell says.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return StdioServerParameters(
        command=sys.executable, args=arguments, env={**env, "WAN25_DATA_DIR": folder}
    )


async def _seconds_to_tools(server: StdioServerParameters, era: Era) -> float:
    began = time.perf_counter()
    async with Client(stdio_client(server), mode=era) as client:
        assert (await client.list_tools()).tools
        return time.perf_counter() - began


async def _compare(era: Era, pairs: int, folder: str) -> float:
    """The median ratio of ours to the bare one, over alternating pairs."""
    ours, bare = _server(["-m", "wan25_mcp"], folder), _server(["-c", BARE], folder)
    times: list[tuple[float, float]] = []
    for number in range(pairs + 2):
        if number % 2:
            mine = await _seconds_to_tools(ours, era)
            theirs = await _seconds_to_tools(bare, era)
        else:
            theirs = await _seconds_to_tools(bare, era)
            mine = await _seconds_to_tools(ours, era)
        if number >= 2:  # the first pairs warm the caches
            times.append((mine, theirs))
    ratio = statistics.median(mine / theirs for mine, theirs in times)
    print(
        f"{era:7} ours {statistics.median(mine for mine, _ in times):.3f} s, "
        f"bare {statistics.median(theirs for _, theirs in times):.3f} s, "
        f"ratio {ratio:.3f} (median of {pairs} pairs)"
    )
    return ratio


async def main(pairs: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        ratios = [await _compare("auto", pairs, folder), await _compare("legacy", pairs, folder)]
    worst = max(ratios)
    print(f"{'within' if worst <= BAR else 'ABOVE'} the bar of {BAR}")
    return 0 if worst <= BAR else 1


if __name__ == "__main__":
    sys.exit(anyio.run(main, int(sys.argv[1]) if len(sys.argv) > 1 else PAIRS))
