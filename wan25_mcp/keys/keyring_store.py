"""The system's keyring, with the extra `keyring`. Slow to import, so imported late."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from wan25_mcp.errors.rows import installing

_SERVICE: Final = "wan25-mcp"
_SECONDS: Final = 20.0
"""Time to unlock it. A server that a host started may have nobody who sees the question."""


class KeyringUnusable(Exception):
    """There is no keyring, or it does not do what it is asked. The text says why, in few words."""


def put(address: str, key: str) -> None:
    """Keep the key for an API, and check that it can be read back.

    Raises:
        KeyringUnusable: It is not kept.
    """

    def keep() -> str | None:
        import keyring

        keyring.set_password(_SERVICE, address, key)
        return keyring.get_password(_SERVICE, address)

    if _in_time(keep) != key:
        raise KeyringUnusable("it does not keep what it is given")


def get(address: str) -> str:
    """The key for an API.

    Raises:
        KeyringUnusable: It cannot be read, or is not there.
    """

    def read() -> str | None:
        import keyring

        return keyring.get_password(_SERVICE, address)

    found = _in_time(read)
    if found is None:
        raise KeyringUnusable("it does not have the key")
    return found


def delete(address: str) -> None:
    """Delete the key for an API.

    Raises:
        KeyringUnusable: It cannot be deleted.
    """

    def erase() -> None:
        import keyring

        keyring.delete_password(_SERVICE, address)

    _in_time(erase)


def _in_time(job: Callable[[], str | None]) -> str | None:
    """The result of a job that may ask for a password: it must not hold up a server for ever."""
    found: list[str | None] = []
    problems = ["it did not answer in time"]

    def work() -> None:
        try:
            found.append(job())
        except ImportError:
            problems[0] = f"the `keyring` extra is not installed. {installing('keyring')}"
        except Exception as error:  # noqa: BLE001  each backend has errors of its own
            problems[0] = type(error).__name__  # a text could quote what was given

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    if not found:
        raise KeyringUnusable(problems[0]) from None
    return found[0]
