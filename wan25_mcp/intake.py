"""From what a caller named to links the provider can download: read, made to conform, given an
address, each once.

Reading is quick and comes before anything is decided, and so does a look at what each image is; the
rest happens while the intent waits in the journal, before the submit is sent. An equal image is
uploaded once while its address lives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio.to_thread

from wan25_mcp.images.addressing import Publisher, publisher_error_when_none
from wan25_mcp.images.conforming import Conformed, check, conform
from wan25_mcp.images.reading import Picture, is_link, read_source
from wan25_mcp.journal import Journal, JournalUnusable, Upload
from wan25_mcp.models import EditRequest, ModelName

MOST_CONVERTED: Final = 2
"""Images converted at one time; each may take a few hundred megabytes."""

Run = Callable[..., Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Wish:
    """An edit as a person means it: an `EditRequest` whose images may be local.

    Args:
        images: Links for the provider to download, and pictures of this machine.
    """

    prompt: str
    images: tuple[str | Picture, ...]
    n: int
    callback_url: str | None
    model: ModelName

    @classmethod
    def of(cls, request: EditRequest) -> Wish:
        """The wish that a request already is."""
        return cls(
            request.prompt,
            tuple(request.image_urls),
            request.n,
            request.callback_url,
            request.model,
        )

    def content(self) -> dict[str, Any]:
        """What makes two wishes equal: an image's content, not its name or address."""
        images = [
            image if isinstance(image, str) else f"sha256:{image.sha256}" for image in self.images
        ]
        return self.request(images).wire()

    def request(self, links: Sequence[str]) -> EditRequest:
        """The request to send, once every image has an address."""
        # Each link was judged where it came from: the caller's by the models, ours by who gave it.
        return EditRequest.model_construct(
            prompt=self.prompt,
            image_urls=tuple(links),
            n=self.n,
            callback_url=self.callback_url,
            model=self.model,
        )


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request ready to be sent.

    Args:
        changes: What was changed about the images to make them conform, in sentences.
    """

    request: EditRequest
    changes: tuple[str, ...] = ()


class Intake:
    """Reads and publishes the images of this machine.

    Args:
        allowed: The folders local images may be read from.
        run: Where blocking work runs.
    """

    def __init__(self, allowed: Sequence[Path], *, run: Run = anyio.to_thread.run_sync) -> None:
        self._allowed = tuple(allowed)
        self._run = run
        self._converters = anyio.CapacityLimiter(MOST_CONVERTED)

    async def read(self, sources: Sequence[str]) -> tuple[str | Picture, ...]:
        """What a caller named: links as they are, local images as bytes.

        Raises:
            InvalidRequest: An image cannot be read, or shows at once that it is of no use;
                nothing was uploaded.
        """
        return tuple([await self._read(source) for source in sources])

    async def _read(self, source: str) -> str | Picture:
        if is_link(source):
            return source
        picture: Picture = await self._run(read_source, source, self._allowed)
        # Here, so that what is refused for a reason this plain is never an edit in the journal.
        await self._run(check, picture)
        return picture

    async def prepare(
        self, wish: Wish, publisher: Publisher | None, journal: Journal, *, now: float
    ) -> Prepared:
        """Give every image of a wish an address.

        Raises:
            InvalidRequest: An image cannot be made to conform.
            Wan25Error: An image could not be given an address.
        """
        links: list[str] = []
        changes: list[str] = []
        for number, image in enumerate(wish.images, 1):
            if isinstance(image, str):
                links.append(image)
                continue
            upload = await self._upload(image, publisher, journal, now)
            links.append(upload.url)
            if upload.changes:
                changes.append(f"Image {number}: {', '.join(upload.changes)}.")
        return Prepared(wish.request(links), tuple(changes))

    async def _upload(
        self, picture: Picture, publisher: Publisher | None, journal: Journal, now: float
    ) -> Upload:
        if publisher is None:
            raise publisher_error_when_none()
        place = publisher.place
        try:
            known = await journal.uploaded(picture.sha256, place, now=now)
        except JournalUnusable:
            known = None  # a cache; the submit itself will say that nothing can be sent
        if known is not None:
            return known
        async with self._converters:
            conformed: Conformed = await self._run(conform, picture)
        published = await publisher.publish(conformed, picture.name)
        upload = Upload(published.url, published.expires_at, conformed.changes)
        await journal.note_upload(picture.sha256, place, upload)
        return upload
