"""Plays the `wan2.5-image-to-image` API: a second opinion on what the API promises.

Knows only what the vendor's documentation says. Imports nothing else of this project, so that a
misreading of it cannot pass twice; both sides share only HTTP.
"""

from wan25_mcp.emulator.emulator import Emulator
from wan25_mcp.emulator.ledger import Entry, Ledger
from wan25_mcp.emulator.options import EmulatorOptions, RateLimit

__all__ = ["Emulator", "EmulatorOptions", "Entry", "Ledger", "RateLimit"]
