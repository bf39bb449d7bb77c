"""Which links may be passed to the provider: public ones, in any notation.

The provider downloads images and calls back. Through a link to an internal address, a caller could
make it (or a private gateway) access a network that the caller cannot reach. Only the text of a
link is checked. Nothing is resolved, because the provider resolves names with its own DNS.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from collections.abc import Collection
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]*|[0-9]+")
_NUMBERS: Final = re.compile(r"[0-9a-fA-FxX.]+")
_LABEL: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_INTERNAL_SUFFIXES: Final = (
    "localhost",
    "local",
    "internal",
    "intranet",
    "lan",
    "home",
    "corp",
    "private",
    "home.arpa",
    "localdomain",
)
_RESERVED_SUFFIXES: Final = (
    "example.com",
    "example.net",
    "example.org",
    "example",
    "test",
    "invalid",
    "localhost",
)
"""Names that are nobody's (RFC 2606 and 6761)."""
_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class NotPublic(ValueError):
    """A link that must not be passed on. The text completes "the link …" without quoting it."""


def origin_of(link: str) -> str | None:
    """Scheme, host and port of a link, normalised for comparison; None when it has none."""
    try:
        parts = urlsplit(link)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    if not parts.hostname or not parts.scheme:
        return None
    return f"{parts.scheme}://{parts.hostname.rstrip('.')}:{port}"


def same_address(url: str) -> str:
    """A base URL in normal form, to compare servers: lower case, no default port."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    host = f"[{host}]" if ":" in host else host
    is_default = parts.port in (None, _DEFAULT_PORTS.get(parts.scheme))
    port = "" if is_default else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def check_public(
    link: str, *, schemes: Collection[str] = ("http", "https"), trusted: Collection[str] = ()
) -> None:
    """Accept a link whose host is public, or whose exact origin the operator configured.

    Args:
        link: An absolute URL.
        schemes: The schemes allowed.
        trusted: Origins as `origin_of` writes them; they are exempt from the address rules.

    Raises:
        NotPublic: The link is malformed, of another scheme, carries a user name, or names an
            internal address.
    """
    parts = _split(link)
    if parts.username is not None or parts.password is not None:
        raise NotPublic("carries a user name or password, which would be passed on")
    if parts.scheme not in schemes:
        raise NotPublic(f"must start with {' or '.join(f'{name}://' for name in schemes)}")
    if origin_of(link) in trusted:
        return
    _check_host(parts.hostname or "")


def _split(link: str) -> SplitResult:
    # Parsers disagree on these characters (WHATWG drops tabs and reads "\\" as "/"), and where two
    # parsers read a link differently, an internal host can hide behind a public one.
    if any(character <= " " or character == "\x7f" or character == "\\" for character in link):
        raise NotPublic("contains a space, a control character or a backslash")
    try:
        parts = urlsplit(link)
        port = parts.port
    except ValueError:
        raise NotPublic("is not a valid URL") from None
    if not parts.scheme or not parts.hostname:
        raise NotPublic("is not an absolute URL with a host")
    if port == 0:
        raise NotPublic("names port 0")
    if "[" in parts.netloc and ":" not in parts.hostname:  # [v1.a]: a future version of IP
        raise NotPublic("has a host that is not a valid address")
    return parts


def _check_host(raw: str) -> None:
    host = _plain(raw)
    address = read_address(host)
    if address is not None:
        if not is_public(address):
            raise NotPublic("points to an internal or reserved address")
        return
    _check_name(host)


def _plain(host: str) -> str:
    """The host as a resolver would see it: decoded, full-width forms folded, no trailing dot."""
    folded = unicodedata.normalize("NFKC", unquote(host)).lower()
    return folded.replace("\u3002", ".").rstrip(".")


def is_reserved(link: str) -> bool:
    """Whether a link names a host that is reserved for examples and tests."""
    return _is_below(_plain(urlsplit(link).hostname or ""), _RESERVED_SUFFIXES)


def _is_below(host: str, suffixes: Collection[str]) -> bool:
    return any(host == suffix or host.endswith("." + suffix) for suffix in suffixes)


def _check_name(host: str) -> None:
    if _is_below(host, _INTERNAL_SUFFIXES):
        raise NotPublic("points to this computer or a private network")
    try:
        labels = host.encode("idna").decode("ascii").lower().split(".")
    except UnicodeError:
        raise NotPublic("has a host name that cannot exist") from None
    if len(".".join(labels)) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise NotPublic("has a host name that cannot exist")
    if len(labels) < 2:
        raise NotPublic("has a host name without a domain, which is internal")


def read_address(host: str) -> IPAddress | None:
    """The address a host stands for, in any notation an operating system would accept.

    IPv6 in plain form; IPv4 as one to four decimal, octal or hexadecimal numbers. None for a name.
    """
    try:
        return ipaddress.IPv6Address(host.strip("[]").split("%")[0]) if ":" in host else _ipv4(host)
    except ipaddress.AddressValueError:
        raise NotPublic("has a host that is not a valid address") from None


def _ipv4(host: str) -> ipaddress.IPv4Address | None:
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return None  # the last label decides: a top-level domain is never a number (WHATWG URL)
    if not _NUMBERS.fullmatch(host):  # inet_aton ignores what follows a space
        raise NotPublic("has a host that is not a valid address")
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        raise NotPublic("has a host that is not a valid address") from None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by name or by address."""
    try:
        address = read_address(host)
    except NotPublic:
        return False
    return host == "localhost" if address is None else address.is_loopback


def is_public(address: IPAddress) -> bool:
    """Whether an address can be reached from the internet, looking through embedded IPv4."""
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    embedded = _embedded(address)
    if embedded is not None:
        return is_public(embedded)
    return address.is_global and not address.is_multicast and not address.is_site_local


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address inside a mapped, compatible, NAT64, 6to4 or Teredo address."""
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if any(address in network for network in _NAT64) or int(address) >> 32 == 0:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.sixtofour or (address.teredo[1] if address.teredo else None)
