"""The rules for each field of a submit, written from the specification. No HTTP, no state."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from wan25_mcp.emulator.addresses import BadAddress, check_host, is_loopback, split
from wan25_mcp.emulator.refusals import MODEL, Refusal, invalid, unknown_model

MAX_PROMPT = 2000
MAX_IMAGES_IN = 2
MAX_IMAGES_OUT = 4
MAX_CALLBACK_URL = 2048
# The model owner's own default; the gateway's is undocumented. The emulator uses the expensive one,
# so that it shows if a client forgets to send `n`.
DEFAULT_N = 4


@dataclass(frozen=True)
class Order:
    """A submit that passed all rules."""

    prompt: str
    image_urls: tuple[str, ...]
    n: int
    callback_url: str | None


def read_json(raw: bytes) -> dict[str, Any]:
    """The JSON object in a body. Stricter than `json.loads`. Raises: Refusal 400."""
    try:
        found = json.loads(
            raw.decode(), parse_constant=_no_constant, object_pairs_hook=_no_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise Refusal(400) from error
    if not isinstance(found, dict):
        raise Refusal(400)
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("duplicate member")
    return found


def read_order(body: dict[str, Any], *, allow_loopback: bool) -> Order:
    """The order in a body. Raises: Refusal, for the first broken rule."""
    if _text(body, "model") != MODEL:
        raise unknown_model()
    return Order(
        prompt=_prompt(body),
        image_urls=_image_urls(body),
        n=_n(body),
        callback_url=_callback_url(body, allow_loopback),
    )


def _prompt(body: dict[str, Any]) -> str:
    prompt = _text(body, "prompt")
    if len(prompt) > MAX_PROMPT:
        raise invalid("prompt", f"prompt must be at most {MAX_PROMPT} characters")
    return prompt


def _image_urls(body: dict[str, Any]) -> tuple[str, ...]:
    links = body.get("image_urls")
    if not isinstance(links, list) or not 1 <= len(links) <= MAX_IMAGES_IN:
        raise invalid("image_urls", f"image_urls must be an array of 1 to {MAX_IMAGES_IN} URLs")
    for link in links:
        try:
            split(_encodable(link))
        except (TypeError, ValueError) as error:
            raise invalid("image_urls", "image_urls must hold http or https URLs") from error
    return tuple(links)


def _n(body: dict[str, Any]) -> int:
    n = body.get("n", DEFAULT_N)
    if isinstance(n, float) and n.is_integer():  # 2.0 is an integer to JSON Schema
        n = int(n)
    if type(n) is not int or not 1 <= n <= MAX_IMAGES_OUT:
        raise invalid("n", f"n must be an integer between 1 and {MAX_IMAGES_OUT}")
    return n


def _callback_url(body: dict[str, Any], allow_loopback: bool) -> str | None:
    if "callback_url" not in body:
        return None
    link = body["callback_url"]
    try:
        _check_callback(_encodable(link), allow_loopback=allow_loopback)
    except (TypeError, ValueError) as error:
        raise invalid("callback_url", f"callback_url refused: {error}") from error
    return str(link)


def _check_callback(link: str, *, allow_loopback: bool) -> None:
    """Check the published security restrictions. Raises: BadAddress."""
    if len(link) > MAX_CALLBACK_URL:
        raise BadAddress(f"longer than {MAX_CALLBACK_URL} characters")
    parts = split(link)
    host = parts.hostname or ""
    if parts.scheme != "https" and not (allow_loopback and is_loopback(host)):
        raise BadAddress("only HTTPS is supported")
    check_host(host, allow_loopback=allow_loopback)


def _text(body: dict[str, Any], name: str) -> str:
    try:
        found = _encodable(body.get(name))
    except (TypeError, ValueError) as error:
        raise invalid(name, f"{name} must be a string") from error
    if not found:
        raise invalid(name, f"{name} is required")
    return found


def _encodable(value: Any) -> str:
    """A string that UTF-8 can encode. JSON can contain lone surrogates, which are not text."""
    if not isinstance(value, str):
        raise TypeError("not a string")
    value.encode()
    return value
