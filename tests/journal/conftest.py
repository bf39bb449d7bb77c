"""A real PostgreSQL for the tests of the journal, started once and thrown away."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import pytest

from tests.systems import IS_ROOT

PASSWORD: Final = "not-to-be-told"
_STARTS: Final = 3
_numbers = itertools.count()


def _programs() -> Path:
    """The newest PostgreSQL server on this machine; its programs are not on the PATH on Debian."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    if initdb is None:
        # pip cannot install it. `.ci/run` does, sets CI, and so never skips these on Linux.
        assert "CI" not in os.environ or sys.platform != "linux", "install Debian's postgresql"
        pytest.skip("no PostgreSQL server: install Debian's package postgresql")
    return Path(initdb).resolve().parent


def _version(initdb: Path) -> float:
    return float(initdb.parent.parent.name)


@dataclass
class Postgres:
    """A PostgreSQL server of the tests' own, that can be stopped and started."""

    programs: Path
    folder: Path
    as_user: list[str]
    port: int = 0

    @property
    def url(self) -> str:
        return f"postgresql://wan25:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        if self.as_user:
            shutil.chown(secret, "nobody")
        self._run("initdb", "-D", self._place, "-U", "wan25", "-A", "scram-sha-256", "-N",
                  "--no-locale", "-E", "UTF8", f"--pwfile={secret}")  # fmt: skip

    def start(self) -> None:
        """Start, on the port it had if it had one; another program may take a free one first."""
        for left in reversed(range(_STARTS)):
            port = self.port or _free_port()
            options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off"
            log = f"{self.folder}/log"
            try:
                self._control("-l", log, "-o", f"{options} -c unix_socket_directories=''", "start")
            except AssertionError:
                if not left:
                    raise AssertionError(Path(log).read_text()) from None
            else:
                self.port = port
                return

    def stop(self) -> None:
        self._control("-m", "immediate", "stop")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """While the block runs, it accepts connections and answers nothing."""
        for pid in self._processes():
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self._processes():
                os.kill(pid, signal.SIGCONT)

    def _processes(self) -> list[int]:
        first = int(Path(self._place, "postmaster.pid").read_text().split()[0])
        found = [first]
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                pid, parent = stat.parent.name, stat.read_text().rpartition(")")[2].split()[1]
                found += [int(pid)] if int(parent) == first else []
        return found

    @property
    def _place(self) -> str:
        return f"{self.folder}/db"

    def _control(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", self._place, "-w", "-t", "30", *arguments)

    def _run(self, program: str, *arguments: str) -> None:
        # Not through pipes: the server that pg_ctl leaves behind would hold them open.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(
                [*self.as_user, str(self.programs / program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                timeout=120,
                check=False,
                cwd="/",
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
            )
            said.seek(0)
            assert done.returncode == 0, said.read().decode(errors="replace")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A server of its own."""
    with tempfile.TemporaryDirectory(prefix="wan25-pg-") as folder:
        as_user = _as_unprivileged(Path(folder))
        server = Postgres(_programs(), Path(folder), as_user)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres(postgres_server: Postgres) -> str:
    """The URL of an empty database on a server of its own."""
    return postgres_server.url


@pytest.fixture
def database(postgres: str) -> str:
    """The URL of an empty place of this test's own."""
    return empty_place(postgres)


def empty_place(postgres: str) -> str:
    """The URL of an empty schema; a database of its own would be 300 files more."""
    name = f"wan25_{next(_numbers)}"
    with psycopg.connect(postgres, autocommit=True, connect_timeout=10) as connection:
        connection.execute(f"CREATE SCHEMA {name}".encode())
    return f"{postgres}?options=-csearch_path%3D{name}"


def _as_unprivileged(folder: Path) -> list[str]:
    """PostgreSQL refuses to run as root."""
    if not IS_ROOT:
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
