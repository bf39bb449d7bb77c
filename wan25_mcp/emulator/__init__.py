"""Plays the `wan2.5-image-to-image` API: a second opinion on what the API promises.

Knows only what the vendor's documentation says. Imports nothing else of this project, so a
misreading of ours cannot pass twice; what the two sides share, they share over HTTP.
"""

from wan25_mcp.emulator.emulator import Emulator
from wan25_mcp.emulator.fates import Fate
from wan25_mcp.emulator.faults import Fault
from wan25_mcp.emulator.ledger import Entry, Ledger
from wan25_mcp.emulator.limits import RateLimit
from wan25_mcp.emulator.records import Delivery, Read, Submit

__all__ = [
    "Delivery",
    "Emulator",
    "Entry",
    "Fate",
    "Fault",
    "Ledger",
    "RateLimit",
    "Read",
    "Submit",
]
