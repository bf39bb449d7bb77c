"""The emulator for tests, which choose its faults, its outcomes and its time.

Extends the shipped emulator through the methods it offers for that. Weakens none of its rules.
"""

from tests.emulator_lab.emulator import Emulator
from tests.emulator_lab.faults import Fault
from tests.emulator_lab.outcomes import Outcome
from tests.emulator_lab.records import Delivery, Read, Submit
from wan25_mcp.emulator import EmulatorOptions, Entry, Ledger, RateLimit

__all__ = [
    "Delivery",
    "Emulator",
    "EmulatorOptions",
    "Entry",
    "Fault",
    "Ledger",
    "Outcome",
    "RateLimit",
    "Read",
    "Submit",
]
