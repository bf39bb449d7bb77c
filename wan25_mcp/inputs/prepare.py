"""Turns the images of a call into links that the provider can download: read, convert, upload.

Images are read and checked before an intent is journaled. They are converted and uploaded after
that, before the submit is sent. An identical image is uploaded only once until its link expires.

Memory is bounded however many calls arrive at once. A file is read in pieces, and as a whole only
to convert it. One large image is converted at a time. Images in `data:` URIs are counted as long as
they are referenced.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread

from wan25_mcp.errors import SettingsError, Wan25Error
from wan25_mcp.inputs.conform import check, conform, sketch
from wan25_mcp.inputs.given import InMemory, picture_of
from wan25_mcp.inputs.publisher import Publisher
from wan25_mcp.inputs.read import (
    Folders,
    LocalFile,
    Picture,
    find_file,
    is_data,
    is_link,
    read_source,
)
from wan25_mcp.inputs.weighted_semaphore import WeightedSemaphore
from wan25_mcp.journal import Journal, JournalUnusable, Upload
from wan25_mcp.provider.catalogue import DEFAULT, MODEL, MODELS, Model, ModelName
from wan25_mcp.provider.models import EditRequest

MAX_CONVERTED: Final = 2
"""Limit of concurrent conversions. A large image may take a few hundred megabytes, so it is
converted alone."""

LARGE_PIXELS: Final = 12_000_000
MAX_READ: Final = 2
"""Limit of files that are hashed at the same time."""

MAX_UPLOADED: Final = 4
"""Limit of concurrent uploads, of at most 10 MB each."""

MAX_MEMORY_BYTES: Final = 200_000_000
"""Limit of the images in `data:` URIs that are not uploaded yet."""

MEMORY_PATIENCE: Final = 2.0
"""Seconds that such an image waits for free memory. The call is answered within 4."""

Made = TypeVar("Made")
Run = Callable[..., Awaitable[Any]]
Local = Picture | LocalFile
"""A local image. One from a `data:` URI is in memory, a file is not."""


@dataclass(frozen=True, slots=True)
class EditInput:
    """An `EditRequest` whose images may be local.

    Args:
        images: Links for the provider to download, and local images.
    """

    prompt: str
    images: tuple[str | Local, ...]
    n: int = 1
    callback_url: str | None = None
    model: ModelName = MODEL

    @classmethod
    def of(cls, request: EditRequest) -> EditInput:
        """The input of a request, whose images are links."""
        return cls(
            request.prompt,
            tuple(request.image_urls),
            request.n,
            request.callback_url,
            request.model,
        )

    def content(self) -> dict[str, Any]:
        """What identical edits have in common: the content of an image, not its name or path."""
        images = [
            image if isinstance(image, str) else f"sha256:{image.sha256}" for image in self.images
        ]
        return self.request(images).wire()

    def request(self, links: Sequence[str]) -> EditRequest:
        """The request to send, once every image has a link."""
        # Every link has been checked: the caller's by the models, the others by the publisher.
        return EditRequest.model_construct(
            prompt=self.prompt,
            image_urls=tuple(links),
            n=self.n,
            callback_url=self.callback_url,
            model=self.model,
        )


@dataclass(frozen=True, slots=True)
class PreparedRequest:
    """A request ready to be sent.

    Args:
        changes: Sentences about what was changed to make the images conform.
    """

    request: EditRequest
    changes: tuple[str, ...] = ()


class PicturesInMemory:
    """Counts the bytes of pictures that are still referenced."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        # Filled by finalizers, which run in any thread.
        self._freed: deque[int] = deque()

    async def add(self, picture: Picture) -> None:
        """Count a picture until it is no longer referenced.

        Raises:
            Wan25Error: There was not enough free memory for some seconds.
        """
        size = len(picture.content)
        with anyio.move_on_after(MEMORY_PATIENCE):
            while self.bytes + size > self._max_bytes:  # noqa: ASYNC110  no event: see `_freed`
                await anyio.sleep(0.1)
            self._bytes += size
            weakref.finalize(picture, self._freed.append, size).atexit = False
            return
        raise Wan25Error(code="busy", retry_after_seconds=10.0)

    @property
    def bytes(self) -> int:
        """The number of bytes in memory now."""
        while self._freed:
            self._bytes -= self._freed.popleft()
        return self._bytes


