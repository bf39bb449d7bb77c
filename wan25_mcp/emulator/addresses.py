"""The addresses that the API is willing to connect to. Pure rules and one resolver; no HTTP."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

INTERNAL_SUFFIXES = (".local", ".internal", ".lan", ".home.arpa")


class BadAddress(ValueError):
    """An address that the API does not connect to, with the reason."""


def split(url: str) -> SplitResult:
    """The parts of an absolute http(s) URL, or BadAddress."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise BadAddress("not a valid URL") from error
    if parts.scheme not in ("http", "https"):
        raise BadAddress("only http and https links are supported")
    if not parts.hostname or any(c.isspace() or ord(c) < 32 for c in url):
        raise BadAddress("not a valid URL")
    return parts


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, in a form in which two spellings of an origin are equal."""
    parts = split(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, judged by its name alone."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _literal(name)
    return address is not None and _is_loopback(address)


def check_host(host: str, *, allow_loopback: bool) -> None:
    """Refuse a host that is internal by its name. `check_resolved` also resolves the name."""
    name = host.rstrip(".").lower()
    if is_loopback(name):
        if not allow_loopback:
            raise BadAddress("internal address")
        return
    address = _literal(name)
    if name.endswith(INTERNAL_SUFFIXES) or (address is not None and _is_internal(address)):
        raise BadAddress("internal address")


async def check_resolved(host: str, *, allow_loopback: bool) -> None:
    """Refuse a name that resolves to an internal address or does not resolve."""
    import anyio

    try:
        found = await anyio.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise BadAddress("the host name could not be resolved") from error
    for *_, place in found:
        check_host(str(place[0]), allow_loopback=allow_loopback)


def _literal(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address in a host, including the old forms (127.1, 0x7f000001, 2130706433)."""
    import socket

    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError, UnicodeError):
        return None


def _is_internal(address: IPv4Address | IPv6Address) -> bool:
    """Whether the public internet cannot reach it, also for IPv4 embedded in IPv6."""
    hidden = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return _is_internal(hidden) if hidden else not address.is_global or address.is_multicast


def _is_loopback(address: IPv4Address | IPv6Address) -> bool:
    hidden = getattr(address, "ipv4_mapped", None)
    return bool((hidden or address).is_loopback)
