"""Waiting for tasks: one watcher for each, few looks, and news for all at once.

`Watch` is what is known of one task, `Watchers` decide when it is looked at (as `looking` advises)
and tell all who wait, `Line` is the one line that all looks of a process stand in, and `Following`
makes the looks: over the client, written in the journal, in turns with other processes that share
it.
"""

from wan25_mcp.waiting.following import HEAR_SECONDS, LOOK_LEASE_SECONDS, Following
from wan25_mcp.waiting.line import LOOKS_AT_ONCE
from wan25_mcp.waiting.watch import Watch
from wan25_mcp.waiting.watchers import FRESH_SECONDS, LOOK_PATIENCE, Watchers

__all__ = [
    "FRESH_SECONDS",
    "HEAR_SECONDS",
    "LOOKS_AT_ONCE",
    "LOOK_LEASE_SECONDS",
    "LOOK_PATIENCE",
    "Following",
    "Watch",
    "Watchers",
]
