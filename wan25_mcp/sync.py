"""The Python API without `await`, for scripts and notebooks.

    from wan25_mcp.sync import edit

    house = edit("house.jpg", prompt="Make it night")
    print(house.saved, house.image_urls, house.charged)

An event loop runs in a thread of its own, so this works inside a running loop too, which waits
meanwhile. Ctrl-C ends the wait at once; the edit continues at the provider, and `Editor.recent`
lists it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from functools import partial
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast

from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr

from wan25_mcp.editing import editor as asynchronous
from wan25_mcp.editing import one_edit
from wan25_mcp.editing.batch import plain
from wan25_mcp.editing.edit import Edit, PastEdit, Price, Progress
from wan25_mcp.editing.editor import MAX_AT_ONCE
from wan25_mcp.editing.handing_over import Handed
from wan25_mcp.editing.program_calls import attempted, whole_number
from wan25_mcp.editing.python_words import not_open, python_words, spoken
from wan25_mcp.errors import Wan25Error
from wan25_mcp.inputs.given import Images
from wan25_mcp.journal import Spent
from wan25_mcp.provider.catalogue import MODEL, ModelName
from wan25_mcp.settings import Settings

if TYPE_CHECKING:
    import httpx2

__all__ = ["Editor", "edit"]

T = TypeVar("T")
_BLINK: Final = 0.2
"""Seconds between two looks for Ctrl-C, which on Windows does not end a wait without a timeout."""


def edit(
    images: Images,
    prompt: str,
    *,
    n: int = 1,
    model: ModelName = MODEL,
    callback_url: str | None = None,
    force_new: bool = False,
    duplicate_window: float | None = None,
    wait: bool = True,
    timeout: float | None = None,
    key: str | SecretStr | None = None,
    base_url: str | None = None,
    output: str | os.PathLike[str] | None = None,
    save: bool | None = None,
    http: httpx2.AsyncClient | None = None,
    emulator: bool | str | None = None,
    settings: Settings | Mapping[str, str] | None = None,
) -> Edit:
    """Edit one image, or combine two, and save the results. Costs credits for each result image.

    Arguments, result and errors are those of `wan25_mcp.edit`.
    """
    job = partial(
        one_edit.edit, images, prompt, n=n, model=model, callback_url=callback_url,
        force_new=force_new, duplicate_window=duplicate_window, wait=wait, timeout=timeout, key=key,
        base_url=base_url, output=output, save=save, http=http, emulator=emulator,
        settings=settings,
    )  # fmt: skip
    with start_blocking_portal() as portal:
        return _result(portal, job)


edit.__doc__ = one_edit.edit.__doc__  # so that `help` describes each argument


class Editor:
    """Edits images. Open it with `with`.

    Its arguments and methods are those of `wan25_mcp.Editor`, without `await`.
    """

    def __init__(
        self,
        *,
        key: str | SecretStr | None = None,
        base_url: str | None = None,
        output: str | os.PathLike[str] | None = None,
        save: bool | None = None,
        http: httpx2.AsyncClient | None = None,
        emulator: bool | str | None = None,
        settings: Settings | Mapping[str, str] | None = None,
    ) -> None:
        self._editor = asynchronous.Editor(
            key=key, base_url=base_url, output=output, save=save, http=http, emulator=emulator,
            settings=settings,
        )  # fmt: skip
        self._stack = ExitStack()
        self._portal: BlockingPortal | None = None

    def __enter__(self) -> Self:
        """Open it. Nothing is sent."""
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(portal.wrap_async_context_manager(self._editor))
            self._portal, self._stack = portal, stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it: what runs at the provider continues."""
        # Not the error: Ctrl-C, raised in the loop's thread, would stop the loop.
        self._portal = None
        self._stack.__exit__(None, None, None)

    def edit(
        self, images: Images, prompt: str, *, n: int = 1, model: ModelName = MODEL,
        callback_url: str | None = None, force_new: bool = False,
        duplicate_window: float | None = None, wait: bool = True, timeout: float | None = None,
    ) -> Edit:  # fmt: skip
        """See `wan25_mcp.Editor.edit`."""
        job = partial(
            self._editor.edit, images, prompt, n=n, model=model, callback_url=callback_url,
            force_new=force_new, duplicate_window=duplicate_window, wait=wait, timeout=timeout,
        )  # fmt: skip
        return self._call(job)

    edit.__doc__ = asynchronous.Editor.edit.__doc__

    def wait(self, edit: Edit | str, *, timeout: float | None = None) -> Edit:
        """See `wan25_mcp.Editor.wait`."""
        return self._call(partial(self._editor.wait, edit, timeout=timeout))

    def get(self, edit: Edit | str) -> Edit:
        """See `wan25_mcp.Editor.get`."""
        return self._call(partial(self._editor.get, edit))

    def follow(self, edit: Edit | str) -> Iterator[Progress]:
        """See `wan25_mcp.Editor.follow`."""
        found = cast("Handed[Progress]", self._editor.follow(edit))

        async def following() -> Progress | None:
            return await anext(found, None)

        try:
            while (progress := self._call(following)) is not None:
                yield progress
        finally:  # in the loop's thread: its task may not be cancelled from another
            if self._portal is not None:
                self._call(found.aclose)

    def edit_many(
        self, requests: Iterable[Mapping[str, object]], *, limit: int = 3
    ) -> Iterator[Edit]:
        """See `wan25_mcp.Editor.edit_many`. The requests are taken in your own thread."""
        with python_words():
            count = whole_number("limit", limit, 1, MAX_AT_ONCE)
            source = enumerate(plain(requests))
        return self._many(source, count)

    def _many(self, source: Iterator[tuple[int, object]], limit: int) -> Iterator[Edit]:
        attempt = partial(attempted, self._editor._call)  # noqa: SLF001  the same API
        running: set[Future[Edit]] = set()
        failure: Exception | None = None
        try:
            while True:
                try:
                    for place, request in islice(source, limit - len(running)):
                        running.add(self._opened().start_task_soon(attempt, place, request))
                except Exception as error:  # noqa: BLE001  the program's own, raised at the end
                    failure, source = error, enumerate(())
                if not running:
                    break
                done = wait(running, timeout=_BLINK, return_when=FIRST_COMPLETED).done
                running -= done
                yield from (each.result() for each in done)
        finally:
            for each in running:
                each.cancel()
        if failure is not None:
            raise failure

    def save(self, edit: Edit | str) -> Edit:
        """See `wan25_mcp.Editor.save`."""
        return self._call(partial(self._editor.save, edit))

    def image(self, edit: Edit | str, number: int = 1) -> bytes:
        """See `wan25_mcp.Editor.image`."""
        return self._call(partial(self._editor.image, edit, number))

    def recent(self, limit: int = 20) -> list[PastEdit]:
        """See `wan25_mcp.Editor.recent`."""
        return self._call(partial(self._editor.recent, limit))

    def price(self, n: int = 1, model: ModelName = MODEL) -> Price:
        """See `wan25_mcp.Editor.price`."""
        return self._call(partial(self._editor.price, n, model))

    def spent(self, period: float) -> Spent:
        """See `wan25_mcp.Editor.spent`."""
        return self._call(partial(self._editor.spent, period))

    def credits(self) -> float | None:
        """See `wan25_mcp.Editor.credits`."""
        return self._call(self._editor.credits)

    def _call(self, job: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return _result(self._opened(), job)

    def _opened(self) -> BlockingPortal:
        if self._portal is None:
            raise spoken(not_open("is not open", "with Editor() as editor:"))
        return self._portal


def _result(portal: BlockingPortal, job: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """The result of a job on the loop. Ctrl-C cancels it."""
    running: Future[T] = portal.start_task_soon(job)
    try:
        while not running.done():
            wait([running], timeout=_BLINK)
        return running.result()
    except Wan25Error as error:  # without the frames of the loop's thread
        raise error.with_traceback(None) from error.__cause__
    finally:
        running.cancel()
