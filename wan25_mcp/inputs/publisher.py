"""Gives an image an address the provider can download it from: what that promises, for any place.

The provider's file service is in `file_service`, buckets are in `bucket`. An upload costs nothing,
so unlike a submit it may be sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wan25_mcp.inputs.conform import Conformed

MARGIN_SECONDS: Final = 3600.0
"""A link is not handed out in the last hour of its life: a task may wait before it is begun."""


@dataclass(frozen=True)
class Published:
    """A link to an image, and until when (epoch seconds) it may be given to a new task."""

    url: str
    expires_at: float


class Publisher(Protocol):
    """A place that images can be put to."""

    @property
    def place(self) -> str:
        """Distinguishes this place from others, without secrets: part of a cache's key."""

    async def publish(self, image: Conformed, name: str) -> Published:
        """Put an image there. `name` is for error messages: it never appears in the link.

        Raises:
            NotPublished: Nothing was charged.
        """


FindPublisher = Callable[[float], Awaitable[Publisher | None]]
"""Finds a place for images within a number of seconds; None: there is none. Raises `NotPublished`
or `Refused` when that could not be found out."""


@dataclass(frozen=True, slots=True)
class Announced:
    """A place that reports when an upload begins: what was uploaded before is not uploaded again.

    Args:
        on_upload: Called with the image's name.
    """

    publisher: Publisher
    on_upload: Callable[[str], None]

    @property
    def place(self) -> str:
        """See `Publisher`."""
        return self.publisher.place

    async def publish(self, image: Conformed, name: str) -> Published:
        """See `Publisher`."""
        self.on_upload(name)
        return await self.publisher.publish(image, name)


def published_name(image: Conformed) -> str:
    """A name by content: the user's own ("passport-jane.jpg") must not be in a public link."""
    return f"{hashlib.sha256(image.content).hexdigest()[:40]}{image.extension}"
