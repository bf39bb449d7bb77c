"""The interface of a place that local images are uploaded to, for the provider to download.

`file_service` implements it for the provider's file service, `bucket` for buckets. An upload costs
nothing, so unlike a submit it may be sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from wan25_mcp.inputs.conform import Conformed

MARGIN_SECONDS: Final = 3600.0
"""A link is not used in the last hour before it expires: a task may wait before it starts."""


@dataclass(frozen=True)
class Published:
    """A link to an image. `expires_at` (epoch seconds) ends its use for new tasks."""

    url: str
    expires_at: float


class Publisher(Protocol):
    """A place that images can be uploaded to."""

    @property
    def place(self) -> str:
        """Identifies this place, without secrets. It is part of a cache's key."""

    async def publish(self, image: Conformed, name: str) -> Published:
        """Upload an image. `name` is for error messages: it never appears in the link.

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
    """A name by content. The user's own ("passport-jane.jpg") must not be in a public link."""
    return f"{hashlib.sha256(image.content).hexdigest()[:40]}{image.extension}"
