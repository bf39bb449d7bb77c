"""Makes text from outside safe to quote: on one line, not too long, without secrets. No I/O.

A provider's error about a key may quote the key, and quoted text reaches the model, the journal and
the log. So all text from outside is redacted where it enters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Final
from urllib.parse import quote

MASK: Final = "***"
_SHORTEST: Final = 4
"""A shorter text is not a secret, and hiding it would garble every line."""

_LOOKS_SECRET: Final = re.compile(
    # "Bearer abc", but neither "a bearer token is missing" nor "Bearer authentication".
    r"(?P<before>\bbearer[\s:=]+(?!(?:token|auth|scheme|header|credential|key)\w*\b)"
    # After "bearer token" only what cannot be a plain word.
    r"|\bbearer\s+tokens?[\s:=]+(?=[^\s'\",]*[0-9]))[^\s'\",]+"
    r"|(?<![a-z0-9])sk[-_][a-z0-9_-]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"  # a JSON web token
    # The secret end of a callback's path.
    r"|(?P<handle>edit-[0-9a-f]{16}(?:/|%2f))[\w-]+",
    re.IGNORECASE,
)


class Redactor:
    """Hides secrets in a text: the given ones in every quoted form, and what looks like one."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        forms = {form for one in secrets if len(one) >= _SHORTEST for form in _forms(one)}
        # The longest first, so that none is hidden in part. Case is ignored: `%2f` is `%2F`.
        longest_first = sorted(forms, key=lambda form: (-len(form), form))
        self._known = re.compile("|".join(map(re.escape, longest_first)) or "(?!)", re.IGNORECASE)

    def __call__(self, text: str) -> str:
        return _LOOKS_SECRET.sub(_masked, self._known.sub(MASK, text))


def _forms(secret: str) -> Iterator[str]:
    """The forms of a secret: verbatim, quoted in a link, in JSON, and in JSON within JSON."""
    once = json.dumps(secret)[1:-1]
    for plain in (secret, once, json.dumps(once)[1:-1]):
        yield from (plain, plain.replace("/", "\\/"))
    yield quote(secret, safe="")


def _masked(found: re.Match[str]) -> str:
    return f"{found['before'] or found['handle'] or ''}{MASK}"


def one_line(text: str | None, limit: int) -> str:
    """The text on one line, at most `limit` characters; empty for None."""
    return " ".join((text or "").split())[:limit]
