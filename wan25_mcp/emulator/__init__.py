"""Plays the `wan2.5-image-to-image` API: a second opinion on what the API promises.

It is written from the vendor's documentation alone, and imports nothing else of this project. So a
misreading of the documentation cannot pass twice. Both sides share only HTTP.
"""

from wan25_mcp.emulator.emulator import Emulator
from wan25_mcp.emulator.ledger import Entry, Ledger
from wan25_mcp.emulator.options import EmulatorOptions, RateLimit

__all__ = ["Emulator", "EmulatorOptions", "Entry", "Ledger", "RateLimit"]
