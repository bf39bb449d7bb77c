"""Backends, virtual time, and a hard deadline for every test."""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Generator
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from tests.stage import virtual

HARD_SECONDS = 60
DEFAULT = "not thorough and not second_backend"  # as in pyproject.toml
EVERYTHING = "Everything, as .ci/run does it: python -m pytest -m ''"


def pytest_configure() -> None:
    """Leave the user's own folders alone: servers that tests start save images and journals,
    and commands read the key that the user keeps."""
    folder = tempfile.mkdtemp(prefix="wan25-tests-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_PICTURES_DIR"):
        os.environ[name] = os.path.join(folder, name.lower())  # noqa: PTH118  no I/O here
    # A shell starts what runs in the background with SIGINT ignored, and children inherit that:
    # Ctrl-C would do nothing in them. Ignored by a function, it is not inherited.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)


def pytest_report_header(config: pytest.Config) -> str | None:
    """What a run of the whole suite takes, and what it leaves out."""
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS:
        return None
    if config.option.markexpr == DEFAULT:
        return (
            "This takes about 5 minutes on 2 free cores. It leaves out the second backend (trio), "
            "and more kills, real processes and load: about 7 minutes. " + EVERYTHING
        )
    return "This takes about 7 minutes on 2 free cores, or 12 with everything."


settings.register_profile(
    "core", deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("core")


@pytest.fixture(params=["asyncio", pytest.param("trio", marks=pytest.mark.second_backend)])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Both backends, with virtual time. A test with real sockets takes `real_backend` instead."""
    return virtual(str(request.param))


@pytest.fixture
def no_blocking() -> Generator[None, None, None]:
    """No call that blocks the event loop."""
    with blockbuster_ctx():
        yield


@pytest.fixture(autouse=True)
def hard_deadline(request: pytest.FixtureRequest) -> Generator[None, None, None]:
    """No test outlives its minute, whatever its clock says; a few are marked with more."""
    if not hasattr(signal, "SIGALRM"):  # Windows: the jobs of CI have their own deadline
        yield
        return
    more = request.node.get_closest_marker("deadline")
    previous = signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(more.args[0] if more else HARD_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, previous)


def _too_late(*_: object) -> None:
    raise TimeoutError("the test ran longer than its deadline")


@pytest.fixture(autouse=True)
def own_logging() -> Generator[None, None, None]:
    """Commands run in this process set up logging for a process of their own."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