class ImagePreparer:
    """Reads and uploads local images.

    Args:
        allowed: The folders that local images may be read from.
        run: Runs blocking work.
    """

    def __init__(self, allowed: Sequence[Path], *, run: Run = anyio.to_thread.run_sync) -> None:
        self._allowed = tuple(allowed)
        self._run = run
        self._readers = anyio.CapacityLimiter(MAX_READ)
        self._parser = anyio.Lock()
        self._converters = WeightedSemaphore(MAX_CONVERTED)
        self._uploads = anyio.CapacityLimiter(MAX_UPLOADED)
        self.in_memory: PicturesInMemory = PicturesInMemory(MAX_MEMORY_BYTES)

    async def read(
        self,
        sources: Sequence[str | InMemory],
        model: ModelName = MODEL,
        *,
        anywhere: bool = False,
    ) -> tuple[str | Local, ...]:
        """Read the images of a call. Links are returned as they are.

        Args:
            anywhere: Whether files may be in any folder.

        Raises:
            Wan25Error: The limit of `data:` images in memory is reached.
            InvalidRequest: An image cannot be read, or is unusable according to its headers;
                nothing was uploaded.
        """
        allowed = None if anywhere else self._allowed
        return tuple([await self._read(source, MODELS[model], allowed) for source in sources])

    async def _read(self, source: str | InMemory, model: Model, allowed: Folders) -> str | Local:
        if not isinstance(source, str):  # not counted: it is in the program's memory anyway
            given: Picture = await self._run(picture_of, source)
            await self._run(check, given, None, model)
            return given
        if is_link(source):
            return source
        # Checked here, so that an edit with an unusable image never enters the journal.
        if not is_data(source):
            async with self._readers:
                check_it = partial(check, model=model)
                file: LocalFile = await self._run(find_file, source, allowed, check_it)
                return file
        async with self._parser:
            picture: Picture = await self._run(read_source, source, ())
            await self._run(check, picture, None, model)
        await self.in_memory.add(picture)
        return picture

    async def prepare(
        self,
        edit: EditInput,
        publisher: Publisher | None,
        journal: Journal,
        *,
        owner: str,
        now: float,
    ) -> PreparedRequest:
        """Upload every local image, and return the request to send.

        Args:
            owner: The account whose earlier uploads may be reused.

        Raises:
            InvalidRequest: An image cannot be converted.
            Wan25Error: An image could not be uploaded.
        """
        links: list[str] = []
        changes: list[str] = []
        for number, image in enumerate(edit.images, 1):
            if isinstance(image, str):
                links.append(image)
                continue
            model = MODELS[edit.model]
            upload = await self._upload(image, model, publisher, journal, owner, now)
            links.append(upload.url)
            if upload.changes:
                changes.append(f"Image {number}: {', '.join(upload.changes)}.")
        return PreparedRequest(edit.request(links), tuple(changes))

    async def _upload(
        self,
        image: Local,
        model: Model,
        publisher: Publisher | None,
        journal: Journal,
        owner: str,
        now: float,
    ) -> Upload:
        if publisher is None:
            raise SettingsError(code="no_image_host")
        # An image is converted for its model, so another model may need another upload of it.
        place = publisher.place if model == DEFAULT else f"{publisher.place} for {model.name}"
        try:
            known = await journal.uploaded(owner, image.sha256, place, now=now)
        except JournalUnusable:
            known = None  # only a cache; the submit itself reports that nothing can be sent
        if known is not None:
            return known
        async with self._uploads:
            conformed = await self._converted(image, model, conform)
            published = await publisher.publish(conformed, image.name)
        upload = Upload(published.url, published.expires_at, conformed.changes)
        await journal.note_upload(owner, image.sha256, place, upload)
        return upload

    async def sketch(self, image: Local, model: ModelName) -> bytes:
        """A scaled down JPEG of an image. Raises `InvalidRequest`: it cannot be read."""
        return await self._converted(image, MODELS[model], sketch)

    async def _converted(
        self, image: Local, model: Model, how: Callable[[Picture, Model], Made]
    ) -> Made:
        if isinstance(image, LocalFile):
            pixels = image.pixels
        else:
            pixels = await self._run(check, image, None, model)
        is_large = pixels > LARGE_PIXELS
        async with self._converters.taken(MAX_CONVERTED if is_large else 1):
            made: Made = await self._run(_made, image, model, how, is_large)
            return made


def _made(
    image: Local, model: Model, how: Callable[[Picture, Model], Made], is_large: bool
) -> Made:
    made = how(image.read() if isinstance(image, LocalFile) else image, model)
    if is_large:
        _return_free_memory()
    return made


def _return_free_memory() -> None:
    """Make the allocator return freed memory to the system.

    glibc keeps it for each thread that ever converted an image: a gigabyte after 16 large ones.
    """
    with suppress(OSError, AttributeError, TypeError):  # another system, or another C library
        ctypes.CDLL(None).malloc_trim(0)
