"""Somebody breaks things while edits are made; the emulator's ledger judges what was promised.

    python -m benchmarks.chaos [--edits 300] [--minutes M] [--seed S] [--postgres URL]
    python -m benchmarks.chaos --soak 30

Two servers (Streamable HTTP and stdio) share a journal, a folder for results and a provider: the
emulator, behind a proxy that resets, cuts, stalls and drips exchanges and answers as gateways do.
Clients of both protocol eras edit, give up, and repeat identical calls; servers are killed with
signal 9 and frozen. Then it is calm, and every answer that anybody was given, the journal and the
files are compared with the ledger. The bars, all 0:

charged twice  an edit was charged more often than somebody wanted to pay for it
lost           an accepted task cannot be found by its id, or the journal does not know what it knew
untrue         an answer said something else about money or state than the ledger did then
unsaved        an image of a completed task is not on disk, whole
unexpected     a server ended by itself or logged a traceback, or this program was misled

A submit whose answer was lost is `unknown` and stays so: that is the promise. Nothing is judged by
how long it takes. `--soak` instead lets a steady load run without kills, and tells memory,
descriptors, threads and the journal's size before, meanwhile and after. Needs Linux.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

import anyio

from benchmarks.chaos.judge import Verdict
from benchmarks.chaos.soak import Soak
from benchmarks.chaos.world import Plan, World, open_world

_SHOWN: Final = 10
"""Of what broke a promise, so many are shown."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos")
    parser.add_argument("--edits", type=int, help="how many edits; 300 unless --minutes is given")
    parser.add_argument("--minutes", type=float, help="start no edit after so long")
    parser.add_argument("--seed", type=int, help="at random unless given; the report says it")
    parser.add_argument("--at-once", type=int, default=10, help="edits under way at one time")
    parser.add_argument("--faults", type=float, help="share of exchanges broken (0.3; soak 0.03)")
    parser.add_argument("--kills", type=float, default=4.0, help="for every 100 edits")
    parser.add_argument("--freezes", type=float, default=3.0, help="for every 100 edits")
    parser.add_argument("--freeze", type=float, default=16.0, help="the longest, in seconds")
    parser.add_argument("--calm", type=float, default=600.0,
                        help="the longest wait, in seconds, for what nobody asks about to be "
                        "saved; 0: ask at once")  # fmt: skip
    parser.add_argument("--postgres", metavar="URL", help="an empty database for the journal")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="a steady load instead")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave everything in FOLDER")
    return parser.parse_args()


def plan_of(given: argparse.Namespace) -> Plan:
    soaking = given.soak is not None
    endless = given.minutes is not None or soaking
    return Plan(
        seed=random.randrange(10**6) if given.seed is None else given.seed,
        edits=given.edits or (None if endless else 300),
        minutes=given.soak if soaking else given.minutes,
        at_once=given.at_once,
        pause=1.0 if soaking else 0.0,
        faults=given.faults if given.faults is not None else 0.03 if soaking else 0.3,
        kills=0.0 if soaking else given.kills,
        freezes=0.0 if soaking else given.freezes,
        freeze=given.freeze,
        calm=given.calm,
        postgres=given.postgres,
    )


async def run(plan: Plan, folder: Path, *, soaking: bool) -> int:
    async with open_world(plan, folder) as world:
        soak = Soak(world)
        if soaking:
            await soak.measure(world.storm)
        else:
            await world.storm()
        await world.settle()
        if soaking:
            await soak.end()
        verdict = await world.verdict()
        report(world, verdict)
        return 1 if any(verdict.values()) else 0


def report(world: World, verdict: Verdict) -> None:
    """The table, and what broke a promise."""
    plan, clients = world.plan, world.clients
    troubles = Counter(one.kind for server in world.servers for one in server.troubles)
    ledger = world.emulator.ledger
    print(
        f"seed {plan.seed}: {len(world.wanted)} edits in {time.time() - world.began:.0f} s, "
        f"journal in {'PostgreSQL' if plan.postgres else 'SQLite'}\n"
        f"{clients.calls} calls, {len(clients.said)} answered; {troubles['kill']} kills, "
        f"{troubles['freeze']} freezes; {ledger.charges} submits accepted, "
        f"{ledger.charged_total:g} credits charged"
    )
    print_exchanges(world)
    print_answers(world)
    for promise, broken in verdict.items():
        print(f"{promise:<14} {len(broken):>6}")
        for one in broken[:_SHOWN]:
            print(f"    {one}")
    print("every promise held" if not any(verdict.values()) else "PROMISES WERE BROKEN")


def print_exchanges(world: World) -> None:
    """How many exchanges of each kind there were, and how many of them broke how."""
    counted = world.proxy.counted()
    endpoints = sorted({endpoint for endpoint, _ in counted})
    print(f"\n{'what the proxy did':<46}" + "".join(f"{name:>8}" for name in endpoints))
    for fault in sorted({fault for _, fault in counted}):
        print(f"{fault:<46}" + "".join(f"{counted[name, fault]:>8}" for name in endpoints))


def print_answers(world: World) -> None:
    """What clients were told of money."""
    tools = ("edit_image", "get_task", "wait_for_task")
    counted = Counter((said.tool, said.answer["charged"]) for said in world.clients.said)
    print(f"\n{'charged, as answered':<22}" + "".join(f"{name:>15}" for name in tools))
    for charged in ("no", "reserved", "yes", "unknown"):
        print(f"{charged:<22}" + "".join(f"{counted[name, charged]:>15}" for name in tools))
    print()


def main() -> int:
    given = arguments()
    plan = plan_of(given)
    logging.disable()  # the SDK's clients log a traceback for every server that is killed
    print(f"chaos, seed {plan.seed}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = (given.keep or Path(scratch)).absolute() / "chaos"
        return anyio.run(lambda: run(plan, folder, soaking=given.soak is not None))


if __name__ == "__main__":
    sys.exit(main())
