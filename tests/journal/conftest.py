"""A real PostgreSQL for the tests of the journal, started once and thrown away."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def _programs() -> Path:
    """The newest PostgreSQL server on this machine; its programs are not on the PATH on Debian."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    assert initdb, "no PostgreSQL server here: install Debian's package postgresql"
    return Path(initdb).parent


def _version(initdb: Path) -> float:
    return float(initdb.parent.parent.name)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of an empty database on a server of its own."""
    programs = _programs()
    with tempfile.TemporaryDirectory(prefix="wan25-pg-") as folder:
        as_user = _as_unprivileged(Path(folder))
        place = f"{folder}/db"
        _run([*as_user, str(programs / "initdb"), "-D", place, "-U", "wan25", "-A", "trust", "-N"])
        port = _free_port()
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [*as_user, str(programs / "pg_ctl"), "-D", place, "-w", "-t", "60"]
        _run([*control, "-l", f"{folder}/log", "-o", options, "start"])
        try:
            yield f"postgresql://wan25@127.0.0.1:{port}/postgres"
        finally:
            _run([*control, "-m", "immediate", "stop"])


def _as_unprivileged(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "nobody")
    runuser = shutil.which("runuser")
    assert runuser
    return [runuser, "-u", "nobody", "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _run(command: list[str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stdout.decode()
