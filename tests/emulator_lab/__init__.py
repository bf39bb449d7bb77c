"""The emulator in the laboratory: its faults, outcomes and time are the test's to choose.

Extends the shipped emulator through the parts it offers for that, and weakens none of its rules.
"""

from tests.emulator_lab.emulator import Emulator
from tests.emulator_lab.fates import Fate
from tests.emulator_lab.faults import Fault
from tests.emulator_lab.records import Delivery, Read, Submit
from wan25_mcp.emulator import EmulatorOptions, Entry, Ledger, RateLimit

__all__ = [
    "Delivery",
    "Emulator",
    "EmulatorOptions",
    "Entry",
    "Fate",
    "Fault",
    "Ledger",
    "RateLimit",
    "Read",
    "Submit",
]
