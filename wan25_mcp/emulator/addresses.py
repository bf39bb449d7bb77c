"""Which addresses the API is willing to reach. Pure rules plus one resolver; no HTTP."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv6Address

INTERNAL_SUFFIXES = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


class BadAddress(ValueError):
    """An address the API will not reach, with the reason."""


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
    """Scheme, host and port, so that two spellings of one origin compare equal."""
    parts = split(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return parts.scheme, (parts.hostname or "").lower(), port


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The IP address a host name spells, also in the old forms (127.1, 0x7f000001, 2130706433)."""
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0])
    except ValueError:
        return _old_form(host)


def _old_form(host: str) -> IPv4Address | None:
    import socket

    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError, UnicodeError):
        return None


def is_loopback_name(host: str) -> bool:
    name = host.rstrip(".").lower()
    return name == "localhost" or name.endswith(".localhost")


def is_internal(address: IPv4Address | IPv6Address) -> bool:
    """Anything the public internet cannot reach, IPv4 hidden in IPv6 included."""
    mapped = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None)
    return is_internal(mapped) if mapped else not address.is_global or address.is_multicast


def is_loopback(address: IPv4Address | IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None)
    return bool(mapped.is_loopback) if mapped else address.is_loopback


def check_host(host: str, *, allow_loopback: bool) -> None:
    """Refuse a host whose own spelling is internal. Names are looked up by `check_resolved`."""
    name = host.rstrip(".").lower()
    if is_loopback_name(name):
        return _unless(allow_loopback)
    if name.endswith(INTERNAL_SUFFIXES):
        raise BadAddress("internal address")
    address = literal(name)
    if address is not None:
        check_address(address, allow_loopback=allow_loopback)
    return None


def check_address(address: IPv4Address | IPv6Address, *, allow_loopback: bool) -> None:
    if is_loopback(address):
        _unless(allow_loopback)
    elif is_internal(address):
        raise BadAddress("internal address")


def _unless(allow_loopback: bool) -> None:
    if not allow_loopback:
        raise BadAddress("internal address")


async def check_resolved(host: str, *, allow_loopback: bool) -> None:
    """Refuse a name that resolves to an internal address, or to nothing."""
    import anyio

    try:
        found = await anyio.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        raise BadAddress("the host name could not be resolved") from error
    for *_, place in found:
        address = ipaddress.ip_address(str(place[0]).split("%")[0])
        check_address(address, allow_loopback=allow_loopback)
